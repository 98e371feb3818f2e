/* xxh3-128t: the digest of a file.
 *
 * XXH3-128 (seed 0) of each 8 MiB block of a fixed grid; for a file of one block (or none: the digest of the empty
 * string) that value itself, else XXH3-128 over the concatenated block digests in canonical (big-endian) form.
 */
#ifndef STG_DIGEST_H
#define STG_DIGEST_H

#include "stg.h"

struct stg_hasher; /* streams a byte sequence that starts on the grid, block by block */

struct stg_hasher *stg_hasher_new(void); /* NULL: no memory */
void stg_hasher_free(struct stg_hasher *hasher);
/* Start over. Finished blocks go to blocks (room for max_blocks digests), in order. */
void stg_hasher_reset(struct stg_hasher *hasher, uint8_t *blocks, size_t max_blocks);
/* -EOVERFLOW: more bytes than max_blocks hold. */
int stg_hasher_update(struct stg_hasher *hasher, const void *data, size_t len);
/* Closes the last block, also when it is empty and the only one; returns the number of blocks. */
ssize_t stg_hasher_finish(struct stg_hasher *hasher);

/* The file's digest from its block digests; -EINVAL for count 0. */
int stg_digest_combine(const uint8_t *blocks, size_t count, uint8_t out[STG_DIGEST_BYTES]);
/* The plain reference: everything at hand, block after block. */
void stg_digest_bytes(const void *data, size_t len, uint8_t out[STG_DIGEST_BYTES]);
/* A whole open file from offset 0, by pread; size may be NULL. -errno of pread; -ENOMEM. */
int stg_digest_fd(int fd, uint8_t out[STG_DIGEST_BYTES], int64_t *size);

#endif
