#include "worker_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

void stg_conn_init(struct stg_conn *conn, struct stg_worker *worker)
{
    conn->worker = worker;
    conn->fd = -1;
}

/* Not watched at all for 0: a socket that is only modified to nothing still reports errors, over and over. */
int stg_conn_watch(struct stg_conn *conn, uint32_t events)
{
    if (conn->watched == events)
        return 0;
    uint64_t place = (uint64_t)(conn - conn->worker->conns) + 1;
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)conn->generation << 32 | place};
    int operation = !conn->watched ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    conn->watched = events;
    return epoll_ctl(conn->worker->epoll_fd, operation, conn->fd, &event) < 0 ? -errno : 0;
}

void stg_conn_enter(struct stg_conn *conn, enum stg_phase phase)
{
    int64_t now_ms = conn->worker->now_ms;
    stg_spent_add(&conn->worker->spent.phase_ms[conn->phase], (uint64_t)(now_ms - conn->phase_since_ms));
    conn->phase = phase;
    conn->phase_since_ms = now_ms;
}

void stg_conn_pause(struct stg_conn *conn, enum stg_conn_pause why)
{
    conn->paused = why;
    stg_conn_enter(conn, why == STG_PAUSE_STORE ? STG_PHASE_PAUSED : STG_PHASE_THROTTLED);
    stg_conn_watch(conn, 0);
}

/* What is left of a request may hold a token or a key. */
static void drop_unsent(struct stg_conn *conn)
{
    if (conn->unsent)
        OPENSSL_cleanse(conn->unsent, conn->unsent_len);
    free(conn->unsent);
    conn->unsent = NULL;
}

static void close_socket(struct stg_conn *conn)
{
    stg_tls_end(conn->tls);
    conn->tls = NULL;
    stg_tls_end(conn->proxy_tls);
    conn->proxy_tls = NULL;
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->generation++;
    conn->watched = 0;
    conn->again = 0;
    conn->paused = STG_PAUSE_NONE;
    drop_unsent(conn);
    free(conn->tunnel);
    conn->tunnel = NULL;
    conn->tunneled = 0;
    if (conn->endpoint)
        atomic_fetch_sub_explicit(&stg_worker_part(conn->worker, conn->endpoint)->open, 1, memory_order_relaxed);
    stg_endpoint_unref(conn->endpoint);
    conn->endpoint = NULL;
    conn->state = STG_CONN_CLOSED;
}

void stg_conn_close(struct stg_conn *conn)
{
    stg_conn_give_buffer(conn);
    close_socket(conn);
}

void stg_conn_destroy(struct stg_conn *conn)
{
    stg_hasher_free(conn->hasher);
    stg_sum_clear(&conn->sum);
    free(conn->blocks);
}

/* ---- ends of a request ---- */

static void detach(struct stg_conn *conn)
{
    conn->item.batch = NULL;
    stg_conn_enter(conn, STG_PHASE_NONE);
    free(conn->blocks);
    conn->blocks = NULL;
    stg_worker_rest(conn->worker, conn);
}

void stg_conn_fail(struct stg_conn *conn, struct stg_failure *failure)
{
    struct stg_item item = conn->item;
    stg_conn_close(conn);
    stg_failure_free(conn->failure);
    conn->failure = NULL;
    if (conn->file)
        stg_file_end(conn->file, 0, failure); /* its writes in flight come first */
    else
        stg_worker_complete(conn->worker, item, 1, failure);
    conn->file = NULL;
    detach(conn);
}

void stg_conn_cancel(struct stg_conn *conn)
{
    stg_conn_fail(conn, NULL);
}

/* The answer is complete: the socket may serve another request, or not. */
void stg_conn_release(struct stg_conn *conn)
{
    int more = conn->tls && stg_tls_has_pending(conn->tls); /* nobody asked for it, and epoll would not tell of it */
    if (conn->keep_alive && !conn->unsent && !more) {
        conn->state = STG_CONN_IDLE;
        conn->again = 0;
        conn->paused = STG_PAUSE_NONE;
        conn->progress_ms = conn->worker->clock_ms;
        stg_conn_watch(conn, EPOLLIN);
    } else {
        close_socket(conn);
    }
    detach(conn);
}

/* Over a new connection, when the limits let it; the server has seen the request or not. */
static void send_again(struct stg_conn *conn)
{
    struct stg_item item = conn->item;
    stg_conn_close(conn);
    int64_t wait_ns = stg_engine_take_again(conn->worker->engine, item.batch);
    if (wait_ns == 0) {
        stg_conn_start(conn, item); /* not reused any more: it happens once */
        return;
    }
    conn->paused = STG_PAUSE_REQUEST;
    stg_conn_enter(conn, STG_PHASE_THROTTLED);
    stg_worker_send_again_later(conn->worker, wait_ns);
}

/* The peer ended the connection (0), or it broke. */
void stg_conn_ended(struct stg_conn *conn, ssize_t error)
{
    if (error == -EPROTO && conn->tls) {
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_TLS, 0, "record", "%s", stg_tls_problem(conn->tls)));
    } else if (conn->state == STG_CONN_HEAD && conn->fill == 0 && conn->reused) {
        atomic_fetch_add_explicit(&conn->worker->stale_retries, 1, memory_order_relaxed);
        send_again(conn);
    } else if (conn->state == STG_CONN_BODY && conn->use == STG_USE_ERROR) {
        conn->keep_alive = 0;
        stg_conn_finish_error(conn);
    } else if (conn->state == STG_CONN_BODY && error == 0 && stg_http_body_eof(&conn->body) == 0) {
        conn->keep_alive = 0;
        stg_conn_finish(conn);
    } else {
        int reason = error ? (int)-error : ECONNRESET;
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_RESET, reason, conn->state == STG_CONN_HEAD ? "head" : "body",
                                   "the server ended the connection %s",
                                   conn->state == STG_CONN_HEAD ? "before it answered" : "inside the body"));
    }
}

void stg_conn_resume(struct stg_conn *conn)
{
    if (conn->paused && conn->file && !stg_file_ready(conn->file))
        return;
    if (conn->paused)
        stg_conn_enter(conn, conn->state == STG_CONN_HEAD ? STG_PHASE_ANSWER : STG_PHASE_BODY);
    conn->again = 0;
    conn->paused = STG_PAUSE_NONE;
    conn->progress_ms = conn->worker->clock_ms;
    stg_conn_watch(conn, conn->unsent ? EPOLLIN | EPOLLOUT : EPOLLIN);
    stg_conn_read(conn);
}

/* ---- sending ---- */

static ssize_t send_bytes(struct stg_conn *conn, const char *data, size_t len)
{
    return conn->tls ? stg_tls_write(conn->tls, data, len) : stg_net_send(conn->fd, data, len);
}

static void keep_unsent(struct stg_conn *conn, const char *data, size_t len)
{
    conn->unsent = malloc(len);
    if (!conn->unsent) {
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_ERRNO, ENOMEM, "send", NULL));
        return;
    }
    memcpy(conn->unsent, data, len);
    conn->unsent_at = 0;
    conn->unsent_len = len;
    stg_conn_watch(conn, EPOLLIN | EPOLLOUT);
}

/* A server that refuses says why in an alert and resets: sending meets the reset first, the alert lies unread. So it is
 * with a client's certificate, which TLS 1.3 refuses behind the handshake (RFC 8446, section 4.4.2.4 and figure 1). */
static void fail_to_send(struct stg_conn *conn, ssize_t error)
{
    char byte;
    if (conn->tls && !conn->reused && stg_tls_read(conn->tls, &byte, 1) == -EPROTO)
        error = -EPROTO;
    stg_conn_ended(conn, error);
}

static void send_unsent(struct stg_conn *conn)
{
    ssize_t n = send_bytes(conn, conn->unsent + conn->unsent_at, conn->unsent_len - conn->unsent_at);
    if (n == -EAGAIN)
        return;
    if (n < 0) {
        fail_to_send(conn, n);
        return;
    }
    conn->progress_ms = conn->worker->clock_ms;
    conn->unsent_at += (size_t)n;
    if (conn->unsent_at < conn->unsent_len)
        return;
    drop_unsent(conn);
    stg_conn_watch(conn, EPOLLIN);
}

void stg_conn_send_request(struct stg_conn *conn)
{
    struct stg_worker *worker = conn->worker;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    conn->state = STG_CONN_HEAD;
    conn->scanned = 0;
    conn->trickled = 0;
    conn->progress_ms = worker->clock_ms;
    ssize_t len = stg_request_write(conn->item.batch->template_, &conn->request, now.tv_sec, worker->scratch,
                                    sizeof worker->scratch);
    if (len < 0) {
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_ERRNO, (int)-len, "request", NULL));
        return;
    }
    atomic_fetch_add_explicit(&worker->requests, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stg_worker_part(worker, conn->endpoint)->sent, 1, memory_order_relaxed);
    ssize_t n = send_bytes(conn, worker->scratch, (size_t)len);
    if (n < 0 && n != -EAGAIN)
        fail_to_send(conn, n);
    else if (n < len)
        keep_unsent(conn, worker->scratch + (n > 0 ? n : 0), (size_t)(len - (n > 0 ? n : 0)));
    else
        stg_conn_watch(conn, EPOLLIN);
}

void stg_conn_start(struct stg_conn *conn, struct stg_item item)
{
    conn->item = item;
    conn->request = stg_batch_request(item.batch, item.index);
    stg_conn_enter(conn, STG_PHASE_ANSWER);
    conn->reused = conn->state == STG_CONN_IDLE;
    conn->again = 0;
    conn->paused = STG_PAUSE_NONE;
    if (conn->reused) {
        stg_conn_send_request(conn);
        return;
    }
    stg_conn_connect(conn);
}

/* ---- events ---- */

/* An idle connection became readable: TLS housekeeping is fine, everything else ends it. */
static void look_at_idle(struct stg_conn *conn)
{
    char byte;
    ssize_t n = conn->tls ? stg_tls_read(conn->tls, &byte, 1) : stg_net_recv(conn->fd, &byte, 1);
    if (n == -EAGAIN)
        return;
    stg_worker_forget(conn->worker, conn);
    stg_conn_close(conn);
}

void stg_conn_event(struct stg_conn *conn, uint32_t generation, uint32_t events)
{
    if (generation != conn->generation)
        return;
    switch (conn->state) {
    case STG_CONN_CLOSED:
        break;
    case STG_CONN_IDLE:
        look_at_idle(conn);
        break;
    case STG_CONN_CONNECTING:
    case STG_CONN_PROXY_HANDSHAKE:
    case STG_CONN_TUNNEL:
    case STG_CONN_HANDSHAKE:
        stg_conn_connect_go_on(conn);
        break;
    case STG_CONN_HEAD:
    case STG_CONN_BODY:
        if (conn->unsent && (events & EPOLLOUT)) {
            send_unsent(conn);
            if (generation != conn->generation || conn->state < STG_CONN_HEAD)
                break;
        }
        if (conn->paused) /* only an error or hang-up is reported now; it is met again when reading goes on */
            break;
        if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) || conn->tls)
            stg_conn_read(conn);
        break;
    }
}

/* Nothing of the answer is there, and it is the first time. */
static int may_send_again(const struct stg_conn *conn)
{
    return conn->state == STG_CONN_HEAD && conn->fill == 0 && !conn->unsent && !conn->sent_again;
}

/* Where a limit lets nothing go now, the answer may well come first: it is not given up to wait for the limit. */
static void send_late_again(struct stg_conn *conn, int64_t quiet_ms)
{
    struct stg_pace_part *part = stg_worker_part(conn->worker, conn->endpoint);
    struct stg_item item = conn->item;
    if (!may_send_again(conn) || !stg_pace_is_late(part, quiet_ms) ||
        stg_engine_take_again(conn->worker->engine, item.batch) != 0)
        return;
    stg_pace_note_again(part);
    conn->sent_again = 1;
    atomic_fetch_add_explicit(&conn->worker->late_retries, 1, memory_order_relaxed);
    stg_conn_close(conn);
    stg_conn_start(conn, item);
}

void stg_conn_check_time(struct stg_conn *conn)
{
    const struct stg_engine_config *config = &conn->worker->engine->config;
    int64_t quiet_ms = conn->worker->clock_ms - conn->progress_ms;
    if (conn->paused) {
        conn->progress_ms = conn->worker->clock_ms;
    } else if (conn->state < STG_CONN_HEAD) {
        stg_conn_connect_check_time(conn, quiet_ms);
    } else if (quiet_ms <= config->stall_timeout_ms) {
        send_late_again(conn, quiet_ms);
    } else if (conn->state == STG_CONN_BODY && conn->use == STG_USE_ERROR) {
        conn->keep_alive = 0;
        stg_conn_finish_error(conn);
    } else {
        if (conn->state == STG_CONN_HEAD && !stg_endpoint_proxy(conn->endpoint))
            stg_endpoint_failed(conn->endpoint, &conn->address, conn->worker->now_ms);
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_STALL, ETIMEDOUT, conn->state == STG_CONN_HEAD ? "head" : "body",
                                   "%s for %d s", conn->trickled ? "next to nothing" : "no byte",
                                   (config->stall_timeout_ms + 999) / 1000));
    }
}
