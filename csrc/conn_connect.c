#include "worker_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* Without a sign from one address while others serve: of the kernel (RFC 8305 waits 250 ms), of the program behind. */
#define SLOW_CONNECT_MS 300
#define SLOW_HANDSHAKE_MS 2000

/* A proxy is asked for a tunnel and has not said yes yet. */
struct stg_tunnel {
    size_t sent, fill, scanned;
    char answer[STG_HTTP_MAX_HEAD + 1]; /* one byte more than a head may have, so that the parser sees what is too long */
};

static void connect_next(struct stg_conn *conn, int last_error);

static void fail_tls(struct stg_conn *conn)
{
    stg_conn_fail(conn, stg_failure_new(STG_FAIL_TLS, 0, "handshake", "%s", stg_tls_problem(conn->tls)));
}

static void fail_memory(struct stg_conn *conn)
{
    stg_conn_fail(conn, stg_failure_new(STG_FAIL_ERRNO, ENOMEM, "connect", NULL));
}

/* ---- the server's side: its handshake, and then the request ---- */

static void send_first_request(struct stg_conn *conn)
{
    stg_endpoint_reached(conn->endpoint, &conn->address);
    stg_conn_send_request(conn);
}

/* The connection broke in the handshake. Through a tunnel that is no fault of the address: it is the proxy's. */
static void lose_handshake(struct stg_conn *conn, int error)
{
    if (conn->tunneled)
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_RESET, error, "handshake",
                                            "the server behind the proxy did not finish the handshake"));
    else
        connect_next(conn, error);
}

static void shake_hands(struct stg_conn *conn)
{
    int status = stg_tls_handshake(conn->tls);
    if (status == 0)
        send_first_request(conn);
    else if (status == -EAGAIN)
        stg_conn_watch(conn, stg_tls_wants_write(conn->tls) ? EPOLLOUT : EPOLLIN);
    else if (status == -EPROTO)
        fail_tls(conn);
    else
        lose_handshake(conn, -status);
}

static void talk_to_server(struct stg_conn *conn)
{
    struct stg_tls *tls = stg_endpoint_tls(conn->endpoint);
    conn->progress_ms = conn->worker->clock_ms;
    if (!tls) {
        send_first_request(conn);
        return;
    }
    conn->tls = conn->proxy_tls ? stg_tls_start_inside(tls, conn->proxy_tls) : stg_tls_start(tls, conn->fd);
    conn->state = STG_CONN_HANDSHAKE;
    if (conn->tls)
        shake_hands(conn);
    else
        fail_memory(conn);
}

/* ---- the proxy's side: a tunnel ---- */

static void fail_tunnel(struct stg_conn *conn, const char *message)
{
    stg_conn_fail(conn, stg_failure_new(STG_FAIL_PROXY, 0, "tunnel", "%s", message));
}

static void fail_refused(struct stg_conn *conn, const struct stg_http_head *head)
{
    struct stg_failure *failure = stg_failure_from_head(head);
    if (failure) {
        failure->kind = STG_FAIL_PROXY;
        failure->where = "tunnel";
    }
    stg_conn_fail(conn, failure);
}

static ssize_t send_bytes(struct stg_conn *conn, const char *data, size_t len)
{
    return conn->proxy_tls ? stg_tls_write(conn->proxy_tls, data, len) : stg_net_send(conn->fd, data, len);
}

static ssize_t receive_bytes(struct stg_conn *conn, char *data, size_t cap)
{
    return conn->proxy_tls ? stg_tls_read(conn->proxy_tls, data, cap) : stg_net_recv(conn->fd, data, cap);
}

/* Fresh bytes of its answer are there. 1: more are needed; 0: the tunnel is open, or the request is over. */
static int take_answer(struct stg_conn *conn)
{
    struct stg_tunnel *tunnel = conn->tunnel;
    struct stg_http_head head;
    ssize_t len = stg_http_head_parse(tunnel->answer, tunnel->fill, &tunnel->scanned, &head);
    if (len == 0)
        return 1;
    if (len < 0) {
        fail_tunnel(conn, stg_http_error_text(len));
    } else if (head.status > 299) {
        fail_refused(conn, &head);
    } else if ((size_t)len < tunnel->fill) { /* nobody on the far side speaks before we do */
        fail_tunnel(conn, "bytes behind the answer that opens the tunnel");
    } else {
        free(tunnel);
        conn->tunnel = NULL;
        conn->tunneled = 1;
        talk_to_server(conn);
    }
    return 0;
}

static void read_answer(struct stg_conn *conn)
{
    struct stg_tunnel *tunnel = conn->tunnel;
    ssize_t n;
    do {
        n = receive_bytes(conn, tunnel->answer + tunnel->fill, sizeof tunnel->answer - tunnel->fill);
        if (n > 0)
            tunnel->fill += (size_t)n;
    } while (n > 0 && take_answer(conn));
    if (n == -EAGAIN)
        stg_conn_watch(conn, EPOLLIN);
    else if (n <= 0)
        connect_next(conn, n ? (int)-n : ECONNRESET);
}

static void ask_for_tunnel(struct stg_conn *conn)
{
    struct stg_tunnel *tunnel = conn->tunnel;
    struct stg_str request = stg_proxy_connect_request(stg_endpoint_proxy(conn->endpoint));
    while (tunnel->sent < request.len) {
        ssize_t n = send_bytes(conn, request.ptr + tunnel->sent, request.len - tunnel->sent);
        if (n == -EAGAIN) {
            stg_conn_watch(conn, EPOLLOUT);
            return;
        }
        if (n < 0) {
            connect_next(conn, (int)-n);
            return;
        }
        tunnel->sent += (size_t)n;
    }
    read_answer(conn);
}

static void talk_to_proxy(struct stg_conn *conn)
{
    if (!stg_endpoint_tls(conn->endpoint)) {
        conn->tls = conn->proxy_tls;
        conn->proxy_tls = NULL;
        talk_to_server(conn);
        return;
    }
    conn->state = STG_CONN_TUNNEL;
    conn->tunnel = calloc(1, sizeof *conn->tunnel);
    if (conn->tunnel)
        ask_for_tunnel(conn);
    else
        fail_memory(conn);
}

static void shake_hands_with_proxy(struct stg_conn *conn)
{
    int status = stg_tls_handshake(conn->proxy_tls);
    if (status == 0)
        talk_to_proxy(conn);
    else if (status == -EAGAIN)
        stg_conn_watch(conn, stg_tls_wants_write(conn->proxy_tls) ? EPOLLOUT : EPOLLIN);
    else if (status == -EPROTO)
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_PROXY, 0, "handshake", "%s", stg_tls_problem(conn->proxy_tls)));
    else
        connect_next(conn, -status);
}

static void connected(struct stg_conn *conn)
{
    const struct stg_proxy *proxy = stg_endpoint_proxy(conn->endpoint);
    conn->progress_ms = conn->worker->clock_ms;
    atomic_fetch_add_explicit(&conn->worker->connections, 1, memory_order_relaxed);
    if (!proxy) {
        talk_to_server(conn);
    } else if (!stg_proxy_tls(proxy)) {
        talk_to_proxy(conn);
    } else {
        conn->state = STG_CONN_PROXY_HANDSHAKE;
        conn->proxy_tls = stg_tls_start(stg_proxy_tls(proxy), conn->fd);
        if (conn->proxy_tls)
            shake_hands_with_proxy(conn);
        else
            fail_memory(conn);
    }
}

/* ---- addresses ---- */

/* This host's lack, not the address's fault: no other address would do better. */
static int is_local(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM || error == ENOSPC;
}

static int open_socket(struct stg_conn *conn)
{
    int fd = stg_net_connect(&conn->address);
    if (fd < 0)
        return fd;
    conn->fd = fd;
    conn->state = STG_CONN_CONNECTING;
    conn->progress_ms = conn->worker->clock_ms;
    return stg_conn_watch(conn, EPOLLOUT);
}

static void fail_all_addresses(struct stg_conn *conn, const struct stg_endpoint *endpoint, int error, int was_asked)
{
    if (!stg_endpoint_proxy(endpoint))
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_CONNECT, error, "connect",
                                            "no address of the server took the connection"));
    else if (was_asked)
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_PROXY, error, "tunnel", "%s", error == ETIMEDOUT
                                                ? "it takes connections and does not answer"
                                                : "it ended the connection before it answered"));
    else
        stg_conn_fail(conn, stg_failure_new(STG_FAIL_PROXY, error, "connect",
                                            "no address of it took the connection"));
}

/* Tries the endpoint's addresses in turn until one is under way; last_error: of the one before, 0 at first. */
static void connect_next(struct stg_conn *conn, int last_error)
{
    struct stg_endpoint *endpoint = stg_template_endpoint(conn->item.batch->template_);
    int64_t now_ms = conn->worker->now_ms;
    int was_asked = conn->state == STG_CONN_TUNNEL || conn->state == STG_CONN_PROXY_HANDSHAKE;
    if (last_error)
        stg_endpoint_failed(endpoint, &conn->address, now_ms);
    while (conn->addresses_left > 0) {
        conn->addresses_left--;
        stg_conn_close(conn);
        conn->endpoint = stg_endpoint_ref(endpoint);
        atomic_fetch_add_explicit(&stg_worker_part(conn->worker, endpoint)->open, 1, memory_order_relaxed);
        conn->address = stg_endpoint_next(endpoint, now_ms);
        int status = open_socket(conn);
        if (status == 0)
            return;
        last_error = -status;
        was_asked = 0;
        if (is_local(last_error)) {
            stg_conn_fail(conn, stg_failure_new(STG_FAIL_ERRNO, last_error, "open a connection", NULL));
            return;
        }
        stg_endpoint_failed(endpoint, &conn->address, now_ms);
    }
    fail_all_addresses(conn, endpoint, last_error, was_asked);
}

void stg_conn_connect(struct stg_conn *conn)
{
    conn->addresses_left = stg_endpoint_count(stg_template_endpoint(conn->item.batch->template_));
    connect_next(conn, 0);
}

void stg_conn_connect_go_on(struct stg_conn *conn)
{
    if (conn->state == STG_CONN_HANDSHAKE) {
        shake_hands(conn);
    } else if (conn->state == STG_CONN_PROXY_HANDSHAKE) {
        shake_hands_with_proxy(conn);
    } else if (conn->state == STG_CONN_TUNNEL) {
        ask_for_tunnel(conn);
    } else {
        int status = stg_net_connect_result(conn->fd);
        if (status < 0)
            connect_next(conn, -status);
        else
            connected(conn);
    }
}

/* How long an address may keep quiet where there is a better one. In a tunnel the proxy may be waiting for a server
 * that no other address of its own would reach sooner. */
static int64_t patience_ms(const struct stg_conn *conn)
{
    if (conn->state == STG_CONN_CONNECTING)
        return SLOW_CONNECT_MS;
    if (conn->state == STG_CONN_TUNNEL || conn->tunneled)
        return INT64_MAX;
    return SLOW_HANDSHAKE_MS;
}

void stg_conn_connect_check_time(struct stg_conn *conn, int64_t quiet_ms)
{
    if (quiet_ms > conn->worker->engine->config.connect_timeout_ms) {
        if (conn->state == STG_CONN_HANDSHAKE)
            lose_handshake(conn, ETIMEDOUT);
        else
            connect_next(conn, ETIMEDOUT);
    } else if (quiet_ms > patience_ms(conn) && conn->addresses_left > 0 &&
               stg_endpoint_has_better(conn->endpoint, &conn->address, conn->worker->now_ms)) {
        connect_next(conn, ETIMEDOUT);
    }
}
