/* The workers: each an epoll loop with a listening socket of its own, its connections and their timers.
 *
 * Sockets are watched by edges for both directions from their first moment on, so that no request costs an epoll_ctl;
 * what the last edge or EAGAIN said is kept in the connection. A connection whose turn is over, whose answer is not due
 * or whose pace is used up sets its timer, and nothing else wakes it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "origin.h"

#define TURN_BYTES (1 << 20) /* sent on one connection before the others get their turn */
#define TURN_ANSWERS 64
#define GRANT_BYTES (64 << 10) /* of the line, at a time */
#define DRAIN_BYTES (1 << 20) /* read and dropped after the last answer, so that no reset overtakes it */
#define EPOLL_BATCH 256

static volatile sig_atomic_t stopping;

void worker_stop(int number) {
    (void)number;
    stopping = 1;
}

enum progress { DONE, LATER, CLOSE };

/* As pace_allows, for the connection and the line; *wait_ns: when to ask again, where it says 0. */
static size_t allowed(struct origin *o, struct connection *c, uint64_t now, uint64_t *wait_ns) {
    const struct profile *p = &o->profile;
    size_t most = TURN_BYTES, left = c->out.len - c->out_sent + (size_t)(c->body.end - c->body.at);
    if (p->connection_bytes_per_s != 0 && (most = pace_allows(p, now, &c->paced_ns)) == 0) {
        *wait_ns = c->paced_ns;
        return 0;
    }
    if (p->line_bytes_per_s == 0 || left == 0) return most;
    if (c->granted == 0) {
        c->granted = left < GRANT_BYTES ? left : GRANT_BYTES;
        c->granted_ns = line_reserve(&o->line, p, c->granted, now);
    }
    *wait_ns = c->granted_ns;
    if (c->granted_ns > now) return 0;
    return most < c->granted ? most : c->granted;
}

static void spend(const struct profile *p, struct connection *c, size_t bytes) {
    if (p->connection_bytes_per_s != 0) pace_spend(p, bytes, &c->paced_ns);
    c->granted -= bytes < c->granted ? bytes : c->granted;
}

static enum progress send_answer(struct worker *w, struct connection *c) {
    const struct profile *profile = &w->origin->profile;
    int paced = c->paced && (profile->connection_bytes_per_s != 0 || profile->line_bytes_per_s != 0);
    int timed = paced || c->due_ns != 0;
    uint64_t now = timed ? now_ns() : 0, wait_ns = 0;
    if (c->due_ns > now) {
        timers_set(&w->timers, &c->timer, c->due_ns);
        return LATER;
    }
    c->due_ns = 0;
    if (c->out_sent == 0 && c->paced_ns < now) c->paced_ns = now;
    for (size_t turn = 0; wire_left(c);) {
        size_t most = paced ? allowed(w->origin, c, now, &wait_ns) : TURN_BYTES;
        if (most == 0) {
            timers_set(&w->timers, &c->timer, wait_ns);
            return LATER;
        }
        if (turn >= TURN_BYTES) {
            timers_set(&w->timers, &c->timer, now_ns());
            return LATER;
        }
        ssize_t n = wire_send(w, c, most < TURN_BYTES ? most : TURN_BYTES);
        if (n < 0) {
            if (errno != EAGAIN) return CLOSE;
            c->writable = 0;
            return LATER;
        }
        turn += (size_t)n;
        count(&w->counters.bytes_sent, (uint64_t)n);
        if (paced) spend(profile, c, (size_t)n);
    }
    body_close(&c->body);
    return DONE;
}

static void start_draining(struct connection *c) {
    if (c->ssl != NULL) {
        SSL_shutdown(c->ssl);
        wire_flush(c);
    }
    shutdown(c->fd, SHUT_WR);
    c->draining = 1;
}

static enum progress drain(struct connection *c) {
    while (c->drained < DRAIN_BYTES) {
        ssize_t n = recv(c->fd, c->in, sizeof c->in, 0);
        if (n < 0 && errno == EAGAIN) return LATER;
        if (n <= 0) return CLOSE;
        c->drained += (uint64_t)n;
    }
    return CLOSE;
}

/* Answers the request at the start of c->in, if its head is complete. Whether it did. */
static int take_request(struct worker *w, struct connection *c) {
    struct request request;
    char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
    if (end == NULL) {
        if (c->have < sizeof c->in) return 0;
        answer_broken(w, c, "RequestHeaderSectionTooLarge",
                      "Your request header section exceeds the maximum allowed request header section size.");
        return 1;
    }
    size_t used = (size_t)(end + 4 - c->in);
    if (request_parse(c->in, used, &request) != 0) {
        answer_broken(w, c, "BadRequest", "An error occurred when parsing the HTTP request.");
        return 1;
    }
    if (!request.keep_alive || request.has_body) c->closing = 1; /* nothing here reads a body */
    answer_request(w, c, &request);
    c->have -= used;
    memmove(c->in, c->in + used, c->have);
    return 1;
}

/* As far as it goes now. CLOSE: the connection is to be closed. */
static enum progress serve(struct worker *w, struct connection *c) {
    for (int answers = 0;;) {
        if (c->answering) {
            enum progress sent = send_answer(w, c);
            if (sent != DONE) return sent;
            c->answering = 0;
            answers++;
            if (c->closing) start_draining(c);
        }
        if (c->draining) return drain(c);
        if (answers == TURN_ANSWERS) {
            timers_set(&w->timers, &c->timer, now_ns());
            return LATER;
        }
        c->answering = take_request(w, c);
        if (c->answering) continue;
        if (!c->readable) return LATER;
        ssize_t n = wire_receive(c, c->in + c->have, sizeof c->in - c->have);
        if (n < 0 && errno == EAGAIN) return LATER;
        if (n <= 0) return CLOSE;
        c->have += (size_t)n;
    }
}

static void drop(struct worker *w, struct connection *c) {
    timers_cancel(&w->timers, &c->timer);
    if (c->previous != NULL) c->previous->next = c->next;
    else w->connections = c->next;
    if (c->next != NULL) c->next->previous = c->previous;
    wire_close(c);
    close(c->fd);
    free(c);
    atomic_fetch_sub(&w->origin->open, 1);
}

static void welcome(struct worker *w, int fd) {
    struct origin *o = w->origin;
    struct connection *c = calloc(1, sizeof *c);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    int on = 1;
    if (c == NULL) die("calloc");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = fd;
    c->body.fd = -1;
    c->next = w->connections;
    if (c->next != NULL) c->next->previous = c;
    w->connections = c;
    atomic_fetch_add(&o->accepted, 1);
    uint64_t open = atomic_fetch_add(&o->open, 1) + 1, most = atomic_load(&o->most_open);
    while (most < open && !atomic_compare_exchange_weak(&o->most_open, &most, open)) {}
    if (wire_open(o, c) != 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &e) != 0) die("a new connection");
}

/* Out of descriptors: whoever waits is let in and turned away, else the listening socket would stay ready for ever.
 * Whether somebody did wait: accept says EMFILE either way. */
static int refuse_one(struct worker *w) {
    close(w->spare_fd);
    int fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) close(fd);
    w->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd >= 0;
}

/* Whether more may be waiting. */
static int accept_one(struct worker *w) {
    int fd = accept4(w->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        welcome(w, fd);
        return 1;
    }
    if (errno == EMFILE || errno == ENFILE) return refuse_one(w);
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) die("accept");
    return errno != EAGAIN;
}

static void take_event(struct worker *w, const struct epoll_event *e) {
    struct connection *c = e->data.ptr;
    if (c == NULL) {
        while (accept_one(w)) {}
        return;
    }
    if (e->events & (EPOLLIN | EPOLLRDHUP)) c->readable = 1;
    if (e->events & EPOLLRDHUP) c->hung_up = 1;
    if (e->events & EPOLLOUT) c->writable = 1;
    int dead = (e->events & (EPOLLHUP | EPOLLERR)) != 0; /* nothing can be sent any more */
    int waits = c->timer.place != 0 || (c->answering && !c->writable);
    if (dead || (!waits && serve(w, c) == CLOSE)) drop(w, c);
}

static void wait_for_events(struct worker *w) {
    struct epoll_event events[EPOLL_BATCH];
    uint64_t wake = timers_next(&w->timers), now = wake == NEVER ? 0 : now_ns();
    uint64_t left = wake > now ? wake - now : 0;
    struct timespec most = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
    int n = epoll_pwait2(w->epoll, events, EPOLL_BATCH, wake == NEVER ? NULL : &most, &w->wait_mask);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) take_event(w, &events[i]);
}

static void run_timers(struct worker *w) {
    if (w->timers.len == 0) return;
    uint64_t now = now_ns();
    for (struct timer *timer; (timer = timers_due(&w->timers, now)) != NULL;) {
        struct connection *c = (struct connection *)((char *)timer - offsetof(struct connection, timer));
        if (serve(w, c) == CLOSE) drop(w, c);
    }
}

void *worker_run(void *argument) {
    struct worker *w = argument;
    w->scratch = malloc(SCRATCH_BYTES);
    if (w->scratch == NULL) die("malloc");
    while (!stopping) {
        wait_for_events(w);
        run_timers(w);
    }
    while (w->connections != NULL) drop(w, w->connections);
    free(w->timers.heap);
    free(w->listing.ptr);
    free(w->scratch);
    close(w->listener);
    close(w->spare_fd);
    close(w->epoll);
    return NULL;
}

uint16_t worker_listen(struct worker *w, uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_len = sizeof at;
    int on = 1;
    w->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->listener < 0) die("socket");
    setsockopt(w->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(w->listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(w->listener, (struct sockaddr *)&at, at_len) != 0 || listen(w->listener, 4096) != 0) die("listen");
    if (getsockname(w->listener, (struct sockaddr *)&at, &at_len) != 0) die("getsockname");
    w->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (w->spare_fd < 0 || w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->listener, &e) != 0) die("epoll");
    return ntohs(at.sin_port);
}
