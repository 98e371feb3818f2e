/* Writes one byte behind a heap block: AddressSanitizer has to end it. */
#include <stdlib.h>

int main(int argc, char **argv)
{
    char *volatile block = malloc(16);

    (void)argv;
    block[15 + argc] = 1;
    free(block);
    return 0;
}
