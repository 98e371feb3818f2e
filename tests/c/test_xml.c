/* Which XML is read, and how: list answers of every well and badly formed kind. */
#include "list_drive.h"

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

static void test_other_elements_are_passed_over(void)
{
    CHECK_KEY("<?xml version='1.0'?>\r\n<s3:ListBucketResult xmlns:s3=\"http://x/\" a='>'>\r\n"
              "<s3:IsTruncated>false</s3:IsTruncated><Name>b&undeclared;</Name><Contents><Owner xsi:type = \"U\">"
              "<ID>7</ID><Key>no</Key></Owner><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Key>k</Key>"
              "<RestoreStatus><Size>no</Size></RestoreStatus><Size>1</Size></Contents></s3:ListBucketResult>\n",
              "k");
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

int main(void)
{
    RUN(test_entities_are_undone);
    RUN(test_other_elements_are_passed_over);
    RUN(test_xml_beyond_the_plain_kind_is_refused);
    RUN(test_malformed_markup_is_refused);
    RUN(test_bytes_that_are_not_text_are_refused);
    RUN(test_another_answer_is_refused);
    RUN(test_real_answer_cut_anywhere_is_refused);
    RUN(test_real_answer_with_any_byte_changed_never_crashes);
    stg_table_unref(table);
    END();
}
