/* Small words on texts and calendar days that the parsers and the signer share. */
#ifndef STG_TEXT_H
#define STG_TEXT_H

#include <string.h>

#include "stg.h"

#define STG_DAY_S INT64_C(86400)

static inline int stg_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline int stg_is_alnum(char c)
{
    return stg_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A character of an RFC 9110 token (section 5.6.2). */
static inline int stg_is_token(char c)
{
    static const uint32_t map[8] = {0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff};

    return (int)(map[(uint8_t)c >> 5] >> (c & 31) & 1);
}

/* A byte of an RFC 9110 field value (section 5.5), blanks included. */
static inline int stg_is_value(char c)
{
    return ((uint8_t)c >= ' ' && c != 0x7f) || c == '\t';
}

static inline int stg_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static inline char stg_to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* -1: no hexadecimal digit. */
static inline int stg_hex_value(char c)
{
    char lower = stg_to_lower(c);

    if (stg_is_digit(c))
        return c - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* -1: no digit of base64 (RFC 4648, section 4). */
static inline int stg_base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (stg_is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static inline int stg_str_same(struct stg_str a, struct stg_str b)
{
    return a.len == b.len && (!a.len || !memcmp(a.ptr, b.ptr, a.len));
}

/* What follows the first start bytes. */
static inline struct stg_str stg_str_from(struct stg_str text, size_t start)
{
    return (struct stg_str){text.ptr + start, text.len - start};
}

static inline struct stg_str stg_str_between(const char *start, const char *end)
{
    return (struct stg_str){start, (size_t)(end - start)};
}

/* Byte order, a prefix first: <0, 0, >0. */
int stg_str_compare(struct stg_str a, struct stg_str b);
/* Equal to a text in lower case, ASCII letters of either case taken as one. */
int stg_str_is(struct stg_str text, struct stg_str lower);
/* Without the blanks around it. */
struct stg_str stg_str_trimmed(struct stg_str text);
/* At least one digit, nothing else, at most 2^63-1; else -1. */
int64_t stg_decimal_parse(struct stg_str text);
/* value is not negative; out has room for 19 digits. How many there are. */
size_t stg_decimal_put(char *out, int64_t value);
/* The same for len bytes inside of a text. */
int64_t stg_decimal_at(struct stg_str text, size_t start, size_t len);

/* "1700000000" or "1700000000.123456789" in ns (more digits are dropped), up to the year 2261; -1: not one. */
int64_t stg_seconds_parse(struct stg_str text);

/* A Gregorian date and time of day, UTC. */
struct stg_time {
    int64_t year, month, day, hour, minute, second;
};

/* Seconds since 1970; -1: outside of the years 1970 to 9999, or no such date or time (a leap second passes). */
int64_t stg_time_to_unix(struct stg_time time);
/* unix_s >= 0 */
struct stg_time stg_time_of_unix(int64_t unix_s);
/* "2009-10-12T17:50:30.000Z" (RFC 3339, in UTC, up to nine digits of fraction, years 1970 to 2261) in ns since 1970;
 * -1: not one. */
int64_t stg_rfc3339_parse(struct stg_str text);

#endif
