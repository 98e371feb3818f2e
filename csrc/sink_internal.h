/* What the sink's buffers and its disk threads share; nobody else includes it. */
#ifndef STG_SINK_INTERNAL_H
#define STG_SINK_INTERNAL_H

#include "sink.h"
#include "spent.h"

#include <pthread.h>
#include <time.h>

struct stg_disk_thread {
    struct stg_sink *sink;
    unsigned number;
    pthread_t id;
    _Atomic uint64_t busy_ns;
    /* under the sink's lock */
    int working;
    uint64_t device; /* where it works */
};

struct stg_sink {
    struct stg_sink_config config;
    char *memory;
    struct stg_buffer *buffers;
    struct stg_disk_thread *threads;
    unsigned thread_count, started;
    struct stg_names names;
    struct stg_cache_budget cached;
    struct stg_behind *behind; /* one a thread, by thread number */

    pthread_mutex_t lock; /* of everything below, and of each file's shared part */
    pthread_cond_t work;
    struct stg_buffer *free;
    struct stg_file *first_ready, **last_ready;
    unsigned files; /* begun and not finished */
    unsigned unwoken; /* buffers and ends queued since a disk thread was woken */
    uint32_t wanting; /* workers that found no buffer, a bit each */
    int owing; /* `announce` has to be called at announce_at */
    struct timespec announce_at;
    int stopping;
};

/* With the lock held. Returns the workers to wake once it is released. */
uint32_t stg_sink_put_back(struct stg_sink *sink, struct stg_buffer *buffer);
void stg_sink_wake(struct stg_sink *sink, uint32_t workers); /* without the lock */
/* Starts the thread; -EAGAIN. It ends when sink->stopping is set and nothing is left to do. */
int stg_disk_thread_start(struct stg_disk_thread *thread);

#endif
