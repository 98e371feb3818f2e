#include "recheck.h"

#include "digest.h"
#include "parents.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINK_MAX_BYTES 4096

struct looking {
    const struct stg_recheck *recheck;
    struct stg_parents parents;
    struct stg_row row;
    const struct stg_entry *entry;
    struct stg_stored local;
    uint8_t digest[STG_DIGEST_BYTES];
};

static int digest_link(struct looking *look)
{
    char leaf[NAME_MAX + 1], target[LINK_MAX_BYTES];
    int dir_fd = stg_parents_open(&look->parents, look->row.key, 0, leaf);
    ssize_t len = dir_fd < 0 ? dir_fd : readlinkat(dir_fd, leaf, target, sizeof(target));

    if (len < 0)
        return dir_fd < 0 ? dir_fd : -errno;
    stg_digest_bytes(target, (size_t)len, look->digest);
    return 0;
}

static int digest_open(struct looking *look, int fd)
{
    int64_t size = 0;
    int status = stg_stored_from_fd(fd, &look->local);

    if (status < 0)
        return status;
    if (!S_ISREG(look->local.mode))
        return -ESTALE; /* replaced since it was looked at */
    if (look->recheck->from_disk)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    status = stg_digest_fd(fd, look->digest, &size);
    look->local.size = size;
    return status;
}

static int digest_file(struct looking *look)
{
    char leaf[NAME_MAX + 1];
    int dir_fd = stg_parents_open(&look->parents, look->row.key, 0, leaf);
    int fd = dir_fd < 0 ? dir_fd : openat(dir_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int status;

    if (fd < 0)
        return dir_fd < 0 ? dir_fd : -errno;
    status = digest_open(look, fd);
    close(fd);
    return status;
}

static enum stg_found found_by_error(int status, int32_t *error)
{
    switch (status) {
    case -ENOENT:
        return STG_FOUND_MISSING;
    case -ENOTDIR:
    case -ELOOP:
    case -EXDEV:
    case -ESTALE:
        return STG_FOUND_KIND;
    default:
        *error = -status;
        return STG_FOUND_UNREADABLE;
    }
}

static enum stg_found look_at(struct looking *look, int32_t *error)
{
    int is_link = S_ISLNK(look->entry->mode), status = stg_parents_stat(&look->parents, look->row.key, &look->local);

    if (status < 0)
        return found_by_error(status, error);
    if (is_link ? !S_ISLNK(look->local.mode) : !S_ISREG(look->local.mode))
        return STG_FOUND_KIND;
    if (look->local.size != look->row.size)
        return STG_FOUND_SIZE;
    status = is_link ? digest_link(look) : digest_file(look);
    if (status < 0)
        return found_by_error(status, error);
    if (look->local.size != look->row.size)
        return STG_FOUND_SIZE;
    if (memcmp(look->digest, look->entry->digest, sizeof(look->digest)))
        return STG_FOUND_CONTENT;
    return !is_link && ((look->local.mode ^ look->entry->mode) & S_IXUSR) ? STG_FOUND_EXECUTABLE : STG_FOUND_SAME;
}

int stg_recheck(const struct stg_recheck *recheck, const uint32_t *rows, size_t count, uint8_t *found, int32_t *errors)
{
    struct looking look = {.recheck = recheck};
    int status = 0;

    stg_parents_init(&look.parents, recheck->root_fd);
    for (size_t i = 0; i < count && status == 0; i++) {
        struct stg_entry *entry = &recheck->entries->rows[rows[i]];

        look.row = stg_table_row(recheck->entries->table, rows[i]);
        look.entry = entry;
        errors[i] = 0;
        found[i] = (uint8_t)look_at(&look, &errors[i]);
        if (errors[i] == ENOMEM)
            status = -ENOMEM;
        if (found[i] == STG_FOUND_SAME) {
            entry->mtime_ns = look.local.mtime_ns;
            entry->ctime_ns = look.local.ctime_ns;
            entry->mode = (uint16_t)(S_ISLNK(look.local.mode) ? look.local.mode : look.local.mode & 07777);
        }
        entry->standing = (uint8_t)(found[i] == STG_FOUND_SAME ? recheck->believed : STG_STALE);
    }
    stg_parents_clear(&look.parents);
    return status;
}
