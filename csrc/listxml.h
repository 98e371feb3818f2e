/* Scanners of the two XML answers this engine reads: ListObjectsV2 and the S3 error body.
 *
 * Source: Amazon S3 API reference, ListObjectsV2 and "REST error responses". A bounded scan, not an XML processor:
 * DOCTYPE, processing instructions other than the declaration, entities other than the five of XML and numeric
 * ones, depth over 16, unclosed elements and bytes that are not UTF-8 outside of keys are refused. Namespaces are ignored.
 */
#ifndef STG_LISTXML_H
#define STG_LISTXML_H

#include "stg.h"
#include "table.h"

struct stg_list_page {
    int64_t count;       /* rows appended */
    int64_t key_count;   /* <KeyCount>, -1 when absent */
    int truncated;       /* <IsTruncated> */
    int encoded;         /* <EncodingType>url: keys and the token were undone ('+' is a space, then %XX) */
    int in_order;        /* keys strictly ascending in byte order, the last one of the table before included */
    int archived;        /* rows whose storage class is GLACIER or DEEP_ARCHIVE (mode is set to STG_ROW_ARCHIVED) */
    char token[2048];    /* <NextContinuationToken> */
    size_t token_len;
    char problem[160];   /* what was wrong, for people, when the return is negative */
};

#define STG_ROW_ARCHIVED 0x80000000u /* in stg_row.mode */

/* Appends the page's objects. key_skip bytes (the listed prefix) are dropped from each key after decoding; a key
 * shorter than that or without that prefix is an error (the caller passes the prefix to be sure).
 * 0; -EBADMSG: not an answer as described, nothing is guaranteed about rows appended; -ENOMEM. */
int stg_list_scan(const char *data, size_t len, struct stg_str prefix, size_t key_skip, struct stg_table *table,
                  struct stg_list_page *page);

struct stg_s3_error {
    char code[64];
    char message[512];
    char region[64];
    char request_id[128];
};

/* Reads <Error>; what is missing stays "". Control characters become '?'. Never fails: garbage gives empty texts. */
void stg_s3_error_scan(const char *data, size_t len, struct stg_s3_error *out);

#endif
