#include "digest.h"
#include "readback.h"

#include "digest_kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define READ_BYTES ((size_t)256 << 10) /* stays in L2 between pread and hashing */

struct stg_hasher {
    XXH3_state_t state;
    stg_xxh_update *update;
    uint8_t *blocks;
    size_t max_blocks;
    size_t count;
    size_t in_block;
};

void stg_xxh_update_plain(void *state, const void *data, size_t len)
{
    XXH3_128bits_update(state, data, len);
}

stg_xxh_update *stg_xxh_update_best(void)
{
#ifdef STG_XXH_AVX2
    if (__builtin_cpu_supports("avx2"))
        return stg_xxh_update_avx2;
#endif
    return stg_xxh_update_plain;
}

static void digest_put(XXH128_hash_t hash, uint8_t *out)
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, STG_DIGEST_BYTES);
}

struct stg_hasher *stg_hasher_new(void)
{
    size_t align = _Alignof(struct stg_hasher);
    struct stg_hasher *hasher = aligned_alloc(align, sizeof(*hasher));

    if (!hasher)
        return NULL;
    XXH3_INITSTATE(&hasher->state);
    hasher->update = stg_xxh_update_best();
    stg_hasher_reset(hasher, NULL, 0);
    return hasher;
}

void stg_hasher_free(struct stg_hasher *hasher)
{
    free(hasher);
}

void stg_hasher_reset(struct stg_hasher *hasher, uint8_t *blocks, size_t max_blocks)
{
    hasher->blocks = blocks;
    hasher->max_blocks = max_blocks;
    hasher->count = 0;
    hasher->in_block = 0;
    XXH3_128bits_reset(&hasher->state);
}

static int block_close(struct stg_hasher *hasher)
{
    if (hasher->count == hasher->max_blocks)
        return -EOVERFLOW;
    digest_put(XXH3_128bits_digest(&hasher->state), hasher->blocks + hasher->count * STG_DIGEST_BYTES);
    hasher->count++;
    hasher->in_block = 0;
    XXH3_128bits_reset(&hasher->state);
    return 0;
}

int stg_hasher_update(struct stg_hasher *hasher, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    while (len) {
        size_t take = STG_BLOCK_BYTES - hasher->in_block;

        if (take > len)
            take = len;
        if (hasher->count == hasher->max_blocks)
            return -EOVERFLOW;
        hasher->update(&hasher->state, bytes, take);
        hasher->in_block += take;
        if (hasher->in_block == STG_BLOCK_BYTES) {
            int error = block_close(hasher);
            if (error)
                return error;
        }
        bytes += take;
        len -= take;
    }
    return 0;
}

ssize_t stg_hasher_finish(struct stg_hasher *hasher)
{
    if (hasher->in_block || !hasher->count) {
        int error = block_close(hasher);
        if (error)
            return error;
    }
    return (ssize_t)hasher->count;
}

int stg_digest_combine(const uint8_t *blocks, size_t count, uint8_t out[STG_DIGEST_BYTES])
{
    if (!count)
        return -EINVAL;
    if (count == 1)
        memcpy(out, blocks, STG_DIGEST_BYTES);
    else
        digest_put(XXH3_128bits(blocks, count * STG_DIGEST_BYTES), out);
    return 0;
}

/* Combines block digests as they come, so that a file of any size needs no room for them. */
struct combiner {
    XXH3_state_t state;
    size_t count;
    uint8_t only[STG_DIGEST_BYTES];
};

static void combiner_start(struct combiner *combiner)
{
    XXH3_INITSTATE(&combiner->state);
    XXH3_128bits_reset(&combiner->state);
    combiner->count = 0;
}

static void combiner_add(struct combiner *combiner, XXH128_hash_t block)
{
    digest_put(block, combiner->only);
    XXH3_128bits_update(&combiner->state, combiner->only, STG_DIGEST_BYTES);
    combiner->count++;
}

static void combiner_finish(struct combiner *combiner, uint8_t out[STG_DIGEST_BYTES])
{
    if (combiner->count == 1)
        memcpy(out, combiner->only, STG_DIGEST_BYTES);
    else
        digest_put(XXH3_128bits_digest(&combiner->state), out);
}

void stg_digest_bytes(const void *data, size_t len, uint8_t out[STG_DIGEST_BYTES])
{
    const uint8_t *bytes = data;
    struct combiner combiner;

    combiner_start(&combiner);
    do {
        size_t take = len < STG_BLOCK_BYTES ? len : STG_BLOCK_BYTES;

        combiner_add(&combiner, XXH3_128bits(bytes, take));
        bytes += take;
        len -= take;
    } while (len);
    combiner_finish(&combiner, out);
}

int stg_digest_fd(int fd, uint8_t out[STG_DIGEST_BYTES], int64_t *size)
{
    struct combiner combiner;
    XXH3_state_t block;
    size_t in_block = 0;
    int64_t offset = 0;
    ssize_t got;
    uint8_t *buffer = malloc(READ_BYTES);
    stg_xxh_update *update = stg_xxh_update_best();

    if (!buffer)
        return -ENOMEM;
    combiner_start(&combiner);
    XXH3_INITSTATE(&block);
    XXH3_128bits_reset(&block);
    for (;;) {
        size_t room = STG_BLOCK_BYTES - in_block;

        got = stg_read_at(fd, buffer, room < READ_BYTES ? room : READ_BYTES, offset);
        if (got <= 0)
            break;
        update(&block, buffer, (size_t)got);
        offset += got;
        in_block += (size_t)got;
        if (in_block == STG_BLOCK_BYTES) {
            combiner_add(&combiner, XXH3_128bits_digest(&block));
            XXH3_128bits_reset(&block);
            in_block = 0;
        }
    }
    free(buffer);
    if (got < 0)
        return (int)got;
    if (in_block || !combiner.count)
        combiner_add(&combiner, XXH3_128bits_digest(&block));
    combiner_finish(&combiner, out);
    if (size)
        *size = offset;
    return 0;
}
