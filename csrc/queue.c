/* The engine's queue: what waits, and whose turn it is under the limits. */
#include "engine_internal.h"
#include "worker.h"

#include <errno.h>

#define SLOW_FOR_MS 30000
#define LEAST_BYTES ((size_t)64 << 10) /* a reader waits until so many are let through: fewer would cost a call each */

void stg_engine_wake(struct stg_engine *engine)
{
    for (unsigned i = 0; i < engine->started; i++)
        stg_worker_wake(engine->workers[i]);
}

/* A listing page goes first: what follows waits for it. */
static void enqueue(struct stg_engine *engine, struct stg_batch *batch)
{
    struct stg_batch **at = &engine->waiting;
    while (*at && batch->kind < STG_BATCH_HEADS)
        at = &(*at)->next;
    batch->next = *at;
    *at = batch;
}

/* Takes the batch out of the queue; 0 when it was not in it. */
static int unqueue(struct stg_engine *engine, struct stg_batch *batch)
{
    for (struct stg_batch **at = &engine->waiting; *at; at = &(*at)->next)
        if (*at == batch) {
            *at = batch->next;
            return 1;
        }
    return 0;
}

static void drop(struct stg_engine *engine, struct stg_batch *batch)
{
    batch->next = engine->dropped;
    engine->dropped = batch;
}

/* ---- slow file systems ---- */

static int is_slow(const struct stg_engine *engine, uint64_t device)
{
    int64_t now_ms = stg_monotonic_ms();
    for (unsigned i = 0; i < STG_SLOW_DEVICES; i++)
        if (engine->slow[i].device == device && engine->slow[i].until_ms > now_ms)
            return 1;
    return 0;
}

void stg_engine_note_slow(struct stg_engine *engine, struct stg_batch *batch)
{
    atomic_store_explicit(&batch->slow, 1, memory_order_relaxed);
    pthread_mutex_lock(&engine->queue_lock);
    if (!is_slow(engine, batch->landing.device)) {
        engine->slow[engine->slow_next].device = batch->landing.device;
        engine->slow[engine->slow_next].until_ms = stg_monotonic_ms() + SLOW_FOR_MS;
        engine->slow_next = (engine->slow_next + 1) % STG_SLOW_DEVICES;
    }
    pthread_mutex_unlock(&engine->queue_lock);
}

/* ---- submitting ---- */

int stg_engine_submit(struct stg_engine *engine, struct stg_batch *batch)
{
    int status = stg_engine_state(engine);
    if (status == 0)
        status = stg_batch_prepare(batch, stg_sink_hands(engine->sink), &engine->open_directories);
    if (status < 0)
        return status;
    pthread_mutex_lock(&engine->queue_lock);
    if (batch->kind == STG_BATCH_OBJECTS || batch->kind == STG_BATCH_RANGES)
        batch->slow = is_slow(engine, batch->landing.device);
    if (atomic_load(&engine->closing))
        status = -ESHUTDOWN;
    else
        enqueue(engine, stg_batch_ref(batch));
    pthread_mutex_unlock(&engine->queue_lock);
    if (status == 0)
        stg_engine_wake(engine);
    return status;
}

/* ---- whose turn it is ---- */

/* Whether the worker may send the batch's endpoint a request now; when only time is missing, *wait_ns is made less. */
static int may_send(struct stg_engine *engine, struct stg_batch *batch, unsigned worker, int64_t now_ns,
                    int64_t *wait_ns)
{
    struct stg_pace *pace = stg_endpoint_pace(stg_template_endpoint(batch->template_));
    unsigned busy = atomic_load_explicit(&pace->parts[worker].busy, memory_order_relaxed);
    if (busy >= stg_pace_allowed(pace, worker, engine->config.workers))
        return 0;
    int64_t wait = stg_bucket_wait_ns(&pace->requests, 1, now_ns);
    if (wait > 0 && wait < *wait_ns)
        *wait_ns = wait;
    return wait == 0;
}

static int is_preferred(const struct stg_engine *engine, const struct stg_batch *batch,
                        const struct stg_endpoint *prefer)
{
    return prefer ? stg_template_endpoint(batch->template_) == prefer : batch->template_ != engine->last_taken;
}

static struct stg_batch *choose(struct stg_engine *engine, unsigned worker, const struct stg_endpoint *prefer,
                                int64_t now_ns, int64_t *wait_ns)
{
    struct stg_batch *first = NULL;
    int64_t wait = stg_bucket_wait_ns(&engine->requests, 1, now_ns);
    if (wait > 0) {
        *wait_ns = wait;
        return NULL;
    }
    for (struct stg_batch *batch = engine->waiting; batch; batch = batch->next) {
        if (first && !is_preferred(engine, batch, prefer))
            continue;
        if (!may_send(engine, batch, worker, now_ns, wait_ns))
            continue;
        if (is_preferred(engine, batch, prefer))
            return batch;
        first = batch;
    }
    return first;
}

/* From both buckets, of which it is known that they have one. */
static void take_token(struct stg_engine *engine, struct stg_batch *batch, int64_t now_ns)
{
    stg_bucket_take(&engine->requests, 1, now_ns);
    stg_bucket_take(&stg_endpoint_pace(stg_template_endpoint(batch->template_))->requests, 1, now_ns);
}

/* What a worker found in the queue: a request to send, one that only a limit of requests holds back, or neither. */
static void note_held(struct stg_engine *engine, int found, int held, int64_t now_ns)
{
    if (found && engine->held_since_ns)
        engine->held_ns += now_ns - engine->held_since_ns;
    if (found || !engine->waiting)
        engine->held_since_ns = 0;
    else if (held && !engine->held_since_ns)
        engine->held_since_ns = now_ns;
}

int64_t stg_engine_take(struct stg_engine *engine, unsigned worker, const struct stg_endpoint *prefer,
                        struct stg_item *out)
{
    int64_t now_ns = stg_monotonic_ns(), wait_ns = INT64_MAX;
    pthread_mutex_lock(&engine->queue_lock);
    struct stg_batch *batch =
        engine->credits && engine->waiting ? choose(engine, worker, prefer, now_ns, &wait_ns) : NULL;
    if (batch) {
        *out = (struct stg_item){batch, (uint32_t)batch->taken++};
        take_token(engine, batch, now_ns);
        engine->credits--;
        engine->last_taken = batch->template_;
        if (batch->taken == batch->count)
            unqueue(engine, batch);
    } else if (engine->waiting && !engine->credits) {
        engine->starved = 1;
    }
    note_held(engine, batch != NULL, wait_ns < INT64_MAX, now_ns);
    pthread_mutex_unlock(&engine->queue_lock);
    return batch ? 0 : wait_ns;
}

int64_t stg_engine_take_again(struct stg_engine *engine, struct stg_batch *batch)
{
    struct stg_pace *pace = stg_endpoint_pace(stg_template_endpoint(batch->template_));
    int64_t now_ns = stg_monotonic_ns();
    pthread_mutex_lock(&engine->queue_lock);
    int64_t wait_ns = stg_bucket_wait_ns(&engine->requests, 1, now_ns);
    int64_t own_ns = stg_bucket_wait_ns(&pace->requests, 1, now_ns);
    if (own_ns > wait_ns)
        wait_ns = own_ns;
    if (wait_ns == 0)
        take_token(engine, batch, now_ns);
    pthread_mutex_unlock(&engine->queue_lock);
    return wait_ns;
}

/* ---- limits ---- */

int stg_engine_counts_bytes(const struct stg_engine *engine)
{
    return atomic_load_explicit(&engine->counts_bytes, memory_order_relaxed);
}

size_t stg_engine_take_bytes(struct stg_engine *engine, size_t want, int64_t *wait_ns)
{
    *wait_ns = 0;
    if (!stg_engine_counts_bytes(engine))
        return want;
    int64_t now_ns = stg_monotonic_ns();
    pthread_mutex_lock(&engine->bytes_lock);
    size_t half = (size_t)(engine->bytes.burst / 2); /* what one reader gave back of the burst is not out of reach */
    size_t least = want < LEAST_BYTES ? want : LEAST_BYTES;
    *wait_ns = stg_bucket_wait_ns(&engine->bytes, least < half ? least : half, now_ns);
    size_t got = *wait_ns ? 0 : stg_bucket_take(&engine->bytes, want, now_ns);
    pthread_mutex_unlock(&engine->bytes_lock);
    return got;
}

void stg_engine_give_bytes(struct stg_engine *engine, size_t unused)
{
    if (!unused || !stg_engine_counts_bytes(engine))
        return;
    pthread_mutex_lock(&engine->bytes_lock);
    stg_bucket_give(&engine->bytes, unused);
    pthread_mutex_unlock(&engine->bytes_lock);
}

int stg_engine_pace(struct stg_engine *engine, struct stg_endpoint *endpoint, unsigned connections,
                    double requests_per_second)
{
    struct stg_pace *pace = stg_endpoint_pace(endpoint);
    int status = stg_engine_state(engine);
    if (status < 0)
        return status;
    if (!(requests_per_second >= 0 && requests_per_second <= STG_MAX_REQUESTS_PER_SECOND))
        return -EINVAL;
    pthread_mutex_lock(&engine->queue_lock);
    atomic_store_explicit(&pace->connections, connections, memory_order_relaxed);
    stg_bucket_set(&pace->requests, requests_per_second, stg_burst_requests(requests_per_second), stg_monotonic_ns());
    pthread_mutex_unlock(&engine->queue_lock);
    stg_engine_wake(engine);
    return 0;
}

int stg_engine_limit(struct stg_engine *engine, double requests_per_second, uint64_t bytes_per_second)
{
    int status = stg_engine_state(engine);
    if (status < 0)
        return status;
    if (!(requests_per_second >= 0 && requests_per_second <= STG_MAX_REQUESTS_PER_SECOND))
        return -EINVAL;
    stg_engine_set_limits(engine, requests_per_second, bytes_per_second);
    stg_engine_wake(engine);
    return 0;
}

void stg_engine_set_limits(struct stg_engine *engine, double requests, uint64_t bytes_per_second)
{
    double bytes = (double)bytes_per_second;
    pthread_mutex_lock(&engine->queue_lock);
    stg_bucket_set(&engine->requests, requests, stg_burst_requests(requests), stg_monotonic_ns());
    pthread_mutex_unlock(&engine->queue_lock);
    pthread_mutex_lock(&engine->bytes_lock);
    stg_bucket_set(&engine->bytes, bytes, stg_burst_bytes(bytes), stg_monotonic_ns());
    atomic_store_explicit(&engine->counts_bytes, bytes > 0, memory_order_relaxed);
    pthread_mutex_unlock(&engine->bytes_lock);
}

/* ---- cancelling ---- */

void stg_engine_cancel(struct stg_engine *engine, struct stg_batch *batch)
{
    if (stg_engine_state(engine) == -ECHILD)
        return;
    atomic_store(&batch->cancelled, 1);
    pthread_mutex_lock(&engine->queue_lock);
    if (unqueue(engine, batch))
        drop(engine, batch);
    pthread_mutex_unlock(&engine->queue_lock);
    stg_engine_wake(engine);
    stg_engine_signal(engine);
}
