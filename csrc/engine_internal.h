/* What the engine and its workers share; nobody else includes it. */
#ifndef STG_ENGINE_INTERNAL_H
#define STG_ENGINE_INTERNAL_H

#include "ring.h"

struct stg_worker;

#define STG_SLOW_DEVICES 8

struct stg_engine {
    struct stg_engine_config config;
    pid_t pid;
    struct stg_sink *sink;
    struct stg_worker **workers;
    unsigned started;
    atomic_int open_directories;
    atomic_int closing; /* submit looks at it under the queue lock */

    pthread_mutex_t queue_lock;
    struct stg_batch *waiting;            /* batches with requests not taken yet, oldest first */
    struct stg_batch *dropped;            /* cancelled before all was taken: drain reports the rest */
    const struct stg_template *last_taken;
    unsigned credits;
    int starved; /* a worker found no credit */
    struct {
        uint64_t device;
        int64_t until_ms;
    } slow[STG_SLOW_DEVICES]; /* file systems that new batches use through the disk threads at once */
    unsigned slow_next;

    struct stg_ring ring;
};

struct stg_item {
    struct stg_batch *batch;
    uint32_t index;
};

/* The next request: 1, or 0 when there is none or no credit. Batches of prefer (may be NULL) come first; without it
 * templates take turns. */
int stg_engine_take(struct stg_engine *engine, const struct stg_endpoint *prefer, struct stg_item *out);
/* Reports an item; failed with failure NULL: cancelled. Returns 1 when the caller must see to stg_engine_signal within
 * 10 ms; 0 when it is done already. */
int stg_engine_complete(struct stg_engine *engine, struct stg_item item, int failed, struct stg_failure *failure);
void stg_engine_signal(struct stg_engine *engine);
/* An inline operation of the batch took too long: it, and for a while other batches there, leave the workers alone. */
void stg_engine_note_slow(struct stg_engine *engine, struct stg_batch *batch);

#endif
