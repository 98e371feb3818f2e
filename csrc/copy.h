/* One local file at a time: copied, hashed on the way, and published below a root; also the helpers alone. */
#ifndef STG_COPY_H
#define STG_COPY_H

#include "parents.h"
#include "stg.h"

/* Gives an empty file its length, and reserves the space for it where that can be done and is cheap. On tmpfs reserving takes
 * the pages at once, before a byte has come: 0.3 s a GiB, and a tenth more CPU than writing alone. -errno.
 * Not posix_fallocate: where the file system cannot reserve, the C library writes into every block instead. */
int stg_reserve(int fd, int64_t size);
/* Renames tmp_fd/name to path below root_fd as stg_parents_publish and says what is there then. */
int stg_publish(int tmp_fd, const char *name, int root_fd, struct stg_str path, struct stg_stored *out);
/* lstat below root_fd; no symbolic link is followed. */
int stg_stat_below(int root_fd, struct stg_str path, struct stg_stored *out);

/* Copies the regular file `source` below source_dir_fd (no symbolic link is followed) to a temporary in tmp_fd with
 * exactly the permission bits of mode, with preserve also its mtime, and renames it to path below root_fd; where the file
 * system can, the two share their blocks until one is written to. sha256: that of the bytes, which are compared; or NULL.
 * -ESTALE: it changed meanwhile (size, mtime or ctime); -EINVAL: not a regular file; -EBADMSG: other bytes; -errno of what
 * failed. Nothing is left in tmp_fd then. */
int stg_copy_file(int source_dir_fd, struct stg_str source, int tmp_fd, int root_fd, struct stg_str path, uint32_t mode,
                  int preserve, const uint8_t *sha256, uint8_t digest[STG_DIGEST_BYTES], struct stg_stored *out);

#endif
