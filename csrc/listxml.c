#include "listxml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "xml.h"

/* '+' and %XX, in place. Returns the length, or -1. */
static ssize_t url_undo(char *text, size_t len)
{
    size_t put = 0;

    for (size_t at = 0; at < len; at++) {
        char c = text[at];

        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = at + 2 < len ? stg_hex_value(text[at + 1]) : -1;
            int low = at + 2 < len ? stg_hex_value(text[at + 2]) : -1;

            if (high < 0 || low < 0)
                return -1;
            c = (char)(high << 4 | low);
            at += 2;
        }
        text[put++] = c;
    }
    return (ssize_t)put;
}

/* ".5" of up to nine digits and what follows it; -1: not one. */
static int64_t fraction_ns(struct stg_str *rest)
{
    int64_t ns = 0, unit = 100000000;
    size_t digits = 0;

    if (!rest->len || rest->ptr[0] != '.')
        return 0;
    for (*rest = stg_str_from(*rest, 1); digits < 9 && digits < rest->len && stg_is_digit(rest->ptr[digits]); digits++) {
        ns += (rest->ptr[digits] - '0') * unit;
        unit /= 10;
    }
    *rest = stg_str_from(*rest, digits);
    return digits ? ns : -1;
}

/* "2009-10-12T17:50:30.000Z" (RFC 3339, in UTC, years 1970 to 2261) in ns since 1970; -1: not one. */
static int64_t time_parse(struct stg_str text)
{
    static const char shape[] = "0000-00-00T00:00:00";
    struct stg_time time;
    struct stg_str rest;
    int64_t ns, unix_s;

    if (text.len < sizeof(shape))
        return -1;
    for (size_t i = 0; i < sizeof(shape) - 1; i++)
        if (shape[i] != '0' && shape[i] != text.ptr[i])
            return -1;
    rest = stg_str_from(text, sizeof(shape) - 1);
    ns = fraction_ns(&rest);
    time = (struct stg_time){
        .year = stg_decimal_at(text, 0, 4),
        .month = stg_decimal_at(text, 5, 2),
        .day = stg_decimal_at(text, 8, 2),
        .hour = stg_decimal_at(text, 11, 2),
        .minute = stg_decimal_at(text, 14, 2),
        .second = stg_decimal_at(text, 17, 2),
    };
    unix_s = stg_time_to_unix(time);
    if (ns < 0 || unix_s < 0 || time.year > 2261 || !stg_str_same(rest, STG_STR("Z")))
        return -1;
    return unix_s * 1000000000 + ns;
}

/* The texts of one <Contents>, as they stand; ptr NULL: not seen. */
struct contents {
    struct stg_str key, size, etag, last_modified, storage_class;
};

struct list_scan {
    struct stg_xml xml;
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
    len = stg_xml_entities_undo(raw, scratch, SCRATCH_BYTES);
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
    *key = stg_str_from(*key, scan->key_skip);
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
    return stg_str_same(storage_class, STG_STR("GLACIER")) || stg_str_same(storage_class, STG_STR("DEEP_ARCHIVE"));
}

static int row_append(struct list_scan *scan, const struct stg_row *row)
{
    int64_t index = stg_table_append(scan->table, row);

    if (index == -ENOMEM)
        return -ENOMEM;
    if (index < 0)
        return scan_refuse(scan, index == -EOVERFLOW ? "sizes that add up to more than 2^63-1 bytes"
                                                     : "a key or an ETag that is too long");
    if (scan->has_last_key && stg_str_compare(scan->last_key, row->key) >= 0)
        scan->page->in_order = 0;
    scan->last_key = stg_table_row(scan->table, (size_t)index).key;
    scan->has_last_key = 1;
    scan->page->count++;
    return 0;
}

static int contents_finish(struct list_scan *scan)
{
    struct contents *contents = &scan->contents;
    struct stg_row row = {.key = contents->key, .size = stg_decimal_parse(contents->size)};
    int error;

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
        row.mtime_ns = time_parse(contents->last_modified);
    if (row.mtime_ns < 0)
        return scan_refuse(scan, "a LastModified that is no time in UTC");
    if (is_archived(contents->storage_class)) {
        row.mode = STG_ROW_ARCHIVED;
        scan->page->archived++;
    }
    return row_append(scan, &row);
}

static struct stg_str *contents_slot(struct contents *contents, struct stg_str name)
{
    if (stg_str_same(name, STG_STR("Key")))
        return &contents->key;
    if (stg_str_same(name, STG_STR("Size")))
        return &contents->size;
    if (stg_str_same(name, STG_STR("ETag")))
        return &contents->etag;
    if (stg_str_same(name, STG_STR("LastModified")))
        return &contents->last_modified;
    if (stg_str_same(name, STG_STR("StorageClass")))
        return &contents->storage_class;
    return NULL;
}

static struct stg_str *page_slot(struct list_scan *scan, struct stg_str name)
{
    if (stg_str_same(name, STG_STR("IsTruncated")))
        return &scan->is_truncated;
    if (stg_str_same(name, STG_STR("NextContinuationToken")))
        return &scan->token;
    if (stg_str_same(name, STG_STR("KeyCount")))
        return &scan->key_count;
    if (stg_str_same(name, STG_STR("EncodingType")))
        return &scan->encoding_type;
    return NULL;
}

static int is_contents(const struct list_scan *scan)
{
    return stg_str_same(stg_xml_local_name(scan->xml.open[1]), STG_STR("Contents"));
}

static int element_open(struct list_scan *scan, const struct stg_xml_tag *tag)
{
    if (tag->depth == 1 && !stg_str_same(tag->name, STG_STR("ListBucketResult")))
        return scan_refuse(scan, "not a ListBucketResult");
    if (tag->depth == 2)
        scan->contents = (struct contents){.key = {NULL, 0}};
    if (tag->depth == 3 && stg_str_same(stg_xml_local_name(scan->xml.open[1]), STG_STR("CommonPrefixes")))
        return scan_refuse(scan, "common prefixes in a listing without a delimiter");
    return 0;
}

/* leaf: the element held nothing but text. */
static int element_close(struct list_scan *scan, const struct stg_xml_tag *tag, int leaf)
{
    struct stg_str *slot = NULL;

    if (tag->depth == 2 && stg_str_same(tag->name, STG_STR("Contents")))
        return contents_finish(scan);
    if (tag->depth == 2)
        slot = page_slot(scan, tag->name);
    if (tag->depth == 3 && is_contents(scan))
        slot = contents_slot(&scan->contents, tag->name);
    if (slot && !leaf)
        return scan_refuse(scan, "an element inside of a text");
    return slot ? text_take(scan, slot, tag->text) : 0;
}

static int is_key(const struct list_scan *scan, const struct stg_xml_tag *tag)
{
    return tag->depth == 3 && stg_str_same(tag->name, STG_STR("Key")) && is_contents(scan);
}

static int text_check(struct list_scan *scan, const struct stg_xml_tag *tag, int key)
{
    if (!stg_xml_is_text(tag->text))
        return scan_refuse(scan, "a control character");
    if (key && memchr(tag->text.ptr, '\r', tag->text.len))
        return scan_refuse(scan, "a bare carriage return in a key"); /* XML readers turn it into a line feed */
    if (!key && !stg_is_utf8(tag->text))
        return scan_refuse(scan, "bytes that are not UTF-8");
    return 0;
}

static int elements_scan(struct list_scan *scan)
{
    struct stg_xml_tag tag;
    enum stg_xml_kind kind, before = STG_XML_END;
    int error = 0;

    while (!error && (kind = stg_xml_next(&scan->xml, &tag)) > STG_XML_END) {
        int key = kind == STG_XML_CLOSE && before == STG_XML_OPEN && is_key(scan, &tag);

        error = text_check(scan, &tag, key);
        if (!error)
            error = kind == STG_XML_OPEN ? element_open(scan, &tag) : element_close(scan, &tag, before == STG_XML_OPEN);
        before = kind;
    }
    if (!error && kind == STG_XML_PROBLEM)
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

    page->truncated = stg_str_same(scan->is_truncated, STG_STR("true"));
    if (!page->truncated && !stg_str_same(scan->is_truncated, STG_STR("false")))
        return scan_refuse(scan, "IsTruncated is neither true nor false");
    page->key_count = stg_decimal_parse(scan->key_count);
    if (scan->key_count.ptr && page->key_count < 0)
        return scan_refuse(scan, "a KeyCount that is no number");
    return token_finish(scan);
}

/* Whether the answer says <EncodingType>url. Some servers say so only after the keys, so it is looked for first. */
static int encoding_find(const char *data, size_t len)
{
    struct stg_xml xml;
    struct stg_xml_tag tag;
    enum stg_xml_kind kind;

    stg_xml_start(&xml, data, len);
    while ((kind = stg_xml_next(&xml, &tag)) > STG_XML_END)
        if (kind == STG_XML_CLOSE && tag.depth == 2 && stg_str_same(tag.name, STG_STR("EncodingType")))
            return stg_str_same(tag.text, STG_STR("url"));
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
    stg_xml_start(&scan.xml, data, len);
    error = elements_scan(&scan);
    if (!error)
        error = page_finish(&scan);
    free(scan.scratch);
    return error;
}
