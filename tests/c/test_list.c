/* corpus/list/{moto,rclone,seaweedfs}-*.xml are answers of those servers as they came, amazon-sample.xml is the sample
 * of the S3 API reference. */
#include "listxml.h"

#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "corpus.h"

static struct stg_list_page page;
static struct stg_table *table;

static void table_renew(void)
{
    stg_table_unref(table);
    table = stg_table_new();
}

static int scan(struct stg_str text, struct stg_str prefix, size_t key_skip)
{
    char *exact = malloc(text.len + !text.len); /* so that a sanitizer sees a read beyond it */
    int error;

    if (text.len)
        memcpy(exact, text.ptr, text.len);
    error = stg_list_scan(exact, text.len, prefix, key_skip, table, &page);
    free(exact);
    CHECK((error == -EBADMSG) == (page.problem[0] != 0));
    return error;
}

static int scan_fresh(struct stg_str text)
{
    table_renew();
    return scan(text, STG_STR(""), 0);
}

static int scan_file(const char *name, struct stg_str prefix)
{
    struct stg_str text = corpus_read(name);
    int error;

    table_renew();
    error = scan(text, prefix, prefix.len);
    corpus_free(text);
    return error;
}

#define ROOT(inside) "<ListBucketResult><IsTruncated>false</IsTruncated>" inside "</ListBucketResult>"
#define OBJECT(key) "<Contents><Key>" key "</Key><Size>1</Size></Contents>"
#define SCAN(text) scan_fresh(STG_STR(text))
#define ROW(i) stg_table_row(table, i)
#define CHECK_REFUSED(text) CHECK_EQ(SCAN(text), -EBADMSG)
#define CHECK_KEY(text, wanted)                                                                              \
    CHECK_EQ(SCAN(text), 0);                                                                                 \
    CHECK_STR(ROW(0).key, wanted)

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

static void test_real_answer_cut_anywhere_is_refused(void)
{
    struct stg_str text = corpus_read("list/seaweedfs-url.xml");

    for (size_t len = 0; len < text.len; len++) {
        CHECK_EQ(scan_fresh((struct stg_str){text.ptr, len}), -EBADMSG);
        if (!page.problem[0])
            printf("cut at %zu\n", len);
    }
    corpus_free(text);
}

static void test_real_answer_with_any_byte_changed_never_crashes(void)
{
    struct stg_str text = corpus_read("list/seaweedfs-url.xml");
    char *changed = malloc(text.len);

    memcpy(changed, text.ptr, text.len);
    for (size_t i = 0; i < text.len; i++) {
        for (size_t j = 0; j < 6; j++) {
            changed[i] = "\0<>&%\xff"[j];
            scan_fresh((struct stg_str){changed, text.len});
        }
        changed[i] = text.ptr[i];
    }
    free(changed);
    corpus_free(text);
}

static void test_entities_are_undone(void)
{
    CHECK_KEY(ROOT(OBJECT("&amp;&lt;&gt;&quot;&apos;")), "&<>\"'");
    CHECK_KEY(ROOT(OBJECT("&#65;&#x42;&#x63;&#xe9;&#x20AC;&#x1F600;")), "ABc\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    CHECK_KEY(ROOT(OBJECT("a&#13;&#10;&#9;&#1;b")), "a\r\n\t\1b");
    CHECK_REFUSED(ROOT(OBJECT("&#0;")));
    CHECK_REFUSED(ROOT(OBJECT("&#;")));
    CHECK_REFUSED(ROOT(OBJECT("&#x;")));
    CHECK_REFUSED(ROOT(OBJECT("&#xD800;")));
    CHECK_REFUSED(ROOT(OBJECT("&#x110000;")));
    CHECK_REFUSED(ROOT(OBJECT("&#99999999999;")));
    CHECK_REFUSED(ROOT(OBJECT("&#-65;")));
    CHECK_REFUSED(ROOT(OBJECT("&#4a;")));
    CHECK_REFUSED(ROOT(OBJECT("&nbsp;")));
    CHECK_REFUSED(ROOT(OBJECT("&AMP;")));
    CHECK_REFUSED(ROOT(OBJECT("&amp")));
    CHECK_REFUSED(ROOT(OBJECT("&")));
    CHECK_REFUSED(ROOT(OBJECT("& ;")));
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
    CHECK_EQ(stg_list_scan(text.ptr, text.len, STG_STR("p/"), 3, table, &page), -EINVAL);
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

static void test_other_elements_are_passed_over(void)
{
    CHECK_KEY("<?xml version='1.0'?>\r\n<s3:ListBucketResult xmlns:s3=\"http://x/\" a='>'>\r\n"
              "<s3:IsTruncated>false</s3:IsTruncated><Name>b&undeclared;</Name><Contents><Owner xsi:type = \"U\">"
              "<ID>7</ID><Key>no</Key></Owner><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Key>k</Key>"
              "<RestoreStatus><Size>no</Size></RestoreStatus><Size>1</Size></Contents></s3:ListBucketResult>\n",
              "k");
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

static void test_common_prefixes_that_nobody_asked_for_are_refused(void)
{
    CHECK_EQ(SCAN(ROOT("<CommonPrefixes/>")), 0);
    CHECK_EQ(scan_file("list/common-prefixes.xml", STG_STR("")), -EBADMSG);
}

static void test_xml_beyond_the_plain_kind_is_refused(void)
{
    static const char *const names[] = {
        "list/doctype.xml",     "list/doctype-inside.xml", "list/comment.xml", "list/cdata.xml",
        "list/instruction.xml", "list/utf-16.xml",         "list/declared-utf-16.xml",
        "list/deep.xml",        "list/crossed.xml",        "list/two-roots.xml", "list/attributes.xml",
        "list/empty.xml",       "list/tail.xml",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        CHECK_EQ(scan_file(names[i], STG_STR("")), -EBADMSG);
        if (!page.problem[0])
            printf("%s was accepted\n", names[i]);
    }
    CHECK_EQ(scan_file("list/bom.xml", STG_STR("")), 0);
    CHECK_EQ(scan_file("list/depth-16.xml", STG_STR("")), 0);
    CHECK_REFUSED(ROOT("<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></a></a></a>"
                       "</a></a></a></a>"));
}

static void test_malformed_markup_is_refused(void)
{
    CHECK_REFUSED("text" ROOT(""));
    CHECK_REFUSED(ROOT("") "text");
    CHECK_REFUSED(ROOT("") "<ListBucketResult/>");
    CHECK_REFUSED(ROOT("< a></a>"));
    CHECK_REFUSED(ROOT("<a ></ a>"));
    CHECK_REFUSED(ROOT("<a b=\"1\"c=\"2\" d></a>"));
    CHECK_REFUSED(ROOT("<a b=1></a>"));
    CHECK_REFUSED(ROOT("<a b=\"1></a>"));
    CHECK_REFUSED(ROOT("<a/ >"));
    CHECK_REFUSED(ROOT("</a>"));
    CHECK_REFUSED(ROOT("<a></b>"));
    CHECK_REFUSED(ROOT("<a></A>"));
    CHECK_REFUSED(ROOT("<a></x:a>"));
    CHECK_REFUSED("<?xml version=\"1.0\">" ROOT(""));
    CHECK_REFUSED("</ListBucketResult>");
    CHECK_EQ(SCAN(ROOT("<a b = '1' c=\"2\" ></a ><d/><e />")), 0);
}

static void test_bytes_that_are_not_text_are_refused(void)
{
    CHECK_REFUSED(ROOT(OBJECT("a\0b")));
    CHECK_REFUSED(ROOT(OBJECT("a\1b")));
    CHECK_REFUSED(ROOT(OBJECT("a\rb")));
    CHECK_REFUSED(ROOT("<Name>\xff</Name>"));
    CHECK_REFUSED(ROOT("<Name>\xc0\xaf</Name>"));
    CHECK_REFUSED(ROOT("<Name>\xed\xa0\x80</Name>"));
    CHECK_REFUSED(ROOT("<Name>\xf4\x90\x80\x80</Name>"));
    CHECK_REFUSED(ROOT("<Name>\xe2\x82</Name>"));
    CHECK_REFUSED(ROOT("<Name a=\"\xff\"></Name>"));
    CHECK_EQ(SCAN(ROOT("<Name>\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80</Name>")), 0);
    CHECK_KEY(ROOT(OBJECT("\xff\xfe")), "\xff\xfe");
}

static void test_another_answer_is_refused(void)
{
    CHECK_REFUSED("<Error><Code>NoSuchBucket</Code></Error>");
    CHECK_REFUSED("<html></html>");
    CHECK_REFUSED("{\"a\": 1}");
    CHECK_REFUSED("<a>" ROOT("") "</a>");
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
    RUN(test_real_answer_cut_anywhere_is_refused);
    RUN(test_real_answer_with_any_byte_changed_never_crashes);
    RUN(test_entities_are_undone);
    RUN(test_url_encoding_is_undone_only_when_echoed);
    RUN(test_prefix_is_required_and_dropped);
    RUN(test_order_is_checked_inside_a_page_and_across_pages);
    RUN(test_truncated_answer_needs_a_token);
    RUN(test_token_of_the_longest_size_fits_and_no_more);
    RUN(test_size_is_digits_up_to_the_largest_int64);
    RUN(test_object_needs_one_key_and_one_size);
    RUN(test_other_elements_are_passed_over);
    RUN(test_quotes_of_the_etag_are_taken_off);
    RUN(test_last_modified_is_utc_to_the_nanosecond);
    RUN(test_archived_objects_are_marked);
    RUN(test_common_prefixes_that_nobody_asked_for_are_refused);
    RUN(test_xml_beyond_the_plain_kind_is_refused);
    RUN(test_malformed_markup_is_refused);
    RUN(test_bytes_that_are_not_text_are_refused);
    RUN(test_another_answer_is_refused);
    RUN(test_key_of_the_longest_size_fits_and_no_more);
    stg_table_unref(table);
    END();
}
