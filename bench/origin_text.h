/* Spans of bytes, and text that grows. Listings are written with these and not with printf: a million keys show it. */
#ifndef BENCH_ORIGIN_TEXT_H
#define BENCH_ORIGIN_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *ptr;
    size_t len;
};

struct text {
    char *ptr;
    size_t len, room;
};

#define LITERAL(s) ((struct span){s, sizeof(s) - 1})

static inline struct span span_of(const char *s) { return (struct span){s, strlen(s)}; }
static inline struct span text_span(const struct text *t) { return (struct span){t->ptr, t->len}; }

static inline int span_is(struct span a, const char *s) {
    return a.len == strlen(s) && (a.len == 0 || memcmp(a.ptr, s, a.len) == 0);
}

static inline int span_starts(struct span a, struct span start) {
    return a.len >= start.len && (start.len == 0 || memcmp(a.ptr, start.ptr, start.len) == 0);
}

/* Byte order, the shorter first. */
static inline int span_order(struct span a, struct span b) {
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n == 0 ? 0 : memcmp(a.ptr, b.ptr, n);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

_Noreturn void die(const char *what); /* with errno's text */

void text_reserve(struct text *t, size_t more);
void text_add(struct text *t, struct span s);
void text_number(struct text *t, uint64_t n);
void text_hex(struct text *t, uint64_t n); /* 16 digits */
void text_base64(struct text *t, const unsigned char *bytes, size_t len);
__attribute__((format(printf, 2, 3))) void text_format(struct text *t, const char *format, ...);
/* Escaped as "Naming Amazon S3 objects, XML related object key constraints" has it. */
void text_xml(struct text *t, struct span s);
/* As encoding-type=url: letters, digits and -_.*'/' stay, a space becomes `+`, all else %XX. */
void text_url(struct text *t, struct span s);

#endif
