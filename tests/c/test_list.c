/* corpus/list/{moto,rclone,seaweedfs}-*.xml are answers of those servers as they came, amazon-sample.xml is the sample
 * of the S3 API reference. */
#include "listxml.h"

#include <errno.h>
#include <stdlib.h>

#include "list_drive.h"

static void check_keys(const char *const *keys, size_t count)
{
    CHECK_EQ(page.count, count);
    CHECK_EQ(stg_table_count(table), count);
    for (size_t i = 0; i < count && i < stg_table_count(table); i++)
        check_str(__FILE__, __LINE__, "key", ROW(i).key, (struct stg_str){keys[i], strlen(keys[i])});
}

static void test_sample_of_amazon_is_understood(void)
{
    CHECK_EQ(scan_file("list/amazon-sample.xml", STG_STR("")), 0);
    check_keys((const char *[]){"my-image.jpg"}, 1);
    CHECK_EQ(ROW(0).size, 434234);
    CHECK_STR(ROW(0).identity, "fba9dede5f27731c9771645a39863328");
    CHECK_EQ(ROW(0).mtime_ns, INT64_C(1255369830) * 1000000000);
    CHECK_EQ(ROW(0).mode, 0);
    CHECK_EQ(page.key_count, 205);
    CHECK(!page.truncated && !page.encoded && page.in_order && page.token_len == 0);
}

static void test_encoded_answers_of_real_servers_are_undone(void)
{
    CHECK_EQ(scan_file("list/moto-url.xml", STG_STR("data/")), 0);
    check_keys((const char *[]){"a b", "a%2Bb", "a+b"}, 3);
    CHECK(page.encoded && page.truncated && page.in_order);
    CHECK_EQ(page.key_count, 3);
    CHECK_STR(((struct stg_str){page.token, page.token_len}), "04b0bff5c6bc53a0e3c426e4590e7553");
    CHECK_STR(ROW(1).identity, "d41d8cd98f00b204e9800998ecf8427e");
    CHECK_EQ(scan_file("list/rclone-url.xml", STG_STR("data/")), 0);
    check_keys((const char *[]){"a b", "a+b", "sub/deep"}, 3);
    CHECK_STR(ROW(0).identity, "c4ca4238a0b923820dcc509a6f75849b");
    CHECK_STR(((struct stg_str){page.token, page.token_len}), "ZGF0YS9zdWIvZGVlcA==");
    CHECK_EQ(scan_file("list/seaweedfs-url.xml", STG_STR("data/")), 0);
    check_keys((const char *[]){"a b", "a%2Bb", "a+b"}, 3);
    CHECK_STR(ROW(0).identity, "c4ca4238a0b923820dcc509a6f75849b");
    /* the key it stopped at, raw: undoing it would make the next page start at "data/a b" again */
    CHECK_STR(((struct stg_str){page.token, page.token_len}), "data/a+b");
}

static void test_plain_answers_of_real_servers_are_understood(void)
{
    static const char *const keys[] = {"a b", "a%2Bb", "a+b", "sub/deep", "x&<>'\"", "\xc3\xbc"};

    CHECK_EQ(scan_file("list/moto-plain.xml", STG_STR("data/")), 0);
    check_keys(keys, 6);
    CHECK(!page.encoded && !page.truncated && page.in_order);
    CHECK_EQ(scan_file("list/seaweedfs-plain.xml", STG_STR("data/")), 0);
    check_keys(keys, 6);
    CHECK_EQ(scan_file("list/rclone-plain.xml", STG_STR("data/")), 0);
    CHECK_EQ(page.count, 5);
    CHECK_STR(ROW(3).key, "x&<>'\"");
    CHECK_EQ(stg_table_total_bytes(table), 8);
}

static void test_answer_without_objects_is_an_empty_page(void)
{
    static const char *const names[] = {"list/moto-none.xml", "list/rclone-none.xml", "list/seaweedfs-none.xml"};

    for (size_t i = 0; i < 3; i++) {
        CHECK_EQ(scan_file(names[i], STG_STR("zz/")), 0);
        CHECK(page.count == 0 && page.in_order && !page.truncated);
    }
}

#define URL "<EncodingType>url</EncodingType>"

static void test_url_encoding_is_undone_only_when_echoed(void)
{
    CHECK_KEY(ROOT(OBJECT("a+b%2B%c3%A9")), "a+b%2B%c3%A9");
    CHECK(!page.encoded);
    CHECK_KEY(ROOT(URL OBJECT("a+b%2B%c3%A9")), "a b+\xc3\xa9");
    CHECK(page.encoded);
    CHECK_KEY(ROOT(OBJECT("a+b%2B") URL), "a b+");
    CHECK_KEY(ROOT(URL OBJECT("%00%ff%25")), "\0\xff%");
    CHECK_KEY(ROOT(URL OBJECT("a&amp;%26")), "a&&");
    CHECK_KEY(ROOT("<EncodingType></EncodingType>" OBJECT("a+b")), "a+b");
    CHECK_KEY(ROOT("<x>" URL "</x>" OBJECT("a+b")), "a+b");
    CHECK_REFUSED(ROOT(URL OBJECT("%")));
    CHECK_REFUSED(ROOT(URL OBJECT("%4")));
    CHECK_REFUSED(ROOT(URL OBJECT("%zz")));
    CHECK_REFUSED(ROOT(URL OBJECT("%4%41")));
    CHECK_REFUSED(ROOT(URL URL OBJECT("a")));
}

static void test_prefix_is_required_and_dropped(void)
{
    struct stg_str text = STG_STR(ROOT(OBJECT("p/a") OBJECT("p/b")));

    table_renew();
    CHECK_EQ(scan(text, STG_STR("p/"), 2), 0);
    check_keys((const char *[]){"a", "b"}, 2);
    table_renew();
    CHECK_EQ(scan(text, STG_STR("p/"), 0), 0);
    check_keys((const char *[]){"p/a", "p/b"}, 2);
    CHECK_EQ(scan(text, STG_STR("q/"), 2), -EBADMSG);
    CHECK_EQ(scan(text, STG_STR("p/a/"), 4), -EBADMSG);
    CHECK_EQ(stg_list_scan(text.ptr, text.len, STG_STR("p/"), 3, table, NULL, &page), -EINVAL);
    table_renew();
    CHECK_EQ(scan(STG_STR(ROOT(URL OBJECT("p%2Fa"))), STG_STR("p/"), 2), 0);
    check_keys((const char *[]){"a"}, 1);
    CHECK_EQ(scan(STG_STR(ROOT(OBJECT("p/"))), STG_STR("p/"), 2), 0);
}

static void test_order_is_checked_inside_a_page_and_across_pages(void)
{
    CHECK_EQ(SCAN(ROOT(OBJECT("a-b") OBJECT("a/b"))), 0);
    CHECK(page.in_order);
    CHECK_EQ(SCAN(ROOT(OBJECT("a/b") OBJECT("a-b"))), 0);
    CHECK(!page.in_order);
    CHECK_EQ(SCAN(ROOT(OBJECT("a") OBJECT("a"))), 0);
    CHECK(!page.in_order);
    CHECK_EQ(SCAN(ROOT(OBJECT("a") OBJECT("ab") OBJECT("\xc3\xbc"))), 0);
    CHECK(page.in_order);
    CHECK_EQ(scan(STG_STR(ROOT(OBJECT("z"))), STG_STR(""), 0), 0);
    CHECK(!page.in_order);
    CHECK_EQ(scan(STG_STR(ROOT(OBJECT("zz"))), STG_STR(""), 0), 0);
    CHECK(page.in_order);
    CHECK_EQ(stg_table_count(table), 5);
}

static void test_span_takes_its_keys_and_leaves_the_rest(void)
{
    struct stg_table *rest = stg_table_new();
    struct stg_list_span span = {STG_STR("b"), STG_STR("d"), rest};
    struct stg_str text = STG_STR(ROOT(OBJECT("p/c") OBJECT("p/d") OBJECT("p/d!") OBJECT("p/e")));

    table_renew();
    CHECK_EQ(scan_span(text, STG_STR("p/"), 2, &span), 0);
    CHECK(page.in_order && page.count == 4);
    CHECK_EQ(stg_table_count(table), 2);
    CHECK_STR(ROW(1).key, "d");
    CHECK_EQ(stg_table_count(rest), 2);
    CHECK_STR(stg_table_row(rest, 0).key, "d!");
    CHECK_EQ(scan_span(STG_STR(ROOT(OBJECT("p/d"))), STG_STR("p/"), 2, &span), 0);
    CHECK(!page.in_order); /* it was there */
    table_renew();
    CHECK_EQ(scan_span(STG_STR(ROOT(OBJECT("p/b"))), STG_STR("p/"), 2, &span), 0);
    CHECK(!page.in_order); /* it is not after b */
    table_renew();
    CHECK_EQ(scan_span(STG_STR(ROOT(OBJECT("p/c") OBJECT("p/x") OBJECT("p/d"))), STG_STR("p/"), 2, &span), 0);
    CHECK(!page.in_order); /* d came too late */
    table_renew();
    span.upto = (struct stg_str){NULL, 0};
    CHECK_EQ(scan_span(text, STG_STR("p/"), 2, &span), 0);
    CHECK(page.in_order && stg_table_count(table) == 4);
    span = (struct stg_list_span){.upto = STG_STR("d")};
    CHECK_EQ(stg_list_scan(text.ptr, text.len, STG_STR("p/"), 2, table, &span, &page), -EINVAL);
    stg_table_unref(rest);
}

#define LIST(inside) "<ListBucketResult>" inside "</ListBucketResult>"

static void test_truncated_answer_needs_a_token(void)
{
    CHECK_EQ(SCAN(LIST("<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>")), 0);
    CHECK_STR(((struct stg_str){page.token, page.token_len}), "a&b");
    CHECK(page.truncated);
    CHECK_REFUSED(LIST("<IsTruncated>true</IsTruncated>"));
    CHECK_REFUSED(LIST("<IsTruncated>true</IsTruncated><NextContinuationToken/>"));
    CHECK_REFUSED(LIST("<IsTruncated>true</IsTruncated><NextContinuationToken></NextContinuationToken>"));
    CHECK_REFUSED(LIST("<IsTruncated>true</IsTruncated><NextContinuationToken>&x;</NextContinuationToken>"));
    CHECK_REFUSED(LIST("<IsTruncated>true</IsTruncated><x><NextContinuationToken>a</NextContinuationToken></x>"));
    CHECK_REFUSED(LIST(""));
    CHECK_REFUSED(LIST("<IsTruncated/>"));
    CHECK_REFUSED(LIST("<IsTruncated>True</IsTruncated>"));
    CHECK_REFUSED(LIST("<IsTruncated>1</IsTruncated>"));
    CHECK_REFUSED(LIST("<IsTruncated>false</IsTruncated><IsTruncated>false</IsTruncated>"));
    CHECK_REFUSED(LIST("<IsTruncated><x/>false</IsTruncated>"));
}

static void test_token_of_the_longest_size_fits_and_no_more(void)
{
    static const char before[] = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>";
    static const char after[] = "</NextContinuationToken></ListBucketResult>";
    char *text = malloc(8192);

    for (size_t extra = 0; extra < 2; extra++) {
        size_t len = sizeof(before) - 1;

        memcpy(text, before, len);
        memset(text + len, 't', STG_LIST_MAX_TOKEN + extra);
        len += STG_LIST_MAX_TOKEN + extra;
        memcpy(text + len, after, sizeof(after) - 1);
        CHECK_EQ(scan_fresh((struct stg_str){text, len + sizeof(after) - 1}), extra ? -EBADMSG : 0);
    }
    free(text);
}

#define SIZED(size) ROOT("<Contents><Key>k</Key><Size>" size "</Size></Contents>")

static void test_size_is_digits_up_to_the_largest_int64(void)
{
    CHECK_EQ(SCAN(SIZED("9223372036854775807")), 0);
    CHECK_EQ(ROW(0).size, INT64_MAX);
    CHECK_REFUSED(SIZED("9223372036854775808"));
    CHECK_REFUSED(SIZED("-1"));
    CHECK_REFUSED(SIZED("+1"));
    CHECK_REFUSED(SIZED(" 1"));
    CHECK_REFUSED(SIZED("1.5"));
    CHECK_REFUSED(SIZED("1e3"));
    CHECK_REFUSED(SIZED(""));
    CHECK_EQ(scan_file("list/size-sum.xml", STG_STR("")), -EBADMSG);
}

static void test_object_needs_one_key_and_one_size(void)
{
    CHECK_REFUSED(ROOT("<Contents><Key>k</Key></Contents>"));
    CHECK_REFUSED(ROOT("<Contents><Size>1</Size></Contents>"));
    CHECK_REFUSED(ROOT("<Contents/>"));
    CHECK_REFUSED(ROOT("<Contents><Key>k</Key><Key>l</Key><Size>1</Size></Contents>"));
    CHECK_REFUSED(ROOT("<Contents><Key>k</Key><Size>1</Size><Size>2</Size></Contents>"));
    CHECK_REFUSED(ROOT("<Contents><Key>k<x/>l</Key><Size>1</Size></Contents>"));
    CHECK_REFUSED(ROOT("<Contents><Owner><Key>k</Key></Owner><Size>1</Size></Contents>"));
    CHECK_EQ(SCAN(ROOT("<Contents><Key></Key><Size>1</Size></Contents>")), 0);
}

#define TAGGED(etag) ROOT("<Contents><Key>k</Key><Size>1</Size><ETag>" etag "</ETag></Contents>")

static void test_quotes_of_the_etag_are_taken_off(void)
{
    CHECK_EQ(SCAN(TAGGED("&quot;abc-2&quot;")), 0);
    CHECK_STR(ROW(0).identity, "abc-2");
    CHECK_EQ(SCAN(TAGGED("&#34;abc&#34;")), 0);
    CHECK_STR(ROW(0).identity, "abc");
    CHECK_EQ(SCAN(TAGGED("\"abc\"")), 0);
    CHECK_STR(ROW(0).identity, "abc");
    CHECK_EQ(SCAN(TAGGED("abc")), 0);
    CHECK_STR(ROW(0).identity, "abc");
    CHECK_EQ(SCAN(TAGGED("\"")), 0);
    CHECK_STR(ROW(0).identity, "\"");
    CHECK_EQ(SCAN(TAGGED("")), 0);
    CHECK_STR(ROW(0).identity, "");
    CHECK_REFUSED(TAGGED("&x;"));
}

static void test_etag_that_cannot_be_sent_back_is_refused_with_its_key(void)
{
    char answer[2048], etag[1024];

    CHECK_REFUSED(TAGGED("a&#13;&#10;X-Evil: 1"));
    CHECK(strstr(page.problem, "the ETag of k ") != NULL);
    CHECK_REFUSED(TAGGED("a&#9;b"));
    CHECK_REFUSED(TAGGED("a&#127;"));
    memset(etag, 'e', sizeof(etag));
    snprintf(answer, sizeof(answer), TAGGED("%.1022s"), etag);
    CHECK_EQ(scan_fresh((struct stg_str){answer, strlen(answer)}), 0);
    snprintf(answer, sizeof(answer), TAGGED("%.1023s"), etag);
    CHECK_EQ(scan_fresh((struct stg_str){answer, strlen(answer)}), -EBADMSG);
}

#define DATED(text) ROOT("<Contents><Key>k</Key><Size>1</Size><LastModified>" text "</LastModified></Contents>")

static void test_last_modified_is_utc_to_the_nanosecond(void)
{
    CHECK_EQ(SCAN(DATED("2024-02-29T12:34:56.789Z")), 0);
    CHECK_EQ(ROW(0).mtime_ns, INT64_C(1709210096789000000));
    CHECK_EQ(SCAN(DATED("2024-02-29T12:34:56.000000001Z")), 0);
    CHECK_EQ(ROW(0).mtime_ns, INT64_C(1709210096000000001));
    CHECK_EQ(SCAN(DATED("2261-12-31T23:59:59Z")), 0);
    CHECK_REFUSED(DATED("2262-01-01T00:00:00Z"));
    CHECK_REFUSED(DATED("2023-02-29T12:34:56Z"));
    CHECK_REFUSED(DATED("2024-02-29 12:34:56Z"));
    CHECK_REFUSED(DATED("2024-02-29T12:34:56"));
    CHECK_REFUSED(DATED("2024-02-29T12:34:56.Z"));
    CHECK_REFUSED(DATED("2024-02-29T12:34:56.1234567890Z"));
    CHECK_REFUSED(DATED("2024-02-29T12:34:56+01:00"));
    CHECK_REFUSED(DATED("2024-2-29T12:34:56Z"));
    CHECK_REFUSED(DATED(""));
}

#define STORED(class) "<Contents><Key>k</Key><Size>1</Size><StorageClass>" class "</StorageClass></Contents>"

static void test_archived_objects_are_marked(void)
{
    CHECK_EQ(SCAN(ROOT(STORED("STANDARD") STORED("GLACIER") STORED("DEEP_ARCHIVE") STORED("GLACIER_IR"))), 0);
    CHECK_EQ(page.archived, 2);
    CHECK(ROW(0).mode == 0 && ROW(1).mode == STG_ROW_ARCHIVED && ROW(2).mode == STG_ROW_ARCHIVED && ROW(3).mode == 0);
}

#define RESTORE(is) "<Contents><Key>k</Key><Size>1</Size>" is "<StorageClass>GLACIER</StorageClass></Contents>"
#define RESTORING(text) "<RestoreStatus><IsRestoreInProgress>" text "</IsRestoreInProgress></RestoreStatus>"

static void test_restored_objects_are_not_archived(void)
{
    CHECK_EQ(SCAN(ROOT(RESTORE(RESTORING("false")) RESTORE(RESTORING("true")) RESTORE(RESTORING("FALSE"))
                           RESTORE("<RestoreStatus/>") RESTORE("<Other><IsRestoreInProgress>false</IsRestoreInProgress></Other>"))),
             0);
    CHECK_EQ(page.archived, 3);
    CHECK(ROW(0).mode == 0 && ROW(1).mode == STG_ROW_ARCHIVED && ROW(2).mode == 0 && ROW(3).mode == STG_ROW_ARCHIVED &&
          ROW(4).mode == STG_ROW_ARCHIVED);
    CHECK_EQ(SCAN(ROOT(RESTORE(RESTORING("false") RESTORING("true")))), -EBADMSG);
}

static void test_common_prefixes_that_nobody_asked_for_are_refused(void)
{
    CHECK_EQ(SCAN(ROOT("<CommonPrefixes/>")), 0);
    CHECK_EQ(scan_file("list/common-prefixes.xml", STG_STR("")), -EBADMSG);
}

static struct stg_str long_key_answer(char *text, size_t key_len)
{
    size_t len = (size_t)sprintf(text, "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>");

    memset(text + len, 'k', key_len);
    len += key_len;
    return (struct stg_str){text,
                            len + (size_t)sprintf(text + len, "</Key><Size>1</Size></Contents></ListBucketResult>")};
}

static void test_key_of_the_longest_size_fits_and_no_more(void)
{
    char *text = malloc(STG_TABLE_MAX_TEXT + 1024);

    CHECK_EQ(scan_fresh(long_key_answer(text, STG_TABLE_MAX_TEXT)), 0);
    CHECK_EQ(ROW(0).key.len, STG_TABLE_MAX_TEXT);
    CHECK_EQ(scan_fresh(long_key_answer(text, STG_TABLE_MAX_TEXT + 1)), -EBADMSG);
    free(text);
}

int main(void)
{
    RUN(test_sample_of_amazon_is_understood);
    RUN(test_encoded_answers_of_real_servers_are_undone);
    RUN(test_plain_answers_of_real_servers_are_understood);
    RUN(test_answer_without_objects_is_an_empty_page);
    RUN(test_url_encoding_is_undone_only_when_echoed);
    RUN(test_prefix_is_required_and_dropped);
    RUN(test_order_is_checked_inside_a_page_and_across_pages);
    RUN(test_span_takes_its_keys_and_leaves_the_rest);
    RUN(test_truncated_answer_needs_a_token);
    RUN(test_token_of_the_longest_size_fits_and_no_more);
    RUN(test_size_is_digits_up_to_the_largest_int64);
    RUN(test_object_needs_one_key_and_one_size);
    RUN(test_quotes_of_the_etag_are_taken_off);
    RUN(test_etag_that_cannot_be_sent_back_is_refused_with_its_key);
    RUN(test_last_modified_is_utc_to_the_nanosecond);
    RUN(test_archived_objects_are_marked);
    RUN(test_restored_objects_are_not_archived);
    RUN(test_common_prefixes_that_nobody_asked_for_are_refused);
    RUN(test_key_of_the_longest_size_fits_and_no_more);
    stg_table_unref(table);
    END();
}
