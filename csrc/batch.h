/* Requests handed over together: rows of a table, ranges of one object, what is announced of rows, or one page of a
 * listing.
 *
 * Requests are worked out from (table, row) when a connection takes them; a batch holds 4 bytes an object for its row
 * and 40 for its result. Reference counted: the maker has one reference, a running batch is held by its engine.
 */
#ifndef STG_BATCH_H
#define STG_BATCH_H

#include "checksum.h"
#include "digest.h"
#include "identity.h"
#include "request.h"
#include "sink.h"
#include "table.h"
#include "targets.h"

#include <stdatomic.h>

enum stg_batch_kind { STG_BATCH_OBJECTS, STG_BATCH_RANGES, STG_BATCH_HEADS, STG_BATCH_LIST };

struct stg_result {
    uint8_t digest[STG_DIGEST_BYTES]; /* objects */
    int64_t mtime_ns, ctime_ns;       /* objects: of the file, after the rename; until then, and of heads, the mtime that
                                         the source says, 0 when it says none */
    uint16_t mode;                    /* objects: permission bits */
    uint8_t verified;                 /* objects: the checksum that the source announced matched */
    uint8_t why;                      /* objects: enum stg_why, unless verified */
    uint32_t block_count;             /* ranges */
};

struct stg_range {
    int64_t offset, length;
    uint8_t *blocks; /* room for the range's block digests */
    uint64_t crc;    /* of the batch's kind, or 0 */
};

/* A part of an object as it was uploaded. */
struct stg_part {
    char query[24];         /* "partNumber=<n>" */
    int64_t offset, length; /* -1: not told */
    int64_t count;          /* of the object's parts; -1: not told */
};

/* What the answer to a HEAD said of an object. */
struct stg_told {
    int64_t size;
    size_t etag_len, version_len;
    char etag[1022], version[STG_VERSION_MAX]; /* the ETag between its quotes */
};

struct stg_batch {
    atomic_int refs;
    enum stg_batch_kind kind;
    struct stg_template *template_;
    struct stg_table *table;
    size_t count;
    uint32_t *rows;           /* objects, heads */
    uint32_t row;             /* ranges: of the one object */
    struct stg_range *ranges; /* ranges */
    uint8_t *blocks;          /* ranges: what ranges[].blocks point into */
    struct stg_targets *targets; /* objects: where each is asked for, and its SHA-256; ranges: of the one object; or NULL */
    int preserve;             /* objects: files get the source's mtime; set before the batch is submitted */
    enum stg_crc_kind crc;    /* ranges: what is computed of each; set before the batch is submitted */
    struct stg_announced *announced; /* heads: of each object */
    struct stg_part *parts;          /* heads of stored parts: what they asked for, and what was told */
    struct stg_told *told;    /* heads, of each object that is looked up; else NULL */
    struct stg_str query;     /* list */
    char *body;               /* list: the answer */
    size_t body_len, body_cap;
    struct stg_landing landing; /* descriptors are duplicates of the caller's */
    struct stg_result *results;
    void *user;               /* the caller's */

    atomic_int cancelled;
    atomic_int slow;          /* inline operations took too long: to the disk threads */
    atomic_size_t unfinished; /* the one who takes it to 0 closes the landing */
    /* under the engine's queue lock */
    struct stg_batch *next;
    size_t taken;
    size_t undrained; /* of the one thread that drains */
};

/* -ENOMEM; -EBADF and the like of dup; -EINVAL: a row that is not there, an empty batch, a range that is empty, outside
 * of the object, or not on the grid. */
int stg_batch_objects(struct stg_template *template_, struct stg_table *table, const uint32_t *rows, size_t count,
                      int root_fd, int tmp_fd, struct stg_batch **out);
/* offsets_lengths: count pairs. */
int stg_batch_ranges(struct stg_template *template_, struct stg_table *table, uint32_t row,
                     const int64_t *offsets_lengths, size_t count, int fd, struct stg_batch **out);
/* Before the batch is submitted: where its objects are asked for, instead of what template and key say. No ETag is
 * compared then, nothing is signed, and whole objects are compared with their SHA-256. -EINVAL: not one for each object (of
 * ranges: one in all), or another kind of batch. */
int stg_batch_take_targets(struct stg_batch *batch, struct stg_targets *targets);
void stg_batch_aim(const struct stg_batch *batch, uint32_t index, struct stg_request *request); /* if it has any */
/* Asks with HEAD what is announced of each object. A server that refuses, or speaks of another object, announces
 * nothing: why is not said in an answer without a body, and the object's own requests will tell. */
int stg_batch_heads(struct stg_template *template_, struct stg_table *table, const uint32_t *rows, size_t count,
                    struct stg_batch **out);
/* Asks with HEAD about stored parts (numbers, from 1 to STG_PARTS_MAX) of objects. -EINVAL: another number. */
int stg_batch_parts(struct stg_template *template_, struct stg_table *table, const uint32_t *rows,
                    const uint32_t *numbers, size_t count, struct stg_batch **out);
/* Asks with HEAD what there is under each row's key, pinned as far as the row's identity goes; its size does not count. A
 * refusal is a failure. */
int stg_batch_look_up(struct stg_template *template_, struct stg_table *table, const uint32_t *rows, size_t count,
                      struct stg_batch **out);
int stg_batch_list(struct stg_template *template_, struct stg_str query, struct stg_batch **out);
struct stg_batch *stg_batch_ref(struct stg_batch *batch);
void stg_batch_unref(struct stg_batch *batch);

/* threads: the engine's, that will store bodies; open_directories: its count of what they keep open. -ENOMEM. */
int stg_batch_prepare(struct stg_batch *batch, unsigned threads, atomic_int *open_directories);
/* The first -errno of closing what was written to: a write may have been lost. */
int stg_batch_close_landing(struct stg_batch *batch);
struct stg_request stg_batch_request(const struct stg_batch *batch, uint32_t index);
/* The row's key and mode. */
struct stg_row stg_batch_row(const struct stg_batch *batch, uint32_t index);
/* What an object's file is made with, once stg_batch_take_mtime has seen its answer. */
struct stg_made stg_batch_made(const struct stg_batch *batch, uint32_t index);
/* Notes the mtime that the source says of an object whose answer has this head: in its metadata, else in its listing. */
void stg_batch_take_mtime(struct stg_batch *batch, uint32_t index, const struct stg_http_head *head);
/* Whether a worker writes its bodies itself: what it received is in its cache, and no other thread has to wake. What
 * leaves the machine and may hang, or was seen to take long, is for the disk threads. */
int stg_batch_may_write_inline(struct stg_batch *batch);
/* Takes what a head announces of the body to come. 0, or -EBADMSG: the object would not reach the grade that is asked
 * for (*failure says why). */
int stg_batch_take_announced(struct stg_batch *batch, uint32_t index, const struct stg_http_head *head,
                             struct stg_announced *announced, struct stg_failure **failure);
/* Begins the sum of a body; what OpenSSL cannot compute is not announced any more. As above. */
int stg_batch_start_sum(struct stg_batch *batch, uint32_t index, struct stg_announced *announced, struct stg_sum *sum,
                        struct stg_failure **failure);
/* Takes the sum of a finished body, or digest and sum of one that is at hand: 0, or as stg_checksum_check. */
int stg_batch_take_sum(struct stg_batch *batch, uint32_t index, const struct stg_announced *announced,
                       struct stg_sum *sum, struct stg_failure **failure);
int stg_batch_take_whole(struct stg_batch *batch, uint32_t index, struct stg_announced *announced,
                         struct stg_sum *sum, const char *data, size_t len, struct stg_failure **failure);
/* Takes the answer to a HEAD, unless it is one to ask again for: then -EAGAIN. */
int stg_batch_take_head(struct stg_batch *batch, uint32_t index, const struct stg_http_head *head);
/* Notes what became of an object's file. */
void stg_batch_keep(struct stg_batch *batch, uint32_t index, const struct stg_stored *stored);
/* Appends to a listing's answer; -EFBIG over 32 MiB; -ENOMEM. */
int stg_batch_append_body(struct stg_batch *batch, const char *data, size_t len);

#endif
