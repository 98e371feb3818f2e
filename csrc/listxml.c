#include "listxml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "uri.h"
#include "xml.h"

/* The texts of one <Contents>, as they stand; ptr NULL: not seen. */
struct contents {
    struct stg_str key, size, etag, last_modified, storage_class, restoring;
};

enum section { SECTION_OTHER, SECTION_CONTENTS, SECTION_COMMON_PREFIXES };

/* First all elements are seen, then rows are appended: some servers tell only after the keys how they are encoded. */
struct list_scan {
    struct stg_xml xml;
    struct stg_table *table;
    struct stg_list_page *page;
    struct stg_str prefix;
    size_t key_skip;
    char *scratch;          /* SCRATCH_BYTES for a key, as many for an ETag */
    enum section section;   /* the child of the root that is open */
    struct contents *items; /* the last one is being read while section is SECTION_CONTENTS */
    size_t count, room;
    struct stg_str is_truncated, token, key_count, encoding_type;
    struct stg_str last_key; /* in a table, or the span's after; ptr NULL: none */
    struct stg_str upto;
    struct stg_table *rest;
};

#define SCRATCH_SLACK 1028 /* a key may be longer by the prefix that is dropped, an entity needs room for four */
#define SCRATCH_BYTES (STG_TABLE_MAX_TEXT + SCRATCH_SLACK)
#define ETAG_MAX 1022 /* what If-Match has room for, see stg_request_write */

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
        len = stg_url_undo(scan->scratch, key->len);
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

/* A copy that was restored can be read: <RestoreStatus> stands there for no other, and says false when it is done. */
static int is_archived(const struct contents *contents)
{
    return (stg_str_same(contents->storage_class, STG_STR("GLACIER")) ||
            stg_str_same(contents->storage_class, STG_STR("DEEP_ARCHIVE"))) &&
           !stg_str_is(contents->restoring, STG_STR("false"));
}

static void span_pass(struct list_scan *scan, struct stg_str key)
{
    if (!scan->upto.ptr || stg_str_compare(key, scan->upto) <= 0)
        return;
    scan->table = scan->rest;
    scan->upto.ptr = NULL;
}

static int row_append(struct list_scan *scan, const struct stg_row *row)
{
    int64_t index;

    if (scan->last_key.ptr && stg_str_compare(scan->last_key, row->key) >= 0)
        scan->page->in_order = 0;
    span_pass(scan, row->key);
    index = stg_table_append(scan->table, row);
    if (index == -ENOMEM)
        return -ENOMEM;
    if (index < 0)
        return scan_refuse(scan, index == -EOVERFLOW ? "sizes that add up to more than 2^63-1 bytes"
                                                     : "a key or an ETag that is too long");
    scan->last_key = stg_table_row(scan->table, (size_t)index).key;
    scan->page->count++;
    return 0;
}

static int is_header_value(struct stg_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7f)
            return 0;
    return 1;
}

/* Names the key, as far as there is room. */
static int etag_refuse(struct list_scan *scan, struct stg_str key)
{
    char shown[80];
    size_t len = key.len < sizeof(shown) ? key.len : sizeof(shown);

    for (size_t i = 0; i < len; i++)
        shown[i] = key.ptr[i] >= ' ' && key.ptr[i] <= '~' ? key.ptr[i] : '?';
    snprintf(scan->page->problem, sizeof(scan->page->problem), "the ETag of %.*s is none that can be sent back",
             (int)len, shown);
    return -EBADMSG;
}

static int row_make(struct list_scan *scan, const struct contents *contents)
{
    struct stg_row row = {.key = contents->key, .size = stg_decimal_parse(contents->size)};
    int error;

    scan->xml.at = contents->key.ptr; /* the place of a problem */
    if (row.size < 0)
        return scan_refuse(scan, "an object whose size is no number below 2^63");
    error = key_undo(scan, &row.key);
    if (error)
        return error;
    row.identity = unquoted(text_undo(contents->etag, scan->scratch + SCRATCH_BYTES));
    if (contents->etag.ptr && !row.identity.ptr)
        return scan_refuse(scan, "an ETag with a bad entity");
    if (!is_header_value(row.identity) || row.identity.len > ETAG_MAX)
        return etag_refuse(scan, row.key);
    if (contents->last_modified.ptr)
        row.mtime_ns = stg_rfc3339_parse(contents->last_modified);
    if (row.mtime_ns < 0)
        return scan_refuse(scan, "a LastModified that is no time in UTC");
    if (is_archived(contents)) {
        row.mode = STG_ROW_ARCHIVED;
        scan->page->archived++;
    }
    return row_append(scan, &row);
}

static int contents_start(struct list_scan *scan)
{
    if (scan->count == scan->room) {
        size_t room = scan->room ? 2 * scan->room : 1024;
        struct contents *grown = realloc(scan->items, room * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        scan->items = grown;
        scan->room = room;
    }
    scan->items[scan->count++] = (struct contents){.key = {NULL, 0}};
    return 0;
}

static int contents_finish(struct list_scan *scan)
{
    const struct contents *contents = &scan->items[scan->count - 1];

    if (!contents->key.ptr || !contents->size.ptr)
        return scan_refuse(scan, "an object without a key or a size");
    return 0;
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

static int section_start(struct list_scan *scan, struct stg_str name)
{
    scan->section = SECTION_OTHER;
    if (stg_str_same(name, STG_STR("CommonPrefixes")))
        scan->section = SECTION_COMMON_PREFIXES;
    if (!stg_str_same(name, STG_STR("Contents")))
        return 0;
    scan->section = SECTION_CONTENTS;
    return contents_start(scan);
}

static int element_open(struct list_scan *scan, const struct stg_xml_tag *tag)
{
    if (tag->depth == 1 && !stg_str_same(tag->name, STG_STR("ListBucketResult")))
        return scan_refuse(scan, "not a ListBucketResult");
    if (tag->depth == 2)
        return section_start(scan, tag->name);
    if (tag->depth == 3 && scan->section == SECTION_COMMON_PREFIXES)
        return scan_refuse(scan, "common prefixes in a listing without a delimiter");
    return 0;
}

static struct stg_str *slot_of(struct list_scan *scan, const struct stg_xml_tag *tag)
{
    if (tag->depth == 2)
        return page_slot(scan, tag->name);
    if (tag->depth == 3 && scan->section == SECTION_CONTENTS)
        return contents_slot(&scan->items[scan->count - 1], tag->name);
    if (tag->depth == 4 && scan->section == SECTION_CONTENTS && stg_str_same(tag->name, STG_STR("IsRestoreInProgress")) &&
        stg_str_same(stg_xml_open_name(&scan->xml, 3), STG_STR("RestoreStatus")))
        return &scan->items[scan->count - 1].restoring;
    return NULL;
}

/* leaf: the element held nothing but text. */
static int element_close(struct list_scan *scan, const struct stg_xml_tag *tag, int leaf)
{
    struct stg_str *slot = slot_of(scan, tag);

    if (tag->depth == 2 && scan->section == SECTION_CONTENTS)
        return contents_finish(scan);
    if (slot && !leaf)
        return scan_refuse(scan, "an element inside of a text");
    return slot ? text_take(scan, slot, tag->text) : 0;
}

static int is_key(const struct list_scan *scan, const struct stg_xml_tag *tag)
{
    return tag->depth == 3 && scan->section == SECTION_CONTENTS && stg_str_same(tag->name, STG_STR("Key"));
}

static int text_check(struct list_scan *scan, const struct stg_xml_tag *tag, int key)
{
    if (stg_is_plain(tag->text))
        return 0;
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

    page->encoded = stg_str_same(scan->encoding_type, STG_STR("url"));
    page->truncated = stg_str_same(scan->is_truncated, STG_STR("true"));
    if (!page->truncated && !stg_str_same(scan->is_truncated, STG_STR("false")))
        return scan_refuse(scan, "IsTruncated is neither true nor false");
    page->key_count = stg_decimal_parse(scan->key_count);
    if (scan->key_count.ptr && page->key_count < 0)
        return scan_refuse(scan, "a KeyCount that is no number");
    return token_finish(scan);
}

static int rows_append(struct list_scan *scan)
{
    size_t rows = stg_table_count(scan->table);
    int error = 0;

    if (rows)
        scan->last_key = stg_table_row(scan->table, rows - 1).key;
    for (size_t i = 0; i < scan->count && !error; i++)
        error = row_make(scan, &scan->items[i]);
    return error;
}

int stg_list_scan(const char *data, size_t len, struct stg_str prefix, size_t key_skip, struct stg_table *table,
                  const struct stg_list_span *span, struct stg_list_page *page)
{
    struct list_scan scan = {.table = table, .page = page, .prefix = prefix, .key_skip = key_skip};
    int error;

    *page = (struct stg_list_page){.key_count = -1, .in_order = 1};
    if (key_skip > prefix.len || (span && span->upto.ptr && !span->rest))
        return -EINVAL;
    if (span) {
        scan.last_key = span->after;
        scan.upto = span->upto;
        scan.rest = span->rest;
    }
    scan.scratch = malloc(2 * SCRATCH_BYTES);
    if (!scan.scratch)
        return -ENOMEM;
    stg_xml_start(&scan.xml, data, len);
    error = elements_scan(&scan);
    if (!error)
        error = page_finish(&scan);
    if (!error)
        error = rows_append(&scan);
    free(scan.items);
    free(scan.scratch);
    return error;
}
