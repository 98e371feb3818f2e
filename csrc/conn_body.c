#include "worker_internal.h"

#include <errno.h>
#include <string.h>

#define ERROR_BODY_MAX ((size_t)64 << 10)

static void fail_protocol(struct stg_conn *conn, const char *message)
{
    const char *where = conn->state == STG_CONN_HEAD ? "head" : "body";
    stg_conn_fail(conn, stg_failure_new(STG_FAIL_PROTOCOL, 0, where, "%s", message));
}

void stg_conn_finish_error(struct stg_conn *conn)
{
    struct stg_failure *failure = conn->failure;
    struct stg_item item = conn->item;
    if (failure) {
        struct stg_s3_error said;
        stg_s3_error_scan(conn->buffer->data + conn->body_start, conn->fill - conn->body_start, &said);
        if (!said.region[0])
            memcpy(said.region, failure->s3.region, sizeof said.region);
        if (!said.request_id[0])
            memcpy(said.request_id, failure->s3.request_id, sizeof said.request_id);
        if (!said.message[0])
            memcpy(said.message, failure->s3.message, sizeof said.message);
        failure->s3 = said;
        if (stg_endpoint_proxy(conn->endpoint) && !stg_endpoint_tls(conn->endpoint) && !conn->request.target.len &&
            !said.code[0] && !said.request_id[0]) {
            failure->kind = STG_FAIL_PROXY; /* no S3 server signs its errors with nothing at all */
            failure->where = "answer";
        }
    }
    conn->failure = NULL;
    stg_conn_give_buffer(conn);
    stg_worker_complete(conn->worker, item, 1, failure);
    stg_conn_release(conn);
}

static void finish_told(struct stg_conn *conn)
{
    struct stg_item item = conn->item;
    stg_conn_give_buffer(conn);
    stg_worker_complete(conn->worker, item, 0, NULL);
    stg_conn_release(conn);
}

void stg_conn_finish(struct stg_conn *conn)
{
    if (conn->use == STG_USE_ERROR)
        stg_conn_finish_error(conn);
    else if (conn->use == STG_USE_LIST || conn->use == STG_USE_HEAD)
        finish_told(conn);
    else if (conn->received != conn->request.length)
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_IDENTITY, 0, "length", "the body is shorter than the object"));
    else if (conn->use == STG_USE_STREAM)
        stg_conn_finish_stream(conn);
    else
        stg_conn_finish_whole(conn);
}

/* 0: the body can come; else the request is over. */
static int begin_body(struct stg_conn *conn, const struct stg_http_head *head, size_t head_len)
{
    size_t room = stg_sink_buffer_bytes(conn->worker->engine->sink) - head_len;
    struct stg_failure *failure = NULL;
    conn->state = STG_CONN_BODY;
    conn->keep_alive = head->keep_alive;
    conn->received = 0;
    conn->body_start = head_len;
    stg_http_body_start(&conn->body, head, conn->request.is_head);
    if (conn->request.is_head && stg_batch_take_head(conn->item.batch, conn->item.index, head) == 0) {
        conn->use = STG_USE_HEAD;
        return 0;
    }
    if (head->status < 200 || head->status > 299) {
        conn->use = STG_USE_ERROR;
        conn->failure = stg_failure_from_head(head);
        return 0;
    }
    if (stg_request_check(&conn->request, head, &failure) < 0) {
        stg_conn_fail(conn, failure);
        return -EBADMSG;
    }
    if (conn->request.is_list) {
        conn->use = STG_USE_LIST;
        return 0;
    }
    if (head->chunked)
        room /= 2; /* the framing is received into the same buffer */
    if (room > conn->worker->engine->config.buffer_bytes)
        room = conn->worker->engine->config.buffer_bytes; /* at most a block */
    if (stg_batch_take_announced(conn->item.batch, conn->item.index, head, &conn->announced, &failure) < 0) {
        stg_conn_fail(conn, failure);
        return -EBADMSG;
    }
    if (conn->item.batch->preserve)
        stg_batch_take_mtime(conn->item.batch, conn->item.index, head);
    conn->use = (size_t)conn->request.length <= room ? STG_USE_WHOLE : STG_USE_STREAM;
    if (conn->use == STG_USE_STREAM && stg_conn_start_stream(conn, &failure) < 0) {
        stg_conn_fail(conn, failure);
        return -ENOMEM;
    }
    return 0;
}

static void digest(struct stg_conn *conn, const char *data, size_t len)
{
    int64_t start = stg_monotonic_ns();
    stg_checksum_add(&conn->sum, conn->hasher, data, len);
    stg_spent_since(&conn->worker->spent.digest_ns, start);
}

/* Takes framing out of data[at..end) and moves body bytes down to fill. 0, or the request is over. */
static int take_body(struct stg_conn *conn, size_t at, size_t end)
{
    char *data = conn->buffer->data;
    while (at < end && !conn->body.complete) {
        size_t skip = 0;
        ssize_t run = stg_http_body_next(&conn->body, data + at, end - at, &skip);
        if (run < 0) {
            fail_protocol(conn, stg_http_error_text(run));
            return -EBADMSG;
        }
        if (run > 0 && at + skip != conn->fill)
            memmove(data + conn->fill, data + at + skip, (size_t)run);
        conn->received += run;
        if (conn->use <= STG_USE_STREAM && conn->received > conn->request.length) {
            stg_conn_fail(conn, stg_failure_new(STG_FAIL_IDENTITY, 0, "length", "the body is longer than the object"));
            return -EBADMSG;
        }
        if (conn->use == STG_USE_STREAM)
            digest(conn, data + conn->fill, (size_t)run);
        conn->fill += (size_t)run;
        at += skip + (size_t)run;
    }
    if (at < end) {
        fail_protocol(conn, "bytes after the end of the answer");
        return -EBADMSG;
    }
    return 0;
}

/* What to do with body bytes before more is received. 0: go on reading; else paused, or over. */
static int make_room(struct stg_conn *conn)
{
    size_t cap = stg_conn_capacity(conn);
    if (conn->use == STG_USE_LIST) {
        int status = stg_batch_append_body(conn->item.batch, conn->buffer->data + conn->body_start,
                                           conn->fill - conn->body_start);
        if (status < 0) {
            stg_conn_fail(conn, stg_failure_new(STG_FAIL_ERRNO, -status, "listing", "the listing page is too large"));
            return 1;
        }
        conn->body_start = conn->fill = 0;
        return 0;
    }
    if (conn->use == STG_USE_ERROR && (conn->fill == cap || conn->fill - conn->body_start > ERROR_BODY_MAX)) {
        conn->keep_alive = 0; /* enough was read to know why */
        stg_conn_finish_error(conn);
        return 1;
    }
    return conn->use == STG_USE_STREAM && conn->fill == cap && !conn->body.complete ? stg_conn_spill(conn) : 0;
}

int stg_conn_take(struct stg_conn *conn, size_t n)
{
    size_t at = conn->fill, end = conn->fill + n;
    if (conn->state == STG_CONN_HEAD) {
        struct stg_http_head head;
        ssize_t head_len = stg_http_head_parse(conn->buffer->data, end, &conn->scanned, &head);
        if (head_len < 0) {
            fail_protocol(conn, stg_http_error_text(head_len));
            return 1;
        }
        conn->fill = end;
        if (head_len == 0)
            return 0;
        at = conn->fill = (size_t)head_len;
        stg_spent_add(&conn->worker->spent.answers, 1);
        stg_conn_enter(conn, STG_PHASE_BODY);
        conn->trickled = 0;
        conn->progress_ms = conn->worker->clock_ms;
        if (begin_body(conn, &head, at) < 0)
            return 1;
    }
    if (take_body(conn, at, end) < 0 || make_room(conn) != 0)
        return 1;
    if (!conn->body.complete)
        return 0;
    stg_conn_finish(conn);
    return 1;
}
