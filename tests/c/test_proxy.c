/* The engine behind a proxy that does what the name it is asked for says, and that is the TLS server itself where it
 * opens a tunnel. */
#include "check.h"
#include "engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define BODY_BYTES 300000 /* more than a buffer */

static SSL_CTX *server_context;
static char directory[] = "/tmp/stg-proxy-XXXXXX";
static int root_fd;

/* ---- the proxy ---- */

struct proxy_server {
    int tls;
    int fd;
    uint16_t port;
    pthread_t thread;
    atomic_int peers;
};

struct peer {
    struct proxy_server *server;
    int fd;
};

static void make_server_context(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    server_context = SSL_CTX_new(TLS_server_method());
    CHECK_EQ(SSL_CTX_use_certificate(server_context, certificate), 1);
    CHECK_EQ(SSL_CTX_use_PrivateKey(server_context, key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void say(int fd, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static void say_endlessly(int fd)
{
    static const char line[] = "x-filler: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    say(fd, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 12000; i++)
        say(fd, line);
}

static void wait_for_end(int fd)
{
    char byte;
    while (recv(fd, &byte, 1, 0) > 0)
        continue;
}

/* The server, over the socket or over the proxy's own TLS. */
static void serve_tls(int fd, SSL *outer)
{
    static char body[BODY_BYTES];
    char request[4096], head[128];
    SSL *ssl = SSL_new(server_context);
    if (outer) {
        BIO *bio = BIO_new(BIO_f_ssl());
        BIO_set_ssl(bio, outer, BIO_NOCLOSE);
        SSL_set_bio(ssl, bio, bio);
    } else {
        SSL_set_fd(ssl, fd);
    }
    if (SSL_accept(ssl) == 1)
        while (SSL_read(ssl, request, sizeof request) > 0) {
            if (strstr(request, "proxy-authorization"))
                break;
            int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: %d\r\n\r\n", BODY_BYTES);
            if (SSL_write(ssl, head, n) <= 0 || SSL_write(ssl, body, sizeof body) <= 0)
                break;
        }
    SSL_free(ssl);
}

static void behave(int fd, const char *request)
{
    if (!strstr(request, "proxy-authorization: Basic eDp5\r\n"))
        say(fd, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    else if (strncmp(request, "CONNECT refuse:", 15) == 0)
        say(fd, "HTTP/1.0 403 Not Here\r\ncontent-length: 5\r\n\r\nnever");
    else if (strncmp(request, "CONNECT garbage:", 16) == 0)
        say(fd, "\x15\x03\x01 nothing of HTTP");
    else if (strncmp(request, "CONNECT huge:", 13) == 0)
        say_endlessly(fd);
    else if (strncmp(request, "CONNECT hang:", 13) == 0)
        wait_for_end(fd);
    else if (strncmp(request, "CONNECT cut:", 12) == 0)
        say(fd, "HTTP/1.1 200 O");
    else if (strncmp(request, "CONNECT early:", 14) == 0)
        say(fd, "HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03");
    else if (strncmp(request, "CONNECT halfway:", 16) == 0)
        say(fd, "HTTP/1.1 200 OK\r\n\r\n");
    else if (strncmp(request, "CONNECT open:", 13) == 0) {
        say(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connection established\r\n\r\n");
        serve_tls(fd, NULL);
    }
}

static void behave_over_tls(int fd)
{
    static const char answer[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    char request[4096];
    size_t have = 0, n;
    SSL *ssl = SSL_new(server_context);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        do {
            if (SSL_read_ex(ssl, request + have, sizeof request - 1 - have, &n) != 1)
                break;
            have += n;
            request[have] = 0;
        } while (!strstr(request, "\r\n\r\n"));
        if (strncmp(request, "CONNECT open:", 13) == 0 && SSL_write(ssl, answer, sizeof answer - 1) > 0)
            serve_tls(fd, ssl);
    }
    SSL_free(ssl);
}

static void *serve(void *argument)
{
    struct peer *peer = argument;
    char request[4096];
    size_t have = 0;
    if (peer->server->tls)
        behave_over_tls(peer->fd);
    while (!peer->server->tls) {
        ssize_t n = recv(peer->fd, request + have, sizeof request - 1 - have, 0);
        if (n <= 0)
            break;
        have += (size_t)n;
        request[have] = 0;
        if (strstr(request, "\r\n\r\n")) {
            behave(peer->fd, request);
            break;
        }
    }
    close(peer->fd);
    atomic_fetch_sub(&peer->server->peers, 1);
    free(peer);
    return NULL;
}

static void *accept_all(void *argument)
{
    struct proxy_server *server = argument;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (int fd; (fd = accept(server->fd, NULL, NULL)) >= 0;) {
        struct peer *peer = malloc(sizeof *peer);
        pthread_t id;
        *peer = (struct peer){server, fd};
        atomic_fetch_add(&server->peers, 1);
        if (pthread_create(&id, &attributes, serve, peer) != 0)
            abort();
    }
    pthread_attr_destroy(&attributes);
    return NULL;
}

static void start(struct proxy_server *server, int tls)
{
    server->tls = tls;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    server->peers = 0;
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server->fd, (struct sockaddr *)&address, len) < 0 || listen(server->fd, 128) < 0 ||
        getsockname(server->fd, (struct sockaddr *)&address, &len) < 0 ||
        pthread_create(&server->thread, NULL, accept_all, server) != 0)
        abort();
    server->port = ntohs(address.sin_port);
}

static void stop(struct proxy_server *server)
{
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->fd);
    while (atomic_load(&server->peers) > 0)
        usleep(1000);
}

/* ---- the engine ---- */

struct outcome {
    unsigned done, failed;
    struct stg_failure last;
};

/* Fetches count objects of a host behind the proxy; how the failed ones failed is the last one's way. */
static struct outcome fetch(const struct proxy_server *server, const char *host, const char *authorization, unsigned count)
{
    struct stg_engine_config config = {.workers = 2, .disk_threads = 1, .connections = 4, .memory_bytes = 2 << 20,
                                       .buffer_bytes = 64 << 10, .ring_slots = 64,
                                       .connect_timeout_ms = strcmp(host, "hang") == 0 ? 200 : 20000,
                                       .stall_timeout_ms = 20000};
    struct outcome outcome = {0};
    struct stg_engine *engine;
    struct stg_tls *tls, *proxy_tls = NULL;
    struct stg_proxy *proxy;
    struct stg_address address;
    struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    struct stg_batch *batch;
    char authority[64];
    uint32_t rows[64];

    snprintf(authority, sizeof authority, "%s:443", host);
    CHECK_EQ(stg_engine_new(&config, &engine), 0);
    CHECK_EQ(stg_tls_new(host, NULL, 0, &tls), 0);
    if (server->tls)
        CHECK_EQ(stg_tls_new("proxy.example", NULL, 0, &proxy_tls), 0);
    CHECK_EQ(stg_proxy_new(proxy_tls, (struct stg_str){authority, strlen(authority)},
                           (struct stg_str){authorization, strlen(authorization)}, &proxy), 0);
    CHECK_EQ(stg_address_set(&address, AF_INET, &loopback, sizeof loopback, server->port), 0);
    struct stg_endpoint *endpoint = stg_endpoint_new(tls, proxy, &address, 1);
    struct stg_template *template_ =
        stg_template_new(endpoint, NULL, (struct stg_str){host, strlen(host)}, STG_STR("/b/"), STG_STR(""), NULL, 0);
    struct stg_table *table = stg_table_new();
    for (unsigned i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        struct stg_row row = {.key = {key, strlen(key)}, .identity = STG_STR("e"), .size = BODY_BYTES};
        rows[i] = (uint32_t)stg_table_append(table, &row);
    }
    CHECK_EQ(stg_batch_objects(template_, table, rows, count, root_fd, root_fd, &batch), 0);
    CHECK_EQ(stg_engine_submit(engine, batch), 0);
    while (outcome.done + outcome.failed < count) {
        struct pollfd ready = {.fd = stg_engine_fileno(engine), .events = POLLIN};
        struct stg_completion some[16];
        if (poll(&ready, 1, 60000) != 1) {
            CHECK(!"no completion for a minute");
            break;
        }
        size_t n = stg_engine_drain(engine, some, 16);
        for (size_t i = 0; i < n; i++) {
            outcome.done += !some[i].failed;
            outcome.failed += some[i].failed;
            if (some[i].failure)
                outcome.last = *some[i].failure;
            stg_failure_free(some[i].failure);
        }
    }
    stg_batch_unref(batch);
    stg_engine_free(engine);
    stg_template_unref(template_);
    stg_endpoint_unref(endpoint);
    stg_table_unref(table);
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        unlinkat(root_fd, name, 0);
    }
    return outcome;
}

static void test_objects_arrive_through_tunnels(void)
{
    struct proxy_server server;
    start(&server, 0);
    struct outcome outcome = fetch(&server, "open", "Basic eDp5", 40);
    CHECK_EQ(outcome.done, 40);
    stop(&server);
}

static void test_objects_arrive_through_tunnels_inside_of_tls(void)
{
    struct proxy_server server;
    start(&server, 1);
    struct outcome outcome = fetch(&server, "open", "Basic eDp5", 40);
    CHECK_EQ(outcome.done, 40);
    outcome = fetch(&server, "refuse", "Basic eDp5", 4);
    CHECK_EQ(outcome.failed, 4);
    CHECK_EQ(outcome.last.kind, STG_FAIL_PROXY);
    stop(&server);
}

static void test_proxy_without_the_tls_that_is_expected_fails_in_its_handshake(void)
{
    struct proxy_server server;
    start(&server, 0);
    struct proxy_server expected = server;
    expected.tls = 1;
    struct outcome outcome = fetch(&expected, "open", "Basic eDp5", 4);
    CHECK_EQ(outcome.failed, 4);
    CHECK_EQ(outcome.last.kind, STG_FAIL_PROXY);
    stop(&server);
}

static void check_refused(const char *host, const char *authorization, int status, const char *where, int error)
{
    struct proxy_server server;
    start(&server, 0);
    struct outcome outcome = fetch(&server, host, authorization, 12);
    CHECK_EQ(outcome.failed, 12);
    CHECK_EQ(outcome.last.kind, STG_FAIL_PROXY);
    CHECK_EQ(outcome.last.status, status);
    CHECK_EQ(outcome.last.error, error);
    CHECK(outcome.last.where && strcmp(outcome.last.where, where) == 0);
    CHECK(outcome.last.s3.message[0]);
    stop(&server);
}

static void test_proxy_that_does_not_serve_fails_every_request_as_the_proxy(void)
{
    check_refused("open", "Basic eDp6", 407, "tunnel", 0);
    check_refused("refuse", "Basic eDp5", 403, "tunnel", 0);
    check_refused("garbage", "Basic eDp5", 0, "tunnel", 0);
    check_refused("huge", "Basic eDp5", 0, "tunnel", 0);
    check_refused("early", "Basic eDp5", 0, "tunnel", 0);
    check_refused("cut", "Basic eDp5", 0, "tunnel", ECONNRESET);
    check_refused("hang", "Basic eDp5", 0, "tunnel", ETIMEDOUT);
}

static void test_server_that_ends_in_the_tunnel_is_a_reset(void)
{
    struct proxy_server server;
    start(&server, 0);
    struct outcome outcome = fetch(&server, "halfway", "Basic eDp5", 12);
    CHECK_EQ(outcome.failed, 12);
    CHECK_EQ(outcome.last.kind, STG_FAIL_RESET);
    stop(&server);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* the server's writes; the engine's threads block it themselves */
    if (!mkdtemp(directory))
        return 1;
    root_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    make_server_context();
    RUN(test_objects_arrive_through_tunnels);
    RUN(test_objects_arrive_through_tunnels_inside_of_tls);
    RUN(test_proxy_without_the_tls_that_is_expected_fails_in_its_handshake);
    RUN(test_proxy_that_does_not_serve_fails_every_request_as_the_proxy);
    RUN(test_server_that_ends_in_the_tunnel_is_a_reset);
    SSL_CTX_free(server_context);
    close(root_fd);
    rmdir(directory);
    END();
}
