/* Shifts by the width of the type: UndefinedBehaviorSanitizer has to end it. */
int main(int argc, char **argv)
{
    volatile int shifted = 1 << (31 + argc);

    (void)argv;
    return shifted & 0;
}
