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
    size_t hot_bytes; /* of each worker's hot buffer; 0: too little memory for one */
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

    struct stg_bucket requests; /* the engine's own limit */
    int64_t held_since_ns, held_ns; /* nothing but a limit of requests keeps one back; 0: not now */

    pthread_mutex_t bytes_lock;
    struct stg_bucket bytes;
    atomic_int counts_bytes; /* whether there is a limit of them: without one nobody takes the lock */

    struct stg_ring ring;
};

struct stg_item {
    struct stg_batch *batch;
    uint32_t index;
};

/* ---- queue.c ---- */

/* The next request that worker may send: 0. Else in how many ns there may be one; INT64_MAX: time alone brings none,
 * the worker is woken. Batches of prefer (may be NULL) come first; without it templates take turns. */
int64_t stg_engine_take(struct stg_engine *engine, unsigned worker, const struct stg_endpoint *prefer,
                        struct stg_item *out);
/* For a request of the batch that has to be sent a second time: 0, or in how many ns to ask again. */
int64_t stg_engine_take_again(struct stg_engine *engine, struct stg_batch *batch);
/* How many of want bytes may be received now; 0: ask again in *wait_ns. What was not received is given back. */
size_t stg_engine_take_bytes(struct stg_engine *engine, size_t want, int64_t *wait_ns);
void stg_engine_give_bytes(struct stg_engine *engine, size_t unused);
int stg_engine_counts_bytes(const struct stg_engine *engine); /* whether there is a limit of them */
void stg_engine_set_limits(struct stg_engine *engine, double requests, uint64_t bytes_per_second);
void stg_engine_wake(struct stg_engine *engine); /* all workers */
/* An inline operation of the batch took too long: it, and for a while other batches there, leave the workers alone. */
void stg_engine_note_slow(struct stg_engine *engine, struct stg_batch *batch);

/* ---- engine.c ---- */

/* Reports an item; failed with failure NULL: cancelled. Returns 1 when the caller must see to stg_engine_signal within
 * 10 ms; 0 when it is done already. */
int stg_engine_complete(struct stg_engine *engine, struct stg_item item, int failed, struct stg_failure *failure);
void stg_engine_signal(struct stg_engine *engine);

#endif
