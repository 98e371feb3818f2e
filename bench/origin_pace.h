/* When answers may leave: the profile, the limit on requests, and the timers that wait for both. */
#ifndef BENCH_ORIGIN_PACE_H
#define BENCH_ORIGIN_PACE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define NEVER UINT64_MAX

struct profile {
    uint64_t first_byte_ns, jitter_ns; /* to the first byte: uniform in first_byte +- jitter */
    double tail_share;                 /* this share of answers takes tail_ns instead */
    uint64_t tail_ns;
    uint64_t connection_bytes_per_s;   /* 0: not paced */
    uint64_t line_bytes_per_s;         /* of all connections together; 0: no limit */
};

/* A token bucket over all workers, kept as the time at which it would be full again (GCRA). */
struct limiter {
    _Atomic uint64_t interval_ns; /* between two tokens; 0: no limit */
    _Atomic uint64_t full_ns;
};

/* The line all connections share, kept as the time from which it is free. */
struct line {
    _Atomic uint64_t free_ns;
};

struct timer {
    uint64_t wake_ns;
    size_t place; /* in the heap, from 1; 0: not set */
};

/* A binary heap, the earliest first. */
struct timers {
    struct timer **heap;
    size_t len, room;
};

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* Time to the first byte of the answer of this number; *in_tail says whether it is a late one. */
uint64_t profile_delay(const struct profile *p, uint64_t number, int *in_tail);

void limiter_set(struct limiter *l, double per_s); /* 0: none. The bucket starts full. */
int limiter_take(struct limiter *l, uint64_t now); /* whether there was a token */

/* Where connections are paced: how many bytes may leave now, 0: none before *paced_ns; and that some have left. */
size_t pace_allows(const struct profile *p, uint64_t now, uint64_t *paced_ns);
void pace_spend(const struct profile *p, size_t bytes, uint64_t *paced_ns);

/* Puts bytes at the end of the queue for the line: when they may leave. */
uint64_t line_reserve(struct line *l, const struct profile *p, size_t bytes, uint64_t now);

void timers_set(struct timers *t, struct timer *timer, uint64_t wake_ns);
void timers_cancel(struct timers *t, struct timer *timer);
struct timer *timers_due(struct timers *t, uint64_t now); /* taken out; NULL: none is due */
uint64_t timers_next(const struct timers *t);             /* NEVER: none is set */

#endif
