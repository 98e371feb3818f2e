#include "http.h"

#include "check.h"
#include "http_drive.h"

static struct drive run;

static void drive_text(const char *text, size_t len, int method_head)
{
    free(run.bytes);
    drive_run(&run, text, len, 0, method_head);
}

#define DRIVE(text) drive_text(text, sizeof(text) - 1, 0)
#define DRIVE_HEAD(text) drive_text(text, sizeof(text) - 1, 1)
#define CHUNKED(text) DRIVE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" text)
#define CHECK_BODY(wanted) CHECK_STR(((struct stg_str){run.bytes, run.body < 0 ? 0 : (size_t)run.body}), wanted)
#define CHECK_WHOLE(wanted, after)                                                                           \
    CHECK_BODY(wanted);                                                                                      \
    CHECK_EQ(run.rest, after);                                                                               \
    CHECK(run.complete && run.eof == 0)
#define CHECK_CHUNKS_REFUSED(text, error)                                                                    \
    CHUNKED(text);                                                                                           \
    CHECK_EQ(run.body, -(error))

static void test_length_ends_the_body_and_the_rest_is_left(void)
{
    DRIVE("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    CHECK_WHOLE("hello", 0);
    DRIVE("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n");
    CHECK_WHOLE("hello", 17);
    DRIVE("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx");
    CHECK_WHOLE("", 1);
}

static void test_connection_that_ends_early_is_truncated(void)
{
    DRIVE("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello");
    CHECK_BODY("hello");
    CHECK(!run.complete && run.eof == -STG_HTTP_TRUNCATED);
    CHUNKED("5\r\nhello\r\n0\r\n\r");
    CHECK(!run.complete && run.eof == -STG_HTTP_TRUNCATED);
    CHUNKED("");
    CHECK(!run.complete && run.eof == -STG_HTTP_TRUNCATED);
}

static void test_body_without_a_length_lasts_until_the_connection_ends(void)
{
    DRIVE("HTTP/1.0 200 OK\r\n\r\nhello\r\n\r\n");
    CHECK_WHOLE("hello\r\n\r\n", 0);
    CHECK(!run.parsed.keep_alive);
    DRIVE("HTTP/1.1 200 OK\r\n\r\n");
    CHECK_WHOLE("", 0);
}

static void test_answers_that_cannot_have_a_body_have_none(void)
{
    DRIVE("HTTP/1.1 204 No Content\r\n\r\nx");
    CHECK_WHOLE("", 1);
    DRIVE("HTTP/1.1 304 Not Modified\r\nContent-Length: 443\r\n\r\nx");
    CHECK_WHOLE("", 1);
    DRIVE("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK_WHOLE("", 0);
    DRIVE_HEAD("HTTP/1.1 200 OK\r\nContent-Length: 443\r\n\r\nx");
    CHECK_WHOLE("", 1);
    DRIVE_HEAD("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK_WHOLE("", 0);
}

static void test_chunks_are_joined(void)
{
    CHUNKED("5\r\nhello\r\n1\r\n \r\n00A\r\n0123456789\r\n0\r\n\r\nnext");
    CHECK_WHOLE("hello 0123456789", 4);
    CHUNKED("a;name=value;\t\"q\"\r\n0123456789\r\n000\r\n\r\n");
    CHECK_WHOLE("0123456789", 0);
    CHUNKED("0\r\nX-Trailer: a\r\nContent-Length: 7\r\n\r\n");
    CHECK_WHOLE("", 0);
    CHUNKED("3\r\n\r\n0\r\n0\r\n\r\n");
    CHECK_WHOLE("\r\n0", 0);
}

static void test_malformed_chunk_is_refused(void)
{
    CHECK_CHUNKS_REFUSED("\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED(";x\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("+5\r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("-5\r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED(" 5\r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5 \r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5 ;x\r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("0x5\r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5g\r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5\rhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5\r\nhello", 0 - 5); /* so far in order */
    CHECK_CHUNKS_REFUSED("5\r\nhelloX\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5\r\nhello\n0\r\n\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5\r\nhello\r0\r\n\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5;a\0b\r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("5;a\nb\r\nhello\r\n", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("0\r\n\rX", STG_HTTP_BAD_CHUNK);
}

static void test_chunk_size_beyond_int64_or_16_digits_is_refused(void)
{
    CHUNKED("7fffffffffffffff\r\nhello");
    CHECK_BODY("hello");
    CHECK(!run.complete);
    CHECK_CHUNKS_REFUSED("8000000000000000\r\nhello", STG_HTTP_BAD_CHUNK);
    CHECK_CHUNKS_REFUSED("ffffffffffffffff\r\nhello", STG_HTTP_BAD_CHUNK);
    CHUNKED("0000000000000005\r\nhello\r\n0\r\n\r\n");
    CHECK_WHOLE("hello", 0);
    CHECK_CHUNKS_REFUSED("00000000000000005\r\nhello", STG_HTTP_BAD_CHUNK);
}

static void test_malformed_trailer_is_refused(void)
{
    CHECK_CHUNKS_REFUSED("0\r\n folded\r\n\r\n", STG_HTTP_BAD_FIELD);
    CHECK_CHUNKS_REFUSED("0\r\nX: a\r\n b\r\n\r\n", STG_HTTP_BAD_FIELD);
    CHECK_CHUNKS_REFUSED("0\r\nno colon\r\n\r\n", STG_HTTP_BAD_FIELD);
    CHECK_CHUNKS_REFUSED("0\r\nX : a\r\n\r\n", STG_HTTP_BAD_FIELD);
    CHECK_CHUNKS_REFUSED("0\r\n: a\r\n\r\n", STG_HTTP_BAD_FIELD);
    CHECK_CHUNKS_REFUSED("0\r\nX: a\n\r\n", STG_HTTP_BAD_FIELD);
    CHECK_CHUNKS_REFUSED("0\r\nX: a\0\r\n\r\n", STG_HTTP_BAD_FIELD);
    CHECK_CHUNKS_REFUSED("0\r\nHTTP/1.1 200 OK\r\n\r\n", STG_HTTP_BAD_FIELD);
}

static size_t text_repeat(char *out, const char *start, const char *piece, size_t count, const char *end)
{
    size_t len = (size_t)sprintf(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s", start);

    while (count--)
        len += (size_t)sprintf(out + len, "%s", piece);
    return len + (size_t)sprintf(out + len, "%s", end);
}

static void test_endless_trailers_and_extensions_are_refused(void)
{
    char *text = malloc(256 << 10);
    size_t len;

    len = text_repeat(text, "5;", "x", STG_HTTP_MAX_EXTENSIONS, "\r\nhello\r\n0\r\n\r\n");
    drive_text(text, len, 0);
    CHECK_WHOLE("hello", 0);
    len = text_repeat(text, "5;", "x", STG_HTTP_MAX_EXTENSIONS + 1, "\r\nhello\r\n0\r\n\r\n");
    drive_text(text, len, 0);
    CHECK_EQ(run.body, -STG_HTTP_TOO_BIG);
    len = text_repeat(text, "", "1;xxxxxxxxx\r\nb\r\n", STG_HTTP_MAX_EXTENSIONS / 9 + 1, "0\r\n\r\n");
    drive_text(text, len, 0);
    CHECK_WHOLE("bbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 0); /* each chunk has room of its own */
    len = text_repeat(text, "0\r\n", "X: abcd\r\n", STG_HTTP_MAX_TRAILERS / 8 - 1, "\r\n");
    drive_text(text, len, 0);
    CHECK_WHOLE("", 0);
    len = text_repeat(text, "0\r\n", "X: abcd\r\n", STG_HTTP_MAX_TRAILERS / 8 + 1, "\r\n");
    drive_text(text, len, 0);
    CHECK_EQ(run.body, -STG_HTTP_TOO_BIG);
    free(text);
}

static const char *const ANSWERS[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nETag: \"x\"\r\n\r\nhello worldREST",
    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-7/9\r\nContent-Length: 5\r\n\r\nlo wo",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n006\r\n world\r\n0\r\nA: b\r\n\r\nREST",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 404 Not Found\r\n"
    "Transfer-Encoding: chunked\r\nRetry-After: 3\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nuntil the end",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nREST",
    "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nshort",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nA: b\n\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA b\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
};

static void test_every_split_gives_what_the_whole_gives(void)
{
    for (size_t i = 0; i < sizeof(ANSWERS) / sizeof(ANSWERS[0]); i++) {
        size_t len = strlen(ANSWERS[i]);
        struct drive whole;

        drive_run(&whole, ANSWERS[i], len, 0, 0);
        for (size_t piece = 1; piece < len; piece++) {
            struct drive split;

            drive_run(&split, ANSWERS[i], len, piece, 0);
            if (!drive_same(&whole, &split))
                printf("answer %zu in pieces of %zu\n", i, piece);
            CHECK(drive_same(&whole, &split));
            free(split.bytes);
        }
        free(whole.bytes);
    }
}

static void test_every_truncation_is_incomplete_or_an_error(void)
{
    for (size_t i = 0; i < 4; i++) {
        size_t len = strlen(ANSWERS[i]);
        struct drive whole, cut;

        drive_run(&whole, ANSWERS[i], len, 0, 0);
        for (size_t at = 0; at < len - whole.rest; at++) {
            drive_run(&cut, ANSWERS[i], at, 0, 0);
            CHECK(cut.head == 0 || (!cut.complete && cut.eof == -STG_HTTP_TRUNCATED));
            free(cut.bytes);
        }
        free(whole.bytes);
    }
}

int main(void)
{
    RUN(test_length_ends_the_body_and_the_rest_is_left);
    RUN(test_connection_that_ends_early_is_truncated);
    RUN(test_body_without_a_length_lasts_until_the_connection_ends);
    RUN(test_answers_that_cannot_have_a_body_have_none);
    RUN(test_chunks_are_joined);
    RUN(test_malformed_chunk_is_refused);
    RUN(test_chunk_size_beyond_int64_or_16_digits_is_refused);
    RUN(test_malformed_trailer_is_refused);
    RUN(test_endless_trailers_and_extensions_are_refused);
    RUN(test_every_split_gives_what_the_whole_gives);
    RUN(test_every_truncation_is_incomplete_or_an_error);
    free(run.bytes);
    END();
}
