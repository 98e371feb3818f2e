#include "worker_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WRITE_ALIGN ((size_t)4096)
#define SLOW_STORE_NS 50000000
#define SLOW_STORES 2 /* in a row that take longer send a batch to the disk threads: one may be a busy CPU's doing */

/* The worker is about to write, which may take long; what is queued on other disks does not wait for it. */
static int64_t start_storing(struct stg_worker *worker)
{
    stg_sink_flush(worker->engine->sink);
    return stg_monotonic_ns();
}

/* It wrote since start_ns. */
static void note_stored(struct stg_worker *worker, struct stg_batch *batch, int64_t start_ns)
{
    int64_t took = stg_monotonic_ns() - start_ns;
    stg_spent_add(&worker->spent.store_ns, (uint64_t)took);
    worker->slow_stores = took > SLOW_STORE_NS ? worker->slow_stores + 1 : 0;
    if (worker->slow_stores >= SLOW_STORES)
        stg_engine_note_slow(worker->engine, batch);
}

/* ---- small bodies ---- */

static void store_on_disk_thread(struct stg_worker *worker, struct stg_item item, struct stg_row row,
                                 struct stg_buffer *buffer)
{
    struct stg_sink *sink = worker->engine->sink;
    struct stg_file *file =
        stg_file_new(sink, &item.batch->landing, worker->number, row.key, stg_batch_made(item.batch, item.index),
                     item.batch, item.index);
    if (!file) {
        stg_sink_give(sink, buffer);
        stg_worker_complete(worker, item, 1, stg_failure_new(STG_FAIL_ERRNO, ENOMEM, "write", NULL));
        return;
    }
    stg_file_write(file, buffer);
    stg_file_end(file, 1, NULL);
}

/* A short range waits for every other one that is written to its file; a small object waits for nobody. */
static int is_for_disk_threads(struct stg_batch *batch)
{
    return batch->kind == STG_BATCH_RANGES ? !stg_batch_may_write_inline(batch)
                                           : atomic_load_explicit(&batch->slow, memory_order_relaxed);
}

static void store_inline(struct stg_worker *worker, struct stg_item item, struct stg_row row,
                         struct stg_buffer *buffer)
{
    struct stg_sink *sink = worker->engine->sink;
    struct stg_stored stored = {0};
    struct stg_failure *failure = NULL;
    const char *where;
    int64_t start = start_storing(worker);
    int status = stg_landing_store(&item.batch->landing, stg_sink_hand(sink, worker->number), row.key,
                                   stg_batch_made(item.batch, item.index), buffer->data + buffer->start, buffer->len,
                                   buffer->offset, &stored, &where);
    note_stored(worker, item.batch, start);
    stg_worker_give_buffer(worker, buffer);
    if (status < 0)
        failure = stg_failure_new(STG_FAIL_ERRNO, -status, where, NULL);
    else if (item.batch->kind == STG_BATCH_OBJECTS)
        stg_batch_keep(item.batch, item.index, &stored);
    stg_worker_complete(worker, item, status < 0, failure);
}

void stg_conn_finish_whole(struct stg_conn *conn)
{
    struct stg_worker *worker = conn->worker;
    struct stg_item item = conn->item;
    struct stg_batch *batch = item.batch;
    struct stg_buffer *buffer = conn->buffer;
    struct stg_row row = stg_batch_row(batch, item.index);
    struct stg_announced announced = conn->announced;
    struct stg_failure *failure = NULL;
    buffer->start = conn->body_start;
    buffer->len = conn->fill - conn->body_start;
    buffer->offset = conn->request.offset;
    conn->buffer = NULL;
    conn->fill = 0;
    stg_conn_release(conn);
    stg_worker_dispatch(worker); /* the next request travels while this body is stored */
    int64_t start = stg_monotonic_ns();
    int status =
        stg_batch_take_whole(batch, item.index, &announced, &worker->sum, buffer->data + buffer->start, buffer->len,
                             &failure);
    stg_spent_since(&worker->spent.digest_ns, start);
    if (status < 0) {
        stg_worker_give_buffer(worker, buffer);
        stg_worker_complete(worker, item, 1, failure);
    } else if (is_for_disk_threads(batch) && buffer != &worker->hot)
        store_on_disk_thread(worker, item, row, buffer);
    else
        store_inline(worker, item, row, buffer);
}

/* ---- streams: bodies that are stored while they come ---- */

int stg_conn_start_stream(struct stg_conn *conn, struct stg_failure **failure)
{
    struct stg_batch *batch = conn->item.batch;
    size_t blocks = ((size_t)conn->request.length + STG_BLOCK_BYTES - 1) / STG_BLOCK_BYTES;
    struct stg_row row = stg_batch_row(batch, conn->item.index);
    uint8_t *room = NULL;
    if (!conn->hasher)
        conn->hasher = stg_hasher_new();
    if (batch->kind == STG_BATCH_RANGES)
        room = batch->ranges[conn->item.index].blocks;
    else
        room = conn->blocks = malloc(blocks * STG_DIGEST_BYTES);
    if (!conn->hasher || !room)
        goto no_memory;
    int status = stg_batch_start_sum(batch, conn->item.index, &conn->announced, &conn->sum, failure);
    if (status < 0)
        return status;
    stg_hasher_reset(conn->hasher, room, blocks);
    conn->writes_inline = stg_batch_may_write_inline(batch) || conn->buffer == &conn->worker->hot;
    conn->file_offset = conn->request.offset;
    conn->file = stg_file_new(conn->worker->engine->sink, &batch->landing, conn->worker->number, row.key,
                              stg_batch_made(batch, conn->item.index), batch, conn->item.index);
    if (conn->file)
        return 0;
no_memory:
    *failure = stg_failure_new(STG_FAIL_ERRNO, ENOMEM, "write", NULL);
    return -ENOMEM;
}

/* Fills in what of the buffer is to be written: the first len bytes of the body. */
static void describe(struct stg_conn *conn, size_t len)
{
    struct stg_buffer *buffer = conn->buffer;
    buffer->start = conn->body_start;
    buffer->len = len;
    buffer->offset = conn->file_offset;
    conn->file_offset += (int64_t)len;
}

int stg_conn_write_inline(struct stg_conn *conn)
{
    struct stg_worker *worker = conn->worker;
    describe(conn, conn->fill - conn->body_start);
    conn->body_start = conn->fill = 0;
    int64_t start = start_storing(worker);
    int status = stg_file_write_inline(conn->file, conn->buffer, worker->number);
    note_stored(worker, conn->item.batch, start);
    if (status < 0)
        stg_conn_fail(conn, NULL); /* the file knows its error */
    return status;
}

/* Hands the first len bytes of the body over and keeps the rest, in next when there is one. */
static int hand_over(struct stg_conn *conn, size_t len, struct stg_buffer *next)
{
    struct stg_buffer *buffer = conn->buffer;
    size_t tail = conn->fill - conn->body_start - len;
    if (next && tail)
        memcpy(next->data, buffer->data + conn->body_start + len, tail);
    describe(conn, len);
    conn->buffer = next;
    conn->body_start = 0;
    conn->fill = tail;
    return stg_file_write(conn->file, buffer);
}

int stg_conn_spill(struct stg_conn *conn)
{
    struct stg_worker *worker = conn->worker;
    if (conn->writes_inline)
        return stg_conn_write_inline(conn) < 0;
    struct stg_buffer *next = stg_sink_take(worker->engine->sink, worker->number);
    size_t len = conn->fill - conn->body_start;
    if (next && len > WRITE_ALIGN) /* later writes start on a page */
        len -= ((size_t)conn->file_offset + len) % WRITE_ALIGN;
    int status = hand_over(conn, len, next);
    if (status < 0) {
        stg_conn_fail(conn, NULL);
        return 1;
    }
    if (status == 0 && next)
        return 0;
    stg_conn_pause(conn, STG_PAUSE_STORE);
    return 1;
}

/* The last bytes of the body. 0, or the request is over. */
static int store_rest(struct stg_conn *conn)
{
    size_t rest = conn->buffer ? conn->fill - conn->body_start : 0;
    if (rest && conn->writes_inline)
        return stg_conn_write_inline(conn);
    if (rest)
        hand_over(conn, rest, NULL);
    return 0;
}

void stg_conn_finish_stream(struct stg_conn *conn)
{
    struct stg_worker *worker = conn->worker;
    struct stg_batch *batch = conn->item.batch;
    struct stg_file *file = conn->file;
    struct stg_failure *failure = NULL;
    int is_inline = conn->writes_inline;
    ssize_t blocks = stg_hasher_finish(conn->hasher);
    if (batch->kind == STG_BATCH_OBJECTS)
        stg_digest_combine(conn->blocks, (size_t)blocks, batch->results[conn->item.index].digest);
    batch->results[conn->item.index].block_count = (uint32_t)blocks;
    if (store_rest(conn) < 0)
        return;
    int keep = stg_batch_take_sum(batch, conn->item.index, &conn->announced, &conn->sum, &failure) == 0;
    conn->file = NULL;
    stg_conn_give_buffer(conn);
    if (is_inline)
        stg_worker_announce_later(worker, stg_file_end_inline(file, keep, failure, worker->number));
    else
        stg_file_end(file, keep, failure);
    stg_conn_release(conn);
}
