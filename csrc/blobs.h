/* Files of Git blobs, as `git cat-file --batch` writes them one after the other, put in place as they come.
 *
 *     ID SP "blob" SP SIZE LF   SIZE bytes   LF      (git-cat-file(1), "BATCH OUTPUT")
 *
 * Each is hashed twice on the way: as git does, "blob SIZE", a NUL and the bytes by SHA-1 or SHA-256 (gitformat-pack(5)),
 * so that a file is published only when it is what its id says; and for the manifest. Nothing is read again.
 */
#ifndef STG_BLOBS_H
#define STG_BLOBS_H

#include "entries.h"
#include "parents.h"
#include "stg.h"

struct stg_blobs;

/* Reads from the pipe `from`, makes files in tmp_fd and renames them below root_fd; all three are the caller's.
 * NULL: no memory, or no random bytes. One thread at a time. */
struct stg_blobs *stg_blobs_new(int from, int tmp_fd, int root_fd);
void stg_blobs_free(struct stg_blobs *blobs);

/* The files of these rows of the entries' table, for whose blobs git was asked in this order: the identity is the id in
 * hex, the mode says link, program or file (permission bits by umask, as git makes them). Their entries say that they
 * stand, with grade A. Returns how many came whole; of the next one *status says why it did not: -EPIPE: git wrote no
 * more; -EBADMSG: not this blob; -EILSEQ: its bytes are not what its id says; -ESTALE: another size than the row's;
 * else -errno of what failed here. 0: all came. Nothing of a file that did not come is left in tmp_fd. */
size_t stg_blobs_land(struct stg_blobs *blobs, struct stg_entries *entries, const uint32_t *rows, size_t count,
                      int *status);

#endif
