/* The S3 side of the origin: data by formula, names, listings, answers. See origin.c. */
#define _GNU_SOURCE
#include "origin.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUCKET "/bench"
#define SEED UINT64_C(0x73746167657221)
#define GOLDEN UINT64_C(0x9E3779B97F4A7C15)

struct text {
    char *ptr;
    size_t len, room;
};

_Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t splitmix64(uint64_t k) {
    uint64_t z = SEED + (k + 1) * GOLDEN;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

int open_data(const char *path, uint64_t bytes) {
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

static const char *http_date(struct clock *clock) {
    time_t now = time(NULL);
    if (now != clock->second) {
        struct tm tm;
        clock->second = now;
        gmtime_r(&now, &tm);
        strftime(clock->text, sizeof clock->text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return clock->text;
}

static void start_answer(struct clock *clock, struct connection *c, const char *status, const char *extra,
                         const char *content_type, uint64_t length) {
    struct text t = {c->out, 0, c->out_room};
    append(&t,
           "HTTP/1.1 %s\r\nDate: %s\r\nServer: origin\r\nx-amz-request-id: 0123456789ABCDEF\r\n"
           "Content-Type: %s\r\n%sContent-Length: %" PRIu64 "\r\n\r\n",
           status, http_date(clock), content_type, extra, length);
    c->out = t.ptr;
    c->out_room = t.room;
    c->out_len = t.len;
    c->out_sent = 0;
    c->body_at = c->body_end = 0;
}

static void answer_text(struct clock *clock, struct connection *c, const char *status, const char *body, size_t len,
                        int head_only) {
    start_answer(clock, c, status, "", "application/xml", len);
    if (head_only) return;
    struct text t = {c->out, c->out_len, c->out_room};
    append(&t, "%s", body);
    c->out = t.ptr;
    c->out_room = t.room;
    c->out_len = t.len;
}

static void answer_error(struct clock *clock, struct connection *c, const char *status, const char *code, int head_only) {
    char body[256];
    int n = snprintf(body, sizeof body,
                     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>",
                     code, status);
    answer_text(clock, c, status, body, (size_t)n, head_only);
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

static void answer_list(const struct origin *o, struct clock *clock, struct connection *c, const char *query) {
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
    answer_text(clock, c, "200 OK", t.ptr, t.len, 0);
    free(t.ptr);
}

static void answer_object(const struct origin *o, struct clock *clock, struct connection *c, uint64_t i, int head_only) {
    char etag[48], value[KEY_MAX], extra[320];
    object_etag(i, etag);
    if (header(c->in, "\nif-match:", value) != NULL && strstr(value, etag) == NULL) {
        answer_error(clock, c, "412 Precondition Failed", "PreconditionFailed", head_only);
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
            answer_error(clock, c, "416 Range Not Satisfiable", "InvalidRange", head_only);
            return;
        }
        snprintf(extra + n, sizeof extra - (size_t)n, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
                 first, end - 1, o->size);
    }
    start_answer(clock, c, range != NULL ? "206 Partial Content" : "200 OK", extra, "application/octet-stream",
                 end - first);
    if (!head_only) {
        c->body_at = (off_t)(i * o->size + first);
        c->body_end = (off_t)(i * o->size + end);
    }
}

void answer(const struct origin *o, struct clock *clock, struct connection *c) {
    char method[8], target[REQUEST_MAX], key[KEY_MAX];
    if (sscanf(c->in, "%7s %8191s", method, target) != 2) {
        answer_error(clock, c, "400 Bad Request", "BadRequest", 0);
        c->closing = 1;
        return;
    }
    int head_only = strcmp(method, "HEAD") == 0;
    if (!head_only && strcmp(method, "GET") != 0) {
        answer_error(clock, c, "501 Not Implemented", "NotImplemented", 0);
        c->closing = 1; /* it may carry a body, which nothing here reads */
        return;
    }
    char *query = strchr(target, '?');
    if (query != NULL) *query++ = 0;
    else query = target + strlen(target);
    size_t bucket_len = strlen(BUCKET);
    if (strncmp(target, BUCKET, bucket_len) != 0 || (target[bucket_len] != 0 && target[bucket_len] != '/')) {
        answer_error(clock, c, "404 Not Found", "NoSuchBucket", head_only);
        return;
    }
    const char *path = target + bucket_len + (target[bucket_len] == '/');
    if (*path == 0) {
        if (head_only) answer_text(clock, c, "200 OK", "", 0, 1);
        else if (parameter(query, "list-type", key)) answer_list(o, clock, c, query);
        else answer_error(clock, c, "501 Not Implemented", "NotImplemented", 0);
        return;
    }
    percent_decode(path, strlen(path), key);
    int64_t i = object_index(o, key);
    if (i < 0) answer_error(clock, c, "404 Not Found", "NoSuchKey", head_only);
    else answer_object(o, clock, c, (uint64_t)i, head_only);
}
