/* ListObjectsV2, by the rules of its page in the "Amazon S3 API Reference". */
#define _GNU_SOURCE
#include <stdlib.h>

#include "origin.h"

#define PAGE_MAX 1000

struct listing {
    const struct content *content;
    struct span prefix, delimiter, start_after, token; /* ptr NULL: not given */
    int url_encoded;
    uint64_t max_keys, first, listed, next; /* next: the object a further page starts at; the count: none */
    struct text contents, prefixes;
    char rooms[4][KEY_MAX];
};

static void add_name(const struct listing *l, struct text *t, struct span name) {
    if (l->url_encoded) text_url(t, name);
    else text_xml(t, name);
}

static void add_element(const struct listing *l, struct text *t, const char *tag, struct span name) {
    text_format(t, "<%s>", tag);
    add_name(l, t, name);
    text_format(t, "</%s>", tag);
}

/* A token is a number with a check, so that one which was not given out here is refused. */
static uint64_t check_of(uint64_t first) {
    return (first ^ UINT64_C(0x746F6B656E)) * UINT64_C(0x9E3779B97F4A7C15) >> 32;
}

static void add_token(struct text *t, uint64_t first) {
    text_format(t, "%016llx%08llx", (unsigned long long)first, (unsigned long long)check_of(first));
}

static int read_token(const struct listing *l, uint64_t *first) {
    char text[25], again[25], *rest;
    if (l->token.len != 24) return -1;
    memcpy(text, l->token.ptr, 24);
    text[16] = 0;
    *first = strtoull(text, &rest, 16);
    struct text t = {again, 0, sizeof again};
    add_token(&t, *first);
    return *first < l->content->count && memcmp(again, l->token.ptr, 24) == 0 ? 0 : -1;
}

static int read_max_keys(struct span value, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9') return -1;
        *out = *out * 10 + (uint64_t)(value.ptr[i] - '0');
        if (*out > INT32_MAX) return -1;
    }
    if (*out > PAGE_MAX) *out = PAGE_MAX;
    return value.len > 0 ? 0 : -1;
}

/* What is wrong with the parameters, or NULL. */
static const char *read_parameters(struct listing *l, struct span query) {
    struct {
        const char *name;
        struct span *to;
    } names[] = {{"prefix", &l->prefix},
                 {"delimiter", &l->delimiter},
                 {"start-after", &l->start_after},
                 {"continuation-token", &l->token}};
    char room[16];
    struct span value;
    for (int i = 0; i < 4; i++) {
        int given = query_parameter(query, names[i].name, l->rooms[i], KEY_MAX, names[i].to);
        if (given < 0) return "A parameter is not percent-encoded, or longer than a key may be";
        if (!given) *names[i].to = (struct span){0};
    }
    l->max_keys = PAGE_MAX;
    if (query_parameter(query, "max-keys", room, sizeof room, &value) != 0 && read_max_keys(value, &l->max_keys) != 0)
        return "Provided max-keys not an integer or within integer range";
    int given = query_parameter(query, "encoding-type", room, sizeof room, &value);
    if (given != 0 && !span_is(value, "url")) return "Invalid Encoding Method specified in Request";
    l->url_encoded = given != 0;
    l->first = content_bound(l->content, l->prefix, AT_LEAST);
    if (l->token.ptr != NULL) {
        if (read_token(l, &l->first) != 0) return "The continuation token provided is incorrect";
    } else if (l->start_after.len > 0) {
        uint64_t after = content_bound(l->content, l->start_after, ABOVE);
        if (after > l->first) l->first = after;
    }
    return NULL;
}

static void add_object(struct listing *l, uint64_t i, struct span key) {
    struct text *t = &l->contents;
    char etag[ETAG_ROOM], modified[40];
    struct tm tm;
    time_t when = content_modified(l->content, i);
    text_add(t, LITERAL("<Contents><Key>"));
    add_name(l, t, key);
    text_add(t, LITERAL("</Key><LastModified>"));
    if (l->content->kind == CONTENT_FOLDER) {
        gmtime_r(&when, &tm);
        text_add(t, (struct span){modified, strftime(modified, sizeof modified, "%Y-%m-%dT%H:%M:%S.000Z", &tm)});
    } else {
        text_add(t, LITERAL("2024-01-01T00:00:00.000Z"));
    }
    text_add(t, LITERAL("</LastModified><ETag>&quot;"));
    text_add(t, content_etag(l->content, i, etag));
    text_add(t, LITERAL("&quot;</ETag>"));
    if (l->content->checksum != CHECKSUM_NONE) {
        add_element(l, t, "ChecksumAlgorithm", span_of(checksum_name(l->content->checksum)));
        text_add(t, LITERAL("<ChecksumType>FULL_OBJECT</ChecksumType>"));
    }
    text_add(t, LITERAL("<Size>"));
    text_number(t, content_size(l->content, i));
    text_add(t, LITERAL("</Size><StorageClass>STANDARD</StorageClass></Contents>"));
}

/* The common prefix a key is rolled up into: up to the first delimiter after the prefix. len 0: none. */
static struct span rolled_up(const struct listing *l, struct span key) {
    if (l->delimiter.len == 0) return (struct span){0};
    const char *at = memmem(key.ptr + l->prefix.len, key.len - l->prefix.len, l->delimiter.ptr, l->delimiter.len);
    if (at == NULL) return (struct span){0};
    return (struct span){key.ptr, (size_t)(at - key.ptr) + l->delimiter.len};
}

/* Lists one page from l->first. */
static void list_page(struct listing *l) {
    char room[KEY_MAX];
    uint64_t i = l->first;
    l->next = l->content->count;
    while (i < l->content->count) {
        struct span key = content_key(l->content, i, room);
        if (!span_starts(key, l->prefix)) return;
        struct span common = rolled_up(l, key);
        /* "CommonPrefixes is filtered out from results if it is not lexicographically greater than the StartAfter
         * value." */
        int filtered = common.len > 0 && l->token.ptr == NULL && span_order(common, l->start_after) <= 0;
        if (l->listed == l->max_keys && !filtered) {
            if (l->max_keys > 0) l->next = i; /* with max-keys=0 the answer is empty and not truncated */
            return;
        }
        if (common.len == 0) {
            add_object(l, i++, key);
        } else {
            if (!filtered) {
                text_add(&l->prefixes, LITERAL("<CommonPrefixes>"));
                add_element(l, &l->prefixes, "Prefix", common);
                text_add(&l->prefixes, LITERAL("</CommonPrefixes>"));
            }
            i = content_bound(l->content, common, PAST_PREFIX);
        }
        l->listed += !filtered;
    }
}

static void write_page(const struct listing *l, struct text *t) {
    t->len = 0;
    text_add(t, LITERAL("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bench</Name>"));
    add_element(l, t, "Prefix", l->prefix);
    if (l->start_after.ptr != NULL) add_element(l, t, "StartAfter", l->start_after);
    if (l->token.ptr != NULL) text_format(t, "<ContinuationToken>%.24s</ContinuationToken>", l->token.ptr);
    if (l->next < l->content->count) {
        text_add(t, LITERAL("<NextContinuationToken>"));
        add_token(t, l->next);
        text_add(t, LITERAL("</NextContinuationToken>"));
    }
    text_format(t, "<KeyCount>%llu</KeyCount><MaxKeys>%llu</MaxKeys>", (unsigned long long)l->listed,
                (unsigned long long)l->max_keys);
    if (l->delimiter.len > 0) add_element(l, t, "Delimiter", l->delimiter);
    if (l->url_encoded) text_add(t, LITERAL("<EncodingType>url</EncodingType>"));
    text_format(t, "<IsTruncated>%s</IsTruncated>", l->next < l->content->count ? "true" : "false");
    text_add(t, text_span(&l->contents));
    text_add(t, text_span(&l->prefixes));
    text_add(t, LITERAL("</ListBucketResult>"));
}

void answer_list(struct worker *w, struct connection *c, struct span query) {
    struct listing l = {.content = &w->origin->content};
    const char *wrong = read_parameters(&l, query);
    if (wrong != NULL) {
        answer_error(w, c,
                     &(struct s3_error){.status = "400 Bad Request", .code = "InvalidArgument", .message = wrong}, 0);
        return;
    }
    list_page(&l);
    write_page(&l, &w->listing);
    free(l.contents.ptr);
    free(l.prefixes.ptr);
    answer_xml(w, c, text_span(&w->listing), 0);
}
