/* Expected values: python-xxhash, block by block, over the bytes that pattern_fill makes. */
#include "digest.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <xxhash.h> /* the library itself, linked to the tests only */

#include "check.h"
#include "digest_kernel.h"
#include "readback.h"

#define LONGEST ((size_t)17 << 20)
#define MAX_BLOCKS 3

static uint8_t *pattern;

static const struct {
    size_t len;
    const char *hex;
} KNOWN[] = {
    {0, "99aa06d3014798d86001c324468d497f"},
    {1, "8e27a1d992b735d8f9975fc288a25a61"},
    {3, "6825daf836cb0d07a19876800484d271"},
    {16, "352812a1b7408fde44b68ec7d04ab27a"},
    {17, "b76cf394fa7f7d850c66b223deb06b5d"},
    {128, "06fe0ee22e84e85038408a985c765dff"},
    {129, "3dd32f757dc5ae265af3e43aa44715dc"},
    {240, "6520d47e69d26d532c5571ca539b9db0"},
    {241, "5020bed39134a0d735c6a22e6bc9e8c8"},
    {1000, "d1f1b235b92dfdd8c408de749430ba4a"},
    {STG_BLOCK_BYTES - 1, "e8b7b079f9aaf987e8ef7b621d7e685f"},
    {STG_BLOCK_BYTES, "f799cab49952a366b3fd76ff9383ea4d"},
    {STG_BLOCK_BYTES + 1, "6f99a18bd1fadb5c2d14af11c58ae623"},
    {2 * STG_BLOCK_BYTES, "cdf1bc17f94057cfbe806a6ed346a817"},
    {LONGEST, "ad36ea9a7305d30ef1c16938533115b7"},
};
#define KNOWN_COUNT (sizeof(KNOWN) / sizeof(KNOWN[0]))

static void pattern_fill(void)
{
    uint64_t word = 0;

    pattern = malloc(LONGEST);
    for (size_t i = 0; i < LONGEST; i += 8) {
        word = word * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        for (size_t byte = 0; byte < 8; byte++)
            pattern[i + byte] = (uint8_t)(word >> (8 * byte));
    }
}

static void check_hex(const uint8_t digest[STG_DIGEST_BYTES], const char *wanted)
{
    char hex[2 * STG_DIGEST_BYTES + 1];

    for (size_t i = 0; i < STG_DIGEST_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    if (strcmp(hex, wanted) != 0)
        printf("%s is %s, not %s\n", check_test, hex, wanted);
    CHECK(!strcmp(hex, wanted));
}

static void test_short_texts_have_their_known_digests(void)
{
    uint8_t digest[STG_DIGEST_BYTES];

    stg_digest_bytes("", 0, digest);
    check_hex(digest, "99aa06d3014798d86001c324468d497f");
    stg_digest_bytes("a", 1, digest);
    check_hex(digest, "a96faf705af16834e6c632b61e964e1f");
    stg_digest_bytes("abc", 3, digest);
    check_hex(digest, "06b05ab6733a618578af5f94892f3950");
}

static void test_digest_of_bytes_around_every_boundary_is_as_known(void)
{
    uint8_t digest[STG_DIGEST_BYTES];

    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        stg_digest_bytes(pattern, KNOWN[i].len, digest);
        check_hex(digest, KNOWN[i].hex);
    }
}

/* Pieces of the given size; 0: each one a little longer than the one before. */
static void check_streamed(size_t len, size_t piece, const char *wanted)
{
    uint8_t blocks[MAX_BLOCKS * STG_DIGEST_BYTES], digest[STG_DIGEST_BYTES];
    struct stg_hasher *hasher = stg_hasher_new();
    size_t at = 0, step = piece ? piece : 1;
    ssize_t count;

    stg_hasher_reset(hasher, blocks, MAX_BLOCKS);
    while (at < len) {
        size_t take = step < len - at ? step : len - at;

        CHECK_EQ(stg_hasher_update(hasher, pattern + at, take), 0);
        at += take;
        step += piece ? 0 : step / 7 + 1;
    }
    count = stg_hasher_finish(hasher);
    CHECK_EQ(count, len ? (len + STG_BLOCK_BYTES - 1) / STG_BLOCK_BYTES : 1);
    CHECK_EQ(stg_digest_combine(blocks, (size_t)count, digest), 0);
    check_hex(digest, wanted);
    stg_hasher_free(hasher);
}

static void test_streaming_in_odd_pieces_equals_the_whole(void)
{
    static const size_t pieces[] = {0, 4093, 65536, 262144, 1000003, STG_BLOCK_BYTES - 1, STG_BLOCK_BYTES + 1, LONGEST};

    for (size_t i = 0; i < KNOWN_COUNT; i++)
        for (size_t j = 0; j < sizeof(pieces) / sizeof(pieces[0]); j++)
            check_streamed(KNOWN[i].len, pieces[j], KNOWN[i].hex);
    for (size_t i = 0; KNOWN[i].len < 1024; i++)
        check_streamed(KNOWN[i].len, 1, KNOWN[i].hex);
}

static void check_kernel(stg_xxh_update *update, size_t len, size_t piece)
{
    XXH3_state_t *state = XXH3_createState();
    XXH128_hash_t wanted = XXH3_128bits(pattern, len);

    XXH3_128bits_reset(state);
    for (size_t at = 0; at < len; at += piece)
        update(state, pattern + at, piece < len - at ? piece : len - at);
    CHECK(XXH128_isEqual(XXH3_128bits_digest(state), wanted));
    XXH3_freeState(state);
}

static void test_every_kernel_gives_what_xxhash_gives(void)
{
    stg_xxh_update *const kernels[] = {stg_xxh_update_plain, stg_xxh_update_best()};

    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
        for (size_t len = 0; len < 5000; len += 61)
            for (size_t piece = 1; piece < 2000; piece = piece * 3 + 5)
                check_kernel(kernels[i], len, piece);
}

static void test_hasher_is_used_again_after_a_reset(void)
{
    uint8_t blocks[STG_DIGEST_BYTES];
    struct stg_hasher *hasher = stg_hasher_new();

    stg_hasher_reset(hasher, blocks, 1);
    CHECK_EQ(stg_hasher_update(hasher, pattern, 12345), 0);
    stg_hasher_reset(hasher, blocks, 1);
    CHECK_EQ(stg_hasher_update(hasher, pattern, 1000), 0);
    CHECK_EQ(stg_hasher_finish(hasher), 1);
    CHECK_EQ(stg_hasher_finish(hasher), 1);
    check_hex(blocks, "d1f1b235b92dfdd8c408de749430ba4a");
    stg_hasher_free(hasher);
    stg_hasher_free(NULL);
}

static void test_more_bytes_than_the_blocks_hold_are_refused(void)
{
    uint8_t blocks[STG_DIGEST_BYTES];
    struct stg_hasher *hasher = stg_hasher_new();

    stg_hasher_reset(hasher, blocks, 1);
    CHECK_EQ(stg_hasher_update(hasher, pattern, STG_BLOCK_BYTES), 0);
    CHECK_EQ(stg_hasher_update(hasher, pattern, 0), 0);
    CHECK_EQ(stg_hasher_update(hasher, pattern, 1), -EOVERFLOW);
    CHECK_EQ(stg_hasher_finish(hasher), 1);
    stg_hasher_reset(hasher, NULL, 0);
    CHECK_EQ(stg_hasher_finish(hasher), -EOVERFLOW);
    stg_hasher_free(hasher);
}

static void test_combining_no_blocks_is_refused(void)
{
    uint8_t digest[STG_DIGEST_BYTES];

    CHECK_EQ(stg_digest_combine(NULL, 0, digest), -EINVAL);
}

static void test_file_has_the_digest_of_its_bytes_wherever_its_offset_stands(void)
{
    FILE *file = tmpfile();
    int fd = fileno(file);
    uint8_t digest[STG_DIGEST_BYTES];
    int64_t size;

    CHECK_EQ(write(fd, pattern, LONGEST), LONGEST);
    for (size_t i = KNOWN_COUNT; i-- > 0;) {
        CHECK_EQ(ftruncate(fd, (off_t)KNOWN[i].len), 0);
        CHECK_EQ(stg_digest_fd(fd, digest, &size), 0);
        check_hex(digest, KNOWN[i].hex);
        CHECK_EQ(size, KNOWN[i].len);
        CHECK_EQ(stg_digest_fd(fd, digest, NULL), 0);
    }
    fclose(file);
}

static void test_descriptor_that_cannot_be_read_gives_its_errno(void)
{
    uint8_t digest[STG_DIGEST_BYTES];
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(stg_digest_fd(ends[0], digest, NULL), -ESPIPE);
    close(ends[0]);
    close(ends[1]);
    CHECK_EQ(stg_digest_fd(-1, digest, NULL), -EBADF);
}

static void test_block_that_is_read_back_has_its_digest_and_crc(void)
{
    uint8_t digest[STG_DIGEST_BYTES], wanted[STG_DIGEST_BYTES];
    FILE *file = tmpfile();
    int fd = fileno(file);
    uint64_t crc;

    CHECK_EQ(write(fd, pattern, LONGEST), LONGEST);
    for (size_t len = 0; len <= STG_BLOCK_BYTES; len = len * 5 + 1) {
        CHECK_EQ(stg_read_back(fd, STG_BLOCK_BYTES, (int64_t)len, STG_CRC32C, digest, &crc), 0);
        stg_digest_bytes(pattern + STG_BLOCK_BYTES, len, wanted);
        CHECK(!memcmp(digest, wanted, sizeof(digest)));
        CHECK_EQ(crc, stg_crc_update(STG_CRC32C, 0, pattern + STG_BLOCK_BYTES, len));
    }
    CHECK_EQ(stg_read_back(fd, 0, STG_BLOCK_BYTES, STG_CRC_NONE, digest, &crc), 0);
    CHECK_EQ(crc, 0);
    CHECK_EQ(stg_read_back(fd, LONGEST - 5, 6, STG_CRC_NONE, digest, &crc), -ENODATA);
    CHECK_EQ(stg_read_back(fd, 0, STG_BLOCK_BYTES + 1, STG_CRC_NONE, digest, &crc), -EINVAL);
    CHECK_EQ(stg_read_back(fd, -1, 1, STG_CRC_NONE, digest, &crc), -EINVAL);
    CHECK_EQ(stg_read_back(-1, 0, 1, STG_CRC_NONE, digest, &crc), -EBADF);
    fclose(file);
}

int main(void)
{
    pattern_fill();
    RUN(test_short_texts_have_their_known_digests);
    RUN(test_digest_of_bytes_around_every_boundary_is_as_known);
    RUN(test_streaming_in_odd_pieces_equals_the_whole);
    RUN(test_every_kernel_gives_what_xxhash_gives);
    RUN(test_hasher_is_used_again_after_a_reset);
    RUN(test_more_bytes_than_the_blocks_hold_are_refused);
    RUN(test_combining_no_blocks_is_refused);
    RUN(test_file_has_the_digest_of_its_bytes_wherever_its_offset_stands);
    RUN(test_descriptor_that_cannot_be_read_gives_its_errno);
    RUN(test_block_that_is_read_back_has_its_digest_and_crc);
    free(pattern);
    END();
}
