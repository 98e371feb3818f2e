#include "worker_internal.h"

#include <time.h>

/* 0: no such clock, as of a thread that has ended. */
static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    return clock_gettime(clock, &t) == 0 ? (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec : 0;
}

void stg_worker_note_cpu(struct stg_worker *worker)
{
    atomic_store(&worker->spent.cpu_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID));
}

static uint64_t cpu_ns(struct stg_worker *worker)
{
    clockid_t clock;
    uint64_t at_end = atomic_load(&worker->spent.cpu_ns);
    return at_end || worker->joined || pthread_getcpuclockid(worker->thread, &clock) != 0 ? at_end : clock_ns(clock);
}

void stg_worker_add_stats(struct stg_worker *worker, struct stg_engine_stats *sum)
{
    sum->requests += atomic_load_explicit(&worker->requests, memory_order_relaxed);
    sum->connections += atomic_load_explicit(&worker->connections, memory_order_relaxed);
    sum->bytes_received += atomic_load_explicit(&worker->bytes_received, memory_order_relaxed);
    sum->stale_retries += atomic_load_explicit(&worker->stale_retries, memory_order_relaxed);
    sum->late_retries += atomic_load_explicit(&worker->late_retries, memory_order_relaxed);
    sum->answers += stg_spent_of(&worker->spent.answers);
    sum->answer_wait_ms += stg_spent_of(&worker->spent.phase_ms[STG_PHASE_ANSWER]);
    sum->body_ms += stg_spent_of(&worker->spent.phase_ms[STG_PHASE_BODY]);
    sum->paused_ms += stg_spent_of(&worker->spent.phase_ms[STG_PHASE_PAUSED]);
    sum->throttled_ms += stg_spent_of(&worker->spent.phase_ms[STG_PHASE_THROTTLED]);
    sum->tls_ns += stg_spent_of(&worker->spent.tls_ns);
    sum->digest_ns += stg_spent_of(&worker->spent.digest_ns);
    sum->store_ns += stg_spent_of(&worker->spent.store_ns);
    sum->worker_cpu_ns += cpu_ns(worker);
}
