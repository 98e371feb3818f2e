/* Bytes that a file already has, read again: their digest, and the CRC that is to be combined over the object. */
#ifndef STG_READBACK_H
#define STG_READBACK_H

#include "crc.h"
#include "stg.h"

/* pread that goes on after a signal: how many bytes, 0 at the end of the file, or -errno. */
ssize_t stg_read_at(int fd, void *buffer, size_t len, int64_t offset);
/* The digest of one block of a file, len <= STG_BLOCK_BYTES bytes from offset on, and with a kind their CRC. 0; -ENODATA:
 * the file ends before; -EINVAL: more than a block, or less than nothing; -ENOMEM; -errno of pread. */
int stg_read_back(int fd, int64_t offset, int64_t len, enum stg_crc_kind kind, uint8_t digest[STG_DIGEST_BYTES],
                  uint64_t *crc);

#endif
