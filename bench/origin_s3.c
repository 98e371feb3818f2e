/* What is asked and what is answered: S3's GetObject, HeadObject, HeadBucket, GetBucketLocation and ListObjectsV2.
 *
 * The rules are those of AWS's "Amazon S3 API Reference", named by page where they are applied.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <strings.h>

#include "origin.h"

#define BUCKET "bench"
#define REGION "us-east-1"

struct object {
    uint64_t number, size, first, end;
    struct span key;
    int is_part;           /* a 206 */
    int of_one_part;       /* asked for by ?partNumber=1 */
    time_t modified;
    char etag[ETAG_ROOM];  /* NUL-terminated */
};

static struct s3_error missing(const char *code, const char *message, struct span resource) {
    return (struct s3_error){.status = "404 Not Found", .code = code, .message = message, .resource = resource};
}

static struct s3_error bad(const char *code, const char *message) {
    return (struct s3_error){.status = "400 Bad Request", .code = code, .message = message};
}

static int parse_date(struct span value, time_t *out) {
    char text[40];
    struct tm tm = {0};
    if (value.len >= sizeof text) return -1;
    memcpy(text, value.ptr, value.len);
    text[value.len] = 0;
    const char *rest = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (rest == NULL || *rest != 0) return -1;
    *out = timegm(&tm);
    return 0;
}

/* "If-Match condition evaluates to true, and If-Unmodified-Since to false: 200"; "If-None-Match condition evaluates to
 * false, and If-Modified-Since to true: 304" (GetObject): the date counts only where there is no tag. */
static int precondition_failed(const struct request *r, const struct object *o) {
    time_t date;
    if (r->if_match.ptr != NULL) return !etag_listed(r->if_match, o->etag);
    return r->if_unmodified_since.ptr != NULL && parse_date(r->if_unmodified_since, &date) == 0 && o->modified > date;
}

static int not_modified(const struct request *r, const struct object *o) {
    time_t date;
    if (r->if_none_match.ptr != NULL) return etag_listed(r->if_none_match, o->etag);
    return r->if_modified_since.ptr != NULL && parse_date(r->if_modified_since, &date) == 0 && o->modified <= date;
}

static void answer_unsatisfiable(struct worker *w, struct connection *c, const struct request *r,
                                 const struct object *o, int head_only) {
    struct text extra = {0}, detail = {0};
    text_format(&extra, "Content-Range: bytes */%llu\r\nAccept-Ranges: bytes\r\n", (unsigned long long)o->size);
    text_add(&detail, LITERAL("<RangeRequested>"));
    text_xml(&detail, r->range);
    text_format(&detail, "</RangeRequested><ActualObjectSize>%llu</ActualObjectSize>", (unsigned long long)o->size);
    answer_error(w, c,
                 &(struct s3_error){.status = "416 Range Not Satisfiable",
                                    .code = o->of_one_part ? "InvalidPartNumber" : "InvalidRange",
                                    .message = "The requested range is not satisfiable",
                                    .resource = o->key,
                                    .extra = text_span(&extra),
                                    .detail = text_span(&detail)},
                 head_only);
    free(extra.ptr);
    free(detail.ptr);
}

/* A checksum goes with what it is the checksum of: the whole object, or "a part number or byte range that aligns with a
 * single part" (User Guide, "Checking object integrity", part-level checksums). Objects here are one part. */
static void add_checksum(const struct content *content, const struct request *r, const struct object *o,
                         struct text *t) {
    int asked = r->checksum_mode.len == 7 && strncasecmp(r->checksum_mode.ptr, "ENABLED", 7) == 0;
    if (!asked || content->checksum == CHECKSUM_NONE || o->first != 0 || o->end != o->size) return;
    text_format(t, "x-amz-checksum-%s: ", checksum_option(content->checksum));
    checksum_base64(content, o->number, t);
    text_add(t, LITERAL("\r\nx-amz-checksum-type: FULL_OBJECT\r\n"));
}

static void answer_found(struct worker *w, struct connection *c, const struct request *r, const struct object *o,
                         int head_only) {
    struct text extra = {0};
    struct tm tm;
    char modified[40];
    gmtime_r(&o->modified, &tm);
    strftime(modified, sizeof modified, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    text_reserve(&extra, 320);
    text_add(&extra, LITERAL("ETag: \""));
    text_add(&extra, span_of(o->etag));
    text_add(&extra, LITERAL("\"\r\nLast-Modified: "));
    text_add(&extra, span_of(modified));
    text_add(&extra, LITERAL("\r\nAccept-Ranges: bytes\r\n"));
    if (o->is_part) {
        text_add(&extra, LITERAL("Content-Range: bytes "));
        text_number(&extra, o->first);
        text_add(&extra, LITERAL("-"));
        text_number(&extra, o->end - 1);
        text_add(&extra, LITERAL("/"));
        text_number(&extra, o->size);
        text_add(&extra, LITERAL("\r\n"));
    }
    if (o->of_one_part) text_add(&extra, LITERAL("x-amz-mp-parts-count: 1\r\n"));
    int unchanged = not_modified(r, o);
    if (!unchanged) add_checksum(&w->origin->content, r, o, &extra);
    struct answer answer = {.status = unchanged    ? "304 Not Modified"
                                      : o->is_part ? "206 Partial Content"
                                                   : "200 OK",
                            .content_type = unchanged ? NULL : "binary/octet-stream",
                            .extra = text_span(&extra),
                            .length = o->end - o->first,
                            .no_length = unchanged};
    answer_head(w, c, &answer);
    free(extra.ptr);
    if (head_only || unchanged) return;
    if (body_open(&w->origin->content, o->number, o->first, o->end, &c->body) != 0) {
        body_close(&c->body);
        answer_error(w, c,
                     &(struct s3_error){.status = "500 Internal Server Error",
                                        .code = "InternalError",
                                        .message = "We encountered an internal error. Please try again.",
                                        .resource = o->key},
                     0);
    }
}

static void answer_object(struct worker *w, struct connection *c, const struct request *r, struct span key,
                          int head_only) {
    const struct content *content = &w->origin->content;
    char room[16];
    struct span part;
    int64_t number = content_find(content, key);
    if (number < 0) {
        struct s3_error e = missing("NoSuchKey", "The specified key does not exist.", key);
        answer_error(w, c, &e, head_only);
        return;
    }
    struct object o = {.number = (uint64_t)number, .key = key, .size = content_size(content, (uint64_t)number)};
    o.modified = content_modified(content, o.number);
    o.etag[content_etag(content, o.number, o.etag).len] = 0;
    if (precondition_failed(r, &o)) {
        answer_error(w, c,
                     &(struct s3_error){.status = "412 Precondition Failed",
                                        .code = "PreconditionFailed",
                                        .message = "At least one of the pre-conditions you specified did not hold",
                                        .resource = key},
                     head_only);
        return;
    }
    enum range_kind kind = r->range.ptr == NULL ? RANGE_NONE : RANGE_PART;
    o.end = o.size;
    if (query_parameter(r->query, "partNumber", room, sizeof room, &part) != 0) {
        o.of_one_part = 1; /* "Effectively performs a 'ranged' GET request for the part specified" (GetObject) */
        kind = !span_is(part, "1") ? RANGE_UNSATISFIABLE : o.size > 0 ? RANGE_PART : RANGE_NONE;
    } else if (kind == RANGE_PART) {
        kind = range_parse(r->range, o.size, &o.first, &o.end);
    }
    o.is_part = kind == RANGE_PART;
    if (kind == RANGE_UNSATISFIABLE && !not_modified(r, &o)) answer_unsatisfiable(w, c, r, &o, head_only);
    else answer_found(w, c, r, &o, head_only);
}

static void answer_location(struct worker *w, struct connection *c) {
    /* "Buckets in Region us-east-1 have a LocationConstraint of null" (GetBucketLocation). */
    answer_xml(w, c,
               LITERAL("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                       "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>"),
               0);
}

static void answer_bucket(struct worker *w, struct connection *c, const struct request *r, int head_only) {
    char room[16];
    struct span value;
    if (head_only) {
        answer_head(w, c,
                    &(struct answer){.status = "200 OK",
                                     .content_type = "application/xml",
                                     .extra = LITERAL("x-amz-bucket-region: " REGION "\r\n")});
        return;
    }
    if (query_parameter(r->query, "location", room, sizeof room, &value) != 0) {
        answer_location(w, c);
        return;
    }
    if (query_parameter(r->query, "list-type", room, sizeof room, &value) == 1 && span_is(value, "2")) {
        count(&w->counters.lists, 1);
        answer_list(w, c, r->query);
        return;
    }
    answer_error(w, c,
                 &(struct s3_error){.status = "501 Not Implemented",
                                    .code = "NotImplemented",
                                    .message = "Of buckets: ListObjectsV2, HeadBucket, GetBucketLocation",
                                    .resource = LITERAL(BUCKET)},
                 0);
}

/* Takes the bucket off the front of the path, or finds it in the host (virtual-hosted style). The raw key is left. */
static int find_bucket(const struct request *r, struct span *raw_key) {
    struct span path = {r->path.ptr + 1, r->path.len - 1};
    if (span_starts(r->host, LITERAL(BUCKET "."))) {
        *raw_key = path;
        return 1;
    }
    if (!span_starts(path, LITERAL(BUCKET))) return 0;
    path.ptr += strlen(BUCKET);
    path.len -= strlen(BUCKET);
    if (path.len > 0 && path.ptr[0] != '/') return 0;
    *raw_key = path.len == 0 ? path : (struct span){path.ptr + 1, path.len - 1};
    return 1;
}

static void route(struct worker *w, struct connection *c, const struct request *r, int head_only) {
    char room[HEAD_MAX];
    struct span raw;
    if (!find_bucket(r, &raw)) {
        struct s3_error e = missing("NoSuchBucket", "The specified bucket does not exist", r->path);
        answer_error(w, c, &e, head_only);
        return;
    }
    if (raw.len == 0) {
        answer_bucket(w, c, r, head_only);
        return;
    }
    ssize_t n = url_decode(raw, 0, room, sizeof room);
    if (n < 0 || n > KEY_MAX) {
        struct s3_error e = n < 0 ? bad("InvalidURI", "Couldn't parse the specified URI.")
                                  : bad("KeyTooLongError", "Your key is too long");
        answer_error(w, c, &e, head_only);
        return;
    }
    count(head_only ? &w->counters.heads : &w->counters.gets, 1);
    answer_object(w, c, r, (struct span){room, (size_t)n}, head_only);
}

void answer_request(struct worker *w, struct connection *c, const struct request *r) {
    struct origin *o = w->origin;
    c->due_ns = 0;
    c->paced = !span_starts(r->path, LITERAL("/-/"));
    if (!c->paced) {
        answer_control(w, c, r);
        return;
    }
    int timed = o->profile.first_byte_ns != 0 || o->profile.tail_share > 0;
    int head_only = span_is(r->method, "HEAD"), in_tail = 0;
    w->number = atomic_fetch_add_explicit(&o->answers, 1, memory_order_relaxed);
    uint64_t now = timed || atomic_load_explicit(&o->limiter.interval_ns, memory_order_relaxed) != 0 ? now_ns() : 0;
    if (timed) c->due_ns = now + profile_delay(&o->profile, w->number, &in_tail);
    count(&w->counters.requests, 1);
    if (in_tail) count(&w->counters.tail, 1);
    if (!head_only && !span_is(r->method, "GET")) {
        c->closing = 1; /* it may carry a body, which nothing here reads */
        answer_error(w, c,
                     &(struct s3_error){.status = "405 Method Not Allowed",
                                        .code = "MethodNotAllowed",
                                        .message = "The specified method is not allowed against this resource.",
                                        .resource = r->path,
                                        .extra = LITERAL("Allow: GET, HEAD\r\n")},
                     0);
    } else if (!limiter_take(&o->limiter, now)) {
        count(&w->counters.slow_down, 1);
        answer_error(w, c,
                     &(struct s3_error){.status = "503 Slow Down",
                                        .code = "SlowDown",
                                        .message = "Please reduce your request rate.",
                                        .resource = r->path},
                     head_only);
    } else {
        route(w, c, r, head_only);
    }
}
