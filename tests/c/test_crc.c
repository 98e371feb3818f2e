/* The definition, bit by bit, is the reference; it is tied down by the check values of the catalogue. zlib and awscrt are
 * asked in tests/unit/test_csrc_crc.py. */
#include "crc.h"

#include <stdlib.h>

#include "check.h"
#include "crc_kernel.h"

#define LONGEST ((size_t)1 << 20)
#define MAX_KERNELS 4

static const enum stg_crc_kind KINDS[] = {STG_CRC32, STG_CRC32C, STG_CRC64NVME};
#define KIND_COUNT (sizeof KINDS / sizeof *KINDS)

static uint8_t *pattern;
static stg_crc_kernel *kernels[MAX_KERNELS];
static size_t kernel_count;

static uint64_t random_state = 1;

static uint64_t random_word(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return random_state >> 16;
}

static void pattern_fill(void)
{
    pattern = malloc(LONGEST + 64);
    for (size_t i = 0; i < LONGEST + 64; i++)
        pattern[i] = (uint8_t)random_word();
}

/* All that this processor runs, but for the bitwise one. */
static void kernels_find(void)
{
    kernels[kernel_count++] = stg_crc_scalar;
#ifdef STG_CRC_PCLMUL
    if (stg_crc_has_pclmul())
        kernels[kernel_count++] = stg_crc_pclmul;
    if (stg_crc_has_vpclmul_avx2())
        kernels[kernel_count++] = stg_crc_vpclmul_avx2;
    if (stg_crc_has_vpclmul())
        kernels[kernel_count++] = stg_crc_vpclmul;
#endif
#ifdef STG_CRC_ARM
    if (stg_crc_has_pmull())
        kernels[kernel_count++] = stg_crc_pmull;
    if (stg_crc_has_arm_crc32())
        kernels[kernel_count++] = stg_crc_arm_crc32;
#endif
}

static uint64_t mask(enum stg_crc_kind kind)
{
    return kind == STG_CRC64NVME ? UINT64_MAX : UINT32_MAX;
}

static void test_values_of_the_catalogue(void)
{
    CHECK(stg_crc_update(STG_CRC32, 0, "123456789", 9) == 0xcbf43926);
    CHECK(stg_crc_update(STG_CRC32C, 0, "123456789", 9) == 0xe3069283);
    CHECK(stg_crc_update(STG_CRC64NVME, 0, "123456789", 9) == UINT64_C(0xae8b14860a799888));
    for (size_t i = 0; i < KIND_COUNT; i++)
        CHECK(stg_crc_update(KINDS[i], 0, NULL, 0) == 0);
}

static void test_sizes_of_the_values(void)
{
    CHECK_EQ(stg_crc_bytes(STG_CRC_NONE), 0);
    CHECK_EQ(stg_crc_bytes(STG_CRC32), 4);
    CHECK_EQ(stg_crc_bytes(STG_CRC32C), 4);
    CHECK_EQ(stg_crc_bytes(STG_CRC64NVME), 8);
}

static void test_no_kind_computes_nothing(void)
{
    CHECK(stg_crc_update(STG_CRC_NONE, 0, "abc", 3) == 0);
    CHECK(stg_crc_combine(STG_CRC_NONE, 1, 2, 3) == 0);
}

static void test_every_kernel_equals_the_definition_at_every_length_and_alignment(void)
{
    for (size_t kind = 0; kind < KIND_COUNT; kind++)
        for (size_t align = 0; align < 64; align++) {
            uint64_t start = random_word() & mask(KINDS[kind]), wanted = start;

            for (size_t len = 0; len <= 1024; len++) { /* wanted grows by a byte each time */
                for (size_t k = 0; k < kernel_count; k++)
                    CHECK(kernels[k](KINDS[kind], start, pattern + align, len) == wanted);
                wanted = stg_crc_bitwise(KINDS[kind], wanted, pattern + align + len, 1);
            }
        }
}

static void test_every_kernel_equals_the_definition_on_long_input(void)
{
    for (size_t kind = 0; kind < KIND_COUNT; kind++) {
        uint64_t start = random_word() & mask(KINDS[kind]);
        uint64_t wanted = stg_crc_bitwise(KINDS[kind], start, pattern + 3, LONGEST);

        for (size_t k = 0; k < kernel_count; k++)
            CHECK(kernels[k](KINDS[kind], start, pattern + 3, LONGEST) == wanted);
    }
}

static void check_split(enum stg_crc_kind kind, size_t len)
{
    uint64_t whole = stg_crc_update(kind, 0, pattern, len), chained = 0, combined = 0;

    for (size_t at = 0; at < len;) {
        size_t take = random_word() % 700;

        take = take < len - at ? take : len - at;
        chained = stg_crc_update(kind, chained, pattern + at, take);
        combined = stg_crc_combine(kind, combined, stg_crc_update(kind, 0, pattern + at, take), (int64_t)take);
        at += take;
    }
    CHECK(chained == whole);
    CHECK(combined == whole);
}

static void test_pieces_chained_or_combined_equal_the_whole(void)
{
    for (size_t kind = 0; kind < KIND_COUNT; kind++)
        for (size_t round = 0; round < 200; round++)
            check_split(KINDS[kind], random_word() % 5000);
}

static void test_combining_with_nothing_changes_nothing(void)
{
    for (size_t kind = 0; kind < KIND_COUNT; kind++) {
        uint64_t value = random_word() & mask(KINDS[kind]);

        CHECK(stg_crc_combine(KINDS[kind], value, 0, 0) == value);
        CHECK(stg_crc_combine(KINDS[kind], 0, value, 0) == value);
        CHECK(stg_crc_combine(KINDS[kind], 0, value, INT64_MAX) == value);
    }
}

/* b's length moves a only: for lengths too long to hold, moving in two steps is moving by the sum. */
static void test_combining_over_the_longest_lengths_is_associative(void)
{
    static const int64_t lengths[] = {1, 255, 256, (int64_t)8 << 20, (int64_t)1 << 32, (int64_t)1 << 61};

    for (size_t kind = 0; kind < KIND_COUNT; kind++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            uint64_t a = random_word() & mask(KINDS[kind]), b = random_word() & mask(KINDS[kind]);
            uint64_t c = random_word() & mask(KINDS[kind]);
            int64_t rest = INT64_MAX - lengths[i];
            uint64_t left = stg_crc_combine(KINDS[kind], stg_crc_combine(KINDS[kind], a, b, lengths[i]), c, rest);
            uint64_t right = stg_crc_combine(KINDS[kind], a, stg_crc_combine(KINDS[kind], b, c, rest), INT64_MAX);

            CHECK(left == right);
        }
}

/* One megabyte of zeros, by combining and by computing. */
static void test_combining_over_zeros_equals_computing_them(void)
{
    uint8_t *zeros = calloc(LONGEST, 1);

    for (size_t kind = 0; kind < KIND_COUNT; kind++) {
        uint64_t a = stg_crc_update(KINDS[kind], 0, pattern, 77), b = stg_crc_update(KINDS[kind], 0, zeros, LONGEST);

        CHECK(stg_crc_combine(KINDS[kind], a, b, (int64_t)LONGEST) == stg_crc_update(KINDS[kind], a, zeros, LONGEST));
    }
    free(zeros);
}

int main(void)
{
    pattern_fill();
    kernels_find();
    RUN(test_values_of_the_catalogue);
    RUN(test_sizes_of_the_values);
    RUN(test_no_kind_computes_nothing);
    RUN(test_every_kernel_equals_the_definition_at_every_length_and_alignment);
    RUN(test_every_kernel_equals_the_definition_on_long_input);
    RUN(test_pieces_chained_or_combined_equal_the_whole);
    RUN(test_combining_with_nothing_changes_nothing);
    RUN(test_combining_over_the_longest_lengths_is_associative);
    RUN(test_combining_over_zeros_equals_computing_them);
    free(pattern);
    END();
}
