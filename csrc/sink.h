/* Where bodies go: a fixed budget of receive buffers, and disk threads that own what was handed to them.
 *
 * A small body is stored inline by the thread that received it (stg_landing_store). A larger one becomes a stg_file.
 * That thread writes and ends it too (stg_file_write_inline, stg_file_end_inline), or it hands buffers over one by one,
 * each with its offset; one disk thread at a time works on a file, in order, and stg_file_end passes the file itself on.
 * Whoever finishes it tells through `done` and frees it.
 * What is written leaves at most keep_cached_bytes in the page cache (behind.h).
 * Memory: buffer_count x buffer_bytes, taken at start; queues hold only those buffers and need none of their own.
 */
#ifndef STG_SINK_H
#define STG_SINK_H

#include "landing.h"
#include "stg.h"

struct stg_buffer {
    struct stg_buffer *next;
    char *data;
    size_t start, len; /* the bytes to write are data[start..start+len) */
    int64_t offset;    /* in the file */
};

struct stg_sink;
struct stg_file;

/* All are called without locks held. */
struct stg_sink_hooks {
    void *context;
    /* A buffer is free, or a file takes more: worker should try again. Any thread. */
    void (*wake)(void *context, unsigned worker);
    /* A file that was ended is finished, from a disk thread. stored NULL: it was not kept, because of error (-errno, in
     * the step where) or, with error 0, because it was to be dropped. Returns 0, or in how many ms from now announce
     * has to be called, once for all that is done until then. */
    int (*done)(void *context, void *owner, uint32_t index, void *note, int error, const char *where,
                const struct stg_stored *stored);
    void (*announce)(void *context);
};

struct stg_sink_config {
    size_t buffer_bytes, buffer_count;
    unsigned workers;      /* at most 32 */
    unsigned disk_threads; /* that may work on one disk; there is one more, as a disk that hangs holds them up */
    int64_t keep_cached_bytes;      /* 0: all of it */
    struct stg_sink_hooks hooks;
};

/* -ENOMEM, -EAGAIN (no thread), -EINVAL. */
int stg_sink_new(const struct stg_sink_config *config, struct stg_sink **out);
/* Finishes every file that was ended, joins the threads. All buffers must be back, or in files that were ended. */
void stg_sink_free(struct stg_sink *sink);

size_t stg_sink_buffer_bytes(const struct stg_sink *sink);
/* The buffer given back last; NULL: none is free, and worker will be woken. */
struct stg_buffer *stg_sink_take(struct stg_sink *sink, unsigned worker);
void stg_sink_give(struct stg_sink *sink, struct stg_buffer *buffer);

/* Threads that store: the workers, from 0, and after them the disk threads. */
unsigned stg_sink_hands(const struct stg_sink *sink);
struct stg_hand stg_sink_hand(struct stg_sink *sink, unsigned thread);
void stg_sink_flush(struct stg_sink *sink); /* wakes the disk threads for what is queued */
uint64_t stg_sink_busy_ns(struct stg_sink *sink); /* what the disk threads spent in writes and renames; any thread */

/* NULL: no memory. key must live until done; owner, index and note are handed to done. */
struct stg_file *stg_file_new(struct stg_sink *sink, struct stg_landing *landing, unsigned worker, struct stg_str key,
                              struct stg_made made, void *owner, uint32_t index);
/* Takes the buffer over, always. 0; 1: pause until stg_file_ready; -errno: the file has failed, end it. The disk threads
 * are sure to see to it, and to a file that was ended, only after stg_sink_flush. */
int stg_file_write(struct stg_file *file, struct stg_buffer *buffer);
int stg_file_ready(struct stg_file *file);
/* The same at once, by the thread that calls: 0 or -errno. For files of which nothing was given to stg_file_write. */
int stg_file_write_inline(struct stg_file *file, const struct stg_buffer *buffer, unsigned thread);
/* Takes the file over. keep: publish it when everything is written; else remove it. note goes to done. */
void stg_file_end(struct stg_file *file, int keep, void *note);
/* The same at once; returns what `done` returned. */
int stg_file_end_inline(struct stg_file *file, int keep, void *note, unsigned thread);

#endif
