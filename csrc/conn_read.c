#include "worker_internal.h"

#include <errno.h>
#include <sys/epoll.h>

#define TURN_BYTES ((ssize_t)1 << 20) /* read from one connection before the others are looked at */
/* Less than this a second, over the stall timeout, is no progress: a server that lets a byte go now and then would hold
 * its object for ever. No line that a dataset can be staged over is that slow. */
#define TRICKLE_BYTES_A_S 16

static void note_progress(struct stg_conn *conn, ssize_t n)
{
    if (conn->state == STG_CONN_HEAD && conn->fill == 0)
        stg_pace_note_first_byte(stg_worker_part(conn->worker, conn->endpoint),
                                 conn->worker->clock_ms - conn->progress_ms);
    conn->trickled += n;
    if (conn->trickled * 1000 < (int64_t)conn->worker->engine->config.stall_timeout_ms * TRICKLE_BYTES_A_S)
        return;
    conn->trickled = 0;
    conn->progress_ms = conn->worker->clock_ms;
}

static ssize_t decrypt(struct stg_conn *conn, char *to, size_t room)
{
    int64_t start = stg_monotonic_ns();
    ssize_t n = stg_tls_read(conn->tls, to, room);
    stg_spent_since(&conn->worker->spent.tls_ns, start);
    return n;
}

/* -EBUSY: the limit of bytes lets nothing through now. */
static ssize_t receive_bytes(struct stg_conn *conn, size_t room)
{
    struct stg_worker *worker = conn->worker;
    char *to = conn->buffer->data + conn->fill;
    int64_t wait_ns;
    size_t allowed = stg_engine_take_bytes(worker->engine, room, &wait_ns);
    if (!allowed) {
        stg_worker_read_later(worker, wait_ns);
        return -EBUSY;
    }
    ssize_t n = conn->tls ? decrypt(conn, to, allowed) : stg_net_recv(conn->fd, to, allowed);
    size_t got = n > 0 ? (size_t)n : 0;
    stg_engine_give_bytes(worker->engine, allowed - got);
    if (got) {
        note_progress(conn, n);
        atomic_fetch_add_explicit(&worker->bytes_received, got, memory_order_relaxed);
        atomic_fetch_add_explicit(&stg_worker_part(worker, conn->endpoint)->received, got, memory_order_relaxed);
    }
    return n;
}

static void wait_for_bytes(struct stg_conn *conn)
{
    if (stg_conn_settle(conn) == 0)
        stg_conn_pause(conn, STG_PAUSE_BYTES);
}

static void wait_for_more(struct stg_conn *conn)
{
    if (stg_conn_settle(conn) < 0)
        return;
    int wants_write = conn->unsent || (conn->tls && stg_tls_wants_write(conn->tls));
    stg_conn_watch(conn, wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void stg_conn_read(struct stg_conn *conn)
{
    struct stg_worker *worker = conn->worker;
    for (ssize_t taken = 0; taken < TURN_BYTES;) {
        if (stg_conn_take_buffer(conn) < 0) {
            stg_conn_pause(conn, STG_PAUSE_STORE);
            return;
        }
        size_t room = stg_conn_capacity(conn) - conn->fill;
        ssize_t n = receive_bytes(conn, room);
        if (n == -EBUSY) {
            wait_for_bytes(conn);
            return;
        }
        if (n == -EAGAIN) {
            wait_for_more(conn);
            return;
        }
        if (n <= 0) {
            stg_conn_ended(conn, n);
            return;
        }
        taken += n;
        if (stg_conn_take(conn, (size_t)n) != 0)
            return;
        if (!conn->tls && (size_t)n < room && !stg_engine_counts_bytes(worker->engine)) { /* the socket is empty */
            wait_for_more(conn);
            return;
        }
    }
    if (stg_conn_settle(conn) < 0)
        return;
    conn->again = 1;
    worker->resume = 1;
}
