#include "http.h"

#include <stdlib.h>

#include "check.h"

static struct stg_http_head head;

static ssize_t parse(const char *data, size_t len)
{
    size_t scanned = 0;

    return stg_http_head_parse(data, len, &scanned, &head);
}

#define PARSE(text) parse(text, sizeof(text) - 1)
#define FIELDS(lines) PARSE("HTTP/1.1 200 OK\r\n" lines "\r\n")
#define CHECK_REFUSED(text, error) CHECK_EQ(PARSE(text), -(error))
#define CHECK_FIELDS_REFUSED(lines, error) CHECK_EQ(FIELDS(lines), -(error))

static void test_s3_answer_is_understood(void)
{
    static const char answer[] = "HTTP/1.1 206 Partial Content\r\n"
                                 "x-amz-id-2: 4yT\r\n"
                                 "x-amz-request-id: 79A0\r\n"
                                 "Date: Wed, 12 Oct 2009 17:50:00 GMT\r\n"
                                 "ETag: \"b54357faf0632cce46e942fa68356b38\"\r\n"
                                 "x-amz-version-id:null\r\n"
                                 "x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n"
                                 "x-amz-checksum-type: FULL_OBJECT\r\n"
                                 "Accept-Ranges: bytes\r\n"
                                 "Content-Range: bytes 0-9/443\r\n"
                                 "Content-Type: \r\n"
                                 "Content-Length: 10\t\r\n"
                                 "Server: AmazonS3\r\n\r\n0123456789";

    CHECK_EQ(PARSE(answer), sizeof(answer) - 1 - 10);
    CHECK(head.status == 206 && head.minor == 1 && head.keep_alive && !head.chunked && !head.encoded);
    CHECK_EQ(head.content_length, 10);
    CHECK(head.has_range && !head.bad_range && head.range_first == 0 && head.range_last == 9 && head.range_total == 443);
    CHECK_STR(head.etag, "b54357faf0632cce46e942fa68356b38");
    CHECK_STR(head.request_id, "79A0");
    CHECK_STR(head.version_id, "null");
    CHECK_STR(head.checksum_crc64nvme, "AAAAAAAAAAA=");
    CHECK_STR(head.checksum_type, "FULL_OBJECT");
    CHECK_STR(head.date, "Wed, 12 Oct 2009 17:50:00 GMT");
    CHECK_STR(head.region, "");
    CHECK_EQ(head.retry_after_s, -1);
    CHECK(!head.etag_weak);
}

static void test_texts_of_every_known_field_are_found_in_any_case(void)
{
    CHECK(FIELDS("X-AMZ-BUCKET-REGION: eu-west-1\r\nlocation: http://x/\r\nX-Amz-Checksum-Crc32: a\r\n"
                 "x-amz-checksum-crc32c: b\r\nx-amz-checksum-sha1: c\r\nx-amz-checksum-sha256: d\r\n") > 0);
    CHECK_STR(head.region, "eu-west-1");
    CHECK_STR(head.location, "http://x/");
    CHECK_STR(head.checksum_crc32, "a");
    CHECK_STR(head.checksum_crc32c, "b");
    CHECK_STR(head.checksum_sha1, "c");
    CHECK_STR(head.checksum_sha256, "d");
    CHECK(FIELDS("X-Amz-Meta-Mtimes: 7\r\nX-Amz-Meta-Mtime: 1700000000.5\r\n") > 0);
    CHECK_STR(head.mtime, "1700000000.5");
}

static void test_status_line_variants_are_accepted(void)
{
    CHECK(PARSE("HTTP/1.1 200 OK\r\n\r\n") > 0);
    CHECK(PARSE("HTTP/1.1 200 \r\n\r\n") > 0);
    CHECK(PARSE("HTTP/1.1 200\r\n\r\n") > 0);
    CHECK(PARSE("HTTP/1.0 404 Not \xc3\xa9t\xe9\r\n\r\n") > 0);
    CHECK(head.minor == 0 && head.status == 404);
}

static void test_malformed_status_line_is_refused(void)
{
    CHECK_REFUSED("HTTP/2 200 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.2 200 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1  200 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1\t200 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 20 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 2000 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 2x0 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 +20 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 099 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 600 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 200 O\0K\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 200 O\rK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("http/1.1 200 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED(" HTTP/1.1 200 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("\r\nHTTP/1.1 200 OK\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
    CHECK_REFUSED("HTTP/1.1 101 Switching Protocols\r\n\r\n", STG_HTTP_BAD_STATUS_LINE);
}

static void test_what_is_plainly_not_http_is_refused_at_its_first_wrong_byte(void)
{
    CHECK_REFUSED("S", STG_HTTP_BAD_STATUS_LINE); /* SSH-2.0- */
    CHECK_REFUSED("\x15", STG_HTTP_BAD_STATUS_LINE); /* a TLS alert */
    CHECK_REFUSED("HTTP/2", STG_HTTP_BAD_STATUS_LINE);
    CHECK_EQ(PARSE("HTTP/1."), 0);
}

static void test_malformed_field_is_refused(void)
{
    CHECK_FIELDS_REFUSED("ETag : \"a\"\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ETag\t: \"a\"\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ETag\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED(": a\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ET(ag: a\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ET\xc3\xa9: a\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("A: b\0c\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("A\0: b\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("A: b\rc\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("A: b\r\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("A: b\x7f\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("A: b\x1b[2J\r\n", STG_HTTP_BAD_FIELD);
}

static void test_folded_line_is_refused(void)
{
    CHECK_FIELDS_REFUSED("A: b\r\n c\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("A: b\r\n\tc\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED(" A: b\r\n", STG_HTTP_BAD_FIELD);
}

static void test_lone_line_feed_is_refused(void)
{
    CHECK_REFUSED("HTTP/1.1 200 OK\n\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("A: b\nC: d\r\n", STG_HTTP_BAD_FIELD);
    CHECK_REFUSED("HTTP/1.1 200 OK\r\nA: b\r\n\n", STG_HTTP_BAD_FIELD);
}

static void test_content_length_is_digits_up_to_the_largest_int64(void)
{
    CHECK(FIELDS("Content-Length: 9223372036854775807\r\n") > 0);
    CHECK_EQ(head.content_length, INT64_MAX);
    CHECK(FIELDS("Content-Length: 000000000000000000000000000005\r\n") > 0);
    CHECK_EQ(head.content_length, 5);
    CHECK_FIELDS_REFUSED("Content-Length: 9223372036854775808\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 18446744073709551621\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 99999999999999999999999999999999999999\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: -1\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: +1\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 0x10\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 1 2\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 1_0\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 5.0\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length:\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: \"5\"\r\n", STG_HTTP_BAD_LENGTH);
}

static void test_repeated_content_length_has_to_agree(void)
{
    CHECK(FIELDS("Content-Length: 5\r\nContent-Length: 5\r\n") > 0);
    CHECK(FIELDS("Content-Length: 5, 5\r\n") > 0);
    CHECK_EQ(head.content_length, 5);
    CHECK_FIELDS_REFUSED("Content-Length: 5\r\nContent-Length: 6\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 5\r\nContent-Length: 0\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 5, 6\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: 5,\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_FIELDS_REFUSED("Content-Length: ,5\r\n", STG_HTTP_BAD_LENGTH);
}

static void test_content_length_with_transfer_encoding_is_refused(void)
{
    CHECK_FIELDS_REFUSED("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", STG_HTTP_BAD_CODING);
    CHECK_FIELDS_REFUSED("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", STG_HTTP_BAD_CODING);
}

static void test_transfer_coding_other_than_one_chunked_is_refused(void)
{
    CHECK(FIELDS("Transfer-Encoding: Chunked\r\n") > 0);
    CHECK(head.chunked && head.keep_alive && head.content_length == -1);
    CHECK_FIELDS_REFUSED("Transfer-Encoding: gzip, chunked\r\n", STG_HTTP_BAD_CODING);
    CHECK_FIELDS_REFUSED("Transfer-Encoding: chunked, chunked\r\n", STG_HTTP_BAD_CODING);
    CHECK_FIELDS_REFUSED("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", STG_HTTP_BAD_CODING);
    CHECK_FIELDS_REFUSED("Transfer-Encoding: identity\r\n", STG_HTTP_BAD_CODING);
    CHECK_FIELDS_REFUSED("Transfer-Encoding: chunked;q=1\r\n", STG_HTTP_BAD_CODING);
    CHECK_FIELDS_REFUSED("Transfer-Encoding: xchunked\r\n", STG_HTTP_BAD_CODING);
    CHECK_FIELDS_REFUSED("Transfer-Encoding:\r\n", STG_HTTP_BAD_CODING);
    CHECK_REFUSED("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", STG_HTTP_BAD_CODING);
    CHECK_REFUSED("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", STG_HTTP_BAD_CODING);
}

static void test_length_in_an_answer_without_a_body_is_refused(void)
{
    CHECK(PARSE("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n") > 0);
    CHECK_REFUSED("HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\n", STG_HTTP_BAD_LENGTH);
    CHECK_REFUSED("HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\n", STG_HTTP_BAD_LENGTH);
    CHECK(PARSE("HTTP/1.1 304 Not Modified\r\nContent-Length: 443\r\n\r\n") > 0);
}

static void test_interim_answers_are_skipped_up_to_a_limit(void)
{
#define INTERIM "HTTP/1.1 102 Processing\r\n\r\n"
#define FOUR INTERIM INTERIM INTERIM INTERIM
    static const char one[] = "HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";

    CHECK_EQ(PARSE(one), sizeof(one) - 1);
    CHECK(head.status == 200 && head.content_length == 3);
    CHECK_EQ(PARSE(INTERIM), 0);
    CHECK_EQ(PARSE(INTERIM "HTTP/1.1 2"), 0);
    CHECK(PARSE(FOUR FOUR "HTTP/1.1 200 OK\r\n\r\n") > 0);
    CHECK_REFUSED(FOUR FOUR INTERIM "HTTP/1.1 200 OK\r\n\r\n", STG_HTTP_TOO_BIG);
    CHECK_REFUSED(FOUR FOUR INTERIM, STG_HTTP_TOO_BIG);
    CHECK_REFUSED(INTERIM "garbage", STG_HTTP_BAD_STATUS_LINE);
}

static void test_connection_is_kept_only_when_both_sides_can(void)
{
#define KEPT(text) (PARSE(text) > 0 ? head.keep_alive : -1)
    CHECK_EQ(KEPT("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 1);
    CHECK_EQ(KEPT("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), 0);
    CHECK_EQ(KEPT("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close ,y\r\n\r\n"), 0);
    CHECK_EQ(KEPT("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"), 0);
    CHECK_EQ(KEPT("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: closed\r\n\r\n"), 1);
    CHECK_EQ(KEPT("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), 0);
    CHECK_EQ(KEPT("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"), 1);
    CHECK_EQ(KEPT("HTTP/1.1 200 OK\r\n\r\n"), 0);
    CHECK_EQ(KEPT("HTTP/1.1 204 No Content\r\n\r\n"), 1);
    CHECK_EQ(KEPT("HTTP/1.1 304 Not Modified\r\n\r\n"), 1);
}

static void test_content_range_is_exact_or_marked_bad(void)
{
#define RANGE(value) CHECK(FIELDS("Content-Range: " value "\r\n") > 0)
    RANGE("bytes 0-0/*");
    CHECK(head.has_range && head.range_total == -1);
    RANGE("BYTES 8388608-9223372036854775806/9223372036854775807");
    CHECK(head.has_range && head.range_last == INT64_MAX - 1);
    RANGE("bytes */443");
    CHECK(!head.has_range && !head.bad_range && head.range_total == 443);
#define BAD_RANGE(value)                                                                                     \
    RANGE(value);                                                                                            \
    CHECK(head.bad_range && !head.has_range)
    BAD_RANGE("bytes 0-443/443");
    BAD_RANGE("bytes 9-0/443");
    BAD_RANGE("bytes 0-9");
    BAD_RANGE("bytes 0-9/");
    BAD_RANGE("bytes 0-9/9223372036854775808");
    BAD_RANGE("bytes -9/443");
    BAD_RANGE("bytes 0-/443");
    BAD_RANGE("bytes */*");
    BAD_RANGE("bytes 0 - 9/443");
    BAD_RANGE("bytes=0-9/443");
    BAD_RANGE("items 0-9/443");
    BAD_RANGE("bytes 0-9/443, 0-9/443");
    BAD_RANGE("");
    CHECK(FIELDS("Content-Range: bytes 0-9/443\r\nContent-Range: bytes 0-9/443\r\n") > 0);
    CHECK_FIELDS_REFUSED("Content-Range: bytes 0-9/443\r\nContent-Range: bytes 0-8/443\r\n", STG_HTTP_BAD_FIELD);
}

static void test_etag_is_what_stands_between_the_quotes(void)
{
    CHECK(FIELDS("ETag: \"abc-2\"\r\n") > 0);
    CHECK_STR(head.etag, "abc-2");
    CHECK(FIELDS("ETag: W/\"abc\"\r\n") > 0);
    CHECK_STR(head.etag, "abc");
    CHECK(head.etag_weak);
    CHECK(FIELDS("ETag: abc\r\n") > 0);
    CHECK_STR(head.etag, "abc");
    CHECK(FIELDS("ETag: \"\"\r\n") > 0);
    CHECK_STR(head.etag, "");
    CHECK_FIELDS_REFUSED("ETag: \"abc\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ETag: abc\"\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ETag: \"\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ETag: \"a\", \"b\"\r\n", STG_HTTP_BAD_FIELD);
    CHECK(FIELDS("ETag: \"a\"\r\nETag: \"a\"\r\n") > 0);
    CHECK_FIELDS_REFUSED("ETag: \"a\"\r\nETag: \"b\"\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ETag: \"a\"\r\nETag: W/\"a\"\r\n", STG_HTTP_BAD_FIELD);
    CHECK_FIELDS_REFUSED("ETag: \"\"\r\nETag: \"a\"\r\n", STG_HTTP_BAD_FIELD);
}

static void test_content_encoding_other_than_identity_is_told(void)
{
    CHECK(FIELDS("Content-Encoding: gzip\r\n") > 0 && head.encoded);
    CHECK(FIELDS("Content-Encoding: identity, gzip\r\n") > 0 && head.encoded);
    CHECK(FIELDS("Content-Encoding: Identity\r\n") > 0 && !head.encoded);
    CHECK(FIELDS("Content-Encoding:\r\n") > 0 && !head.encoded);
    CHECK(FIELDS("Content-Encoding: gzip\r\nContent-Encoding: identity\r\n") > 0 && head.encoded);
}

static void test_retry_after_is_seconds_or_a_date_seen_from_the_servers_clock(void)
{
#define NOW "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
#define RETRY(lines) (FIELDS(lines) > 0 ? head.retry_after_s : -2)
    CHECK_EQ(RETRY("Retry-After: 120\r\n"), 120);
    CHECK_EQ(RETRY(NOW "Retry-After: Sun, 06 Nov 1994 08:50:00 GMT\r\n"), 23);
    CHECK_EQ(RETRY("Retry-After: Mon, 07 Nov 1994 08:49:37 GMT\r\n" NOW), 86400);
    CHECK_EQ(RETRY(NOW "Retry-After: Sun, 06 Nov 1994 08:00:00 GMT\r\n"), 0);
    CHECK_EQ(RETRY("Retry-After: Sun, 06 Nov 1994 08:50:00 GMT\r\n"), -1);
    CHECK_EQ(RETRY(NOW "Retry-After: Sun, 31 Feb 1994 08:50:00 GMT\r\n"), -1);
    CHECK_EQ(RETRY(NOW "Retry-After: Sun, 06 Nov 1994 24:50:00 GMT\r\n"), -1);
    CHECK_EQ(RETRY(NOW "Retry-After: Sun Nov  6 08:49:37 1994\r\n"), -1);
    CHECK_EQ(RETRY("Retry-After: -5\r\n"), -1);
    CHECK_EQ(RETRY("Retry-After: 99999999999999999999\r\n"), -1);
    CHECK_EQ(RETRY("Retry-After: soon\r\n"), -1);
}

static size_t fields_repeat(char *out, int count, const char *line)
{
    size_t len = (size_t)sprintf(out, "HTTP/1.1 200 OK\r\n");

    while (count--)
        len += (size_t)sprintf(out + len, "%s", line);
    return len + (size_t)sprintf(out + len, "\r\n");
}

static void test_endless_head_is_refused(void)
{
    char *text = malloc(64 << 10);
    size_t len;

    len = fields_repeat(text, STG_HTTP_MAX_FIELDS, "A: b\r\n");
    CHECK_EQ(parse(text, len), len);
    len = fields_repeat(text, STG_HTTP_MAX_FIELDS + 1, "A: b\r\n");
    CHECK_EQ(parse(text, len), -STG_HTTP_TOO_BIG);

    memset(text, 'a', 64 << 10);
    memcpy(text, "HTTP/1.1 200 ", 13);
    CHECK_EQ(parse(text, STG_HTTP_MAX_HEAD - 1), 0);
    CHECK_EQ(parse(text, STG_HTTP_MAX_HEAD), -STG_HTTP_TOO_BIG);
    CHECK_EQ(parse(text, 64 << 10), -STG_HTTP_TOO_BIG);
    memcpy(text + STG_HTTP_MAX_HEAD - 4, "\r\n\r\n", 4);
    CHECK_EQ(parse(text, 64 << 10), STG_HTTP_MAX_HEAD);
    memcpy(text + STG_HTTP_MAX_HEAD - 4, "a\r\n\r\n", 5);
    CHECK_EQ(parse(text, 64 << 10), -STG_HTTP_TOO_BIG);
    free(text);
}

int main(void)
{
    RUN(test_s3_answer_is_understood);
    RUN(test_texts_of_every_known_field_are_found_in_any_case);
    RUN(test_status_line_variants_are_accepted);
    RUN(test_malformed_status_line_is_refused);
    RUN(test_what_is_plainly_not_http_is_refused_at_its_first_wrong_byte);
    RUN(test_malformed_field_is_refused);
    RUN(test_folded_line_is_refused);
    RUN(test_lone_line_feed_is_refused);
    RUN(test_content_length_is_digits_up_to_the_largest_int64);
    RUN(test_repeated_content_length_has_to_agree);
    RUN(test_content_length_with_transfer_encoding_is_refused);
    RUN(test_transfer_coding_other_than_one_chunked_is_refused);
    RUN(test_length_in_an_answer_without_a_body_is_refused);
    RUN(test_interim_answers_are_skipped_up_to_a_limit);
    RUN(test_connection_is_kept_only_when_both_sides_can);
    RUN(test_content_range_is_exact_or_marked_bad);
    RUN(test_etag_is_what_stands_between_the_quotes);
    RUN(test_content_encoding_other_than_identity_is_told);
    RUN(test_retry_after_is_seconds_or_a_date_seen_from_the_servers_clock);
    RUN(test_endless_head_is_refused);
    END();
}
