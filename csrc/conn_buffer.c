#include "worker_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int stg_worker_make_hot(struct stg_worker *worker, size_t bytes)
{
    worker->hot_bytes = bytes;
    if (!bytes)
        return 0;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    worker->hot.data = memory;
    worker->is_hot_free = 1;
    return 0;
}

void stg_worker_free_hot(struct stg_worker *worker)
{
    if (worker->hot.data)
        munmap(worker->hot.data, worker->hot_bytes);
}

static int is_hot(const struct stg_conn *conn)
{
    return conn->buffer == &conn->worker->hot;
}

static int is_stream(const struct stg_conn *conn)
{
    return conn->state == STG_CONN_BODY && conn->use == STG_USE_STREAM;
}

int stg_conn_take_buffer(struct stg_conn *conn)
{
    struct stg_worker *worker = conn->worker;
    struct stg_batch *batch = conn->item.batch;
    if (conn->buffer)
        return 0;
    /* a stream that left pieces to the disk threads goes on with them: they have its file */
    int is_inline = stg_batch_may_write_inline(batch) && (!conn->file || conn->writes_inline);
    conn->writes_inline = is_inline;
    if (is_inline && worker->is_hot_free) {
        worker->is_hot_free = 0;
        conn->buffer = &worker->hot;
    } else {
        conn->buffer = stg_sink_take(worker->engine->sink, worker->number);
    }
    return conn->buffer ? 0 : -1;
}

size_t stg_conn_capacity(const struct stg_conn *conn)
{
    return is_hot(conn) && is_stream(conn) ? conn->worker->hot_bytes : stg_sink_buffer_bytes(conn->worker->engine->sink);
}

void stg_worker_give_buffer(struct stg_worker *worker, struct stg_buffer *buffer)
{
    if (buffer == &worker->hot)
        worker->is_hot_free = 1;
    else
        stg_sink_give(worker->engine->sink, buffer);
}

void stg_conn_give_buffer(struct stg_conn *conn)
{
    if (conn->buffer)
        stg_worker_give_buffer(conn->worker, conn->buffer);
    conn->buffer = NULL;
    conn->fill = 0;
}

/* Moves what the hot buffer holds to one of the sink's. Where none is free it is kept, and others receive without it. */
static void park(struct stg_conn *conn)
{
    struct stg_worker *worker = conn->worker;
    struct stg_buffer *buffer = stg_sink_take(worker->engine->sink, worker->number);
    if (!buffer)
        return;
    memcpy(buffer->data, conn->buffer->data, conn->fill);
    stg_worker_give_buffer(worker, conn->buffer);
    conn->buffer = buffer;
}

int stg_conn_settle(struct stg_conn *conn)
{
    if (!conn->buffer)
        return 0;
    if (is_stream(conn) && conn->writes_inline) {
        if (conn->fill > conn->body_start && stg_conn_write_inline(conn) < 0)
            return -1;
        conn->body_start = conn->fill = 0;
    }
    if (conn->fill == 0)
        stg_conn_give_buffer(conn);
    else if (is_hot(conn))
        park(conn);
    return 0;
}
