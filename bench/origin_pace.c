/* See origin_pace.h. */
#include "origin_pace.h"

#include <stdlib.h>
#include <time.h>

#include "origin_text.h"

#define SECOND_NS UINT64_C(1000000000)
#define DEPTH_NS (SECOND_NS / 10)  /* of the token bucket: what a tenth of a second brings, at least one */
#define SLICE_NS (4 * SECOND_NS / 1000) /* paced bytes leave in bursts of this length */
#define SLACK_NS (20 * SECOND_NS / 1000) /* of the line: what a late worker missed is caught up with, up to this */

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* Uniform in [0, 1) and the same in every run: splitmix64's n-th output. */
static double uniform(uint64_t n) {
    uint64_t z = (n + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (double)((z ^ (z >> 31)) >> 11) / (double)(UINT64_C(1) << 53);
}

uint64_t profile_delay(const struct profile *p, uint64_t number, int *in_tail) {
    *in_tail = p->tail_share > 0 && uniform(2 * number) < p->tail_share;
    if (*in_tail) return p->tail_ns;
    uint64_t jitter = p->jitter_ns < p->first_byte_ns ? p->jitter_ns : p->first_byte_ns;
    if (jitter == 0) return p->first_byte_ns;
    return p->first_byte_ns - jitter + (uint64_t)(uniform(2 * number + 1) * 2 * (double)jitter);
}

void limiter_set(struct limiter *l, double per_s) {
    double interval = per_s > 0 ? (double)SECOND_NS / per_s : 0;
    atomic_store(&l->interval_ns, interval < 1e18 ? (uint64_t)interval : UINT64_C(1000000000000000000));
    atomic_store(&l->full_ns, 0);
}

int limiter_take(struct limiter *l, uint64_t now) {
    uint64_t interval = atomic_load(&l->interval_ns);
    if (interval == 0) return 1;
    uint64_t depth = interval > DEPTH_NS ? interval : DEPTH_NS, full = atomic_load(&l->full_ns), next;
    do {
        next = (full > now ? full : now) + interval;
        if (next - now > depth) return 0;
    } while (!atomic_compare_exchange_weak(&l->full_ns, &full, next));
    return 1;
}

size_t pace_allows(const struct profile *p, uint64_t now, uint64_t *paced_ns) {
    if (*paced_ns > now) return 0;
    if (now - *paced_ns > SLICE_NS) *paced_ns = now - SLICE_NS; /* what a slow reader left is not saved up */
    size_t bytes = (size_t)(p->connection_bytes_per_s * SLICE_NS / SECOND_NS);
    return bytes > 0 ? bytes : 1;
}

void pace_spend(const struct profile *p, size_t bytes, uint64_t *paced_ns) {
    *paced_ns += (uint64_t)bytes * SECOND_NS / p->connection_bytes_per_s;
}

uint64_t line_reserve(struct line *l, const struct profile *p, size_t bytes, uint64_t now) {
    uint64_t takes = (uint64_t)bytes * SECOND_NS / p->line_bytes_per_s, free = atomic_load(&l->free_ns), start;
    do start = free > now - SLACK_NS ? free : now - SLACK_NS;
    while (!atomic_compare_exchange_weak(&l->free_ns, &free, start + takes));
    return start;
}

static void place(struct timers *t, struct timer *timer, size_t at) {
    t->heap[at - 1] = timer;
    timer->place = at;
}

static void rise(struct timers *t, struct timer *timer, size_t at) {
    for (; at > 1 && t->heap[at / 2 - 1]->wake_ns > timer->wake_ns; at /= 2) place(t, t->heap[at / 2 - 1], at);
    place(t, timer, at);
}

static void sink(struct timers *t, struct timer *timer, size_t at) {
    for (size_t child; (child = 2 * at) <= t->len; at = child) {
        if (child < t->len && t->heap[child]->wake_ns < t->heap[child - 1]->wake_ns) child++;
        if (t->heap[child - 1]->wake_ns >= timer->wake_ns) break;
        place(t, t->heap[child - 1], at);
    }
    place(t, timer, at);
}

void timers_cancel(struct timers *t, struct timer *timer) {
    size_t at = timer->place;
    if (at == 0) return;
    timer->place = 0;
    struct timer *last = t->heap[--t->len];
    if (last == timer) return;
    if (last->wake_ns < timer->wake_ns) rise(t, last, at);
    else sink(t, last, at);
}

void timers_set(struct timers *t, struct timer *timer, uint64_t wake_ns) {
    timers_cancel(t, timer);
    if (t->len == t->room) {
        t->room = t->room == 0 ? 64 : 2 * t->room;
        t->heap = realloc(t->heap, t->room * sizeof *t->heap);
        if (t->heap == NULL) die("realloc");
    }
    timer->wake_ns = wake_ns;
    rise(t, timer, ++t->len);
}

struct timer *timers_due(struct timers *t, uint64_t now) {
    if (t->len == 0 || t->heap[0]->wake_ns > now) return NULL;
    struct timer *first = t->heap[0];
    timers_cancel(t, first);
    return first;
}

uint64_t timers_next(const struct timers *t) { return t->len == 0 ? NEVER : t->heap[0]->wake_ns; }
