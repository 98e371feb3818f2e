#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One recv then fetches several records; OpenSSL's default costs two system calls for each 16 KiB record. */
#define READ_AHEAD_BYTES ((size_t)64 << 10)
/* OpenSSL's own order asks for 256 bits of AES first, for 14 rounds instead of 10; browsers and Go ask for 128. */
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

struct stg_tls {
    OSSL_LIB_CTX *library;
    SSL_CTX *context;
    char *host;
    int is_address;
};

struct stg_tls_stream {
    SSL *ssl;
    const struct stg_tls_stream *outer; /* NULL: over the socket */
    int wants_write;
    char problem[200];
};

static int is_ip_address(const char *host)
{
    unsigned char packed[16];
    return inet_pton(AF_INET, host, packed) == 1 || inet_pton(AF_INET6, host, packed) == 1;
}

static int set_up_context(struct stg_tls *tls, const char *ca_file, int verify)
{
    static const unsigned char http11[] = "\x08http/1.1";

    SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
    if (SSL_CTX_set_ciphersuites(tls->context, CIPHERS_13) != 1)
        return -EINVAL;
    /* A receive buffer that is empty goes back to the allocator: the next connection gets it out of the cache. */
    SSL_CTX_set_mode(tls->context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(tls->context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_read_ahead(tls->context, 1);
    SSL_CTX_set_default_read_buffer_len(tls->context, READ_AHEAD_BYTES);
    SSL_CTX_set_alpn_protos(tls->context, http11, sizeof http11 - 1);
    if (!verify) {
        SSL_CTX_set_verify(tls->context, SSL_VERIFY_NONE, NULL);
        return 0;
    }
    if (!ca_file)
        return -EINVAL;
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_file(tls->context, ca_file) != 1)
        return -ENOENT;
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(tls->context);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    int named = tls->is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, tls->host)
                                : X509_VERIFY_PARAM_set1_host(param, tls->host, 0);
    return named == 1 ? 0 : -EINVAL;
}

int stg_tls_new(const char *host, const char *ca_file, int verify, struct stg_tls **out)
{
    if (!host[0] || host[0] == '.') /* OpenSSL would check no name, or any below it */
        return -EINVAL;
    if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
        return -ENOMEM;
    struct stg_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return -ENOMEM;
    tls->host = strdup(host);
    tls->is_address = is_ip_address(host);
    tls->library = OSSL_LIB_CTX_new();
    tls->context = tls->library ? SSL_CTX_new_ex(tls->library, NULL, TLS_client_method()) : NULL;
    int status = tls->context && tls->host ? set_up_context(tls, ca_file, verify) : -ENOMEM;
    ERR_clear_error();
    if (status < 0) {
        stg_tls_free(tls);
        return status;
    }
    *out = tls;
    return 0;
}

/* OpenSSL's own would ask on the terminal. */
static int no_password(char *buffer, int size, int writing, void *data)
{
    (void)buffer, (void)size, (void)writing, (void)data;
    return -1;
}

int stg_tls_show(struct stg_tls *tls, const char *certificate_file, const char *key_file)
{
    if (access(certificate_file, R_OK) != 0 || access(key_file, R_OK) != 0)
        return -ENOENT;
    SSL_CTX_set_default_passwd_cb(tls->context, no_password);
    int usable = SSL_CTX_use_certificate_chain_file(tls->context, certificate_file) == 1 &&
                 SSL_CTX_use_PrivateKey_file(tls->context, key_file, SSL_FILETYPE_PEM) == 1 &&
                 SSL_CTX_check_private_key(tls->context) == 1;
    ERR_clear_error();
    return usable ? 0 : -EKEYREJECTED;
}

void stg_tls_free(struct stg_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    OSSL_LIB_CTX_free(tls->library);
    free(tls->host);
    free(tls);
}

static int attach(SSL *ssl, const struct stg_tls_stream *outer, int fd)
{
    if (!outer)
        return SSL_set_fd(ssl, fd);
    BIO *bio = BIO_new(BIO_f_ssl());
    if (!bio)
        return 0;
    BIO_set_ssl(bio, outer->ssl, BIO_NOCLOSE);
    SSL_set_bio(ssl, bio, bio); /* it owns the bio now */
    return 1;
}

static struct stg_tls_stream *start(struct stg_tls *tls, const struct stg_tls_stream *outer, int fd)
{
    struct stg_tls_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    stream->outer = outer;
    stream->ssl = SSL_new(tls->context);
    if (!stream->ssl || attach(stream->ssl, outer, fd) != 1 ||
        (!tls->is_address && SSL_set_tlsext_host_name(stream->ssl, tls->host) != 1)) {
        ERR_clear_error();
        stg_tls_end(stream);
        return NULL;
    }
    SSL_set_connect_state(stream->ssl);
    return stream;
}

struct stg_tls_stream *stg_tls_start(struct stg_tls *tls, int fd)
{
    return start(tls, NULL, fd);
}

struct stg_tls_stream *stg_tls_start_inside(struct stg_tls *tls, struct stg_tls_stream *outer)
{
    return start(tls, outer, -1);
}

void stg_tls_end(struct stg_tls_stream *stream)
{
    if (!stream)
        return;
    SSL_free(stream->ssl);
    free(stream);
}

static void describe(struct stg_tls_stream *stream, unsigned long code)
{
    int verified = SSL_get_verify_mode(stream->ssl) != SSL_VERIFY_NONE;
    long verdict = verified ? SSL_get_verify_result(stream->ssl) : X509_V_OK;
    const char *reason = ERR_reason_error_string(code);
    if (verdict != X509_V_OK)
        snprintf(stream->problem, sizeof stream->problem, "certificate: %s", X509_verify_cert_error_string(verdict));
    else
        snprintf(stream->problem, sizeof stream->problem, "%s", reason ? reason : "TLS error");
}

/* The meaning of a call that did not succeed. */
static int outcome(struct stg_tls_stream *stream, int result, int saved_errno)
{
    int error = SSL_get_error(stream->ssl, result);
    stream->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return -EAGAIN;
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    unsigned long code = ERR_peek_error();
    int status = -EPROTO;
    if (error == SSL_ERROR_SYSCALL)
        status = saved_errno ? -saved_errno : -ECONNRESET;
    else if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        status = -ECONNRESET;
    else
        describe(stream, code);
    ERR_clear_error();
    return status;
}

int stg_tls_handshake(struct stg_tls_stream *stream)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(stream->ssl);
    if (result == 1)
        return 0;
    int status = outcome(stream, result, errno);
    return status ? status : -ECONNRESET;
}

ssize_t stg_tls_read(struct stg_tls_stream *stream, void *data, size_t len)
{
    size_t done = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(stream->ssl, data, len, &done);
    return result == 1 ? (ssize_t)done : outcome(stream, result, errno);
}

ssize_t stg_tls_write(struct stg_tls_stream *stream, const void *data, size_t len)
{
    size_t done = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(stream->ssl, data, len, &done);
    if (result == 1)
        return (ssize_t)done;
    int status = outcome(stream, result, errno);
    return status ? status : -ECONNRESET;
}

int stg_tls_has_pending(const struct stg_tls_stream *stream)
{
    return SSL_has_pending(stream->ssl) || (stream->outer && SSL_has_pending(stream->outer->ssl));
}

int stg_tls_wants_write(const struct stg_tls_stream *stream)
{
    return stream->wants_write;
}

const char *stg_tls_problem(const struct stg_tls_stream *stream)
{
    return stream->problem;
}
