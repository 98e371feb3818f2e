/* Loses a heap block: LeakSanitizer has to report it. */
#include <stdlib.h>

int main(void)
{
    char *volatile block = malloc(16);

    block[0] = 1;
    block = NULL;
    return 0;
}
