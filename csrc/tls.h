/* TLS 1.2 and later over a non-blocking socket, with OpenSSL 3.
 *
 * A library context of its own: no configuration file, no provider or default of the process reaches it.
 * The peer's chain and name (a DNS name with SNI, or an IP address by its subjectAltName) are verified unless the
 * caller said not to. Callers block SIGPIPE: OpenSSL's socket layer writes without MSG_NOSIGNAL.
 */
#ifndef STG_TLS_H
#define STG_TLS_H

#include "stg.h"

struct stg_tls;        /* what connections to one host share; thread-safe once made */
struct stg_tls_stream; /* one connection; one thread */

/* ca_file: PEM; must be given when verify is set (-EINVAL otherwise). -ENOENT: the file cannot be read or holds no
 * certificate; -EINVAL: a host that is empty or begins with a dot; -ENOMEM. host is the name to ask for and to verify, or an IP address as text. */
int stg_tls_new(const char *host, const char *ca_file, int verify, struct stg_tls **out);
/* What to show a server that asks for it: a PEM file of the certificate and those above it, and the key's; before the
 * first connection. -ENOENT: a file cannot be read; -EKEYREJECTED: it holds no certificate or key, one in a cipher (no
 * password is asked for), or the two do not belong together. */
int stg_tls_show(struct stg_tls *tls, const char *certificate_file, const char *key_file);
void stg_tls_free(struct stg_tls *tls);

/* NULL: no memory. The descriptor stays the caller's. */
struct stg_tls_stream *stg_tls_start(struct stg_tls *tls, int fd);
/* TLS inside of TLS: over a stream whose handshake is done, which stays the caller's and must outlive this one. */
struct stg_tls_stream *stg_tls_start_inside(struct stg_tls *tls, struct stg_tls_stream *outer);
void stg_tls_end(struct stg_tls_stream *stream); /* NULL is fine; sends nothing */

/* 0: done; -EAGAIN: call again when the socket is ready (see stg_tls_wants_write); -ECONNRESET; -EPROTO: refused, by
 * either side (see stg_tls_problem). */
int stg_tls_handshake(struct stg_tls_stream *stream);
/* As stg_net_recv and stg_net_send, with -EPROTO for what only TLS can do wrong. An end without close_notify is
 * -ECONNRESET. */
ssize_t stg_tls_read(struct stg_tls_stream *stream, void *data, size_t len);
ssize_t stg_tls_write(struct stg_tls_stream *stream, const void *data, size_t len);
/* Something was received that stg_tls_read has not returned yet. */
int stg_tls_has_pending(const struct stg_tls_stream *stream);
/* After -EAGAIN: 1 when writability is awaited, 0 for readability. */
int stg_tls_wants_write(const struct stg_tls_stream *stream);
/* Why the last call gave -EPROTO, for people; never NULL. */
const char *stg_tls_problem(const struct stg_tls_stream *stream);

#endif
