#include "lend.h"

#include "digest.h"
#include "landing.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM ((size_t)256 << 10) /* stays in L2 between read, hash and write */

struct stg_lend {
    const struct stg_entries *kept;
    int tmp_fd, keep_mtime, cannot_clone;
    uid_t uid;
    struct stg_parents from, to;
    struct stg_names names;
    struct stg_hasher *hasher; /* these three from the first copy on */
    uint8_t *blocks;
    size_t blocks_room;
    char *buffer;
};

/* One file on its way. */
struct gift {
    const struct stg_entry *recorded;
    struct stg_row row;
    char name[STG_NAME_BYTES];
    int64_t shared;
};

struct stg_lend *stg_lend_new(const struct stg_entries *kept, int kept_fd, int tmp_fd, int root_fd, int keep_mtime)
{
    struct stg_lend *lend = calloc(1, sizeof *lend);
    if (!lend)
        return NULL;
    lend->kept = kept;
    lend->tmp_fd = tmp_fd;
    lend->keep_mtime = keep_mtime;
    lend->uid = geteuid();
    stg_parents_init(&lend->from, kept_fd);
    stg_parents_init(&lend->to, root_fd);
    if (stg_names_init(&lend->names) < 0) {
        stg_lend_free(lend);
        return NULL;
    }
    return lend;
}

void stg_lend_free(struct stg_lend *lend)
{
    if (!lend)
        return;
    stg_parents_clear(&lend->from);
    stg_parents_clear(&lend->to);
    stg_hasher_free(lend->hasher);
    free(lend->blocks);
    free(lend->buffer);
    free(lend);
}

static int64_t ns_of(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int is_as_recorded(const struct stg_lend *lend, const struct gift *gift, const struct stat *found)
{
    return (found->st_mode & S_IFMT) == (S_ISLNK(gift->recorded->mode) ? S_IFLNK : S_IFREG) && found->st_uid == lend->uid &&
           found->st_size == gift->row.size && ns_of(found->st_mtim) == gift->recorded->mtime_ns &&
           ns_of(found->st_ctim) == gift->recorded->ctime_ns;
}

/* Whatever keeps a kept file from being read means that it is not what was recorded. */
static int open_kept(struct stg_lend *lend, const struct gift *gift)
{
    char leaf[NAME_MAX + 1];
    struct stat found;
    int dir_fd = stg_parents_open(&lend->from, gift->row.key, 0, leaf);
    int fd = dir_fd < 0 ? -1 : openat(dir_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return dir_fd == -ENOMEM || dir_fd == -EMFILE || errno == EMFILE ? -EMFILE : -ESTALE;
    if (fstat(fd, &found) < 0 || !is_as_recorded(lend, gift, &found)) {
        close(fd);
        return -ESTALE;
    }
    return fd;
}

static int prepare_to_copy(struct stg_lend *lend, int64_t size)
{
    size_t room = (size_t)size / STG_BLOCK_BYTES + 1;
    if (!lend->hasher)
        lend->hasher = stg_hasher_new();
    if (!lend->buffer)
        lend->buffer = malloc(ROOM);
    if (room > lend->blocks_room) {
        uint8_t *blocks = realloc(lend->blocks, room * STG_DIGEST_BYTES);
        if (!blocks)
            return -ENOMEM;
        lend->blocks = blocks;
        lend->blocks_room = room;
    }
    if (!lend->hasher || !lend->buffer)
        return -ENOMEM;
    stg_hasher_reset(lend->hasher, lend->blocks, room);
    return 0;
}

static int copy(struct stg_lend *lend, const struct gift *gift, int from, int to)
{
    uint8_t digest[STG_DIGEST_BYTES];
    int64_t left = gift->row.size;
    int status = prepare_to_copy(lend, left);
    while (status == 0 && left > 0) {
        ssize_t n = read(from, lend->buffer, left < (int64_t)ROOM ? (size_t)left : ROOM);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ESTALE;
        status = stg_hasher_update(lend->hasher, lend->buffer, (size_t)n);
        if (status == 0)
            status = stg_landing_write(to, lend->buffer, (size_t)n, gift->row.size - left);
        left -= n;
    }
    if (status < 0)
        return status;
    ssize_t count = stg_hasher_finish(lend->hasher);
    status = count < 0 ? (int)count : stg_digest_combine(lend->blocks, (size_t)count, digest);
    return status == 0 && memcmp(digest, gift->recorded->digest, sizeof digest) ? -EBADMSG : status;
}

static int fill(struct stg_lend *lend, struct gift *gift, int from, int to)
{
    struct stat after;
    if (gift->row.size == 0)
        return 0;
    if (!lend->cannot_clone && ioctl(to, FICLONE, from) == 0) {
        if (fstat(from, &after) < 0 || !is_as_recorded(lend, gift, &after))
            return -ESTALE;
        gift->shared = gift->row.size;
        return 0;
    }
    /* Anything else may be of this one file, as the space for a clone's records. */
    if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EXDEV || errno == ENOSYS)
        lend->cannot_clone = 1;
    return copy(lend, gift, from, to);
}

static int make_file(struct stg_lend *lend, struct gift *gift)
{
    int from = open_kept(lend, gift);
    if (from < 0)
        return from;
    mode_t mode = gift->recorded->mode & S_IXUSR ? 0777 : 0666;
    int to = openat(lend->tmp_fd, gift->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    int status = to < 0 ? -errno : fill(lend, gift, from, to);
    if (to >= 0 && close(to) < 0 && status == 0 && errno != EINTR)
        status = -errno;
    close(from);
    if (status == 0 && lend->keep_mtime)
        status = stg_landing_set_mtime(lend->tmp_fd, gift->name, gift->recorded->mtime_ns);
    return status;
}

static int make_link(struct stg_lend *lend, struct gift *gift)
{
    char leaf[NAME_MAX + 1], target[PATH_MAX];
    uint8_t digest[STG_DIGEST_BYTES];
    struct stat found;
    int dir_fd = stg_parents_open(&lend->from, gift->row.key, 0, leaf);
    if (dir_fd < 0 || fstatat(dir_fd, leaf, &found, AT_SYMLINK_NOFOLLOW) < 0 || !is_as_recorded(lend, gift, &found))
        return -ESTALE;
    ssize_t len = readlinkat(dir_fd, leaf, target, sizeof target);
    if (len != gift->row.size || len >= PATH_MAX)
        return -ESTALE;
    target[len] = '\0';
    stg_digest_bytes(target, (size_t)len, digest);
    if (memcmp(digest, gift->recorded->digest, sizeof digest))
        return -EBADMSG;
    if (symlinkat(target, lend->tmp_fd, gift->name) < 0)
        return -errno;
    return lend->keep_mtime ? stg_landing_set_mtime(lend->tmp_fd, gift->name, gift->recorded->mtime_ns) : 0;
}

static int give(struct stg_lend *lend, struct stg_entries *entries, uint32_t row, int64_t *shared)
{
    struct gift gift = {.recorded = &lend->kept->rows[row], .row = stg_table_row(lend->kept->table, row)};
    struct stg_entry *entry = &entries->rows[row];
    struct stg_stored stored;
    stg_names_next(&lend->names, gift.name);
    int status = S_ISLNK(gift.recorded->mode) ? make_link(lend, &gift) : make_file(lend, &gift);
    if (status == 0)
        status = stg_parents_publish(&lend->to, lend->tmp_fd, gift.name, gift.row.key, &stored);
    if (status < 0) {
        unlinkat(lend->tmp_fd, gift.name, 0);
        return status;
    }
    memcpy(entry->digest, gift.recorded->digest, STG_DIGEST_BYTES);
    entry->mtime_ns = stored.mtime_ns;
    entry->ctime_ns = stored.ctime_ns;
    entry->mode = (uint16_t)(S_ISLNK(stored.mode) ? stored.mode : stored.mode & 07777);
    entry->grade = gift.recorded->grade;
    entry->why = STG_WHY_NONE;
    entry->standing = STG_STANDS;
    *shared += gift.shared;
    return 0;
}

size_t stg_lend_give(struct stg_lend *lend, struct stg_entries *entries, const uint32_t *rows, size_t count,
                     int64_t *shared, int *status)
{
    *status = 0;
    for (size_t i = 0; i < count; i++)
        if ((*status = give(lend, entries, rows[i], shared)) < 0)
            return i;
    return count;
}
