#include "listxml.h"

#include <stdlib.h>

#include "check.h"
#include "corpus.h"

static struct stg_s3_error error;

static void scan_file(const char *name)
{
    struct stg_str text = corpus_read(name);

    stg_s3_error_scan(text.ptr, text.len, &error);
    corpus_free(text);
}

#define SCAN(text) stg_s3_error_scan(text, sizeof(text) - 1, &error)
#define CHECK_TEXT(field, wanted) CHECK_STR(((struct stg_str){error.field, strlen(error.field)}), wanted)

static void check_empty(void)
{
    CHECK_TEXT(code, "");
    CHECK_TEXT(message, "");
    CHECK_TEXT(region, "");
    CHECK_TEXT(request_id, "");
}

static void test_error_bodies_of_real_servers_are_understood(void)
{
    scan_file("s3error/amazon-sample.xml");
    CHECK_TEXT(code, "NoSuchKey");
    CHECK_TEXT(message, "The resource you requested does not exist");
    CHECK_TEXT(request_id, "4442587FB7D0A2F9");
    CHECK_TEXT(region, "");
    scan_file("s3error/moto.xml");
    CHECK_TEXT(code, "NoSuchBucket");
    CHECK_TEXT(request_id, "vbms3wdBHf4dXaUDaHZRrJ1w5toWECAQ1lRmXP62r6zZOPLY1vqN");
    scan_file("s3error/rclone.xml");
    CHECK_TEXT(code, "NoSuchBucket");
    CHECK_TEXT(message, "The specified bucket does not exist");
    scan_file("s3error/seaweedfs.xml");
    CHECK_TEXT(code, "NoSuchBucket");
    CHECK_TEXT(request_id, "18EA49FA4AE16AFDC849A34A");
    scan_file("s3error/redirect.xml");
    CHECK_TEXT(code, "PermanentRedirect");
    CHECK_TEXT(region, "eu-west-1");
}

static void test_error_inside_of_another_root_is_found(void)
{
    scan_file("s3error/wrapped.xml");
    CHECK_TEXT(code, "InvalidClientTokenId");
    CHECK_TEXT(request_id, "");
}

static void test_cut_body_gives_what_came_whole(void)
{
    scan_file("s3error/cut.xml");
    CHECK_TEXT(code, "SlowDown");
    CHECK_TEXT(message, "");
}

static void test_garbage_gives_empty_texts(void)
{
    scan_file("s3error/html.html");
    check_empty();
    scan_file("s3error/empty.xml");
    check_empty();
    SCAN("\0\xff<<<&");
    check_empty();
    SCAN("<Code>NoSuchKey</Code>");
    check_empty();
    SCAN("<Error><Code>&bad;</Code></Error>");
    check_empty();
}

static void test_what_a_terminal_could_obey_is_replaced(void)
{
    SCAN("<Error><Code>A&#27;[2J&#x9b;&#x7f;\x7f\xff\xc3\xa9\n</Code></Error>");
    CHECK_TEXT(code, "A?[2J????\xc3\xa9?");
}

static void test_long_texts_are_cut_between_characters(void)
{
    scan_file("s3error/control.xml");
    CHECK_EQ(strlen(error.message), 510);
    CHECK(!memcmp(error.message + 507, "\xe2\x82\xac", 4));
    scan_file("s3error/long.xml");
    CHECK_EQ(strlen(error.message), sizeof(error.message) - 1);
    SCAN("<Error><Code>0123456789012345678901234567890123456789012345678901234567890123456789</Code></Error>");
    CHECK_TEXT(code, "012345678901234567890123456789012345678901234567890123456789012");
}

static void test_every_truncation_is_survived(void)
{
    struct stg_str text = corpus_read("s3error/seaweedfs.xml");

    for (size_t len = 0; len <= text.len; len++) {
        char *exact = malloc(len + !len);

        memcpy(exact, text.ptr, len);
        stg_s3_error_scan(exact, len, &error);
        free(exact);
    }
    CHECK_TEXT(code, "NoSuchBucket");
    corpus_free(text);
}

int main(void)
{
    RUN(test_error_bodies_of_real_servers_are_understood);
    RUN(test_error_inside_of_another_root_is_found);
    RUN(test_cut_body_gives_what_came_whole);
    RUN(test_garbage_gives_empty_texts);
    RUN(test_what_a_terminal_could_obey_is_replaced);
    RUN(test_long_texts_are_cut_between_characters);
    RUN(test_every_truncation_is_survived);
    END();
}
