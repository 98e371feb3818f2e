#include "sink_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

unsigned stg_sink_hands(const struct stg_sink *sink)
{
    return sink->config.workers + sink->thread_count;
}

struct stg_hand stg_sink_hand(struct stg_sink *sink, unsigned thread)
{
    return (struct stg_hand){thread, &sink->names, &sink->behind[thread]};
}

/* ---- buffers ---- */

size_t stg_sink_buffer_bytes(const struct stg_sink *sink)
{
    return sink->config.buffer_bytes;
}

struct stg_buffer *stg_sink_take(struct stg_sink *sink, unsigned worker)
{
    pthread_mutex_lock(&sink->lock);
    struct stg_buffer *buffer = sink->free;
    if (buffer)
        sink->free = buffer->next;
    else
        sink->wanting |= 1U << worker;
    pthread_mutex_unlock(&sink->lock);
    return buffer;
}

uint32_t stg_sink_put_back(struct stg_sink *sink, struct stg_buffer *buffer)
{
    uint32_t wake = sink->wanting;
    buffer->next = sink->free;
    sink->free = buffer;
    sink->wanting = 0;
    return wake;
}

void stg_sink_wake(struct stg_sink *sink, uint32_t workers)
{
    for (unsigned i = 0; workers; i++, workers >>= 1)
        if (workers & 1)
            sink->config.hooks.wake(sink->config.hooks.context, i);
}

void stg_sink_give(struct stg_sink *sink, struct stg_buffer *buffer)
{
    pthread_mutex_lock(&sink->lock);
    uint32_t wake = stg_sink_put_back(sink, buffer);
    pthread_mutex_unlock(&sink->lock);
    stg_sink_wake(sink, wake);
}

uint64_t stg_sink_busy_ns(struct stg_sink *sink)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < sink->thread_count; i++)
        sum += stg_spent_of(&sink->threads[i].busy_ns);
    return sum;
}

/* ---- life ---- */

static int start_threads(struct stg_sink *sink)
{
    for (unsigned i = 0; i < sink->thread_count; i++) {
        sink->threads[i] = (struct stg_disk_thread){.sink = sink, .number = i};
        int status = stg_disk_thread_start(&sink->threads[i]);
        if (status < 0)
            return status;
        sink->started++;
    }
    return 0;
}

static int take_memory(struct stg_sink *sink)
{
    const struct stg_sink_config *config = &sink->config;
    sink->buffers = calloc(config->buffer_count, sizeof *sink->buffers);
    sink->threads = calloc(sink->thread_count, sizeof *sink->threads);
    sink->behind = calloc(stg_sink_hands(sink), sizeof *sink->behind);
    if (!sink->buffers || !sink->threads || !sink->behind)
        return -ENOMEM;
    sink->cached.keep_bytes = config->keep_cached_bytes;
    for (unsigned i = 0; i < stg_sink_hands(sink); i++)
        stg_behind_init(&sink->behind[i], &sink->cached);
    char *memory = mmap(NULL, config->buffer_count * config->buffer_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    sink->memory = memory;
    for (size_t i = config->buffer_count; i-- > 0;) {
        sink->buffers[i].data = memory + i * config->buffer_bytes;
        sink->buffers[i].next = sink->free;
        sink->free = &sink->buffers[i];
    }
    return 0;
}

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

int stg_sink_new(const struct stg_sink_config *config, struct stg_sink **out)
{
    if (!config->buffer_bytes || !config->buffer_count || !config->workers || config->workers > 32 ||
        !config->disk_threads)
        return -EINVAL;
    struct stg_sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return -ENOMEM;
    sink->config = *config;
    sink->thread_count = config->disk_threads + 1;
    sink->last_ready = &sink->first_ready;
    pthread_mutex_init(&sink->lock, NULL);
    init_condition(&sink->work);
    int status = take_memory(sink);
    if (status == 0)
        status = stg_names_init(&sink->names);
    if (status == 0)
        status = start_threads(sink);
    if (status < 0) {
        stg_sink_free(sink);
        return status;
    }
    *out = sink;
    return 0;
}

void stg_sink_free(struct stg_sink *sink)
{
    if (!sink)
        return;
    pthread_mutex_lock(&sink->lock);
    sink->stopping = 1;
    pthread_cond_broadcast(&sink->work);
    pthread_mutex_unlock(&sink->lock);
    for (unsigned i = 0; i < sink->started; i++)
        pthread_join(sink->threads[i].id, NULL);
    for (unsigned i = 0; sink->behind && i < stg_sink_hands(sink); i++)
        stg_behind_end(&sink->behind[i]);
    if (sink->memory)
        munmap(sink->memory, sink->config.buffer_count * sink->config.buffer_bytes);
    pthread_cond_destroy(&sink->work);
    pthread_mutex_destroy(&sink->lock);
    free(sink->behind);
    free(sink->threads);
    free(sink->buffers);
    free(sink);
}
