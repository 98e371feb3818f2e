/* What HTTP/1.1 says of a request: its head (RFC 9112), ranges, conditions and dates (RFC 9110), percent-encoding (RFC
 * 3986). */
#define _GNU_SOURCE
#include <strings.h>

#include "origin.h"

static int is_token(struct span s) {
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] == 0x7f || strchr("\"(),/:;<=>?@[\\]{}", s.ptr[i]) != NULL) return 0;
    return s.len > 0;
}

static struct span trim(struct span s) {
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) s.ptr++, s.len--;
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) s.len--;
    return s;
}

static int same_name(struct span s, const char *name) {
    return s.len == strlen(name) && strncasecmp(s.ptr, name, s.len) == 0;
}

/* What comes before the first `mark`, which is skipped; all, when there is none. */
static struct span cut(struct span *rest, char mark) {
    const char *at = rest->len == 0 ? NULL : memchr(rest->ptr, mark, rest->len);
    struct span before = {rest->ptr, at == NULL ? rest->len : (size_t)(at - rest->ptr)};
    size_t used = before.len + (at != NULL);
    rest->ptr += used;
    rest->len -= used;
    return before;
}

static int parse_request_line(struct span line, struct request *out) {
    out->method = cut(&line, ' ');
    struct span target = cut(&line, ' ');
    if (!is_token(out->method) || target.len == 0 || line.len != 8 || memcmp(line.ptr, "HTTP/1.", 7) != 0) return -1;
    for (size_t i = 0; i < target.len; i++)
        if (target.ptr[i] <= ' ' || target.ptr[i] == 0x7f) return -1;
    out->keep_alive = line.ptr[7] != '0';
    if (target.ptr[0] != '/') { /* absolute-form, RFC 9112 3.2.2 */
        struct span scheme = cut(&target, ':');
        if (!same_name(scheme, "http") && !same_name(scheme, "https")) return -1;
        if (!span_starts(target, LITERAL("//"))) return -1;
        target.ptr += 2;
        target.len -= 2;
        const char *path = memchr(target.ptr, '/', target.len);
        if (path == NULL) return -1;
        target.len -= (size_t)(path - target.ptr);
        target.ptr = path;
    }
    out->path = cut(&target, '?');
    out->query = target;
    return 0;
}

static void keep_header(struct span name, struct span value, struct request *out) {
    const struct {
        const char *name;
        struct span *to;
    } wanted[] = {
        {"host", &out->host},
        {"range", &out->range},
        {"if-match", &out->if_match},
        {"if-none-match", &out->if_none_match},
        {"if-modified-since", &out->if_modified_since},
        {"if-unmodified-since", &out->if_unmodified_since},
        {"x-amz-checksum-mode", &out->checksum_mode},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (wanted[i].to->ptr == NULL && same_name(name, wanted[i].name)) *wanted[i].to = value;
    if (same_name(name, "content-length") && !span_is(value, "0")) out->has_body = 1;
    if (same_name(name, "transfer-encoding")) out->has_body = 1;
    if (same_name(name, "connection"))
        for (struct span rest = value; rest.len > 0;)
            if (same_name(trim(cut(&rest, ',')), "close")) out->keep_alive = 0;
}

int request_parse(char *head, size_t len, struct request *out) {
    struct span rest = {head, len - 2}; /* without the empty line */
    *out = (struct request){.keep_alive = 1};
    for (int first = 1; rest.len > 0; first = 0) {
        struct span line = cut(&rest, '\n');
        if (line.len == 0 || line.ptr[line.len - 1] != '\r') return -1;
        line.len--;
        if (memchr(line.ptr, 0, line.len) != NULL || memchr(line.ptr, '\r', line.len) != NULL) return -1;
        if (first) {
            if (parse_request_line(line, out) != 0) return -1;
            continue;
        }
        struct span name = cut(&line, ':');
        if (!is_token(name)) return -1; /* so is a folded line, whose name would begin with a space */
        keep_header(name, trim(line), out);
    }
    return out->method.len > 0 ? 0 : -1;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

ssize_t url_decode(struct span from, int is_query, char *to, size_t room) {
    size_t n = 0;
    for (size_t i = 0; i < from.len; i++) {
        if (n == room) return -1;
        if (from.ptr[i] == '%') {
            if (from.len - i < 3 || hex(from.ptr[i + 1]) < 0 || hex(from.ptr[i + 2]) < 0) return -1;
            to[n++] = (char)(hex(from.ptr[i + 1]) * 16 + hex(from.ptr[i + 2]));
            i += 2;
        } else {
            to[n++] = is_query && from.ptr[i] == '+' ? ' ' : from.ptr[i];
        }
    }
    return (ssize_t)n;
}

int query_parameter(struct span query, const char *name, char *to, size_t room, struct span *value) {
    *value = (struct span){to, 0};
    while (query.len > 0) {
        struct span pair = cut(&query, '&');
        struct span key = cut(&pair, '=');
        if (!span_is(key, name)) continue;
        ssize_t n = url_decode(pair, 1, to, room);
        if (n < 0) return -1;
        value->len = (size_t)n;
        return 1;
    }
    return 0;
}

/* Digits to a number that stops at UINT64_MAX. 0, or -1: no digits, or something else among them. */
static int parse_number(struct span s, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return -1;
        uint64_t digit = (uint64_t)(s.ptr[i] - '0');
        *out = *out > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *out * 10 + digit;
    }
    return s.len > 0 ? 0 : -1;
}

/* One range in bytes counts. RFC 9110 14.2 lets a server ignore every other Range, and S3 does: "Amazon S3 doesn't
 * support retrieving multiple ranges of data per GET request" (API reference, GetObject). */
enum range_kind range_parse(struct span value, uint64_t size, uint64_t *first, uint64_t *end) {
    *first = 0;
    *end = size;
    if (value.len < 6 || strncasecmp(value.ptr, "bytes=", 6) != 0) return RANGE_NONE;
    struct span last = {value.ptr + 6, value.len - 6};
    if (last.len == 0 || memchr(last.ptr, '-', last.len) == NULL) return RANGE_NONE;
    struct span from = cut(&last, '-');
    uint64_t a, b;
    if (from.len == 0) {
        if (parse_number(last, &b) != 0) return RANGE_NONE;
        if (b == 0) return RANGE_UNSATISFIABLE;
        if (size == 0) return RANGE_NONE; /* satisfiable (14.1.2), but a Content-Range cannot say so */
        *first = b < size ? size - b : 0;
        return RANGE_PART;
    }
    if (parse_number(from, &a) != 0) return RANGE_NONE;
    if (last.len > 0) {
        if (parse_number(last, &b) != 0 || b < a) return RANGE_NONE;
        if (b < size) *end = b + 1;
    }
    if (a >= size) return RANGE_UNSATISFIABLE;
    *first = a;
    return RANGE_PART;
}

int etag_listed(struct span list, const char *etag) {
    while (list.len > 0) {
        struct span one = trim(cut(&list, ','));
        if (one.len >= 2 && one.ptr[0] == '"' && one.ptr[one.len - 1] == '"') one.ptr++, one.len -= 2;
        if (span_is(one, "*") || span_is(one, etag)) return 1;
    }
    return 0;
}

const char *http_date(struct clock_text *clock) {
    time_t now = time(NULL);
    if (now != clock->second) {
        struct tm tm;
        clock->second = now;
        gmtime_r(&now, &tm);
        strftime(clock->text, sizeof clock->text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return clock->text;
}
