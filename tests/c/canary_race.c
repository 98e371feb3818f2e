/* Two threads write one variable without a lock: ThreadSanitizer has to end it. */
#include <pthread.h>

static int shared;

static void *bump(void *unused)
{
    for (int i = 0; i < 1000; i++)
        shared++;
    return unused;
}

int main(void)
{
    pthread_t first, second;

    if (pthread_create(&first, NULL, bump, NULL) || pthread_create(&second, NULL, bump, NULL))
        return 0;
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    return 0;
}
