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
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUCKET "/bench"
#define SEED UINT64_C(0x73746167657221)
#define GOLDEN UINT64_C(0x9E3779B97F4A7C15)
#define REQUEST_MAX 8192
#define KEY_MAX 512
#define TURN_BYTES (1 << 20) /* sent on one connection before the others get their turn */
#define EPOLL_BATCH 256

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
    off_t body_at, body_end;       /* of the data file */
    char in[REQUEST_MAX + 1];
};

struct worker {
    const struct origin *origin;
    int listener, epoll;
    time_t date_of;
    char date[40];
};

struct text {
    char *ptr;
    size_t len, room;
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t splitmix64(uint64_t k) {
    uint64_t z = SEED + (k + 1) * GOLDEN;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static int open_data(const char *path, uint64_t bytes) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) die(path);
    enum { STEP = 1 << 20 };
    uint64_t at = (uint64_t)st.st_size / STEP * STEP;
    uint64_t *words = malloc(STEP);
    if (words == NULL) die("malloc");
    for (; at < bytes; at += STEP) {
        for (uint64_t k = 0; k < STEP / 8; k++) words[k] = splitmix64(at / 8 + k);
        if (pwrite(fd, words, STEP, (off_t)at) != STEP) die("write of the data file");
    }
    free(words);
    return fd;
}

static int object_key(const struct origin *o, uint64_t i, char out[KEY_MAX]) {
    return snprintf(out, KEY_MAX, "%s%04" PRIu64 "/%08" PRIu64, o->prefix, i / 1000, i);
}

static int64_t object_index(const struct origin *o, const char *key) {
    size_t prefix_len = strlen(o->prefix);
    char again[KEY_MAX];
    if (strncmp(key, o->prefix, prefix_len) != 0) return -1;
    const char *slash = strrchr(key + prefix_len, '/');
    if (slash == NULL) return -1;
    uint64_t i = strtoull(slash + 1, NULL, 10);
    object_key(o, i, again);
    return i < o->count && strcmp(again, key) == 0 ? (int64_t)i : -1;
}

static void object_etag(uint64_t i, char out[48]) {
    snprintf(out, 48, "%016" PRIx64 "%016" PRIx64 "-1", splitmix64(i ^ GOLDEN), splitmix64(~i));
}

/* The first object whose key is not below `bound` (strictly above it when `after`). */
static uint64_t lower_bound(const struct origin *o, const char *bound, int after) {
    uint64_t low = 0, high = o->count;
    char key[KEY_MAX];
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        object_key(o, middle, key);
        int order = strcmp(key, bound);
        if (order < 0 || (after && order == 0)) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void append(struct text *t, const char *format, ...) {
    va_list args;
    for (;;) {
        va_start(args, format);
        int n = vsnprintf(t->ptr == NULL ? NULL : t->ptr + t->len, t->room - t->len, format, args);
        va_end(args);
        if (t->len + (size_t)n < t->room) {
            t->len += (size_t)n;
            return;
        }
        t->room = (t->len + (size_t)n + 1) * 2;
        t->ptr = realloc(t->ptr, t->room);
        if (t->ptr == NULL) die("realloc");
    }
}

static const char *http_date(struct worker *w) {
    time_t now = time(NULL);
    if (now != w->date_of) {
        struct tm tm;
        w->date_of = now;
        gmtime_r(&now, &tm);
        strftime(w->date, sizeof w->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return w->date;
}

static void start_answer(struct worker *w, struct connection *c, const char *status, const char *extra,
                         const char *content_type, uint64_t length) {
    struct text t = {c->out, 0, c->out_room};
    append(&t,
           "HTTP/1.1 %s\r\nDate: %s\r\nServer: origin\r\nx-amz-request-id: 0123456789ABCDEF\r\n"
           "Content-Type: %s\r\n%sContent-Length: %" PRIu64 "\r\n\r\n",
           status, http_date(w), content_type, extra, length);
    c->out = t.ptr;
    c->out_room = t.room;
    c->out_len = t.len;
    c->out_sent = 0;
    c->body_at = c->body_end = 0;
}

static void answer_text(struct worker *w, struct connection *c, const char *status, const char *body, size_t len,
                        int head_only) {
    start_answer(w, c, status, "", "application/xml", len);
    if (head_only) return;
    struct text t = {c->out, c->out_len, c->out_room};
    append(&t, "%s", body);
    c->out = t.ptr;
    c->out_room = t.room;
    c->out_len = t.len;
}

static void answer_error(struct worker *w, struct connection *c, const char *status, const char *code, int head_only) {
    char body[256];
    int n = snprintf(body, sizeof body,
                     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>",
                     code, status);
    answer_text(w, c, status, body, (size_t)n, head_only);
}

/* The value of a request header (name in the form "\nname:"), trimmed, or NULL. */
static const char *header(const char *request, const char *name, char out[KEY_MAX]) {
    const char *at = strcasestr(request, name);
    if (at == NULL) return NULL;
    at += strlen(name);
    at += strspn(at, " \t");
    size_t n = strcspn(at, "\r\n");
    if (n >= KEY_MAX) n = KEY_MAX - 1;
    memcpy(out, at, n);
    out[n] = 0;
    return out;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void percent_decode(const char *from, size_t len, char out[KEY_MAX]) {
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < KEY_MAX; i++) {
        if (from[i] == '%' && i + 2 < len && hex(from[i + 1]) >= 0 && hex(from[i + 2]) >= 0) {
            out[n++] = (char)(hex(from[i + 1]) * 16 + hex(from[i + 2]));
            i += 2;
        } else {
            out[n++] = from[i] == '+' ? ' ' : from[i];
        }
    }
    out[n] = 0;
}

/* The decoded value of a query parameter; "" when absent. Returns whether it was there. */
static int parameter(const char *query, const char *name, char out[KEY_MAX]) {
    size_t name_len = strlen(name);
    out[0] = 0;
    for (const char *at = query; *at != 0;) {
        size_t n = strcspn(at, "&");
        if (n >= name_len && strncmp(at, name, name_len) == 0 && (n == name_len || at[name_len] == '=')) {
            if (n > name_len) percent_decode(at + name_len + 1, n - name_len - 1, out);
            return 1;
        }
        at += n + (at[n] == '&');
    }
    return 0;
}

static void answer_list(struct worker *w, struct connection *c, const char *query) {
    const struct origin *o = w->origin;
    char prefix[KEY_MAX], delimiter[KEY_MAX], after[KEY_MAX], token[KEY_MAX], value[KEY_MAX], key[KEY_MAX], etag[48];
    parameter(query, "prefix", prefix);
    parameter(query, "delimiter", delimiter);
    uint64_t limit = parameter(query, "max-keys", value) ? strtoull(value, NULL, 10) : 1000;
    if (limit > 1000) limit = 1000;
    uint64_t i = lower_bound(o, prefix, 0);
    if (parameter(query, "start-after", after)) {
        uint64_t bound = lower_bound(o, after, 1);
        if (bound > i) i = bound;
    }
    if (parameter(query, "continuation-token", token)) i = strtoull(token, NULL, 10);

    struct text t = {0};
    append(&t,
           "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
           "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bench</Name><Prefix>%s</Prefix>"
           "<MaxKeys>%" PRIu64 "</MaxKeys>%s",
           prefix, limit, parameter(query, "encoding-type", value) ? "<EncodingType>url</EncodingType>" : "");
    size_t prefix_len = strlen(prefix);
    uint64_t listed = 0;
    for (; i < o->count && listed < limit; listed++) {
        object_key(o, i, key);
        if (strncmp(key, prefix, prefix_len) != 0) break;
        char *slash = delimiter[0] == '/' ? strchr(key + prefix_len, '/') : NULL;
        if (slash != NULL) {
            slash[1] = 0;
            append(&t, "<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>", key);
            slash[0] = '/' + 1; /* the smallest text above everything that starts with this prefix */
            i = lower_bound(o, key, 0);
        } else {
            object_etag(i, etag);
            append(&t,
                   "<Contents><Key>%s</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
                   "<ETag>&quot;%s&quot;</ETag><Size>%" PRIu64 "</Size><StorageClass>STANDARD</StorageClass></Contents>",
                   key, etag, o->size);
            i++;
        }
    }
    int more = 0;
    if (i < o->count) {
        object_key(o, i, key);
        more = strncmp(key, prefix, prefix_len) == 0;
    }
    append(&t, "<KeyCount>%" PRIu64 "</KeyCount><IsTruncated>%s</IsTruncated>", listed, more ? "true" : "false");
    if (more) append(&t, "<NextContinuationToken>%" PRIu64 "</NextContinuationToken>", i);
    append(&t, "</ListBucketResult>");
    answer_text(w, c, "200 OK", t.ptr, t.len, 0);
    free(t.ptr);
}

static void answer_object(struct worker *w, struct connection *c, uint64_t i, int head_only) {
    const struct origin *o = w->origin;
    char etag[48], value[KEY_MAX], extra[320];
    object_etag(i, etag);
    if (header(c->in, "\nif-match:", value) != NULL && strstr(value, etag) == NULL) {
        answer_error(w, c, "412 Precondition Failed", "PreconditionFailed", head_only);
        return;
    }
    uint64_t first = 0, end = o->size;
    int n = snprintf(extra, sizeof extra,
                     "ETag: \"%s\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n", etag);
    const char *range = header(c->in, "\nrange:", value);
    if (range != NULL && strncmp(range, "bytes=", 6) == 0) {
        char *rest;
        if (range[6] == '-') {
            uint64_t tail = strtoull(range + 7, NULL, 10);
            first = tail < o->size ? o->size - tail : 0;
        } else {
            first = strtoull(range + 6, &rest, 10);
            if (rest[0] == '-' && rest[1] != 0) end = strtoull(rest + 1, NULL, 10) + 1;
            if (end > o->size) end = o->size;
        }
        if (first >= end) {
            answer_error(w, c, "416 Range Not Satisfiable", "InvalidRange", head_only);
            return;
        }
        snprintf(extra + n, sizeof extra - (size_t)n, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
                 first, end - 1, o->size);
    }
    start_answer(w, c, range != NULL ? "206 Partial Content" : "200 OK", extra, "application/octet-stream",
                 end - first);
    if (!head_only) {
        c->body_at = (off_t)(i * o->size + first);
        c->body_end = (off_t)(i * o->size + end);
    }
}

/* Answers the request at the start of c->in, whose head is NUL-terminated. */
static void answer(struct worker *w, struct connection *c) {
    char method[8], target[REQUEST_MAX], key[KEY_MAX];
    if (sscanf(c->in, "%7s %8191s", method, target) != 2) {
        answer_error(w, c, "400 Bad Request", "BadRequest", 0);
        c->closing = 1;
        return;
    }
    int head_only = strcmp(method, "HEAD") == 0;
    if (!head_only && strcmp(method, "GET") != 0) {
        answer_error(w, c, "501 Not Implemented", "NotImplemented", 0);
        c->closing = 1; /* it may carry a body, which nothing here reads */
        return;
    }
    char *query = strchr(target, '?');
    if (query != NULL) *query++ = 0;
    else query = target + strlen(target);
    size_t bucket_len = strlen(BUCKET);
    if (strncmp(target, BUCKET, bucket_len) != 0 || (target[bucket_len] != 0 && target[bucket_len] != '/')) {
        answer_error(w, c, "404 Not Found", "NoSuchBucket", head_only);
        return;
    }
    const char *path = target + bucket_len + (target[bucket_len] == '/');
    if (*path == 0) {
        if (head_only) answer_text(w, c, "200 OK", "", 0, 1);
        else if (parameter(query, "list-type", key)) answer_list(w, c, query);
        else answer_error(w, c, "501 Not Implemented", "NotImplemented", 0);
        return;
    }
    percent_decode(path, strlen(path), key);
    int64_t i = object_index(w->origin, key);
    if (i < 0) answer_error(w, c, "404 Not Found", "NoSuchKey", head_only);
    else answer_object(w, c, (uint64_t)i, head_only);
}

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
        answer(w, c);
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
    if (data_path == NULL || threads < 1 || strlen(o.prefix) > KEY_MAX / 2) return fprintf(stderr, "origin: bad arguments\n"), 2;

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
