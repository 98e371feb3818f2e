/* In place of csrc/digest.c: the same contract's shape and none of its work. What a build with it saves is what digests
 * cost; see peers/stager_undigested.py.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "digest.h"

#define BLOCK_BYTES ((uint64_t)8 << 20)

struct stg_hasher {
    uint8_t *blocks;
    size_t max_blocks;
    uint64_t bytes;
};

struct stg_hasher *stg_hasher_new(void) { return calloc(1, sizeof(struct stg_hasher)); }

void stg_hasher_free(struct stg_hasher *hasher) { free(hasher); }

void stg_hasher_reset(struct stg_hasher *hasher, uint8_t *blocks, size_t max_blocks) {
    *hasher = (struct stg_hasher){blocks, max_blocks, 0};
}

int stg_hasher_update(struct stg_hasher *hasher, const void *data, size_t len) {
    (void)data;
    hasher->bytes += len;
    return hasher->bytes > hasher->max_blocks * BLOCK_BYTES ? -EOVERFLOW : 0;
}

ssize_t stg_hasher_finish(struct stg_hasher *hasher) {
    size_t count = hasher->bytes == 0 ? 1 : (size_t)((hasher->bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
    memset(hasher->blocks, 0, count * STG_DIGEST_BYTES);
    return (ssize_t)count;
}

int stg_digest_combine(const uint8_t *blocks, size_t count, uint8_t out[STG_DIGEST_BYTES]) {
    (void)blocks;
    memset(out, 0, STG_DIGEST_BYTES);
    return count == 0 ? -EINVAL : 0;
}

void stg_digest_bytes(const void *data, size_t len, uint8_t out[STG_DIGEST_BYTES]) {
    (void)data, (void)len;
    memset(out, 0, STG_DIGEST_BYTES);
}

int stg_digest_fd(int fd, uint8_t out[STG_DIGEST_BYTES], int64_t *size) {
    struct stat found;
    if (fstat(fd, &found) != 0) return -errno;
    if (size != NULL) *size = found.st_size;
    memset(out, 0, STG_DIGEST_BYTES);
    return 0;
}
