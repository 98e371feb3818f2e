#include "cpus.h"
#include "engine_internal.h"
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIN_BUFFER_BYTES ((size_t)64 << 10)
#define MOST_HOT_BYTES ((size_t)1 << 20) /* the L2 of a core; receiving 256 KiB at a time costs a fifth more CPU */

static int is_foreign(const struct stg_engine *engine)
{
    return getpid() != engine->pid;
}

/* ---- completions ---- */

void stg_engine_signal(struct stg_engine *engine)
{
    stg_ring_announce(&engine->ring);
}

/* 1 when this was the batch's last request: then *error is what closing its file said. */
static int finish_item(struct stg_batch *batch, int *error)
{
    int last = atomic_fetch_sub_explicit(&batch->unfinished, 1, memory_order_acq_rel) == 1;
    *error = last ? stg_batch_close_landing(batch) : 0;
    return last;
}

int stg_engine_complete(struct stg_engine *engine, struct stg_item item, int failed, struct stg_failure *failure)
{
    int error;
    int urgent = finish_item(item.batch, &error) || failed;
    if (error < 0) { /* of all the batch's ranges, none of which may be believed now: this tells it */
        stg_failure_free(failure);
        failure = stg_failure_new(STG_FAIL_ERRNO, -error, "close", NULL);
        failed = 1;
    }
    struct stg_completion completion = {item.batch, item.index, (uint8_t)failed, failure};
    return stg_ring_push(&engine->ring, &completion, urgent);
}

static size_t drain_dropped(struct stg_engine *engine, struct stg_completion *out, size_t max)
{
    size_t n = 0;
    int ignored; /* what was cancelled is not used */
    while (engine->dropped && n < max) {
        struct stg_batch *batch = engine->dropped;
        out[n++] = (struct stg_completion){batch, (uint32_t)batch->taken++, 1, NULL};
        if (batch->taken == batch->count)
            engine->dropped = batch->next;
        finish_item(batch, &ignored);
    }
    return n;
}

static void give_credits(struct stg_engine *engine, size_t credits)
{
    pthread_mutex_lock(&engine->queue_lock);
    engine->credits += (unsigned)credits;
    int wake = engine->starved && credits;
    if (wake)
        engine->starved = 0;
    pthread_mutex_unlock(&engine->queue_lock);
    if (wake)
        stg_engine_wake(engine);
}

size_t stg_engine_drain(struct stg_engine *engine, struct stg_completion *out, size_t max)
{
    if (is_foreign(engine))
        return 0;
    size_t from_ring = stg_ring_drain(&engine->ring, out, max);
    give_credits(engine, from_ring);
    pthread_mutex_lock(&engine->queue_lock);
    size_t n = from_ring + drain_dropped(engine, out + from_ring, max - from_ring);
    pthread_mutex_unlock(&engine->queue_lock);
    for (size_t i = 0; i < n; i++)
        if (--out[i].batch->undrained == 0)
            stg_batch_unref(out[i].batch);
    if (n == max)
        stg_engine_signal(engine); /* there may be more */
    return n;
}

/* ---- hooks of the sink ---- */

static void on_wake(void *context, unsigned worker)
{
    struct stg_engine *engine = context;
    stg_worker_wake(engine->workers[worker]);
}

static int on_done(void *context, void *owner, uint32_t index, void *note, int error, const char *where,
                   const struct stg_stored *stored)
{
    struct stg_engine *engine = context;
    struct stg_batch *batch = owner;
    struct stg_failure *failure = note;
    if (error < 0 && !failure)
        failure = stg_failure_new(STG_FAIL_ERRNO, -error, where, NULL);
    if (stored)
        stg_batch_keep(batch, index, stored);
    return stg_engine_complete(engine, (struct stg_item){batch, index}, !stored, failure) ? STG_ANNOUNCE_MS : 0;
}

static void on_announce(void *context)
{
    stg_engine_signal(context);
}

/* ---- life ---- */

static int check_config(struct stg_engine_config *config)
{
    if (!config->workers)
        config->workers = stg_cpus_usable() < STG_MAX_WORKERS ? stg_cpus_usable() : STG_MAX_WORKERS;
    if (!config->disk_threads || !config->connections || !config->ring_slots || config->connect_timeout_ms <= 0 ||
        config->stall_timeout_ms <= 0 || config->keep_cached_bytes < 0)
        return -EINVAL;
    if (config->workers > STG_MAX_WORKERS || config->disk_threads > 64 || config->connections > 4096 ||
        config->ring_slots > 1U << 20)
        return -EINVAL;
    if (!(config->requests_per_second >= 0 && config->requests_per_second <= STG_MAX_REQUESTS_PER_SECOND))
        return -EINVAL;
    if (config->buffer_bytes < MIN_BUFFER_BYTES || config->buffer_bytes > STG_BLOCK_BYTES ||
        config->buffer_bytes % 4096 || config->memory_bytes / (config->buffer_bytes + STG_HTTP_MAX_HEAD) < 2)
        return -EINVAL;
    if (config->workers > config->connections)
        config->workers = config->connections;
    return 0;
}

/* An eighth of the memory is for the hot buffers, if that makes them no smaller than others. */
static size_t choose_hot_bytes(const struct stg_engine_config *config)
{
    size_t share = config->memory_bytes / (8 * config->workers) & ~(size_t)4095;
    if (share < config->buffer_bytes + STG_HTTP_MAX_HEAD)
        return 0;
    return share < MOST_HOT_BYTES ? share : MOST_HOT_BYTES;
}

static int start_sink(struct stg_engine *engine)
{
    const struct stg_engine_config *config = &engine->config;
    size_t each = config->buffer_bytes + STG_HTTP_MAX_HEAD; /* a body of buffer_bytes fits beside its head */
    size_t buffers = (config->memory_bytes - config->workers * engine->hot_bytes) / each;
    struct stg_sink_config sink = {
        .buffer_bytes = each,
        .buffer_count = buffers,
        .workers = config->workers,
        .disk_threads = config->disk_threads,
        .keep_cached_bytes = config->keep_cached_bytes,
        .hooks = {engine, on_wake, on_done, on_announce},
    };
    return stg_sink_new(&sink, &engine->sink);
}

static int start_workers(struct stg_engine *engine)
{
    const struct stg_engine_config *config = &engine->config;
    engine->workers = calloc(config->workers, sizeof *engine->workers);
    if (!engine->workers)
        return -ENOMEM;
    for (unsigned i = 0; i < config->workers; i++) {
        unsigned share = stg_pace_share(config->connections, i, config->workers);
        int status = stg_worker_new(engine, i, share, &engine->workers[i]);
        if (status < 0)
            return status;
        engine->started++;
    }
    return 0;
}

int stg_engine_new(const struct stg_engine_config *config, struct stg_engine **out)
{
    struct stg_engine_config checked = *config;
    int status = check_config(&checked);
    if (status < 0)
        return status;
    struct stg_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return -ENOMEM;
    engine->config = checked;
    engine->pid = getpid();
    engine->credits = checked.ring_slots;
    pthread_mutex_init(&engine->queue_lock, NULL);
    pthread_mutex_init(&engine->bytes_lock, NULL);
    stg_engine_set_limits(engine, checked.requests_per_second, checked.bytes_per_second);
    engine->hot_bytes = choose_hot_bytes(&checked);
    status = stg_ring_init(&engine->ring, checked.ring_slots);
    if (status == 0)
        status = start_sink(engine);
    if (status == 0)
        status = start_workers(engine);
    if (status < 0) {
        stg_engine_free(engine);
        return status;
    }
    *out = engine;
    return 0;
}

int stg_engine_state(const struct stg_engine *engine)
{
    if (is_foreign(engine))
        return -ECHILD;
    return atomic_load(&engine->closing) ? -ESHUTDOWN : 0;
}

int stg_engine_fileno(const struct stg_engine *engine)
{
    return engine->ring.event_fd;
}

void stg_engine_stats(struct stg_engine *engine, struct stg_engine_stats *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < engine->started; i++)
        stg_worker_add_stats(engine->workers[i], out);
    out->workers = engine->started;
    out->disk_threads = engine->config.disk_threads;
    out->disk_ns = engine->sink ? stg_sink_busy_ns(engine->sink) : 0;
    pthread_mutex_lock(&engine->queue_lock);
    out->held_ns = (uint64_t)engine->held_ns;
    out->requests_per_1000_s = (uint64_t)(engine->requests.rate * 1000);
    pthread_mutex_unlock(&engine->queue_lock);
    pthread_mutex_lock(&engine->bytes_lock);
    out->bytes_per_second = (uint64_t)engine->bytes.rate;
    pthread_mutex_unlock(&engine->bytes_lock);
}

static void drop_all(struct stg_engine *engine)
{
    pthread_mutex_lock(&engine->queue_lock);
    while (engine->waiting) {
        struct stg_batch *batch = engine->waiting;
        atomic_store(&batch->cancelled, 1);
        engine->waiting = batch->next;
        batch->next = engine->dropped;
        engine->dropped = batch;
    }
    pthread_mutex_unlock(&engine->queue_lock);
}

void stg_engine_close(struct stg_engine *engine)
{
    if (is_foreign(engine) || atomic_exchange(&engine->closing, 1))
        return;
    drop_all(engine);
    stg_engine_wake(engine);
    for (unsigned i = 0; i < engine->started; i++)
        stg_worker_join(engine->workers[i]);
    stg_sink_free(engine->sink);
    engine->sink = NULL;
    stg_engine_signal(engine);
}

void stg_engine_free(struct stg_engine *engine)
{
    if (!engine || is_foreign(engine))
        return;
    stg_engine_close(engine);
    struct stg_completion left[64];
    for (size_t n; (n = stg_engine_drain(engine, left, 64)) > 0;)
        for (size_t i = 0; i < n; i++)
            stg_failure_free(left[i].failure);
    for (unsigned i = 0; i < engine->started; i++)
        stg_worker_free(engine->workers[i]);
    stg_ring_free(&engine->ring);
    pthread_mutex_destroy(&engine->queue_lock);
    pthread_mutex_destroy(&engine->bytes_lock);
    free(engine->workers);
    free(engine);
}
