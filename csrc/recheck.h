/* Files hashed again and compared with what was recorded of them. Nothing is written; no symbolic link is followed, and
 * what is no regular file is never opened. */
#ifndef STG_RECHECK_H
#define STG_RECHECK_H

#include "entries.h"

enum stg_found {
    STG_FOUND_SAME,
    STG_FOUND_MISSING,
    STG_FOUND_KIND,       /* something else stands there, or where a directory above it should */
    STG_FOUND_SIZE,
    STG_FOUND_CONTENT,
    STG_FOUND_EXECUTABLE, /* who may execute it */
    STG_FOUND_UNREADABLE, /* errors[] says why */
};

struct stg_recheck {
    struct stg_entries *entries;
    int root_fd;
    int from_disk;             /* not from the page cache, as far as what is in it has been written */
    enum stg_standing believed; /* what the entry of a file that is the same becomes; its times are then the file's */
};

/* found[i] and errors[i] (errno, or 0) of rows[i], each of them recorded. An entry whose file is not the same becomes
 * STG_STALE. Threads may work on different rows at a time. 0; -ENOMEM. */
int stg_recheck(const struct stg_recheck *recheck, const uint32_t *rows, size_t count, uint8_t *found, int32_t *errors);

#endif
