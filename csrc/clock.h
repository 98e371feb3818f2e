/* The time since some moment of this boot. */
#ifndef STG_CLOCK_H
#define STG_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t stg_monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t stg_monotonic_ms(void)
{
    return stg_monotonic_ns() / 1000000;
}

#endif
