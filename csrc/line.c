/* The manifest's lines; their form is described in record.h. */
#include "names.h"
#include "record.h"
#include "text.h"
#include "xml.h"

#include <errno.h>
#include <string.h>

#define FIXED_BYTES 256       /* brackets, commas, four integers of 20 digits, digest, grade */
#define ESCAPED_BYTES 6       /* of one byte, at most: \u00XX */
#define BASE64_MARK "{\"base64\":\""

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t stg_line_room(const struct stg_record *record)
{
    return FIXED_BYTES + ESCAPED_BYTES * (record->path.len + record->identity.len);
}

static char *put_literal(char *out, const char *text)
{
    size_t len = strlen(text);

    memcpy(out, text, len);
    return out + len;
}

static char *put_escaped(char *out, char c)
{
    static const char letters[] = "b\bf\fn\nr\rt\t";

    *out++ = '\\';
    if (c == '"' || c == '\\') {
        *out++ = c;
        return out;
    }
    for (size_t i = 0; i < sizeof(letters) - 1; i += 2)
        if (letters[i + 1] == c) {
            *out++ = letters[i];
            return out;
        }
    out = put_literal(out, "u00");
    *out++ = hex_digits[(uint8_t)c >> 4];
    *out++ = hex_digits[c & 15];
    return out;
}

static int needs_escape(char c)
{
    return (uint8_t)c < ' ' || c == '"' || c == '\\';
}

static char *put_utf8(char *out, struct stg_str text)
{
    *out++ = '"';
    for (size_t i = 0; i < text.len; i++) {
        if (needs_escape(text.ptr[i]))
            out = put_escaped(out, text.ptr[i]);
        else
            *out++ = text.ptr[i];
    }
    *out++ = '"';
    return out;
}

static char *put_latin1(char *out, struct stg_str text)
{
    *out++ = '"';
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)text.ptr[i];

        if (c >= 0x80) {
            *out++ = (char)(0xc0 | c >> 6);
            *out++ = (char)(0x80 | (c & 0x3f));
        } else if (needs_escape((char)c)) {
            out = put_escaped(out, (char)c);
        } else {
            *out++ = (char)c;
        }
    }
    *out++ = '"';
    return out;
}

static char *put_base64(char *out, struct stg_str text)
{
    out = put_literal(out, BASE64_MARK);
    for (size_t i = 0; i < text.len; i += 3) {
        size_t left = text.len - i;
        uint32_t group = (uint32_t)(uint8_t)text.ptr[i] << 16;

        if (left > 1)
            group |= (uint32_t)(uint8_t)text.ptr[i + 1] << 8;
        if (left > 2)
            group |= (uint8_t)text.ptr[i + 2];
        *out++ = base64_digits[group >> 18];
        *out++ = base64_digits[group >> 12 & 63];
        *out++ = left > 1 ? base64_digits[group >> 6 & 63] : '=';
        *out++ = left > 2 ? base64_digits[group & 63] : '=';
    }
    return put_literal(out, "\"}");
}

static char *put_integer(char *out, int64_t value)
{
    char digits[20];
    size_t count = 0;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    if (value < 0)
        *out++ = '-';
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    while (count)
        *out++ = digits[--count];
    return out;
}

static char *put_number(char *out, int64_t value)
{
    *out++ = ',';
    return put_integer(out, value);
}

size_t stg_line_encode(const struct stg_record *record, char *out)
{
    char *start = out;

    *out++ = '[';
    out = stg_is_utf8(record->path) ? put_utf8(out, record->path) : put_base64(out, record->path);
    out = put_number(out, record->size);
    *out++ = ',';
    out = put_latin1(out, record->identity);
    out = put_literal(out, ",\"");
    for (size_t i = 0; i < STG_DIGEST_BYTES; i++) {
        *out++ = hex_digits[record->entry.digest[i] >> 4];
        *out++ = hex_digits[record->entry.digest[i] & 15];
    }
    *out++ = '"';
    out = put_number(out, record->entry.mtime_ns);
    out = put_number(out, record->entry.ctime_ns);
    out = put_number(out, record->entry.mode);
    out = put_literal(out, ",\"");
    *out++ = record->entry.grade;
    out = put_literal(out, "\"]\n");
    return (size_t)(out - start);
}

/* What is left of a line, and of the room for texts. */
struct reading {
    const char *at, *end;
    char *texts, *texts_end;
    int bad;
};

static void expect(struct reading *reading, const char *literal)
{
    size_t len = strlen(literal);

    if ((size_t)(reading->end - reading->at) < len || memcmp(reading->at, literal, len)) {
        reading->bad = 1;
        reading->at = reading->end;
        return;
    }
    reading->at += len;
}

static int take(struct reading *reading)
{
    if (reading->at < reading->end)
        return (uint8_t)*reading->at++;
    reading->bad = 1;
    return '"'; /* ends a string */
}

static void keep(struct reading *reading, int c)
{
    if (reading->texts < reading->texts_end)
        *reading->texts++ = (char)c;
    else
        reading->bad = 1;
}

static int take_escaped(struct reading *reading)
{
    int c = take(reading), high, low;

    switch (c) {
    case '"':
    case '\\':
        return c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        reading->bad |= c != 'u';
    }
    expect(reading, "00");
    high = stg_hex_value((char)take(reading));
    low = stg_hex_value((char)take(reading));
    reading->bad |= high < 0 || high > 1 || low < 0;
    return (high & 1) << 4 | (low & 15);
}

static int is_plain(char c)
{
    return !needs_escape(c) && (uint8_t)c < 0x80;
}

/* The closing quote is taken too. latin1: one byte a character. Most strings are taken where they stand. */
static struct stg_str take_string(struct reading *reading, int latin1)
{
    char *start = reading->texts;
    const char *at;

    expect(reading, "\"");
    for (at = reading->at; at < reading->end && is_plain(*at); at++)
        continue;
    if (at < reading->end && *at == '"') {
        struct stg_str plain = stg_str_between(reading->at, at);

        reading->at = at + 1;
        return plain;
    }
    while (!reading->bad) {
        int c = take(reading);

        if (c == '"')
            break;
        if (c < ' ') {
            reading->bad = 1;
        } else if (c == '\\') {
            keep(reading, take_escaped(reading));
        } else if (c >= 0x80 && latin1) {
            int next = take(reading);

            reading->bad |= (c != 0xc2 && c != 0xc3) || (next & 0xc0) != 0x80;
            keep(reading, (c & 3) << 6 | (next & 0x3f));
        } else {
            keep(reading, c);
        }
    }
    return stg_str_between(start, reading->texts);
}

static struct stg_str take_base64(struct reading *reading)
{
    char *start = reading->texts;
    int padding = 0;

    expect(reading, BASE64_MARK);
    while (!reading->bad && !padding && reading->at < reading->end && *reading->at != '"') {
        uint32_t group = 0;

        for (int i = 0; i < 4; i++) {
            int c = take(reading), value = c == '=' && i >= 2 ? 0 : stg_base64_value((char)c);

            reading->bad |= value < 0 || (padding && c != '=');
            padding += c == '=';
            group = group << 6 | (uint32_t)(value & 63);
        }
        for (int i = 0; i < 3 - padding; i++)
            keep(reading, (int)(group >> (16 - 8 * i) & 0xff));
    }
    expect(reading, "\"}");
    return stg_str_between(start, reading->texts);
}

static struct stg_str take_path(struct reading *reading)
{
    struct stg_str path;

    if (reading->at < reading->end && *reading->at == '{')
        return take_base64(reading);
    path = take_string(reading, 0);
    reading->bad |= !stg_is_utf8(path);
    return path;
}

static int64_t take_integer(struct reading *reading)
{
    int negative = reading->at < reading->end && *reading->at == '-';
    const char *start = reading->at += negative;
    int64_t value = 0;

    for (; reading->at < reading->end && stg_is_digit(*reading->at); reading->at++) {
        int digit = *reading->at - '0';

        if (__builtin_mul_overflow(value, 10, &value) || __builtin_sub_overflow(value, digit, &value)) {
            reading->bad = 1;
            return 0;
        }
    }
    reading->bad |= reading->at == start || (*start == '0' && reading->at - start > 1);
    if (!negative && __builtin_sub_overflow(0, value, &value))
        reading->bad = 1;
    return value;
}

static int64_t take_number(struct reading *reading)
{
    expect(reading, ",");
    return take_integer(reading);
}

static void take_digest(struct reading *reading, uint8_t digest[STG_DIGEST_BYTES])
{
    for (size_t i = 0; i < STG_DIGEST_BYTES; i++) {
        int high = stg_hex_value((char)take(reading)), low = stg_hex_value((char)take(reading));

        reading->bad |= high < 0 || low < 0;
        digest[i] = (uint8_t)((high & 15) << 4 | (low & 15));
    }
}

int stg_line_decode(struct stg_str line, char *texts, struct stg_record *out)
{
    struct reading reading = {
        .at = line.ptr, .end = line.ptr + line.len, .texts = texts, .texts_end = texts + STG_RECORD_TEXT_BYTES};
    int64_t mode;

    memset(out, 0, sizeof(*out));
    expect(&reading, "[");
    out->path = take_path(&reading);
    out->size = take_number(&reading);
    expect(&reading, ",");
    out->identity = take_string(&reading, 1);
    expect(&reading, ",\"");
    take_digest(&reading, out->entry.digest);
    expect(&reading, "\"");
    out->entry.mtime_ns = take_number(&reading);
    out->entry.ctime_ns = take_number(&reading);
    mode = take_number(&reading);
    expect(&reading, ",\"");
    out->entry.grade = (char)take(&reading);
    expect(&reading, "\"]");
    if (reading.bad || reading.at != reading.end || mode < 0 || mode > UINT16_MAX)
        return -EBADMSG;
    out->entry.mode = (uint16_t)mode;
    return stg_record_check(out);
}
