/* What heads announce; the values are the base64 of the catalogue's check values of "123456789". */
#include "checksum.h"

#include <errno.h>

#include "check.h"

#define CRC32_TEXT "y/Q5Jg=="
#define CRC32C_TEXT "4waSgw=="
#define CRC64NVME_TEXT "rosUhgp5mIg="

static struct stg_announced announced_by(const char *fields)
{
    char text[512];
    size_t scanned = 0;
    struct stg_http_head head;
    int len = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n%s\r\n", fields);

    CHECK_EQ(stg_http_head_parse(text, (size_t)len, &scanned, &head), len);
    return stg_checksum_announced(&head);
}

static void check_announces(const char *fields, enum stg_crc_kind kind, uint64_t value)
{
    struct stg_announced found = announced_by(fields);

    if (found.kind != kind)
        printf("%s", fields);
    CHECK_EQ(found.kind, kind);
    CHECK(kind == STG_CRC_NONE || found.value == value);
}

static void check_announces_nothing(const char *fields)
{
    check_announces(fields, STG_CRC_NONE, 0);
}

static void test_each_kind_of_a_full_object(void)
{
    static const char type[] = "x-amz-checksum-type: FULL_OBJECT\r\n";
    char fields[256];

    snprintf(fields, sizeof fields, "%sx-amz-checksum-crc32: " CRC32_TEXT "\r\n", type);
    check_announces(fields, STG_CRC32, 0xcbf43926);
    snprintf(fields, sizeof fields, "%sX-Amz-Checksum-CRC32C: " CRC32C_TEXT "\r\n", type);
    check_announces(fields, STG_CRC32C, 0xe3069283);
    snprintf(fields, sizeof fields, "%sx-amz-checksum-crc64nvme: " CRC64NVME_TEXT "\r\n", type);
    check_announces(fields, STG_CRC64NVME, UINT64_C(0xae8b14860a799888));
    snprintf(fields, sizeof fields, "%sx-amz-checksum-crc64nvme: //////////8=\r\nETag: \"0123-7\"\r\n", type);
    check_announces(fields, STG_CRC64NVME, UINT64_MAX);
    snprintf(fields, sizeof fields, "%sx-amz-checksum-crc32: AAAAAA==\r\n", type);
    check_announces(fields, STG_CRC32, 0);
}

static void test_without_a_type_the_value_counts_unless_the_object_came_in_parts(void)
{
    check_announces("x-amz-checksum-crc32: " CRC32_TEXT "\r\nETag: \"0123456789abcdef\"\r\n", STG_CRC32, 0xcbf43926);
    check_announces("x-amz-checksum-crc32: " CRC32_TEXT "\r\nETag: \"ab-c\"\r\n", STG_CRC32, 0xcbf43926);
    check_announces("x-amz-checksum-crc32: " CRC32_TEXT "\r\nETag: \"17\"\r\n", STG_CRC32, 0xcbf43926);
    check_announces("x-amz-checksum-crc32: " CRC32_TEXT "\r\n", STG_CRC32, 0xcbf43926);
    check_announces_nothing("x-amz-checksum-crc32: " CRC32_TEXT "\r\nETag: \"0123456789abcdef-17\"\r\n");
}

static void test_composites_announce_nothing_to_compare(void)
{
    check_announces_nothing("x-amz-checksum-crc32: " CRC32_TEXT "-3\r\n");
    check_announces_nothing("x-amz-checksum-crc32: " CRC32_TEXT "-3\r\nx-amz-checksum-type: FULL_OBJECT\r\n");
    check_announces_nothing("x-amz-checksum-crc32: " CRC32_TEXT "\r\nx-amz-checksum-type: COMPOSITE\r\n");
    check_announces_nothing("x-amz-checksum-crc32: " CRC32_TEXT "\r\nx-amz-checksum-type: NEW_ONE\r\n");
}

static void test_other_algorithms_and_nothing_announce_nothing(void)
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
    check_announces("x-amz-checksum-crc64nvme: nonsense\r\nx-amz-checksum-crc32: " CRC32_TEXT "\r\n", STG_CRC32, 0xcbf43926);
}

static void test_sum_that_is_not_the_wanted_one_is_a_failure_that_names_both(void)
{
    struct stg_sum sum = {.kind = STG_CRC32C, .value = 0xe3069283, .has_wanted = 1, .wanted = 0xe3069283};
    struct stg_failure *failure = NULL;

    CHECK_EQ(stg_sum_check(&sum, &failure), 0);
    sum.wanted = 0x12;
    CHECK_EQ(stg_sum_check(&sum, &failure), -EBADMSG);
    CHECK(failure && failure->kind == STG_FAIL_IDENTITY && !strcmp(failure->where, "checksum"));
    CHECK(failure && !strcmp(failure->s3.message, "CRC32C is e3069283, and 00000012 was announced"));
    stg_failure_free(failure);
    sum.has_wanted = 0;
    CHECK_EQ(stg_sum_check(&sum, &failure), 0);
}

static void test_sum_and_digest_of_pieces_are_those_of_the_whole(void)
{
    enum { SIZE = 200001 };
    static uint8_t data[SIZE];
    uint8_t digest[STG_DIGEST_BYTES], wanted[STG_DIGEST_BYTES];
    struct stg_hasher *hasher = stg_hasher_new();
    struct stg_sum sum = {.kind = STG_CRC64NVME};

    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * i >> 3);
    stg_hasher_reset(hasher, digest, 1);
    for (size_t at = 0, take; at < SIZE; at += take) {
        take = at + 3 < SIZE - at ? at + 3 : SIZE - at;
        stg_sum_add(&sum, hasher, data + at, take);
    }
    stg_hasher_finish(hasher);
    stg_digest_bytes(data, SIZE, wanted);
    CHECK(sum.value == stg_crc_update(STG_CRC64NVME, 0, data, SIZE));
    CHECK(!memcmp(digest, wanted, sizeof wanted));
    stg_hasher_free(hasher);
}

int main(void)
{
    RUN(test_each_kind_of_a_full_object);
    RUN(test_without_a_type_the_value_counts_unless_the_object_came_in_parts);
    RUN(test_composites_announce_nothing_to_compare);
    RUN(test_other_algorithms_and_nothing_announce_nothing);
    RUN(test_values_that_are_none_announce_nothing);
    RUN(test_sum_that_is_not_the_wanted_one_is_a_failure_that_names_both);
    RUN(test_sum_and_digest_of_pieces_are_those_of_the_whole);
    END();
}
