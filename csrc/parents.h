/* Directories below a root, reached without following a symbolic link and never leaving the root.
 *
 * By openat2 (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS); where the kernel or a filter has no
 * openat2, component by component with O_NOFOLLOW. Names with an empty, "." or ".." component, a leading or trailing
 * slash or a NUL are refused (-EINVAL) before the kernel is asked; a symbolic link on the way is -ELOOP.
 */
#ifndef STG_PARENTS_H
#define STG_PARENTS_H

#include "stg.h"

#include <limits.h>
#include <stdatomic.h>

#define STG_PARENTS_SLOTS 8  /* descriptors, for each thread and running batch */
#define STG_PARENTS_OPEN 256 /* of all that share a count; above it each keeps only its last one */

/* A root and the directories below it that were used last; one thread. */
struct stg_parents {
    int root_fd; /* the caller's */
    int walk;    /* component by component; set by itself when openat2 is missing */
    atomic_int *shared_open; /* how many descriptors are open, counted together with others; may be NULL */
    unsigned next;
    struct {
        char *path;
        size_t len;
        int fd;
    } slots[STG_PARENTS_SLOTS];
};

void stg_parents_init(struct stg_parents *parents, int root_fd);
void stg_parents_clear(struct stg_parents *parents); /* closes what it opened; may be used again */

/* The directory that holds path, and path's last component. make: missing directories are made (0777 by umask).
 * Returns a descriptor that lives until the next call here; -errno. */
int stg_parents_open(struct stg_parents *parents, struct stg_str path, int make, char leaf[NAME_MAX + 1]);

struct stg_stored {
    int64_t size, mtime_ns, ctime_ns;
    uint32_t mode; /* st_mode */
};

/* Renames tmp_fd/name to path below the root, replacing what is there, and says what is there then. -errno. */
int stg_parents_publish(struct stg_parents *parents, int tmp_fd, const char *name, struct stg_str path,
                        struct stg_stored *out);
/* lstat. */
int stg_parents_stat(struct stg_parents *parents, struct stg_str path, struct stg_stored *out);
int stg_stored_from_fd(int fd, struct stg_stored *out);

#endif
