/* Overflows a signed integer: UndefinedBehaviorSanitizer has to end it. */
#include <limits.h>

int main(int argc, char **argv)
{
    volatile int sum = INT_MAX;

    (void)argv;
    sum = sum + argc;
    return sum & 0;
}
