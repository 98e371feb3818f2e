/* The ceiling: what a plain C loop needs for the work every client does, and nothing else.
 *
 *     ceiling PORT COUNT SIZE PREFIX OUT [--connections N] [--part BYTES] [--tls CAFILE] [--list FILE]
 *
 * One thread, epoll, keep-alive, every request SigV4-signed, recv of up to 1 MiB into one buffer, XXH3-128 of what came
 * while it is in the cache, pwrite at its offset. Whole objects without Range; objects above BYTES in ranges of BYTES.
 * With --tls the same through OpenSSL, the certificate checked. No listing (the names follow origin.c's formula, or
 * stand in FILE, whose lines are "SIZE NAME", instead of COUNT and SIZE), no retries, no temporary names, no checks
 * beyond status and length. Shares no code with the product. Prints one JSON line; its calls are counted by hand.
 */
#define _GNU_SOURCE
#define OPENSSL_SUPPRESS_DEPRECATED /* see sign.h */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "objects.h"
#include "sign.h"

/* Tried on a 2-core VM (EPYC, 1 MiB of L2 a core), tmpfs, the other core serving: median of 5 runs in turn, CPU seconds
 * of the client and of both sides. 1 GiB over http, recv of 64 KiB: 0.99 and 1.09; 128: 0.85 and 0.96; 256: 0.79 and
 * 0.88; 512: 0.75 and 0.87; 1,024: 0.66 and 0.82; 2,048 (another set): 0.66 and 0.83 against 0.69 and 0.89 for 1,024.
 * Over TLS, 256 or 1,024 KiB gathered and socket reads of 64 to 256 KiB: no difference above the noise (5%). 10,000
 * objects of 16 KiB: none either, nor from opening files below a kept descriptor of their folder. With SO_RCVLOWAT the
 * end of a part never wakes, unless it follows every part: a call for each. */
#define RECV_BYTES (1 << 20)
#define TLS_RECV_BYTES (128 << 10)
#define HEAD_MAX 4096

struct connection {
    int fd;
    SSL *ssl; /* NULL over http */
    struct part part;
    uint64_t at;      /* the next byte of the body belongs there in the object */
    uint64_t carried; /* bytes of an incomplete head kept in `head` */
    int in_body;
    XXH3_state_t *hash;
    char head[HEAD_MAX];
};

static struct {
    struct objects objects;
    uint64_t done_parts, digest;
    char host[32];
    int epoll;
    struct signer signer;
    char *buffer;
    SSL_CTX *tls;
    BIO_METHOD *counted;
} run;

static long called(long result) {
    run.objects.calls++;
    return result;
}

static _Noreturn void die_of_tls(const char *what) {
    fprintf(stderr, "ceiling: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* A socket BIO whose system calls are counted. */
static int bio_read(BIO *bio, char *to, size_t room, size_t *got) {
    ssize_t n = called(recv((int)(intptr_t)BIO_get_data(bio), to, room, 0));
    BIO_clear_retry_flags(bio);
    if (n < 0 && errno == EAGAIN) BIO_set_retry_read(bio);
    if (n <= 0) return 0;
    *got = (size_t)n;
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *sent) {
    ssize_t n = called(send((int)(intptr_t)BIO_get_data(bio), from, len, MSG_NOSIGNAL));
    if (n <= 0) return 0;
    *sent = (size_t)n;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static void start_tls(const char *ca_file) {
    run.tls = SSL_CTX_new(TLS_client_method());
    run.counted = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "counted socket");
    if (run.tls == NULL || run.counted == NULL || SSL_CTX_load_verify_locations(run.tls, ca_file, NULL) != 1)
        die_of_tls(ca_file);
    SSL_CTX_set_verify(run.tls, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_set_ciphersuites(run.tls, "TLS_AES_128_GCM_SHA256") != 1) /* the least that every client offers */
        die_of_tls("TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_read_ahead(run.tls, 1);
    SSL_CTX_set_default_read_buffer_len(run.tls, TLS_RECV_BYTES);
    BIO_meth_set_read_ex(run.counted, bio_read);
    BIO_meth_set_write_ex(run.counted, bio_write);
    BIO_meth_set_ctrl(run.counted, bio_control);
}

static void shake_hands(struct connection *c) {
    BIO *bio = BIO_new(run.counted);
    c->ssl = SSL_new(run.tls);
    if (bio == NULL || c->ssl == NULL) die_of_tls("no memory");
    BIO_set_data(bio, (void *)(intptr_t)c->fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->ssl, bio, bio);
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), "127.0.0.1") != 1 || SSL_connect(c->ssl) != 1)
        die_of_tls("handshake");
}

static ssize_t put(struct connection *c, const char *from, int len) {
    if (c->ssl != NULL) return SSL_write(c->ssl, from, len);
    return called(send(c->fd, from, (size_t)len, MSG_NOSIGNAL));
}

/* What has come, at most room; 0: nothing. Over TLS records are gathered until `wanted` bytes are there: asking the
 * socket for more than the object has would only earn an EAGAIN. */
static size_t get(struct connection *c, char *to, size_t room, uint64_t wanted) {
    if (c->ssl == NULL) {
        ssize_t n = called(recv(c->fd, to, room, 0));
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) die("recv");
        return (size_t)n;
    }
    size_t have = 0;
    while (have < room && have < wanted) {
        int n = SSL_read(c->ssl, to + have, (int)(room - have));
        if (n > 0) have += (size_t)n;
        else if (SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ) break;
        else die_of_tls("SSL_read");
    }
    return have;
}

/* Sends the next request of the run on this connection; 0 when there is none left. */
static int ask(struct connection *c) {
    char path[PATH_ROOM], range[64], request[PATH_ROOM + 1024];
    if (!next_part(&run.objects, &c->part, path)) return 0;
    part_range(&run.objects, &c->part, range);
    struct signature signature;
    sign_get(&run.signer, run.host, path, range, &signature);
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nhost: %s\r\n%s%s%sx-amz-content-sha256: " EMPTY_SHA256
                     "\r\nx-amz-date: %s\r\nauthorization: %s\r\n\r\n",
                     path, run.host, range[0] ? "range: " : "", range, range[0] ? "\r\n" : "", signature.date_time,
                     signature.authorization);
    if (put(c, request, n) != n) die("send");
    c->at = c->part.first;
    c->in_body = 0;
    c->carried = 0;
    return 1;
}

/* Reads the head at the start of data; returns its length, 0 when it is not complete. */
static size_t read_head(const struct connection *c, char *data, size_t len) {
    char *end = memmem(data, len, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    end[2] = 0;
    const char *length = strcasestr(data, "\ncontent-length:");
    int status = len > 12 ? atoi(data + 9) : 0;
    if ((status != 200 && status != 206) || length == NULL || strtoull(length + 16, NULL, 10) != c->part.end - c->at) {
        fprintf(stderr, "ceiling: unexpected answer: %.200s\n", data);
        exit(1);
    }
    return (size_t)(end + 4 - data);
}

static void store(struct connection *c, const char *data, size_t len) {
    if (len > c->part.end - c->at) {
        fprintf(stderr, "ceiling: more bytes than promised\n");
        exit(1);
    }
    int whole = !c->in_body && len == c->part.end - c->at; /* the first bytes are all of it */
    if (!c->in_body && !whole) XXH3_128bits_reset(c->hash);
    if (len > 0) {
        if (!whole) XXH3_128bits_update(c->hash, data, len);
        int fd = run.objects.files[c->part.object].fd;
        if (called(pwrite(fd, data, len, (off_t)c->at)) != (ssize_t)len) die("pwrite");
    }
    c->in_body = 1;
    c->at += len;
    if (c->at < c->part.end) return;
    XXH128_hash_t digest = whole ? XXH3_128bits(data, len) : XXH3_128bits_digest(c->hash);
    run.digest ^= digest.low64 ^ digest.high64;
    run.done_parts++;
    part_done(&run.objects, &c->part);
}

/* Takes what has come. Whether there may be more that epoll does not know of. */
static int take(struct connection *c) {
    size_t head = 0, len = c->in_body ? 0 : c->carried;
    memcpy(run.buffer, c->head, len);
    size_t n = get(c, run.buffer + len, RECV_BYTES - len, c->in_body ? c->part.end - c->at : 1);
    if (n == 0) return 0;
    len += n;
    if (!c->in_body) {
        head = read_head(c, run.buffer, len);
        if (head == 0) {
            if (len > HEAD_MAX) die("head too long");
            memcpy(c->head, run.buffer, len);
            c->carried = len;
            return 0;
        }
        uint64_t left = c->part.end - c->at - (len - head);
        if (c->ssl != NULL && left > 0) len += get(c, run.buffer + len, RECV_BYTES - len, left);
    }
    store(c, run.buffer + head, len - head);
    if (c->at < c->part.end) return c->ssl != NULL && len == RECV_BYTES;
    ask(c);
    return 0;
}

static int connect_to(uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = (int)called(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd < 0 || called(connect(fd, (struct sockaddr *)&at, sizeof at)) != 0) die("connect");
    called(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    return fd;
}

/* Whether there was something to ask for on it. */
static int start(struct connection *c, uint16_t port) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    c->fd = connect_to(port);
    if (run.tls != NULL) shake_hands(c);
    c->hash = XXH3_createState();
    if (c->hash == NULL) die("XXH3_createState");
    if (called(fcntl(c->fd, F_SETFL, O_NONBLOCK)) != 0) die("fcntl");
    if (called(epoll_ctl(run.epoll, EPOLL_CTL_ADD, c->fd, &e)) != 0) die("epoll_ctl");
    return ask(c);
}

int main(int argc, char **argv) {
    struct objects *o = &run.objects;
    const char *list = NULL;
    uint64_t connections = 8;
    if (argc < 6) {
        fprintf(stderr, "usage: ceiling PORT COUNT SIZE PREFIX OUT "
                        "[--connections N] [--part BYTES] [--tls CAFILE] [--list FILE]\n");
        return 2;
    }
    uint16_t port = (uint16_t)atoi(argv[1]);
    o->count = strtoull(argv[2], NULL, 10);
    o->size = strtoull(argv[3], NULL, 10);
    o->prefix = argv[4];
    o->part = 16 << 20;
    for (int i = 6; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connections") == 0) connections = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--part") == 0) o->part = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--tls") == 0) start_tls(argv[i + 1]);
        else if (strcmp(argv[i], "--list") == 0) list = argv[i + 1];
        else return fprintf(stderr, "ceiling: unknown argument %s\n", argv[i]), 2;
    }
    if (o->part == 0 || connections == 0) return fprintf(stderr, "ceiling: zero is not a size\n"), 2;
    snprintf(run.host, sizeof run.host, "127.0.0.1:%u", port);
    objects_start(o, list, argv[5]);
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.buffer = malloc(RECV_BYTES);
    struct connection *all = calloc(connections, sizeof *all);
    if (run.epoll < 0 || run.buffer == NULL || all == NULL) die("start");
    for (uint64_t i = 0; i < connections && start(&all[i], port); i++) {}
    struct epoll_event events[64];
    while (run.done_parts < o->all_parts) {
        long n = called(epoll_wait(run.epoll, events, 64, -1));
        for (long i = 0; i < n; i++)
            while (take(events[i].data.ptr)) {}
    }
    printf("{\"objects\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"syscalls\": %" PRIu64 ", \"digest\": \"%016" PRIx64
           "\", \"tls\": ",
           o->count, objects_bytes(o), o->calls, run.digest);
    if (all[0].ssl == NULL) printf("null}\n");
    else printf("\"%s %s\"}\n", SSL_get_version(all[0].ssl), SSL_get_cipher_name(all[0].ssl));
    return 0;
}
