/* What the parts of the origin share. See origin.c for what it is; each part says at its top what it does. */
#ifndef BENCH_ORIGIN_H
#define BENCH_ORIGIN_H

#include <openssl/ssl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "origin_content.h"
#include "origin_pace.h"
#include "origin_text.h"

#define HEAD_MAX 8192 /* S3's own limit on request headers (API reference, HeadObject) */
#define SCRATCH_BYTES (128 << 10)

struct counters { /* of one worker: written by it alone */
    _Atomic uint64_t requests, gets, heads, lists, slow_down, tail, bytes_sent;
};

struct origin {
    struct content content;
    struct profile profile;
    struct limiter limiter;
    struct line line;
    SSL_CTX *tls;
    BIO_METHOD *wire_method;
    struct worker *workers;
    long threads;
    _Atomic uint64_t answers; /* the next one's number */
    _Atomic uint64_t accepted, open, most_open;
};

struct clock_text {
    time_t second; /* of text */
    char text[40];
};

struct worker {
    struct origin *origin;
    sigset_t wait_mask; /* while it waits for events; at all other times the signals that stop it are blocked */
    int listener, epoll, spare_fd; /* the spare is given up to refuse a connection when descriptors have run out */
    struct timers timers;
    struct connection *connections;
    struct clock_text clock;
    struct counters counters;
    uint64_t number; /* of the answer being made: its request id, and what its delay is drawn by */
    struct text listing;
    unsigned char *scratch; /* SCRATCH_BYTES */
};

struct connection {
    int fd;
    int readable, writable;  /* as the last edge or the last EAGAIN said */
    int hung_up;             /* the peer sends no more */
    int answering;           /* an answer is due or under way */
    int closing, draining;   /* after this answer; what still comes is thrown away */
    struct connection *next, *previous;
    struct timer timer;
    int paced;               /* the answer is, unlike those of the origin's own resources */
    uint64_t due_ns, paced_ns; /* the first byte leaves then; pacing lets the next one leave then */
    size_t granted;          /* bytes the line takes from granted_ns on */
    uint64_t granted_ns;
    SSL *ssl;
    struct text wire;        /* TLS records still to send */
    size_t wire_sent;
    struct text out;         /* head, or head and text, still to send */
    size_t out_sent;
    struct body body;        /* sent after out */
    uint64_t drained;
    size_t have;             /* request bytes in `in` */
    char in[HEAD_MAX];
};

/* The head of a request; the spans point into the connection's buffer. */
struct request {
    struct span method, path, query, host, range, if_match, if_none_match, if_modified_since, if_unmodified_since,
        checksum_mode;
    int keep_alive, has_body;
};

static inline void count(_Atomic uint64_t *counter, uint64_t more) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

/* origin_loop.c */
uint16_t worker_listen(struct worker *w, uint16_t port); /* returns the port */
void *worker_run(void *worker);                          /* until a SIGTERM or SIGINT */
void worker_stop(int signal);

/* origin_wire.c: bytes in and out of a connection, with TLS or without. -1 with errno, EAGAIN: not now. */
void tls_start(struct origin *o, const char *certificate, const char *key);
int wire_open(struct origin *o, struct connection *c);
void wire_close(struct connection *c);
ssize_t wire_receive(struct connection *c, char *to, size_t room);
ssize_t wire_flush(struct connection *c);                                /* of records: 0 when none is left */
ssize_t wire_send(struct worker *w, struct connection *c, size_t most);  /* of the answer; at least one byte is left */
static inline int wire_left(const struct connection *c) {
    return c->out_sent < c->out.len || c->body.at < c->body.end || c->wire_sent < c->wire.len;
}

/* origin_http.c */
/* Takes apart the head of `len` bytes that ends in CRLFCRLF. 0, or -1: not HTTP/1.x. */
int request_parse(char *head, size_t len, struct request *out);
/* Undoes percent-encoding (and `+`, in a query). The length, or -1: malformed or longer than room. */
ssize_t url_decode(struct span from, int is_query, char *to, size_t room);
/* The decoded value of a query parameter. 1, 0: it is not there, -1: malformed. */
int query_parameter(struct span query, const char *name, char *to, size_t room, struct span *value);
enum range_kind { RANGE_NONE, RANGE_PART, RANGE_UNSATISFIABLE };
enum range_kind range_parse(struct span value, uint64_t size, uint64_t *first, uint64_t *end);
/* Whether an entity tag (without quotes) is in the list of an If-Match or If-None-Match. */
int etag_listed(struct span list, const char *etag);
const char *http_date(struct clock_text *clock);

/* origin_s3.c: what is asked and what is answered */
void answer_request(struct worker *w, struct connection *c, const struct request *r);
/* 400, then closed. */
void answer_broken(struct worker *w, struct connection *c, const char *code, const char *message);

/* origin_answer.c: the head, S3's errors */
struct answer {
    const char *status;       /* "200 OK" */
    const char *content_type; /* NULL: none */
    struct span extra;        /* whole header lines */
    uint64_t length;
    int no_length;            /* a 304 or 204 has none */
};
void answer_head(struct worker *w, struct connection *c, const struct answer *a);
void answer_xml(struct worker *w, struct connection *c, struct span xml, int head_only);
struct s3_error {
    const char *status, *code, *message;
    struct span resource; /* the key or bucket, as asked for */
    struct span extra, detail; /* header lines; further elements */
};
void answer_error(struct worker *w, struct connection *c, const struct s3_error *e, int head_only);

/* origin_list.c */
void answer_list(struct worker *w, struct connection *c, struct span query);

/* origin_control.c: what begins with /-/ */
void answer_control(struct worker *w, struct connection *c, const struct request *r);

#endif
