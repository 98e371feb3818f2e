/* Where the bodies of one batch go: temporaries that are written, renamed to their keys, and never left behind. */
#ifndef STG_LANDING_H
#define STG_LANDING_H

#include "behind.h"
#include "parents.h"
#include "stg.h"

#include <stdatomic.h>

#define STG_NAME_BYTES 80            /* room for a temporary's name, NUL included */
#define STG_NAME_PREFIX "stg-part-"  /* of every temporary; what is found later under it is left over */

/* Makes names that nobody else makes: prefix, process id, a random token, a counter. */
struct stg_names {
    char prefix[STG_NAME_BYTES - 20];
    size_t prefix_len;
    atomic_uint_fast64_t counter;
};

/* What a file is made with. */
struct stg_made {
    uint32_t mode;     /* without permission bits: 0666 */
    int has_mtime;     /* else it is of when it was written */
    int64_t mtime_ns;
};

int stg_names_init(struct stg_names *names); /* -EIO: no random bytes */
void stg_names_next(struct stg_names *names, char out[STG_NAME_BYTES]); /* any thread */

/* Either fd (parts of one file) or root_fd, tmp_fd and parents. */
struct stg_landing {
    int fd; /* -1: whole files */
    int root_fd, tmp_fd;
    uint64_t device; /* the file system's */
    int is_local;    /* and whether it is one of this machine's own */
    struct stg_parents *parents; /* one a thread, by thread number */
    unsigned threads;
};

/* What a thread that stores has of its own. */
struct stg_hand {
    unsigned thread; /* its number */
    struct stg_names *names;
    struct stg_behind *behind;
};

/* Inline: create tmp, write, close, rename, stat; or pwrite for a landing with fd. 0, or -errno with *where the step that failed; the temporary is gone then. */
int stg_landing_store(struct stg_landing *landing, struct stg_hand hand, struct stg_str key, struct stg_made made,
                      const char *data, size_t len, int64_t offset, struct stg_stored *out, const char **where);

/* The same in steps; create returns a descriptor. Close it before publishing: file systems over a network say only
 * then that a write was lost. */
int stg_landing_create(const struct stg_landing *landing, const char *name, struct stg_made made);
int stg_landing_write(int fd, const char *data, size_t len, int64_t offset);
int stg_landing_publish(struct stg_landing *landing, unsigned thread, const char *name, struct stg_str key,
                        struct stg_made made, struct stg_stored *out, const char **where);
/* Of a temporary that is written and closed. -errno. */
int stg_landing_set_mtime(int tmp_fd, const char *name, int64_t mtime_ns);

#endif
