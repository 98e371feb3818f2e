/* A strict parser for HTTP/1.1 responses, fed a byte at a time or all at once: framing only, no policy.
 *
 * Source: RFC 9110, RFC 9112. Stricter where a lenient reader and a strict one could disagree about where a message
 * ends (response smuggling): what is not plainly right is an error, and the connection is closed.
 *
 * Refused: a status line that is not HTTP/1.1 or 1.0 with three digits from 100 to 599; obsolete line folding;
 * blanks before a colon; a lone LF as line end, a bare CR, NUL or any other control character but a tab; a field
 * name with a character that is no token; Content-Length that is not all digits, over 2^63-1, or repeated with
 * another value (also inside one comma list); Content-Length together with Transfer-Encoding; a transfer coding
 * other than a single "chunked", or any in an HTTP/1.0, 1xx or 204 answer; a length other than 0 in a 1xx or 204;
 * ETag or Content-Range repeated with another value; chunk sizes with a sign, blanks, more than 16 digits or over
 * 2^63-1; trailers that are no fields; more than 16 KiB of head (interim ones counted), 100 fields, 64 KiB of
 * trailers or 256 bytes of extensions on one chunk; more than 8 interim (1xx) responses in a row; 101. (Extensions
 * are bounded by the chunk, not by the body: a proxy that signs or marks every chunk may send many; the body's length
 * bounds the chunks.)
 */
#ifndef STG_HTTP_H
#define STG_HTTP_H

#include "stg.h"

#define STG_HTTP_MAX_HEAD (16 << 10)
#define STG_HTTP_MAX_FIELDS 100
#define STG_HTTP_MAX_INTERIM 8
#define STG_HTTP_MAX_EXTENSIONS 256
#define STG_HTTP_MAX_TRAILERS (64 << 10)

enum stg_http_error {
    STG_HTTP_OK = 0,
    STG_HTTP_BAD_STATUS_LINE,
    STG_HTTP_BAD_FIELD,
    STG_HTTP_BAD_LENGTH,
    STG_HTTP_BAD_CODING,
    STG_HTTP_BAD_CHUNK,
    STG_HTTP_TOO_BIG,
    STG_HTTP_TRUNCATED, /* the connection ended inside a message */
};

/* What a head said, as far as this engine asks. Texts point into the caller's head bytes; len 0: none. Of a
 * repeated field that is not named above the first one counts. */
struct stg_http_head {
    int status;
    struct stg_str reason;  /* for people */
    int minor;              /* 0 or 1 of HTTP/1.x */
    int keep_alive;         /* the connection may be used again after the body; never so when it ends the body */
    int64_t content_length; /* -1: none */
    int chunked;
    int has_range;          /* Content-Range: bytes first-last/total was there and well formed */
    int64_t range_first, range_last, range_total; /* total -1 for '*'; "bytes *" + "/total" gives total only */
    int bad_range;          /* a Content-Range that is not well formed */
    int encoded;            /* Content-Encoding present and not "identity" */
    int64_t retry_after_s;  /* -1: none; an HTTP date becomes the seconds from the Date field, at least 0 */
    struct stg_str etag;    /* between the quotes; as it stands when there are none */
    int etag_weak;          /* W/ was in front */
    struct stg_str date, region /* x-amz-bucket-region */, request_id /* x-amz-request-id */, location;
    struct stg_str version_id, checksum_crc32, checksum_crc32c, checksum_crc64nvme, checksum_sha1, checksum_sha256,
        checksum_type, sse /* x-amz-server-side-encryption */, sse_customer /* its -customer-algorithm */;
    int64_t parts; /* x-amz-mp-parts-count; -1: none, or no number */
    struct stg_str mtime; /* x-amz-meta-mtime */
};

/* Looks for a complete head at the start of data. Returns its length in bytes (head parsed into out, interim
 * responses skipped and counted in the length), 0 when more bytes are needed, or -enum stg_http_error.
 * Call again with the same start and more bytes; the work is linear in what is new if *scanned is kept (it starts
 * at 0; interim responses are looked at again). What is plainly not HTTP is refused at its first wrong byte. */
ssize_t stg_http_head_parse(const char *data, size_t len, size_t *scanned, struct stg_http_head *out);

/* What is wrong with an answer, for people, by a negative result of the functions here. */
const char *stg_http_error_text(ssize_t error);

/* How the body after a head is delimited. */
struct stg_http_body {
    int64_t remaining; /* of the body (length), of the current chunk (chunked), -1: until the connection ends */
    int kind;          /* 0 none, 1 length, 2 chunked, 3 until close */
    int state;         /* chunked: private */
    uint32_t counter;  /* chunked: private */
    uint32_t extensions; /* of this chunk: private */
    int complete;
};

/* method_head: the response to a HEAD has no body. 1xx, 204 and 304 have none either. */
void stg_http_body_start(struct stg_http_body *body, const struct stg_http_head *head, int method_head);

/* Finds the next run of body bytes in data[0..len). On return *skip bytes of framing come first, then the returned
 * number of body bytes; both are consumed. 0 with *skip < len never happens unless complete. Bytes after the end of
 * the body are left: the caller treats any as a protocol error. Negative: -enum stg_http_error. */
ssize_t stg_http_body_next(struct stg_http_body *body, const char *data, size_t len, size_t *skip);

/* The peer closed: 0 when that was the right end, else -STG_HTTP_TRUNCATED. */
int stg_http_body_eof(struct stg_http_body *body);

#endif
