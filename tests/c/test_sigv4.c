/* The vectors are Amazon's: S3 API reference, "Signature Calculations for the Authorization Header: Transferring
 * Payload in a Single Chunk", its examples GET Object, GET Bucket Lifecycle and Get Bucket (List Objects). */
#include "sigv4.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"
#include "text.h"

#define MAY_24_2013 INT64_C(1369353600)
#define CAP 4096

static char out[CAP];
static ssize_t out_len;

static struct stg_credentials *example_credentials(struct stg_str token)
{
    return stg_credentials_new(STG_STR("AKIAIOSFODNN7EXAMPLE"), STG_STR("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                               token, STG_STR("us-east-1"), STG_STR("s3"));
}

static const struct stg_header HOST = {{"host", 4}, {"examplebucket.s3.amazonaws.com", 30}};

static int out_has(const char *text)
{
    return out_len > 0 && memmem(out, (size_t)out_len, text, strlen(text)) != NULL;
}

static ssize_t sign(struct stg_credentials *credentials, struct stg_str path, struct stg_str query,
                    const struct stg_header *headers, size_t count)
{
    out_len = stg_sigv4_sign(credentials, MAY_24_2013, STG_STR("GET"), path, query, headers, count, out, sizeof(out));
    return out_len;
}

static void test_get_object_example_of_amazon(void)
{
    static const char wanted[] =
        "x-amz-date: 20130524T000000Z\r\n"
        "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n"
        "authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\n";
    struct stg_credentials *credentials = example_credentials(STG_STR(""));
    struct stg_header headers[] = {{STG_STR("range"), STG_STR("bytes=0-9")}, HOST};

    sign(credentials, STG_STR("/test.txt"), STG_STR(""), headers, 2);
    CHECK_STR(((struct stg_str){out, (size_t)out_len}), wanted);
    stg_credentials_unref(credentials);
}

static void test_bucket_examples_of_amazon(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR(""));

    CHECK(sign(credentials, STG_STR("/"), STG_STR("lifecycle="), &HOST, 1) > 0);
    CHECK(out_has("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543\r\n"));
    CHECK(sign(credentials, STG_STR("/"), STG_STR("max-keys=2&prefix=J"), &HOST, 1) > 0);
    CHECK(out_has("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7\r\n"));
    stg_credentials_unref(credentials);
}

static void test_token_is_sent_and_signed(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR("tok+en/="));

    CHECK(sign(credentials, STG_STR("/"), STG_STR(""), &HOST, 1) > 0);
    CHECK(out_has("x-amz-security-token: tok+en/=\r\n"));
    CHECK(out_has("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, "));
    stg_credentials_unref(credentials);
}

static void signature_take(char signature[65])
{
    const char *found = out_len > 0 ? memmem(out, (size_t)out_len, "Signature=", 10) : NULL;

    memcpy(signature, found ? found + 10 : "none", found ? 64 : 5);
    signature[64] = 0;
}

static void test_order_and_blanks_of_headers_do_not_matter(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR(""));
    struct stg_header plain[] = {{STG_STR("a"), STG_STR("1 2")}, HOST, {STG_STR("z"), STG_STR("")}};
    struct stg_header blanks[] = {{STG_STR("z"), STG_STR("  \t")}, HOST, {STG_STR("a"), STG_STR(" 1  \t2 ")}};
    char first[65], second[65];

    CHECK(sign(credentials, STG_STR("/"), STG_STR(""), plain, 3) > 0);
    signature_take(first);
    CHECK(sign(credentials, STG_STR("/"), STG_STR(""), blanks, 3) > 0);
    signature_take(second);
    CHECK(!strcmp(first, second));
    stg_credentials_unref(credentials);
}

static void test_values_of_a_repeated_header_are_joined(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR(""));
    struct stg_header repeated[] = {{STG_STR("a"), STG_STR("1")}, HOST, {STG_STR("a"), STG_STR("2")}};
    struct stg_header joined[] = {{STG_STR("a"), STG_STR("1,2")}, HOST};
    char first[65], second[65];

    CHECK(sign(credentials, STG_STR("/"), STG_STR(""), repeated, 3) > 0);
    CHECK(out_has("SignedHeaders=a;host;x-amz"));
    signature_take(first);
    CHECK(sign(credentials, STG_STR("/"), STG_STR(""), joined, 2) > 0);
    signature_take(second);
    CHECK(!strcmp(first, second));
    stg_credentials_unref(credentials);
}

static void sign_at(struct stg_credentials *credentials, int64_t unix_s, char signature[65])
{
    out_len = stg_sigv4_sign(credentials, unix_s, STG_STR("GET"), STG_STR("/"), STG_STR(""), &HOST, 1, out, sizeof(out));
    signature_take(signature);
}

static void test_key_follows_the_day(void)
{
    struct stg_credentials *used = example_credentials(STG_STR("")), *fresh = example_credentials(STG_STR(""));
    char today[65], tomorrow[65], again[65];

    sign_at(used, MAY_24_2013, today);
    sign_at(used, MAY_24_2013 + STG_DAY_S, tomorrow);
    CHECK(out_has("x-amz-date: 20130525T000000Z\r\n"));
    sign_at(fresh, MAY_24_2013 + STG_DAY_S, again);
    CHECK(!strcmp(tomorrow, again));
    sign_at(used, MAY_24_2013, again);
    CHECK(!strcmp(today, again));
    stg_credentials_unref(used);
    stg_credentials_unref(fresh);
}

static void test_too_small_a_buffer_is_refused_at_every_size(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR("token"));
    ssize_t needed = sign(credentials, STG_STR("/"), STG_STR(""), &HOST, 1);

    for (size_t cap = 0; cap < (size_t)needed; cap++) {
        char *exact = malloc(cap + !cap);

        CHECK_EQ(stg_sigv4_sign(credentials, MAY_24_2013, STG_STR("GET"), STG_STR("/"), STG_STR(""), &HOST, 1, exact, cap),
                 -ENOSPC);
        free(exact);
    }
    stg_credentials_unref(credentials);
}

static void test_request_that_could_be_smuggled_is_refused(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR(""));
    struct stg_header bad[] = {
        {STG_STR("a"), STG_STR("b\r\nc: d")}, {STG_STR("a"), STG_STR("b\0c")},   {STG_STR("A"), STG_STR("b")},
        {STG_STR("a b"), STG_STR("c")},       {STG_STR(""), STG_STR("b")},       {STG_STR("a:"), STG_STR("b")},
        {STG_STR("x-amz-date"), STG_STR("b")}, {STG_STR("authorization"), STG_STR("b")},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_EQ(sign(credentials, STG_STR("/"), STG_STR(""), &bad[i], 1), -EINVAL);
    CHECK_EQ(sign(credentials, STG_STR("/a b"), STG_STR(""), &HOST, 1), -EINVAL);
    CHECK_EQ(sign(credentials, STG_STR("/a\r\nb"), STG_STR(""), &HOST, 1), -EINVAL);
    CHECK_EQ(sign(credentials, STG_STR("/\xc3\xa9"), STG_STR(""), &HOST, 1), -EINVAL);
    CHECK_EQ(sign(credentials, STG_STR("a"), STG_STR(""), &HOST, 1), -EINVAL);
    CHECK_EQ(sign(credentials, STG_STR(""), STG_STR(""), &HOST, 1), -EINVAL);
    CHECK_EQ(sign(credentials, STG_STR("/"), STG_STR("a b"), &HOST, 1), -EINVAL);
    CHECK_EQ(stg_sigv4_sign(credentials, MAY_24_2013, STG_STR("GE T"), STG_STR("/"), STG_STR(""), &HOST, 1, out, CAP),
             -EINVAL);
    stg_credentials_unref(credentials);
}

static void test_more_headers_than_there_is_room_for_are_refused(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR("token"));
    struct stg_header headers[STG_SIGV4_MAX_HEADERS + 1];

    for (size_t i = 0; i <= STG_SIGV4_MAX_HEADERS; i++)
        headers[i] = HOST;
    CHECK(sign(credentials, STG_STR("/"), STG_STR(""), headers, STG_SIGV4_MAX_HEADERS) > 0);
    CHECK_EQ(sign(credentials, STG_STR("/"), STG_STR(""), headers, STG_SIGV4_MAX_HEADERS + 1), -E2BIG);
    stg_credentials_unref(credentials);
}

static void test_credentials_that_cannot_be_sent_are_refused(void)
{
    struct stg_str texts[][5] = {
        {STG_STR("a\r\nb"), STG_STR("s"), STG_STR(""), STG_STR("r"), STG_STR("s3")},
        {STG_STR(""), STG_STR("s"), STG_STR(""), STG_STR("r"), STG_STR("s3")},
        {STG_STR("a"), STG_STR("s"), STG_STR("t\nu"), STG_STR("r"), STG_STR("s3")},
        {STG_STR("a"), STG_STR("s"), STG_STR(""), STG_STR("r/r"), STG_STR("s3")},
        {STG_STR("a"), STG_STR("s"), STG_STR(""), STG_STR(""), STG_STR("s3")},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct stg_credentials *credentials =
            stg_credentials_new(texts[i][0], texts[i][1], texts[i][2], texts[i][3], texts[i][4]);

        CHECK_EQ(sign(credentials, STG_STR("/"), STG_STR(""), &HOST, 1), -EINVAL);
        stg_credentials_unref(credentials);
    }
}

static void test_time_outside_of_four_digit_years_is_refused(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR(""));
    static const struct {
        int64_t unix_s;
        const char *stamp;
    } times[] = {{0, "19700101T000000Z"},          {951782399, "20000228T235959Z"}, {951782400, "20000229T000000Z"},
                 {4107542400, "21000301T000000Z"}, {253402300799, "99991231T235959Z"}};

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        out_len = stg_sigv4_sign(credentials, times[i].unix_s, STG_STR("GET"), STG_STR("/"), STG_STR(""), &HOST, 1, out,
                                 CAP);
        CHECK(out_has(times[i].stamp));
    }
    CHECK_EQ(stg_sigv4_sign(credentials, -1, STG_STR("GET"), STG_STR("/"), STG_STR(""), &HOST, 1, out, CAP), -EINVAL);
    CHECK_EQ(stg_sigv4_sign(credentials, 253402300800, STG_STR("GET"), STG_STR("/"), STG_STR(""), &HOST, 1, out, CAP),
             -EINVAL);
    stg_credentials_unref(credentials);
}

static void check_encoded(struct stg_str raw, int keep_slash, struct stg_str wanted)
{
    ssize_t len = stg_uri_encode(raw, keep_slash, out, CAP);

    check_str(__FILE__, __LINE__, "encoded", (struct stg_str){out, len < 0 ? 0 : (size_t)len}, wanted);
}

static void test_everything_but_unreserved_is_percent_encoded(void)
{
    check_encoded(STG_STR("azAZ09-._~"), 0, STG_STR("azAZ09-._~"));
    check_encoded(STG_STR("a/b"), 1, STG_STR("a/b"));
    check_encoded(STG_STR("a/b"), 0, STG_STR("a%2Fb"));
    check_encoded(STG_STR("a b+c%d//..*'()!\xc3\xa9\0\xff"), 1,
                  STG_STR("a%20b%2Bc%25d//..%2A%27%28%29%21%C3%A9%00%FF"));
    check_encoded(STG_STR(""), 1, STG_STR(""));
    CHECK_EQ(stg_uri_encode(STG_STR("ab"), 0, out, 1), -ENOSPC);
    CHECK_EQ(stg_uri_encode(STG_STR("a "), 0, out, 3), -ENOSPC);
    CHECK_EQ(stg_uri_encode(STG_STR("a "), 0, out, 4), 4);
    CHECK_EQ(stg_uri_encode(STG_STR(""), 0, out, 0), 0);
}

static void *sign_often(void *credentials)
{
    char text[CAP];
    intptr_t wrong = 0;

    for (int i = 0; i < 500; i++) {
        int64_t day = i / 5 % 2; /* two days, so that the cached key changes under the other thread */
        ssize_t len = stg_sigv4_sign(credentials, MAY_24_2013 + day * STG_DAY_S, STG_STR("GET"), STG_STR("/"),
                                     STG_STR("lifecycle="), &HOST, 1, text, sizeof(text));

        wrong += len < 0 || (!day && !memmem(text, (size_t)len, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c69", 40));
    }
    stg_credentials_unref(credentials);
    return (void *)wrong;
}

static void test_threads_share_credentials(void)
{
    struct stg_credentials *credentials = example_credentials(STG_STR(""));
    pthread_t threads[4];
    void *wrong;

    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, sign_often, stg_credentials_ref(credentials)), 0);
    stg_credentials_unref(credentials);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &wrong);
        CHECK(wrong == NULL);
    }
    stg_credentials_unref(NULL);
}

int main(void)
{
    RUN(test_get_object_example_of_amazon);
    RUN(test_bucket_examples_of_amazon);
    RUN(test_token_is_sent_and_signed);
    RUN(test_order_and_blanks_of_headers_do_not_matter);
    RUN(test_values_of_a_repeated_header_are_joined);
    RUN(test_key_follows_the_day);
    RUN(test_too_small_a_buffer_is_refused_at_every_size);
    RUN(test_request_that_could_be_smuggled_is_refused);
    RUN(test_more_headers_than_there_is_room_for_are_refused);
    RUN(test_credentials_that_cannot_be_sent_are_refused);
    RUN(test_time_outside_of_four_digit_years_is_refused);
    RUN(test_everything_but_unreserved_is_percent_encoded);
    RUN(test_threads_share_credentials);
    END();
}
