/* See origin_text.h. */
#include "origin_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char DIGITS[] = "0123456789abcdef";

_Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}

void text_reserve(struct text *t, size_t more) {
    if (t->room - t->len >= more) return;
    t->room = (t->len + more) * 2;
    t->ptr = realloc(t->ptr, t->room);
    if (t->ptr == NULL) die("realloc");
}

void text_add(struct text *t, struct span s) {
    if (s.len == 0) return;
    text_reserve(t, s.len);
    memcpy(t->ptr + t->len, s.ptr, s.len);
    t->len += s.len;
}

void text_number(struct text *t, uint64_t n) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    text_add(t, (struct span){digits + at, sizeof digits - at});
}

void text_hex(struct text *t, uint64_t n) {
    char digits[16];
    for (int i = 15; i >= 0; i--, n >>= 4) digits[i] = DIGITS[n & 15];
    text_add(t, (struct span){digits, sizeof digits});
}

void text_base64(struct text *t, const unsigned char *bytes, size_t len) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t three = 0;
        for (size_t k = 0; k < 3; k++) three = three << 8 | (k < n ? bytes[i + k] : 0);
        char four[4];
        for (size_t k = 0; k < 4; k++) four[k] = k <= n ? alphabet[three >> (18 - 6 * k) & 63] : '=';
        text_add(t, (struct span){four, sizeof four});
    }
}

void text_format(struct text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) die("vsnprintf");
    text_reserve(t, (size_t)n + 1);
    vsnprintf(t->ptr + t->len, (size_t)n + 1, format, again);
    va_end(again);
    t->len += (size_t)n;
}

void text_xml(struct text *t, struct span s) {
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        switch (c) {
        case '&': text_add(t, LITERAL("&amp;")); break;
        case '<': text_add(t, LITERAL("&lt;")); break;
        case '>': text_add(t, LITERAL("&gt;")); break;
        case '"': text_add(t, LITERAL("&quot;")); break;
        case '\'': text_add(t, LITERAL("&apos;")); break;
        default:
            if (c < 0x20) text_format(t, "&#x%x;", c);
            else text_add(t, (struct span){s.ptr + i, 1});
        }
    }
}

void text_url(struct text *t, struct span s) {
    text_reserve(t, 3 * s.len);
    char *to = t->ptr + t->len;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        int letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (letter || (c >= '0' && c <= '9') || c == '/' || c == '-' || c == '_' || c == '.' || c == '*') {
            *to++ = (char)c;
        } else if (c == ' ') {
            *to++ = '+';
        } else {
            *to++ = '%';
            *to++ = (char)(DIGITS[c >> 4] & ~(c >> 4 > 9 ? 0x20 : 0));
            *to++ = (char)(DIGITS[c & 15] & ~((c & 15) > 9 ? 0x20 : 0));
        }
    }
    t->len = (size_t)(to - t->ptr);
}
