/* Bytes in and out of a connection.
 *
 * Without TLS a body leaves by sendfile, or from where the formula made it. With TLS, records are collected in c->wire
 * (a BIO that only appends) and leave by one send for several records: OpenSSL alone would call write once a record.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "origin.h"

#define RECORD_BYTES 16384
#define WIRE_BYTES (8 * RECORD_BYTES) /* sealed before a send */
#define WIRE_MAX (16 * RECORD_BYTES)  /* nothing is added beyond: a peer that only asks for key updates gets no more */

static int wire_write(BIO *bio, const char *bytes, size_t len, size_t *written) {
    struct connection *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (c->wire.len > WIRE_MAX) {
        BIO_set_retry_write(bio);
        return 0;
    }
    text_add(&c->wire, (struct span){bytes, len});
    *written = len;
    return 1;
}

static long wire_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int wire_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

void tls_start(struct origin *o, const char *certificate, const char *key) {
    o->tls = SSL_CTX_new(TLS_server_method());
    o->wire_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire");
    if (o->tls == NULL || o->wire_method == NULL || SSL_CTX_use_certificate_chain_file(o->tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(o->tls, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_options(o->tls, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(o->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(o->tls, 1);
    BIO_meth_set_write_ex(o->wire_method, wire_write);
    BIO_meth_set_ctrl(o->wire_method, wire_control);
    BIO_meth_set_create(o->wire_method, wire_create);
}

int wire_open(struct origin *o, struct connection *c) {
    if (o->tls == NULL) return 0;
    BIO *in = BIO_new_socket(c->fd, BIO_NOCLOSE), *out = BIO_new(o->wire_method);
    c->ssl = SSL_new(o->tls);
    if (c->ssl == NULL || in == NULL || out == NULL) return -1;
    BIO_set_data(out, c);
    SSL_set_bio(c->ssl, in, out);
    SSL_set_accept_state(c->ssl);
    return 0;
}

void wire_close(struct connection *c) {
    SSL_free(c->ssl);
    body_close(&c->body);
    free(c->wire.ptr);
    free(c->out.ptr);
}

ssize_t wire_flush(struct connection *c) {
    while (c->wire_sent < c->wire.len) {
        ssize_t n = send(c->fd, c->wire.ptr + c->wire_sent, c->wire.len - c->wire_sent, MSG_NOSIGNAL);
        if (n < 0) return -1;
        c->wire_sent += (size_t)n;
    }
    c->wire.len = c->wire_sent = 0;
    return 0;
}

static ssize_t tls_result(SSL *ssl, int n) {
    if (n > 0) return n;
    int why = SSL_get_error(ssl, n);
    ERR_clear_error();
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

ssize_t wire_receive(struct connection *c, char *to, size_t room) {
    if (c->ssl == NULL) {
        ssize_t n = recv(c->fd, to, room, 0);
        /* A short read has emptied the socket; asking again would only say EAGAIN. */
        if ((n < 0 && errno == EAGAIN) || (n > 0 && (size_t)n < room && !c->hung_up)) c->readable = 0;
        return n;
    }
    if (wire_flush(c) < 0) return -1;
    ssize_t n = tls_result(c->ssl, SSL_read(c->ssl, to, (int)room));
    int why = errno;
    if (n < 0 && why == EAGAIN) c->readable = 0;
    if (wire_flush(c) < 0 && errno != EAGAIN) return -1; /* the handshake's answers, an alert */
    errno = why;
    return n;
}

static ssize_t send_plain(struct worker *w, struct connection *c, size_t most) {
    struct iovec parts[2];
    struct msghdr message = {.msg_iov = parts};
    size_t head = c->out.len - c->out_sent, body = (size_t)(c->body.end - c->body.at);
    if (head > most) head = most;
    if (body > most - head) body = most - head;
    if (head == 0 && c->body.fd >= 0) {
        off_t at = (off_t)c->body.at;
        ssize_t n = sendfile(c->fd, c->body.fd, &at, body);
        if (n == 0) errno = EIO; /* the file was cut */
        if (n <= 0) return -1;
        c->body.at += (uint64_t)n;
        return n;
    }
    int more = c->body.fd >= 0 && body > 0 ? MSG_MORE : 0;
    if (head > 0) parts[message.msg_iovlen++] = (struct iovec){c->out.ptr + c->out_sent, head};
    if (!more && body > 0) {
        const unsigned char *bytes;
        ssize_t have = body_peek(&w->origin->content, &c->body, w->scratch, body < SCRATCH_BYTES ? body : SCRATCH_BYTES,
                                 &bytes);
        if (have <= 0) return -1;
        parts[message.msg_iovlen++] = (struct iovec){(void *)bytes, (size_t)have};
    }
    ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL | more);
    if (n < 0) return -1;
    size_t of_head = (size_t)n < head ? (size_t)n : head;
    c->out_sent += of_head;
    c->body.at += (uint64_t)n - of_head;
    return n;
}

/* Seals what fits into the wire; the number of bytes sealed. */
static ssize_t seal(struct worker *w, struct connection *c, size_t most) {
    size_t sealed = 0;
    while (c->wire.len < WIRE_BYTES && sealed < most) {
        const unsigned char *bytes = (const unsigned char *)c->out.ptr + c->out_sent;
        size_t want = c->out.len - c->out_sent;
        int of_head = want > 0;
        if (!of_head) {
            if (c->body.at == c->body.end) break;
            ssize_t have = body_peek(&w->origin->content, &c->body, w->scratch, RECORD_BYTES, &bytes);
            if (have <= 0) return -1;
            want = (size_t)have;
        }
        if (want > RECORD_BYTES) want = RECORD_BYTES;
        ssize_t n = tls_result(c->ssl, SSL_write(c->ssl, bytes, (int)want));
        if (n <= 0) return -1;
        if (of_head) c->out_sent += (size_t)n;
        else c->body.at += (uint64_t)n;
        sealed += (size_t)n;
    }
    return (ssize_t)sealed;
}

ssize_t wire_send(struct worker *w, struct connection *c, size_t most) {
    if (c->ssl == NULL) return send_plain(w, c, most);
    if (wire_flush(c) < 0) return -1;
    ssize_t sealed = seal(w, c, most);
    if (sealed < 0) return -1;
    if (wire_flush(c) < 0 && errno != EAGAIN) return -1;
    return sealed;
}
