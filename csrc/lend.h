/* Files of a tree that is kept on this host, given to another tree: where the file system can, both share their blocks
 * until one is written to; elsewhere they are copied, and hashed on the way.
 *
 * A kept file is believed while it is the user's own and its size, mtime and ctime are what was recorded of it: the kernel
 * gives a file another ctime at every change, and lets nobody choose it.
 */
#ifndef STG_LEND_H
#define STG_LEND_H

#include "entries.h"
#include "parents.h"
#include "stg.h"

struct stg_lend;

/* kept: what was recorded of the tree at kept_fd. Files are made in tmp_fd and renamed below root_fd. All are the caller's
 * and live longer. keep_mtime: a file has the kept one's mtime, else that of when it is made. NULL: no memory, or no
 * random bytes. One thread at a time. */
struct stg_lend *stg_lend_new(const struct stg_entries *kept, int kept_fd, int tmp_fd, int root_fd, int keep_mtime);
void stg_lend_free(struct stg_lend *lend);

/* The files of these rows; entries, of the same table, say that they stand, with the digest and grade that were recorded;
 * permission bits by umask. Returns how many are in place, and adds to *shared the bytes that are not copied; of the next
 * row *status says why it is not: -ESTALE: the kept file is not what was recorded, or gone; -EBADMSG: its bytes are
 * others; else -errno of what failed at the destination. 0: all are. Nothing of a file that is not in place is left. */
size_t stg_lend_give(struct stg_lend *lend, struct stg_entries *entries, const uint32_t *rows, size_t count,
                     int64_t *shared, int *status);

#endif
