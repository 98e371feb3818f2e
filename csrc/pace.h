/* How fast it may go: token buckets, and what one endpoint is allowed and has used.
 *
 * A bucket with a rate fills by so many tokens a second up to its burst, so over any time t at most
 * rate x t + burst tokens are taken. Times are ns of one clock that does not go back; nothing here reads it or locks.
 */
#ifndef STG_PACE_H
#define STG_PACE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define STG_MAX_WORKERS 16

struct stg_bucket {
    double rate, burst, tokens; /* rate 0: no limit */
    int64_t at_ns;
};

/* A new rate, and what may be taken at once; a bucket that had no rate begins full. */
void stg_bucket_set(struct stg_bucket *bucket, double rate, double burst, int64_t now_ns);
/* Takes up to want whole tokens; how many. */
size_t stg_bucket_take(struct stg_bucket *bucket, size_t want, int64_t now_ns);
/* What was taken and not used. */
void stg_bucket_give(struct stg_bucket *bucket, size_t unused);
/* In how many ns want tokens will be there (more than the burst never are: then as for the burst); 0: now. */
int64_t stg_bucket_wait_ns(const struct stg_bucket *bucket, size_t want, int64_t now_ns);

/* What may be taken at once from a limit of so many requests a second, of so many bytes a second. */
double stg_burst_requests(double per_second); /* 20 ms of it, at least one */
double stg_burst_bytes(double per_second);    /* 50 ms of it, at least 1 KiB */

/* One worker's part in an endpoint; written by this worker alone. */
struct stg_pace_part {
    atomic_uint busy, open; /* connections with a request; sockets */
    _Atomic uint64_t sent, received; /* requests; bytes */
    float first_byte_ms, again;      /* usual time to it; how many late answers may be asked for again */
    uint32_t timed;                  /* answers */
    char apart[28];                  /* from the next worker's cache line */
};

struct stg_pace {
    atomic_uint connections;    /* requests at once, all workers together; 0: no limit of its own */
    struct stg_bucket requests; /* under the engine's queue lock */
    struct stg_pace_part parts[STG_MAX_WORKERS];
};

/* Worker number's share of so many connections. */
unsigned stg_pace_share(unsigned connections, unsigned number, unsigned workers);
/* How many connections to the endpoint this worker may have; UINT_MAX: no limit. */
unsigned stg_pace_allowed(const struct stg_pace *pace, unsigned number, unsigned workers);

/* An answer began after so many ms. */
void stg_pace_note_first_byte(struct stg_pace_part *part, int64_t ms);
/* Whether a request should be sent again over another connection because its answer has not begun for so long: more
 * than 300 ms and 8 times the usual, for at most one answer in fifty and two. Some answers of S3 take a hundred times
 * the usual and the next one does not ("Amazon S3 User Guide", performance design patterns: retries for
 * latency-sensitive applications). */
int stg_pace_is_late(const struct stg_pace_part *part, int64_t ms);
/* A late one is sent again: takes from what may be. */
void stg_pace_note_again(struct stg_pace_part *part);

struct stg_pace_sum {
    uint64_t sent, received;
    unsigned busy, open;
};

struct stg_pace_sum stg_pace_sum(const struct stg_pace *pace);

#endif
