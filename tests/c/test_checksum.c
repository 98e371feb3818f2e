/* What heads announce; the values are the base64 of the catalogue's check values of "123456789". */
#include "checksum.h"

#include <errno.h>

#include "check.h"

#define CRC32_TEXT "y/Q5Jg=="
#define CRC32C_TEXT "4waSgw=="
#define CRC64NVME_TEXT "rosUhgp5mIg="
#define SHA1_TEXT "98O8HYCOBHMq32eZZczDTKeuNEE="
#define SHA256_TEXT "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="
#define MD5_TEXT "25f9e794323b453885f5181f1b624d0b"

static struct stg_announced announced_with(const char *fields, enum stg_etags etags)
{
    char text[512];
    size_t scanned = 0;
    struct stg_http_head head;
    int len = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n%s\r\n", fields);

    CHECK_EQ(stg_http_head_parse(text, (size_t)len, &scanned, &head), len);
    return stg_checksum_announced(&head, etags);
}

static uint64_t number(const struct stg_announced *announced)
{
    uint64_t value = 0;

    for (size_t i = 0; i < stg_sum_bytes(announced->kind); i++)
        value = value << 8 | announced->value[i];
    return value;
}

static void check_announces(const char *fields, enum stg_sum_kind kind, uint64_t value)
{
    struct stg_announced found = announced_with(fields, STG_ETAGS_NONE);

    if (found.kind != kind)
        printf("%s", fields);
    CHECK_EQ(found.kind, kind);
    CHECK(kind == STG_SUM_NONE || number(&found) == value);
    CHECK_EQ(found.parts, 0);
}

static void check_announces_nothing(const char *fields)
{
    check_announces(fields, STG_SUM_NONE, 0);
}

/* That of "123456789", or of parts' sums. */
static void check_is_of_digits(const char *fields, enum stg_etags etags, enum stg_sum_kind kind, uint32_t parts)
{
    struct stg_announced found = announced_with(fields, etags);
    struct stg_sum sum = {0};
    uint8_t value[STG_SUM_MAX_BYTES];

    CHECK_EQ(found.kind, kind);
    CHECK_EQ(found.parts, parts);
    CHECK_EQ(stg_sum_start(&sum, kind), 0);
    stg_sum_add(&sum, "123456789", 9);
    CHECK_EQ(stg_sum_finish(&sum, value), 0);
    CHECK(!memcmp(value, found.value, stg_sum_bytes(kind)));
    stg_sum_clear(&sum);
}

static void check_why(const char *fields, enum stg_etags etags, enum stg_why why)
{
    struct stg_announced found = announced_with(fields, etags);

    if (found.why != why)
        printf("%s", fields);
    CHECK_EQ(found.kind, STG_SUM_NONE);
    CHECK_EQ(found.why, why);
}

static void test_each_kind_of_a_full_object(void)
{
    static const char type[] = "x-amz-checksum-type: FULL_OBJECT\r\n";
    char fields[256];

    snprintf(fields, sizeof fields, "%sx-amz-checksum-crc32: " CRC32_TEXT "\r\n", type);
    check_announces(fields, STG_SUM_CRC32, 0xcbf43926);
    snprintf(fields, sizeof fields, "%sX-Amz-Checksum-CRC32C: " CRC32C_TEXT "\r\n", type);
    check_announces(fields, STG_SUM_CRC32C, 0xe3069283);
    snprintf(fields, sizeof fields, "%sx-amz-checksum-crc64nvme: " CRC64NVME_TEXT "\r\n", type);
    check_announces(fields, STG_SUM_CRC64NVME, UINT64_C(0xae8b14860a799888));
    snprintf(fields, sizeof fields, "%sx-amz-checksum-crc64nvme: //////////8=\r\nETag: \"0123-7\"\r\n", type);
    check_announces(fields, STG_SUM_CRC64NVME, UINT64_MAX);
    snprintf(fields, sizeof fields, "%sx-amz-checksum-crc32: AAAAAA==\r\n", type);
    check_announces(fields, STG_SUM_CRC32, 0);
}

static void test_without_a_type_the_value_counts_unless_the_object_came_in_parts(void)
{
    check_announces("x-amz-checksum-crc32: " CRC32_TEXT "\r\nETag: \"0123456789abcdef\"\r\n", STG_SUM_CRC32, 0xcbf43926);
    check_announces("x-amz-checksum-crc32: " CRC32_TEXT "\r\nETag: \"ab-c\"\r\n", STG_SUM_CRC32, 0xcbf43926);
    check_announces("x-amz-checksum-crc32: " CRC32_TEXT "\r\nETag: \"17\"\r\n", STG_SUM_CRC32, 0xcbf43926);
    check_announces("x-amz-checksum-crc32: " CRC32_TEXT "\r\n", STG_SUM_CRC32, 0xcbf43926);
    check_announces_nothing("x-amz-checksum-crc32: " CRC32_TEXT "\r\nETag: \"0123456789abcdef-17\"\r\n");
}

static void test_composites_say_of_how_many_parts(void)
{
    check_is_of_digits("x-amz-checksum-crc32: " CRC32_TEXT "-3\r\n", STG_ETAGS_NONE, STG_SUM_CRC32, 3);
    check_is_of_digits("x-amz-checksum-sha256: " SHA256_TEXT "-10000\r\nx-amz-checksum-type: COMPOSITE\r\n",
                       STG_ETAGS_NONE, STG_SUM_SHA256, 10000);
    check_why("x-amz-checksum-crc32: " CRC32_TEXT "-3\r\nx-amz-checksum-type: FULL_OBJECT\r\n", 0, STG_WHY_PARTS);
    check_why("x-amz-checksum-crc32: " CRC32_TEXT "\r\nx-amz-checksum-type: COMPOSITE\r\n", 0, STG_WHY_PARTS);
    check_why("x-amz-checksum-crc32: " CRC32_TEXT "\r\nx-amz-checksum-type: NEW_ONE\r\n", 0, STG_WHY_PARTS);
    check_why("x-amz-checksum-crc32: " CRC32_TEXT "-10001\r\n", 0, STG_WHY_PARTS);
    check_why("x-amz-checksum-crc32: " CRC32_TEXT "-0\r\n", 0, STG_WHY_PARTS);
    check_why("x-amz-checksum-crc32: " CRC32_TEXT "-\r\n", 0, STG_WHY_PARTS);
    check_why("x-amz-checksum-crc32: " CRC32_TEXT "-3-3\r\n", 0, STG_WHY_UNTOLD);
}

static void test_sha_and_etags_that_are_an_md5_are_announced(void)
{
    check_is_of_digits("x-amz-checksum-sha1: " SHA1_TEXT "\r\nx-amz-checksum-type: FULL_OBJECT\r\n", STG_ETAGS_NONE,
                       STG_SUM_SHA1, 0);
    check_is_of_digits("ETag: \"" MD5_TEXT "\"\r\nx-amz-checksum-sha256: " SHA256_TEXT "\r\n", STG_ETAGS_PARTS,
                       STG_SUM_SHA256, 0);
    check_is_of_digits("ETag: \"" MD5_TEXT "\"\r\n", STG_ETAGS_PLAIN, STG_SUM_MD5, 0);
    check_is_of_digits("ETag: \"" MD5_TEXT "\"\r\nx-amz-server-side-encryption: AES256\r\n", STG_ETAGS_PLAIN,
                       STG_SUM_MD5, 0);
    check_is_of_digits("ETag: \"" MD5_TEXT "-7\"\r\n", STG_ETAGS_PARTS, STG_SUM_MD5, 7);
}

static void test_etags_that_are_no_digest_are_none(void)
{
    check_why("ETag: \"" MD5_TEXT "\"\r\n", STG_ETAGS_NONE, STG_WHY_UNTOLD);
    check_why("ETag: \"" MD5_TEXT "-7\"\r\n", STG_ETAGS_PLAIN, STG_WHY_ETAG_OF_PARTS);
    check_why("ETag: W/\"" MD5_TEXT "\"\r\n", STG_ETAGS_PARTS, STG_WHY_UNTOLD);
    check_why("ETag: \"" MD5_TEXT "0\"\r\n", STG_ETAGS_PARTS, STG_WHY_UNTOLD);
    check_why("ETag: \"g5f9e794323b453885f5181f1b624d0b\"\r\n", STG_ETAGS_PARTS, STG_WHY_UNTOLD);
    check_why("ETag: \"" MD5_TEXT "\"\r\nx-amz-server-side-encryption: aws:kms\r\n", STG_ETAGS_PARTS,
              STG_WHY_ENCRYPTED);
    check_why("ETag: \"" MD5_TEXT "-2\"\r\nx-amz-server-side-encryption-customer-algorithm: AES256\r\n", STG_ETAGS_PLAIN,
              STG_WHY_ENCRYPTED);
    CHECK_EQ(stg_etag_parts(STG_STR("00-17")), 17);
    CHECK_EQ(stg_etag_parts(STG_STR("-17")), 0);
    CHECK_EQ(stg_etag_parts(STG_STR("00-17x")), 0);
    CHECK_EQ(stg_etag_parts(STG_STR("")), 0);
}

static void test_nothing_announces_nothing(void)
{
    check_announces_nothing("");
    check_announces_nothing("x-amz-checksum-type: FULL_OBJECT\r\n");
    check_announces_nothing("x-amz-checksum-sha1: y/Q5Jg==\r\nx-amz-checksum-type: FULL_OBJECT\r\n");
}

static void test_values_that_are_none_announce_nothing(void)
{
    check_announces_nothing("x-amz-checksum-crc32: y/Q5Jg\r\n");
    check_announces_nothing("x-amz-checksum-crc32: y/Q5Jg=\r\n");
    check_announces_nothing("x-amz-checksum-crc32: y/Q5J===\r\n");
    check_announces_nothing("x-amz-checksum-crc32: y/Q5Jh==\r\n"); /* a bit behind the last byte */
    check_announces_nothing("x-amz-checksum-crc32: y_Q5Jg==\r\n");
    check_announces_nothing("x-amz-checksum-crc32: y/Q=Jg==\r\n");
    check_announces_nothing("x-amz-checksum-crc32: y/Q5Jg=A\r\n");
    check_announces_nothing("x-amz-checksum-crc32: " CRC64NVME_TEXT "\r\n");
    check_announces_nothing("x-amz-checksum-crc64nvme: " CRC32_TEXT "\r\n");
    check_announces_nothing("x-amz-checksum-crc64nvme: rosUhgp5mIh=\r\n");
    check_announces("x-amz-checksum-crc64nvme: nonsense\r\nx-amz-checksum-crc32: " CRC32_TEXT "\r\n", STG_SUM_CRC32, 0xcbf43926);
}

static int check_digits(struct stg_announced announced, struct stg_failure **failure)
{
    struct stg_sum sum = {0};
    int status;

    CHECK_EQ(stg_sum_start(&sum, announced.kind), 0);
    stg_sum_add(&sum, "123456789", 9);
    status = stg_checksum_check(&announced, &sum, failure);
    stg_sum_clear(&sum);
    return status;
}

static void test_sum_that_is_not_the_announced_one_is_a_failure_that_names_both(void)
{
    struct stg_announced announced = {.kind = STG_SUM_CRC32C, .value = {0xe3, 0x06, 0x92, 0x83}};
    struct stg_failure *failure = NULL;

    CHECK_EQ(check_digits(announced, &failure), 0);
    announced = (struct stg_announced){.kind = STG_SUM_CRC32C, .value = {0, 0, 0, 0x12}};
    CHECK_EQ(check_digits(announced, &failure), -EBADMSG);
    CHECK(failure && failure->kind == STG_FAIL_IDENTITY && !strcmp(failure->where, "checksum"));
    CHECK(failure && !strcmp(failure->s3.message, "CRC32C is e3069283, and 00000012 was announced"));
    stg_failure_free(failure);
}

static void test_digest_of_one_part_is_the_digest_of_its_digest(void)
{
    struct stg_announced whole = announced_with("ETag: \"" MD5_TEXT "\"\r\n", STG_ETAGS_PLAIN), part = whole;
    struct stg_failure *failure = NULL;
    struct stg_sum sum = {0};

    CHECK_EQ(check_digits(whole, &failure), 0);
    part.parts = 1;
    CHECK_EQ(stg_sum_start(&sum, STG_SUM_MD5), 0);
    stg_sum_add(&sum, whole.value, 16);
    CHECK_EQ(stg_sum_finish(&sum, part.value), 0);
    CHECK_EQ(check_digits(part, &failure), 0);
    part.parts = 0;
    CHECK_EQ(check_digits(part, &failure), -EBADMSG);
    stg_failure_free(failure);
    stg_sum_clear(&sum);
}

static void test_sum_and_digest_of_pieces_are_those_of_the_whole(void)
{
    enum { SIZE = 200001 };
    static uint8_t data[SIZE];
    uint8_t digest[STG_DIGEST_BYTES], wanted[STG_DIGEST_BYTES];
    struct stg_hasher *hasher = stg_hasher_new();
    struct stg_sum sum = {0};

    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * i >> 3);
    stg_sum_start(&sum, STG_SUM_CRC64NVME);
    stg_hasher_reset(hasher, digest, 1);
    for (size_t at = 0, take; at < SIZE; at += take) {
        take = at + 3 < SIZE - at ? at + 3 : SIZE - at;
        stg_checksum_add(&sum, hasher, data + at, take);
    }
    stg_hasher_finish(hasher);
    stg_digest_bytes(data, SIZE, wanted);
    CHECK(sum.crc == stg_crc_update(STG_CRC64NVME, 0, data, SIZE));
    CHECK(!memcmp(digest, wanted, sizeof wanted));
    stg_hasher_free(hasher);
}

int main(void)
{
    RUN(test_each_kind_of_a_full_object);
    RUN(test_without_a_type_the_value_counts_unless_the_object_came_in_parts);
    RUN(test_composites_say_of_how_many_parts);
    RUN(test_sha_and_etags_that_are_an_md5_are_announced);
    RUN(test_etags_that_are_no_digest_are_none);
    RUN(test_nothing_announces_nothing);
    RUN(test_values_that_are_none_announce_nothing);
    RUN(test_sum_that_is_not_the_announced_one_is_a_failure_that_names_both);
    RUN(test_digest_of_one_part_is_the_digest_of_its_digest);
    RUN(test_sum_and_digest_of_pieces_are_those_of_the_whole);
    END();
}
