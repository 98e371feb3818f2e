/* The engine: N workers, each one epoll loop with its own keep-alive connections; disk threads; one completion ring.
 *
 * Requests in flight never exceed ring_slots (a request takes a credit, draining gives it back), so the ring cannot
 * overflow and nothing can deadlock on it. The eventfd is readable when stg_engine_drain has something; completions
 * that are not urgent (a stored object in the middle of a batch) are announced within 10 ms, not one by one.
 * Memory: memory_bytes of buffers (an eighth for one of each worker's own, up to 1 MiB; the others buffer_bytes and
 * 16 KiB for a head each), ring_slots x 24 bytes, 32 KiB a worker,
 * 1 KiB for each connection there may be, for each one in use a hasher, the TLS state, 16 KiB while a proxy is asked
 * for a tunnel, and 16 bytes for each 8 MiB of a whole object, and at most 32 MiB for each listing's answer.
 * Descriptors: connections, 3 a batch, for directories STG_PARENTS_OPEN and one for each thread and running batch, for
 * written files STG_BEHIND_OPEN and two for each thread, and two a worker.
 * Limits hold for all workers together, in any time t: requests_per_second x t and what may be sent at once besides,
 * bytes_per_second x t likewise. Who waits for them is no stalled peer.
 * Nothing here works in a forked child (-ECHILD).
 */
#ifndef STG_ENGINE_H
#define STG_ENGINE_H

#include "batch.h"

struct stg_engine;

#define STG_MAX_REQUESTS_PER_SECOND 1e9

struct stg_engine_config {
    unsigned workers; /* 0: as many as CPUs may be used (stg_cpus_usable), at most STG_MAX_WORKERS */
    unsigned disk_threads; /* that may work on one disk */
    unsigned connections;       /* at most so many sockets, all workers together */
    double requests_per_second; /* 0: no limit; a request that is sent again counts again; burst: stg_burst_requests */
    uint64_t bytes_per_second;  /* 0: no limit; what is received, without TLS's own; burst: stg_burst_bytes */
    size_t memory_bytes, buffer_bytes;
    unsigned ring_slots;
    int connect_timeout_ms, stall_timeout_ms;
    int64_t keep_cached_bytes; /* of what is written, so much stays in the page cache; 0: all of it */
};

struct stg_completion {
    struct stg_batch *batch;
    uint32_t index;
    uint8_t failed;
    struct stg_failure *failure; /* the receiver frees it; NULL with failed set: cancelled */
};

struct stg_engine_stats {
    uint64_t requests, connections, bytes_received, stale_retries, late_retries;
    uint64_t workers, disk_threads;
    uint64_t worker_cpu_ns, tls_ns, digest_ns, store_ns; /* of the workers: all, and what of it; tls: with the kernel's */
    uint64_t disk_ns;                                    /* of the disk threads, in writes and renames */
    uint64_t answers, answer_wait_ms, body_ms, paused_ms, throttled_ms; /* of the connections: spent.h */
    uint64_t held_ns; /* a request waited, with a connection to take it, for a limit of requests a second */
    uint64_t bytes_per_second, requests_per_1000_s; /* the engine's own limits as they are now; 0: none */
};

/* -EINVAL: a limit is 0 or does not fit the others; -ENOMEM; -EMFILE; -EAGAIN: no thread. */
int stg_engine_new(const struct stg_engine_config *config, struct stg_engine **out);
/* -ECHILD in a forked child, -ESHUTDOWN after close, else 0. */
int stg_engine_state(const struct stg_engine *engine);
int stg_engine_fileno(const struct stg_engine *engine);
/* Starts it; the engine has its own reference until every completion was drained. -ESHUTDOWN after close; -ECHILD. */
int stg_engine_submit(struct stg_engine *engine, struct stg_batch *batch);
/* What has not completed completes as cancelled, a write in flight before that. */
void stg_engine_cancel(struct stg_engine *engine, struct stg_batch *batch);
/* Steers one endpoint from now on, within the engine's own limits: requests at once (0: no limit of its own; idle
 * connections beyond it are closed, busy ones finish), and requests a second (0: no limit). -EINVAL; -ESHUTDOWN;
 * -ECHILD. */
int stg_engine_pace(struct stg_engine *engine, struct stg_endpoint *endpoint, unsigned connections,
                    double requests_per_second);
/* The engine's own limits from now on, as in its config; who waits for the old ones asks again. -EINVAL; -ESHUTDOWN;
 * -ECHILD. */
int stg_engine_limit(struct stg_engine *engine, double requests_per_second, uint64_t bytes_per_second);
/* Up to max completions. A batch's pointer stays valid while the caller has a reference of its own. */
size_t stg_engine_drain(struct stg_engine *engine, struct stg_completion *out, size_t max);
void stg_engine_stats(struct stg_engine *engine, struct stg_engine_stats *out);
/* Cancels everything, waits for writes in flight, joins the threads. What is left can still be drained. Idempotent;
 * in a forked child it only forgets. */
void stg_engine_close(struct stg_engine *engine);
void stg_engine_free(struct stg_engine *engine); /* closes first */

#endif
