/* Scanners of the two XML answers this engine reads: ListObjectsV2 and the S3 error body.
 *
 * Source: Amazon S3 API reference, ListObjectsV2 and "REST error responses". A bounded scan, not an XML processor.
 * Refused: DOCTYPE, comments and CDATA (no known server sends them, and what is not read cannot be misread),
 * processing instructions other than the declaration, a declared encoding that is not UTF-8, entities other than
 * the five of XML and numeric ones, depth over 16, unclosed or crossed elements, anything after the root, raw
 * control characters in texts, and bytes that are not UTF-8 outside of keys. Namespaces are ignored.
 */
#ifndef STG_LISTXML_H
#define STG_LISTXML_H

#include "stg.h"
#include "table.h"

#define STG_LIST_MAX_TOKEN 2048

struct stg_list_page {
    int64_t count;       /* rows appended, those of the rest included */
    int64_t key_count;   /* <KeyCount>, -1 when absent; some servers count otherwise, so it is not compared */
    int truncated;       /* <IsTruncated>; then there is a token */
    int encoded;         /* <EncodingType>url: keys were undone ('+' is a space, then %XX) */
    int in_order;        /* keys strictly ascending in byte order, above the table's last one and the span's after */
    int64_t archived;    /* rows whose storage class is GLACIER or DEEP_ARCHIVE (mode is set to STG_ROW_ARCHIVED), but
                            for those of which <RestoreStatus>, where it was asked for, says that they are restored */
    char token[STG_LIST_MAX_TOKEN]; /* <NextContinuationToken>, as it stands: EncodingType does not cover it, and
                                       Amazon's tokens are base64, where '+' is a digit */
    size_t token_len;
    char problem[160];   /* what was wrong, for people, when the return is negative; printable ASCII */
};

#define STG_ROW_ARCHIVED 0x80000000u /* in stg_row.mode */

/* The part of a listing that is wanted: keys, without the first key_skip bytes, in (after, upto]. ptr NULL: no bound. */
struct stg_list_span {
    struct stg_str after, upto;
    struct stg_table *rest; /* gets the rows beyond upto; with upto */
};

/* Appends the page's objects. The first key_skip bytes (key_skip <= prefix.len) are dropped from each key after
 * decoding; a key without that prefix is an error. The ETag's quotes are taken off; an absent one is "",
 * one that cannot be sent back as a header (control characters, over 1022 bytes) an error that names its key. mtime_ns is
 * <LastModified>, 0 when absent. An answer without <IsTruncated>, truncated without a token, or with common prefixes
 * (nobody asked for a delimiter: keys would be missed) is an error. From the first key beyond span->upto on, rows go
 * to span->rest. What is not above span->after is appended all the same, and not in order. span NULL: the whole.
 * 0; -EBADMSG: not an answer as described; -ENOMEM; -EINVAL: key_skip. Rows are appended only when the whole answer
 * is well formed, but a row that is bad in itself leaves the ones before it. */
int stg_list_scan(const char *data, size_t len, struct stg_str prefix, size_t key_skip, struct stg_table *table,
                  const struct stg_list_span *span, struct stg_list_page *page);

struct stg_s3_error {
    char code[64];
    char message[512];
    char region[64];
    char request_id[128];
};

/* Reads <Error>; what is missing, or cut off, stays "". Too long texts are cut between characters; control
 * characters and what is not UTF-8 become '?'. Never fails: garbage gives empty texts. */
void stg_s3_error_scan(const char *data, size_t len, struct stg_s3_error *out);

#endif
