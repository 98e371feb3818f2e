/* What threads and connections spent their time on: counters that only grow, written by one thread each, read by any.
 *
 * A connection with a request spends it waiting for the answer (connecting and sending are in it), on the body, paused by
 * a full disk queue or want of a buffer, or throttled by a limit; to the millisecond of the worker's turns.
 */
#ifndef STG_SPENT_H
#define STG_SPENT_H

#include "clock.h"

#include <stdatomic.h>

enum stg_phase { STG_PHASE_NONE, STG_PHASE_ANSWER, STG_PHASE_BODY, STG_PHASE_PAUSED, STG_PHASE_THROTTLED, STG_PHASES };

struct stg_spent {
    _Atomic uint64_t answers; /* whose first byte came */
    _Atomic uint64_t phase_ms[STG_PHASES];
    _Atomic uint64_t tls_ns, digest_ns, store_ns; /* of the thread's time */
    _Atomic uint64_t cpu_ns; /* of the whole thread; noted at its end */
};

static inline void stg_spent_add(_Atomic uint64_t *counter, uint64_t amount)
{
    /* one writer: no locked instruction is needed */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount, memory_order_relaxed);
}

static inline uint64_t stg_spent_of(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Since a reading of stg_monotonic_ns. */
static inline void stg_spent_since(_Atomic uint64_t *counter, int64_t start_ns)
{
    stg_spent_add(counter, (uint64_t)(stg_monotonic_ns() - start_ns));
}

#endif
