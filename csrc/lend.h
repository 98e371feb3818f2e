/* Files of a tree that is kept on this host, given to another tree: where the file system can, both share their blocks
 * until one is written to; elsewhere they are copied, and hashed on the way.
 *
 * A kept file is believed while it is the user's own and its size, mtime and ctime are what was recorded of it: the kernel
 * gives a file another ctime at every change, and lets nobody choose it.
 *
 * Read and written through a buffer of 256 KiB for each thread: what is hashed has to be seen, so that copy_file_range,
 * which on file systems without clones moves bytes in the kernel, would save none of the two copies that this takes.
 */
#ifndef STG_LEND_H
#define STG_LEND_H

#include "entries.h"
#include "parents.h"
#include "stg.h"

#define STG_LEND_THREADS 8 /* at most */

struct stg_lend;

/* kept: what was recorded of the tree at kept_fd. Files are made in tmp_fd and renamed below root_fd. All are the caller's
 * and live longer. keep_mtime: a file has the kept one's mtime, else that of when it is made. threads: how many share the
 * work of a call, the caller's own among them. keep_cached_bytes: so much of the copies stays in memory, and what they were
 * copied from as far as both fit (0: all; see behind.h). NULL: no memory, or no random bytes. One call of give at a time. */
struct stg_lend *stg_lend_new(const struct stg_entries *kept, int kept_fd, int tmp_fd, int root_fd, int keep_mtime,
                              unsigned threads, int64_t keep_cached_bytes);
void stg_lend_free(struct stg_lend *lend);

/* From any thread: the call that runs ends within a block of each thread, and the next ones at once, with -ECANCELED. */
void stg_lend_stop(struct stg_lend *lend);

/* The files of the first of these rows, which do not stand yet, as many as are one call's work: 256 MiB, or one for each
 * thread. Their entries, of the same table, say that they stand, with the digest and grade that were recorded; permission
 * bits by umask. Returns how many are in place, in given (room for count), and adds to *shared the bytes that are not
 * copied. *status 0: they are the first ones, all of the call; else why one is not, and others may not be: -ESTALE: a kept
 * file is not what was recorded, or gone; -EBADMSG: its bytes are others; -ECANCELED; -errno of what failed at the
 * destination. Nothing of a file that is not in place is left. */
size_t stg_lend_give(struct stg_lend *lend, struct stg_entries *entries, const uint32_t *rows, size_t count,
                     uint32_t *given, int64_t *shared, int *status);

#endif
