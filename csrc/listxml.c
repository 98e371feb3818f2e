#include "listxml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 16

/* A pull scanner: each step gives one tag and the text before it, both as they stand in the document. */
struct xml {
    const char *at, *start, *end;
    struct stg_str open[MAX_DEPTH]; /* the names of the open elements */
    int depth;
    int empty_close; /* <name/> was opened and is to be closed by the next step */
    int rooted;      /* the root was seen */
    const char *problem;
};

enum tag_kind { TAG_PROBLEM = -1, TAG_END = 0, TAG_OPEN, TAG_CLOSE };

struct tag {
    struct stg_str name; /* without its namespace prefix */
    struct stg_str text; /* between the tag before and this one */
    int depth;           /* of the element: 1 for the root */
};

static int is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The ASCII part of XML's names; other alphabets do not occur here. */
static int is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '-' || c == '.' ||
           c == ':';
}

static int str_same(struct stg_str a, struct stg_str b)
{
    return a.len == b.len && !memcmp(a.ptr, b.ptr, a.len);
}

static struct stg_str str_from(struct stg_str text, size_t start)
{
    return (struct stg_str){text.ptr + start, text.len - start};
}

static struct stg_str str_between(const char *start, const char *end)
{
    return (struct stg_str){start, (size_t)(end - start)};
}

static int is_all_space(struct stg_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_space(text.ptr[i]))
            return 0;
    return 1;
}

static struct stg_str local_name(struct stg_str name)
{
    const char *colon = memchr(name.ptr, ':', name.len);

    return colon ? str_from(name, (size_t)(colon + 1 - name.ptr)) : name;
}

/* The length of the UTF-8 character at the start of text (RFC 3629), 0 when there is none. */
static size_t utf8_len(struct stg_str text)
{
    uint8_t c[4] = {0};
    size_t len;

    memcpy(c, text.ptr, text.len < 4 ? text.len : 4);
    if (c[0] < 0x80)
        return text.len > 0;
    if (c[0] < 0xc2 || c[0] > 0xf4)
        return 0;
    len = c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    for (size_t i = 1; i < len; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
        (c[0] == 0xf4 && c[1] > 0x8f))
        return 0;
    return len;
}

static int is_utf8(struct stg_str text)
{
    size_t at = 0;

    while (at < text.len) {
        size_t len = (uint8_t)text.ptr[at] < 0x80 ? 1 : utf8_len(str_from(text, at));

        if (!len)
            return 0;
        at += len;
    }
    return 1;
}

static int is_text(struct stg_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((uint8_t)text.ptr[i] < ' ' && !is_space(text.ptr[i]))
            return 0;
    return 1;
}

static enum tag_kind xml_refuse(struct xml *xml, const char *problem)
{
    xml->problem = problem;
    return TAG_PROBLEM;
}

static void space_skip(struct xml *xml)
{
    while (xml->at < xml->end && is_space(*xml->at))
        xml->at++;
}

static struct stg_str name_take(struct xml *xml)
{
    const char *start = xml->at;

    while (xml->at < xml->end && is_name(*xml->at))
        xml->at++;
    return str_between(start, xml->at);
}

static int byte_take(struct xml *xml, char wanted)
{
    if (xml->at == xml->end || *xml->at != wanted)
        return 0;
    xml->at++;
    return 1;
}

/* name = "value"; 0 when it is not one. */
static int attribute_take(struct xml *xml, struct stg_str *name, struct stg_str *value)
{
    const char *close;
    char quote;

    *name = name_take(xml);
    space_skip(xml);
    if (!name->len || !byte_take(xml, '='))
        return 0;
    space_skip(xml);
    if (xml->at == xml->end || (*xml->at != '"' && *xml->at != '\''))
        return 0;
    quote = *xml->at++;
    close = memchr(xml->at, quote, (size_t)(xml->end - xml->at));
    if (!close)
        return 0;
    *value = str_between(xml->at, close);
    xml->at = close + 1;
    return !memchr(value->ptr, '<', value->len) && is_text(*value) && is_utf8(*value);
}

static int is_encoding_utf8(struct stg_str value)
{
    return value.len == 5 && (value.ptr[0] | 32) == 'u' && (value.ptr[1] | 32) == 't' &&
           (value.ptr[2] | 32) == 'f' && value.ptr[3] == '-' && value.ptr[4] == '8';
}

/* An optional byte order mark, blanks and <?xml ... ?>. */
static int prolog_skip(struct xml *xml)
{
    struct stg_str name, value;

    if (xml->end - xml->at >= 3 && !memcmp(xml->at, "\xef\xbb\xbf", 3))
        xml->at += 3;
    space_skip(xml);
    if (xml->end - xml->at < 6 || memcmp(xml->at, "<?xml", 5) != 0 || !is_space(xml->at[5]))
        return 1;
    xml->at += 5;
    for (space_skip(xml); !byte_take(xml, '?'); space_skip(xml)) {
        if (!attribute_take(xml, &name, &value))
            return 0;
        if (str_same(name, STG_STR("encoding")) && !is_encoding_utf8(value))
            return 0;
    }
    return byte_take(xml, '>');
}

static void xml_start(struct xml *xml, const char *data, size_t len)
{
    *xml = (struct xml){.at = data, .start = data, .end = data + len};
    if (len && !prolog_skip(xml))
        xml->problem = "not an XML declaration in UTF-8";
}

static enum tag_kind tag_close(struct xml *xml, struct tag *tag)
{
    tag->name = local_name(xml->open[xml->depth - 1]);
    tag->depth = xml->depth--;
    return TAG_CLOSE;
}

static enum tag_kind close_tag_take(struct xml *xml, struct tag *tag)
{
    struct stg_str name = name_take(xml);

    space_skip(xml);
    if (!byte_take(xml, '>'))
        return xml_refuse(xml, "a broken end tag");
    if (!xml->depth || !str_same(name, xml->open[xml->depth - 1]))
        return xml_refuse(xml, "an end tag that closes nothing");
    return tag_close(xml, tag);
}

static enum tag_kind open_tag_take(struct xml *xml, struct tag *tag)
{
    struct stg_str name = name_take(xml), attribute, value;

    if (!name.len)
        return xml_refuse(xml, "a tag without a name (DOCTYPE, comments, CDATA and instructions are not accepted)");
    if (xml->depth == MAX_DEPTH)
        return xml_refuse(xml, "elements nested too deeply");
    if (!xml->depth && xml->rooted)
        return xml_refuse(xml, "more than one root");
    while (!byte_take(xml, '>')) {
        const char *before = xml->at;

        space_skip(xml);
        if (byte_take(xml, '/')) {
            xml->empty_close = 1;
            if (!byte_take(xml, '>'))
                return xml_refuse(xml, "a broken empty tag");
            break;
        }
        if (byte_take(xml, '>'))
            break;
        if (before == xml->at || !attribute_take(xml, &attribute, &value))
            return xml_refuse(xml, "a broken attribute");
    }
    xml->rooted = 1;
    xml->open[xml->depth++] = name;
    tag->name = local_name(name);
    tag->depth = xml->depth;
    return TAG_OPEN;
}

static enum tag_kind xml_end(struct xml *xml, struct stg_str text)
{
    if (xml->depth || !xml->rooted || !is_all_space(text))
        return xml_refuse(xml, xml->depth ? "the answer is cut off" : "not an XML answer");
    return TAG_END;
}

static enum tag_kind xml_next(struct xml *xml, struct tag *tag)
{
    const char *text = xml->at, *tag_start;

    if (xml->problem)
        return TAG_PROBLEM;
    if (xml->empty_close) {
        xml->empty_close = 0;
        tag->text = str_between(text, text);
        return tag_close(xml, tag);
    }
    tag_start = text < xml->end ? memchr(text, '<', (size_t)(xml->end - text)) : NULL;
    tag->text = str_between(text, tag_start ? tag_start : xml->end);
    if (!tag_start)
        return xml_end(xml, tag->text);
    if (!xml->depth && !is_all_space(tag->text))
        return xml_refuse(xml, "text outside of the root");
    xml->at = tag_start + 1;
    return byte_take(xml, '/') ? close_tag_take(xml, tag) : open_tag_take(xml, tag);
}

static size_t utf8_put(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f')
        return (c | 32) - 'a' + 10;
    return -1;
}

/* What stands between "&#" and ";"; 0: no character. XML 1.0 forbids most control characters even here, but Amazon
 * sends keys that hold them this way. */
static uint32_t numeric_entity(struct stg_str digits)
{
    uint32_t base = 10, code = 0;

    if (digits.len && digits.ptr[0] == 'x') {
        base = 16;
        digits = str_from(digits, 1);
    }
    for (size_t i = 0; i < digits.len; i++) {
        int digit = hex_value(digits.ptr[i]);

        if (digit < 0 || (uint32_t)digit >= base)
            return 0;
        code = code * base + (uint32_t)digit;
        if (code > 0x10ffff)
            return 0;
    }
    return code >= 0xd800 && code < 0xe000 ? 0 : code;
}

static uint32_t entity_code(struct stg_str name)
{
    static const struct {
        struct stg_str name;
        uint32_t code;
    } known[] = {{{"amp", 3}, '&'}, {{"lt", 2}, '<'}, {{"gt", 2}, '>'}, {{"quot", 4}, '"'}, {{"apos", 4}, '\''}};

    if (name.len && name.ptr[0] == '#')
        return numeric_entity(str_from(name, 1));
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (str_same(name, known[i].name))
            return known[i].code;
    return 0;
}

#define MAX_ENTITY 12 /* "&#x0010FFFF;" */

/* Undoes entities; out may hold cap bytes. Returns the length, or -1: a bad entity, or too long. */
static ssize_t entities_undo(struct stg_str raw, char *out, size_t cap)
{
    size_t at = 0, put = 0;

    while (at < raw.len) {
        const char *amp = memchr(raw.ptr + at, '&', raw.len - at), *semicolon;
        size_t plain = (amp ? (size_t)(amp - raw.ptr) : raw.len) - at, room;
        uint32_t code;

        if (plain > cap - put)
            return -1;
        memcpy(out + put, raw.ptr + at, plain);
        put += plain;
        at += plain;
        if (!amp)
            break;
        room = raw.len - at < MAX_ENTITY ? raw.len - at : MAX_ENTITY;
        semicolon = memchr(amp, ';', room);
        code = semicolon ? entity_code(str_between(amp + 1, semicolon)) : 0;
        if (!code || cap - put < 4)
            return -1;
        put += utf8_put(code, out + put);
        at = (size_t)(semicolon + 1 - raw.ptr);
    }
    return (ssize_t)put;
}

/* '+' and %XX, in place. Returns the length, or -1. */
static ssize_t url_undo(char *text, size_t len)
{
    size_t put = 0;

    for (size_t at = 0; at < len; at++) {
        char c = text[at];

        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = at + 2 < len ? hex_value(text[at + 1]) : -1;
            int low = at + 2 < len ? hex_value(text[at + 2]) : -1;

            if (high < 0 || low < 0)
                return -1;
            c = (char)(high << 4 | low);
            at += 2;
        }
        text[put++] = c;
    }
    return (ssize_t)put;
}

/* At least one digit, nothing else, at most 2^63-1; else -1. */
static int64_t decimal_parse(struct stg_str text)
{
    int64_t value = 0;

    if (!text.len)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.ptr[i]) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text.ptr[i] - '0', &value))
            return -1;
    }
    return value;
}

static int64_t digits_at(struct stg_str text, size_t start, size_t len)
{
    return decimal_parse((struct stg_str){text.ptr + start, len});
}

static int64_t days_since_1970(int64_t year, int64_t month, int64_t day)
{
    int64_t march_year = month > 2 ? year : year - 1;
    int64_t march_month = month > 2 ? month - 3 : month + 9;

    return 365 * march_year + march_year / 4 - march_year / 100 + march_year / 400 + (153 * march_month + 2) / 5 +
           day - 1 - 719468;
}

/* ".5" of up to nine digits and what follows it; -1: not one. */
static int64_t fraction_ns(struct stg_str *rest)
{
    int64_t ns = 0, unit = 100000000;
    size_t digits = 0;

    if (!rest->len || rest->ptr[0] != '.')
        return 0;
    for (*rest = str_from(*rest, 1); digits < 9 && digits < rest->len && is_digit(rest->ptr[digits]); digits++) {
        ns += (rest->ptr[digits] - '0') * unit;
        unit /= 10;
    }
    *rest = str_from(*rest, digits);
    return digits ? ns : -1;
}

/* "2009-10-12T17:50:30.000Z" (RFC 3339, in UTC, years 1970 to 2261) in ns since 1970; *ok says whether it was one. */
static int64_t time_parse(struct stg_str text, int *ok)
{
    static const char shape[] = "0000-00-00T00:00:00";
    struct stg_str rest;
    int64_t year, month, day, hour, minute, second, ns;

    *ok = 0;
    if (text.len < sizeof(shape))
        return 0;
    for (size_t i = 0; i < sizeof(shape) - 1; i++)
        if (shape[i] != '0' && shape[i] != text.ptr[i])
            return 0;
    rest = str_from(text, sizeof(shape) - 1);
    ns = fraction_ns(&rest);
    if (ns < 0 || !str_same(rest, STG_STR("Z")))
        return 0;
    year = digits_at(text, 0, 4);
    month = digits_at(text, 5, 2);
    day = digits_at(text, 8, 2);
    hour = digits_at(text, 11, 2);
    minute = digits_at(text, 14, 2);
    second = digits_at(text, 17, 2);
    if (year < 1970 || year > 2261 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 ||
        minute < 0 || minute > 59 || second < 0 || second > 60)
        return 0;
    *ok = 1;
    return (days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) * 1000000000 + ns;
}

/* The texts of one <Contents>, as they stand; ptr NULL: not seen. */
struct contents {
    struct stg_str key, size, etag, last_modified, storage_class;
};

struct list_scan {
    struct xml xml;
    struct stg_table *table;
    struct stg_list_page *page;
    struct stg_str prefix;
    size_t key_skip;
    char *scratch; /* STG_TABLE_MAX_TEXT + SCRATCH_SLACK bytes for a key, as many for an ETag */
    struct contents contents;
    struct stg_str is_truncated, token, key_count, encoding_type;
    struct stg_str last_key; /* in the table */
    int has_last_key;
};

#define SCRATCH_SLACK 1028 /* a key may be longer by the prefix that is dropped, an entity needs room for four */
#define SCRATCH_BYTES (STG_TABLE_MAX_TEXT + SCRATCH_SLACK)

static int scan_refuse(struct list_scan *scan, const char *problem)
{
    snprintf(scan->page->problem, sizeof(scan->page->problem), "%s (byte %zu of the answer)", problem,
             (size_t)(scan->xml.at - scan->xml.start));
    return -EBADMSG;
}

/* The text of an element that may stand once. */
static int text_take(struct list_scan *scan, struct stg_str *slot, struct stg_str text)
{
    if (slot->ptr)
        return scan_refuse(scan, "an element that may stand once stands twice");
    *slot = text;
    return 0;
}

/* raw with its entities undone, in raw itself or in scratch; ptr NULL when it cannot be. */
static struct stg_str text_undo(struct stg_str raw, char *scratch)
{
    ssize_t len;

    if (!raw.len || !memchr(raw.ptr, '&', raw.len))
        return raw;
    len = entities_undo(raw, scratch, SCRATCH_BYTES);
    return len < 0 ? (struct stg_str){NULL, 0} : (struct stg_str){scratch, (size_t)len};
}

static int is_url_encoded(struct stg_str text)
{
    return memchr(text.ptr, '%', text.len) || memchr(text.ptr, '+', text.len);
}

static int key_undo(struct list_scan *scan, struct stg_str *key)
{
    ssize_t len;

    *key = text_undo(*key, scan->scratch);
    if (!key->ptr)
        return scan_refuse(scan, "a key with a bad entity, or too long");
    if (scan->page->encoded && is_url_encoded(*key)) {
        if (key->len > SCRATCH_BYTES)
            return scan_refuse(scan, "a key that is too long");
        memmove(scan->scratch, key->ptr, key->len);
        len = url_undo(scan->scratch, key->len);
        if (len < 0)
            return scan_refuse(scan, "a key with a bad %XX");
        *key = (struct stg_str){scan->scratch, (size_t)len};
    }
    if (key->len < scan->prefix.len || (scan->prefix.len && memcmp(key->ptr, scan->prefix.ptr, scan->prefix.len)))
        return scan_refuse(scan, "a key without the prefix that was asked for");
    *key = str_from(*key, scan->key_skip);
    return 0;
}

static struct stg_str unquoted(struct stg_str etag)
{
    if (etag.len >= 2 && etag.ptr[0] == '"' && etag.ptr[etag.len - 1] == '"')
        return (struct stg_str){etag.ptr + 1, etag.len - 2};
    return etag;
}

static int is_archived(struct stg_str storage_class)
{
    return str_same(storage_class, STG_STR("GLACIER")) || str_same(storage_class, STG_STR("DEEP_ARCHIVE"));
}

static int is_after(struct stg_str before, struct stg_str after)
{
    size_t common = before.len < after.len ? before.len : after.len;
    int order = common ? memcmp(before.ptr, after.ptr, common) : 0;

    return order < 0 || (order == 0 && before.len < after.len);
}

static int row_append(struct list_scan *scan, const struct stg_row *row)
{
    int64_t index = stg_table_append(scan->table, row);

    if (index == -ENOMEM)
        return -ENOMEM;
    if (index < 0)
        return scan_refuse(scan, index == -EOVERFLOW ? "sizes that add up to more than 2^63-1 bytes"
                                                     : "a key or an ETag that is too long");
    if (scan->has_last_key && !is_after(scan->last_key, row->key))
        scan->page->in_order = 0;
    scan->last_key = stg_table_row(scan->table, (size_t)index).key;
    scan->has_last_key = 1;
    scan->page->count++;
    return 0;
}

static int contents_finish(struct list_scan *scan)
{
    struct contents *contents = &scan->contents;
    struct stg_row row = {.key = contents->key, .size = decimal_parse(contents->size)};
    int ok = 1, error;

    if (!contents->key.ptr || !contents->size.ptr)
        return scan_refuse(scan, "an object without a key or a size");
    if (row.size < 0)
        return scan_refuse(scan, "an object whose size is no number below 2^63");
    error = key_undo(scan, &row.key);
    if (error)
        return error;
    row.identity = unquoted(text_undo(contents->etag, scan->scratch + SCRATCH_BYTES));
    if (contents->etag.ptr && !row.identity.ptr)
        return scan_refuse(scan, "an ETag with a bad entity");
    if (contents->last_modified.ptr)
        row.mtime_ns = time_parse(contents->last_modified, &ok);
    if (!ok)
        return scan_refuse(scan, "a LastModified that is no time in UTC");
    if (is_archived(contents->storage_class)) {
        row.mode = STG_ROW_ARCHIVED;
        scan->page->archived++;
    }
    return row_append(scan, &row);
}

static struct stg_str *contents_slot(struct contents *contents, struct stg_str name)
{
    if (str_same(name, STG_STR("Key")))
        return &contents->key;
    if (str_same(name, STG_STR("Size")))
        return &contents->size;
    if (str_same(name, STG_STR("ETag")))
        return &contents->etag;
    if (str_same(name, STG_STR("LastModified")))
        return &contents->last_modified;
    if (str_same(name, STG_STR("StorageClass")))
        return &contents->storage_class;
    return NULL;
}

static struct stg_str *page_slot(struct list_scan *scan, struct stg_str name)
{
    if (str_same(name, STG_STR("IsTruncated")))
        return &scan->is_truncated;
    if (str_same(name, STG_STR("NextContinuationToken")))
        return &scan->token;
    if (str_same(name, STG_STR("KeyCount")))
        return &scan->key_count;
    if (str_same(name, STG_STR("EncodingType")))
        return &scan->encoding_type;
    return NULL;
}

static int is_contents(const struct list_scan *scan)
{
    return str_same(local_name(scan->xml.open[1]), STG_STR("Contents"));
}

static int element_open(struct list_scan *scan, const struct tag *tag)
{
    if (tag->depth == 1 && !str_same(tag->name, STG_STR("ListBucketResult")))
        return scan_refuse(scan, "not a ListBucketResult");
    if (tag->depth == 2)
        scan->contents = (struct contents){.key = {NULL, 0}};
    if (tag->depth == 3 && str_same(local_name(scan->xml.open[1]), STG_STR("CommonPrefixes")))
        return scan_refuse(scan, "common prefixes in a listing without a delimiter");
    return 0;
}

/* leaf: the element held nothing but text. */
static int element_close(struct list_scan *scan, const struct tag *tag, int leaf)
{
    struct stg_str *slot = NULL;

    if (tag->depth == 2 && str_same(tag->name, STG_STR("Contents")))
        return contents_finish(scan);
    if (tag->depth == 2)
        slot = page_slot(scan, tag->name);
    if (tag->depth == 3 && is_contents(scan))
        slot = contents_slot(&scan->contents, tag->name);
    if (slot && !leaf)
        return scan_refuse(scan, "an element inside of a text");
    return slot ? text_take(scan, slot, tag->text) : 0;
}

static int is_key(const struct list_scan *scan, const struct tag *tag)
{
    return tag->depth == 3 && str_same(tag->name, STG_STR("Key")) && is_contents(scan);
}

static int text_check(struct list_scan *scan, const struct tag *tag, int key)
{
    if (!is_text(tag->text))
        return scan_refuse(scan, "a control character");
    if (key && memchr(tag->text.ptr, '\r', tag->text.len))
        return scan_refuse(scan, "a bare carriage return in a key"); /* XML readers turn it into a line feed */
    if (!key && !is_utf8(tag->text))
        return scan_refuse(scan, "bytes that are not UTF-8");
    return 0;
}

static int elements_scan(struct list_scan *scan)
{
    struct tag tag;
    enum tag_kind kind, before = TAG_END;
    int error = 0;

    while (!error && (kind = xml_next(&scan->xml, &tag)) > TAG_END) {
        int key = kind == TAG_CLOSE && before == TAG_OPEN && is_key(scan, &tag);

        error = text_check(scan, &tag, key);
        if (!error)
            error = kind == TAG_OPEN ? element_open(scan, &tag) : element_close(scan, &tag, before == TAG_OPEN);
        before = kind;
    }
    if (!error && kind == TAG_PROBLEM)
        error = scan_refuse(scan, scan->xml.problem);
    return error;
}

static int token_finish(struct list_scan *scan)
{
    struct stg_list_page *page = scan->page;
    struct stg_str token = text_undo(scan->token, scan->scratch);

    if (scan->token.ptr && !token.ptr)
        return scan_refuse(scan, "a NextContinuationToken with a bad entity");
    if (token.len > sizeof(page->token))
        return scan_refuse(scan, "a NextContinuationToken that is too long");
    if (page->truncated && !token.len)
        return scan_refuse(scan, "IsTruncated without a NextContinuationToken");
    if (token.len)
        memcpy(page->token, token.ptr, token.len);
    page->token_len = token.len;
    return 0;
}

static int page_finish(struct list_scan *scan)
{
    struct stg_list_page *page = scan->page;

    page->truncated = str_same(scan->is_truncated, STG_STR("true"));
    if (!page->truncated && !str_same(scan->is_truncated, STG_STR("false")))
        return scan_refuse(scan, "IsTruncated is neither true nor false");
    page->key_count = decimal_parse(scan->key_count);
    if (scan->key_count.ptr && page->key_count < 0)
        return scan_refuse(scan, "a KeyCount that is no number");
    return token_finish(scan);
}

/* Whether the answer says <EncodingType>url. Some servers say so only after the keys, so it is looked for first. */
static int encoding_find(const char *data, size_t len)
{
    struct xml xml;
    struct tag tag;
    enum tag_kind kind;

    xml_start(&xml, data, len);
    while ((kind = xml_next(&xml, &tag)) > TAG_END)
        if (kind == TAG_CLOSE && tag.depth == 2 && str_same(tag.name, STG_STR("EncodingType")))
            return str_same(tag.text, STG_STR("url"));
    return 0;
}

int stg_list_scan(const char *data, size_t len, struct stg_str prefix, size_t key_skip, struct stg_table *table,
                  struct stg_list_page *page)
{
    struct list_scan scan = {.table = table, .page = page, .prefix = prefix, .key_skip = key_skip};
    size_t rows = stg_table_count(table);
    int error;

    *page = (struct stg_list_page){.key_count = -1, .in_order = 1};
    if (key_skip > prefix.len)
        return -EINVAL;
    scan.scratch = malloc(2 * SCRATCH_BYTES);
    if (!scan.scratch)
        return -ENOMEM;
    if (rows) {
        scan.last_key = stg_table_row(table, rows - 1).key;
        scan.has_last_key = 1;
    }
    page->encoded = encoding_find(data, len);
    xml_start(&scan.xml, data, len);
    error = elements_scan(&scan);
    if (!error)
        error = page_finish(&scan);
    free(scan.scratch);
    return error;
}

/* text, undone and made printable, cut to fit with its NUL. */
static void printable_copy(struct stg_str raw, char *out, size_t cap)
{
    char undone[4096];
    struct stg_str text = {undone, 0};
    size_t put = 0;
    ssize_t len;

    if (raw.len > sizeof(undone) - MAX_ENTITY)
        raw.len = sizeof(undone) - MAX_ENTITY;
    len = entities_undo(raw, undone, sizeof(undone));
    text.len = len > 0 ? (size_t)len : 0;
    while (text.len) {
        size_t width = utf8_len(text), step = width ? width : 1;
        uint8_t c = (uint8_t)text.ptr[0];
        int control = c < ' ' || c == 0x7f || (c == 0xc2 && width == 2 && (uint8_t)text.ptr[1] < 0xa0);

        if (put + (width && !control ? width : 1) >= cap)
            break;
        if (width && !control)
            memcpy(out + put, text.ptr, width);
        else
            out[put] = '?';
        put += width && !control ? width : 1;
        text = str_from(text, step);
    }
    out[put] = 0;
}

static void error_text_take(struct stg_s3_error *out, const struct tag *tag)
{
    if (str_same(tag->name, STG_STR("Code")))
        printable_copy(tag->text, out->code, sizeof(out->code));
    else if (str_same(tag->name, STG_STR("Message")))
        printable_copy(tag->text, out->message, sizeof(out->message));
    else if (str_same(tag->name, STG_STR("Region")))
        printable_copy(tag->text, out->region, sizeof(out->region));
    else if (str_same(tag->name, STG_STR("RequestId")))
        printable_copy(tag->text, out->request_id, sizeof(out->request_id));
}

void stg_s3_error_scan(const char *data, size_t len, struct stg_s3_error *out)
{
    struct xml xml;
    struct tag tag;
    enum tag_kind kind;

    *out = (struct stg_s3_error){.code = ""};
    xml_start(&xml, data, len);
    while ((kind = xml_next(&xml, &tag)) > TAG_END)
        if (kind == TAG_CLOSE && tag.depth > 1 && str_same(local_name(xml.open[tag.depth - 2]), STG_STR("Error")))
            error_text_take(out, &tag);
}
