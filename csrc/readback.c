#include "readback.h"

#include "digest.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES ((int64_t)256 << 10) /* stays in L2 between the read, the digest and the CRC */

ssize_t stg_read_at(int fd, void *buffer, size_t len, int64_t offset)
{
    ssize_t got;

    do {
        got = pread(fd, buffer, len, offset);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static int read_and_add(int fd, int64_t offset, int64_t len, enum stg_crc_kind kind, struct stg_hasher *hasher,
                        char *buffer, uint64_t *crc)
{
    while (len > 0) {
        ssize_t got = stg_read_at(fd, buffer, (size_t)(len < READ_BYTES ? len : READ_BYTES), offset);
        int status;

        if (got <= 0)
            return got ? (int)got : -ENODATA;
        status = stg_hasher_update(hasher, buffer, (size_t)got);
        if (status < 0)
            return status;
        if (kind != STG_CRC_NONE)
            *crc = stg_crc_update(kind, *crc, buffer, (size_t)got);
        offset += got;
        len -= got;
    }
    return 0;
}

int stg_read_back(int fd, int64_t offset, int64_t len, enum stg_crc_kind kind, uint8_t digest[STG_DIGEST_BYTES],
                  uint64_t *crc)
{
    struct stg_hasher *hasher;
    char *buffer;
    int status = -ENOMEM;

    if (offset < 0 || len < 0 || len > (int64_t)STG_BLOCK_BYTES)
        return -EINVAL;
    hasher = stg_hasher_new();
    buffer = malloc((size_t)READ_BYTES);
    *crc = 0;
    if (hasher && buffer) {
        stg_hasher_reset(hasher, digest, 1);
        status = read_and_add(fd, offset, len, kind, hasher, buffer, crc);
        if (status == 0)
            stg_hasher_finish(hasher);
    }
    stg_hasher_free(hasher);
    free(buffer);
    return status;
}
