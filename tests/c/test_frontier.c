/* Sums of files that are taken in order while they grow; the values are those of RFC 1321, FIPS 180 and test_crc.c. */
#include "frontier.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

enum { SIZE = (3 << 20) + 17 };

static uint8_t data[SIZE];

static int file_of(const void *content, size_t len)
{
    char name[] = "/tmp/stg-test-frontier-XXXXXX";
    int fd = mkstemp(name);

    unlink(name);
    if (fd < 0 || pwrite(fd, content, len, 0) != (ssize_t)len)
        abort();
    return fd;
}

static void sum_of(enum stg_sum_kind kind, const void *bytes, size_t len, uint8_t out[STG_SUM_MAX_BYTES])
{
    struct stg_sum sum = {0};

    CHECK_EQ(stg_sum_start(&sum, kind), 0);
    stg_sum_add(&sum, bytes, len);
    CHECK_EQ(stg_sum_finish(&sum, out), 0);
    stg_sum_clear(&sum);
}

static void check_hex(enum stg_sum_kind kind, const char *bytes, const char *wanted)
{
    uint8_t value[STG_SUM_MAX_BYTES];
    char text[2 * STG_SUM_MAX_BYTES + 1] = "";

    sum_of(kind, bytes, strlen(bytes), value);
    for (size_t i = 0; i < stg_sum_bytes(kind); i++)
        snprintf(text + 2 * i, 3, "%02x", value[i]);
    if (strcmp(text, wanted))
        printf("%s of \"%s\": %s\n", stg_sum_name(kind), bytes, text);
    CHECK(!strcmp(text, wanted));
}

static void test_sums_are_those_of_the_standards(void)
{
    check_hex(STG_SUM_NONE, "abc", "");
    check_hex(STG_SUM_CRC32, "123456789", "cbf43926");
    check_hex(STG_SUM_CRC32C, "123456789", "e3069283");
    check_hex(STG_SUM_CRC64NVME, "123456789", "ae8b14860a799888");
    check_hex(STG_SUM_MD5, "", "d41d8cd98f00b204e9800998ecf8427e");
    check_hex(STG_SUM_MD5, "message digest", "f96b697d7cb7938d525a2f31aaf161d0");
    check_hex(STG_SUM_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
    check_hex(STG_SUM_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_one_sum_serves_many_kinds_in_turn(void)
{
    struct stg_sum sum = {0};

    for (int turn = 0; turn < 3; turn++)
        for (enum stg_sum_kind kind = STG_SUM_CRC32; kind <= STG_SUM_MD5; kind++) {
            uint8_t value[STG_SUM_MAX_BYTES], wanted[STG_SUM_MAX_BYTES];

            sum_of(kind, data, 1000, wanted);
            CHECK_EQ(stg_sum_start(&sum, kind), 0);
            stg_sum_add(&sum, data, 300);
            stg_sum_add(&sum, data + 300, 700);
            CHECK_EQ(stg_sum_finish(&sum, value), 0);
            CHECK(!memcmp(value, wanted, stg_sum_bytes(kind)));
        }
    stg_sum_clear(&sum);
}

/* In steps that fit nothing. */
static void advance_to_the_end(struct stg_frontier *frontier, int fd)
{
    for (int64_t upto = 1; upto < SIZE; upto = upto * 3 + 7) {
        CHECK_EQ(stg_frontier_advance(frontier, fd, upto), 0);
        CHECK_EQ(stg_frontier_at(frontier), upto);
    }
    CHECK_EQ(stg_frontier_advance(frontier, fd, SIZE), 0);
    CHECK_EQ(stg_frontier_advance(frontier, fd, 5), 0); /* taken long ago */
}

static void test_sum_of_a_file_in_steps_is_that_of_its_bytes(void)
{
    int fd = file_of(data, SIZE);

    for (enum stg_sum_kind kind = STG_SUM_CRC32; kind <= STG_SUM_MD5; kind++) {
        uint8_t value[STG_SUM_MAX_BYTES], wanted[STG_SUM_MAX_BYTES];
        struct stg_frontier *frontier = NULL;

        CHECK_EQ(stg_frontier_new(kind, NULL, 0, &frontier), 0);
        advance_to_the_end(frontier, fd);
        CHECK_EQ(stg_frontier_finish(frontier, value), 0);
        sum_of(kind, data, SIZE, wanted);
        CHECK(!memcmp(value, wanted, stg_sum_bytes(kind)));
        stg_frontier_free(frontier);
    }
    close(fd);
}

static void test_sum_of_parts_is_that_of_their_sums(void)
{
    static const int64_t ends[] = {1, 262144, 1000000, SIZE};
    int fd = file_of(data, SIZE);

    for (enum stg_sum_kind kind = STG_SUM_CRC32; kind <= STG_SUM_MD5; kind++) {
        uint8_t value[STG_SUM_MAX_BYTES], wanted[STG_SUM_MAX_BYTES], sums[4 * STG_SUM_MAX_BYTES];
        size_t bytes = stg_sum_bytes(kind);
        struct stg_frontier *frontier = NULL;
        int64_t at = 0;

        for (size_t i = 0; i < 4; i++) {
            uint8_t part[STG_SUM_MAX_BYTES];

            sum_of(kind, data + at, (size_t)(ends[i] - at), part);
            memcpy(sums + i * bytes, part, bytes);
            at = ends[i];
        }
        sum_of(kind, sums, 4 * bytes, wanted);
        CHECK_EQ(stg_frontier_new(kind, ends, 4, &frontier), 0);
        advance_to_the_end(frontier, fd);
        CHECK_EQ(stg_frontier_finish(frontier, value), 0);
        CHECK(!memcmp(value, wanted, bytes));
        stg_frontier_free(frontier);
    }
    close(fd);
}

static void test_what_cannot_be_is_refused(void)
{
    static const int64_t ends[] = {0, 5, 5, 3, 10, 20};
    uint8_t value[STG_SUM_MAX_BYTES];
    struct stg_frontier *frontier = NULL;
    int fd = file_of(data, 12);

    CHECK_EQ(stg_frontier_new(STG_SUM_NONE, NULL, 0, &frontier), -EINVAL);
    CHECK_EQ(stg_frontier_new(STG_SUM_MD5, ends, 2, &frontier), -EINVAL);
    CHECK_EQ(stg_frontier_new(STG_SUM_MD5, ends + 1, 2, &frontier), -EINVAL);
    CHECK_EQ(stg_frontier_new(STG_SUM_MD5, ends + 2, 2, &frontier), -EINVAL);
    CHECK_EQ(stg_frontier_new(STG_SUM_MD5, ends + 3, 3, &frontier), 0);
    CHECK_EQ(stg_frontier_advance(frontier, fd, 21), -EINVAL);
    CHECK_EQ(stg_frontier_advance(frontier, fd, 20), -ENODATA);
    CHECK_EQ(stg_frontier_at(frontier), 12);
    CHECK_EQ(stg_frontier_finish(frontier, value), -EINVAL);
    CHECK_EQ(stg_frontier_advance(frontier, -1, 20), -EBADF);
    stg_frontier_free(frontier);
    stg_frontier_free(NULL);
    close(fd);
}

int main(void)
{
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * i >> 5);
    RUN(test_sums_are_those_of_the_standards);
    RUN(test_one_sum_serves_many_kinds_in_turn);
    RUN(test_sum_of_a_file_in_steps_is_that_of_its_bytes);
    RUN(test_sum_of_parts_is_that_of_their_sums);
    RUN(test_what_cannot_be_is_refused);
    END();
}
