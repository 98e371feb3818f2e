/* What origin.c (connections) and origin_s3.c (what is asked and what is answered) share. */
#ifndef BENCH_ORIGIN_H
#define BENCH_ORIGIN_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define REQUEST_MAX 8192
#define KEY_MAX 512

struct origin {
    uint64_t count, size;
    const char *prefix;
    int data_fd;
    const unsigned char *data; /* mapped only for TLS */
    SSL_CTX *tls;
};

struct connection {
    int fd, wants_write, closing;
    SSL *ssl;
    size_t have;                   /* request bytes in `in` */
    char *out;                     /* head, or head and listing, still to send */
    size_t out_len, out_sent, out_room;
    off_t body_at, body_end;       /* of the data file, sent after `out` */
    char in[REQUEST_MAX + 1];
};

struct clock {
    time_t second; /* of text */
    char text[40];
};

_Noreturn void die(const char *what);
/* Opens the data file, made as long as `bytes` if it is shorter. */
int open_data(const char *path, uint64_t bytes);
/* Answers the request at the start of c->in, whose head is NUL-terminated: fills out, body_at and body_end. */
void answer(const struct origin *o, struct clock *clock, struct connection *c);

#endif
