/* An S3-like server for benches: COUNT objects of SIZE bytes below PREFIX in the bucket "bench".
 *
 *     origin PORT COUNT SIZE PREFIX --data FILE [--threads N] [--tls CERT KEY]
 *
 * PORT 0 takes a free one; the port is printed on the first line once connections are accepted. GET (Range, If-Match), HEAD
 * and ListObjectsV2 (prefix, delimiter, max-keys, continuation-token, start-after, encoding-type=url) over HTTP/1.1
 * with keep-alive. It does NOT verify signatures and is not a model of S3: it exists to be faster than any client.
 *
 * Object number i is named PREFIX + "%04u/%08u" of (i / 1000, i), so listings are in byte order. Its bytes are
 * [i * SIZE, (i + 1) * SIZE) of FILE, whose 64-bit little-endian word k is splitmix64's k-th output for seed SEED:
 * independent of COUNT and SIZE, so several origins may share one FILE. FILE is made, or made longer, when it is too
 * short; put it on tmpfs. Bodies leave by sendfile (by SSL_write from a mapping with --tls).
 *
 * ETags end in "-1", the form of a multipart object, so that no client spends time on MD5.
 */
#define _GNU_SOURCE
#include "origin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN_BYTES (1 << 20) /* sent on one connection before the others get their turn */
#define EPOLL_BATCH 256

struct worker {
    const struct origin *origin;
    int listener, epoll;
    struct clock clock;
};

static ssize_t ssl_result(SSL *ssl, int n) {
    if (n > 0) return n;
    int why = SSL_get_error(ssl, n);
    ERR_clear_error();
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static ssize_t receive(struct connection *c, char *to, size_t room) {
    if (c->ssl == NULL) return recv(c->fd, to, room, 0);
    return ssl_result(c->ssl, SSL_read(c->ssl, to, (int)room));
}

static ssize_t send_head(struct connection *c) {
    size_t left = c->out_len - c->out_sent;
    int more = c->body_at < c->body_end ? MSG_MORE : 0;
    if (c->ssl == NULL) return send(c->fd, c->out + c->out_sent, left, MSG_NOSIGNAL | more);
    return ssl_result(c->ssl, SSL_write(c->ssl, c->out + c->out_sent, (int)left));
}

static ssize_t send_body(const struct origin *o, struct connection *c, size_t most) {
    if (c->ssl == NULL) return sendfile(c->fd, o->data_fd, &c->body_at, most);
    if (most > 16384) most = 16384; /* one record */
    ssize_t n = ssl_result(c->ssl, SSL_write(c->ssl, o->data + c->body_at, (int)most));
    if (n > 0) c->body_at += n;
    return n;
}

/* 1: all sent, 0: the socket is full or the turn is over, -1: the connection is to be closed. */
static int flush_answer(const struct origin *o, struct connection *c) {
    while (c->out_sent < c->out_len) {
        ssize_t n = send_head(c);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        c->out_sent += (size_t)n;
    }
    for (size_t turn = 0; c->body_at < c->body_end;) {
        if (turn >= TURN_BYTES) return 0;
        size_t most = (size_t)(c->body_end - c->body_at);
        ssize_t n = send_body(o, c, most < TURN_BYTES ? most : TURN_BYTES);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        turn += (size_t)n;
    }
    return 1;
}

/* 0: goes on later, -1: to be closed. */
static int serve(struct worker *w, struct connection *c) {
    for (;;) {
        int sent = flush_answer(w->origin, c);
        if (sent < 0 || (sent > 0 && c->closing)) return -1;
        if ((sent == 0) != c->wants_write) {
            c->wants_write = sent == 0;
            struct epoll_event e = {.events = c->wants_write ? EPOLLOUT : EPOLLIN, .data.ptr = c};
            if (epoll_ctl(w->epoll, EPOLL_CTL_MOD, c->fd, &e) != 0) die("epoll_ctl");
        }
        if (sent == 0) return 0;

        char *end = c->have == 0 ? NULL : strstr(c->in, "\r\n\r\n");
        if (end == NULL) {
            if (c->have == REQUEST_MAX) return -1;
            ssize_t n = receive(c, c->in + c->have, REQUEST_MAX - c->have);
            if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
            c->have += (size_t)n;
            c->in[c->have] = 0;
            end = strstr(c->in, "\r\n\r\n");
            if (end == NULL) continue;
        }
        end[2] = 0;
        c->closing = strcasestr(c->in, "\nconnection: close") != NULL;
        answer(w->origin, &w->clock, c);
        size_t used = (size_t)(end + 4 - c->in);
        c->have -= used;
        memmove(c->in, c->in + used, c->have);
        c->in[c->have] = 0;
        if (c->have == 0 && c->ssl == NULL) {
            /* The usual case leaves without asking recv for an EAGAIN. */
            sent = flush_answer(w->origin, c);
            if (sent < 0 || (sent > 0 && c->closing)) return -1;
            if (sent > 0 && !c->wants_write) return 0;
        }
    }
}

static void drop(struct connection *c) {
    SSL_free(c->ssl);
    close(c->fd);
    free(c->out);
    free(c);
}

static void accept_all(struct worker *w) {
    for (;;) {
        int fd = accept4(w->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == ECONNABORTED) return;
            die("accept");
        }
        struct connection *c = calloc(1, sizeof *c);
        if (c == NULL) die("calloc");
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->fd = fd;
        if (w->origin->tls != NULL) {
            c->ssl = SSL_new(w->origin->tls);
            if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1) die("SSL_new");
            SSL_set_accept_state(c->ssl);
        }
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &e) != 0) die("epoll_ctl");
    }
}

static void *work(void *argument) {
    struct worker *w = argument;
    struct epoll_event events[EPOLL_BATCH];
    for (;;) {
        int n = epoll_wait(w->epoll, events, EPOLL_BATCH, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) accept_all(w);
            else if (serve(w, c) < 0) drop(c);
        }
    }
    return NULL;
}

/* Every worker has its own listening socket on the same port; returns the port. */
static uint16_t listen_on(struct worker *w, uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_len = sizeof at;
    int on = 1;
    w->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->listener < 0) die("socket");
    setsockopt(w->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(w->listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(w->listener, (struct sockaddr *)&at, at_len) != 0 || listen(w->listener, 4096) != 0) die("listen");
    if (getsockname(w->listener, (struct sockaddr *)&at, &at_len) != 0) die("getsockname");
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->listener, &e) != 0) die("epoll");
    return ntohs(at.sin_port);
}

static SSL_CTX *tls_context(const char *certificate, const char *key) {
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return tls;
}

int main(int argc, char **argv) {
    const char *data_path = NULL;
    struct origin o = {.data_fd = -1};
    long threads = 1;
    if (argc < 5) {
        fprintf(stderr, "usage: origin PORT COUNT SIZE PREFIX --data FILE [--threads N] [--tls CERT KEY]\n");
        return 2;
    }
    uint16_t port = (uint16_t)atoi(argv[1]);
    o.count = strtoull(argv[2], NULL, 10);
    o.size = strtoull(argv[3], NULL, 10);
    o.prefix = argv[4];
    for (int i = 5; i < argc; i++) {
        if (strcmp(argv[i], "--data") == 0 && i + 1 < argc) data_path = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) threads = atol(argv[++i]);
        else if (strcmp(argv[i], "--tls") == 0 && i + 2 < argc) o.tls = tls_context(argv[i + 1], argv[i + 2]), i += 2;
        else return fprintf(stderr, "origin: unknown argument %s\n", argv[i]), 2;
    }
    if (data_path == NULL || threads < 1 || strlen(o.prefix) > KEY_MAX / 2)
        return fprintf(stderr, "origin: bad arguments\n"), 2;

    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    o.data_fd = open_data(data_path, o.count * o.size);
    if (o.tls != NULL && o.count * o.size > 0) {
        o.data = mmap(NULL, o.count * o.size, PROT_READ, MAP_SHARED, o.data_fd, 0);
        if (o.data == MAP_FAILED) die("mmap");
    }
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    if (workers == NULL) die("calloc");
    for (long i = 0; i < threads; i++) {
        workers[i].origin = &o;
        port = listen_on(&workers[i], port);
    }
    for (long i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, &workers[i]) != 0) die("pthread_create");
    }
    printf("%u\n", port);
    fflush(stdout);
    work(&workers[0]);
    return 0;
}
