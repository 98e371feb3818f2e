#include "parents.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DIRECTORY_FLAGS (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

void stg_parents_init(struct stg_parents *parents, int root_fd)
{
    memset(parents, 0, sizeof *parents);
    parents->root_fd = root_fd;
}

static void forget(struct stg_parents *parents, unsigned i)
{
    if (!parents->slots[i].path)
        return;
    free(parents->slots[i].path);
    close(parents->slots[i].fd);
    parents->slots[i].path = NULL;
    if (parents->shared_open)
        atomic_fetch_sub_explicit(parents->shared_open, 1, memory_order_relaxed);
}

void stg_parents_clear(struct stg_parents *parents)
{
    for (unsigned i = 0; i < STG_PARENTS_SLOTS; i++)
        forget(parents, i);
    parents->next = 0;
}

/* Length of the directory part (0: none), or -errno for a name that is none. */
static ssize_t check_path(struct stg_str path, char leaf[NAME_MAX + 1])
{
    size_t start = 0;
    if (path.len == 0 || memchr(path.ptr, 0, path.len))
        return -EINVAL;
    for (size_t i = 0; i <= path.len; i++) {
        if (i < path.len && path.ptr[i] != '/')
            continue;
        size_t len = i - start;
        const char *part = path.ptr + start;
        if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
            return -EINVAL;
        if (len > NAME_MAX)
            return -ENAMETOOLONG;
        if (i < path.len)
            start = i + 1;
    }
    memcpy(leaf, path.ptr + start, path.len - start);
    leaf[path.len - start] = 0;
    return (ssize_t)(start ? start - 1 : 0);
}

static int open_component(int dir_fd, const char *name, int make)
{
    int fd = openat(dir_fd, name, DIRECTORY_FLAGS);
    if (fd < 0 && errno == ENOENT && make) {
        if (mkdirat(dir_fd, name, 0777) < 0 && errno != EEXIST)
            return -errno;
        fd = openat(dir_fd, name, DIRECTORY_FLAGS);
    }
    if (fd >= 0)
        return fd;
    int error = errno;
    struct stat st;
    if (error == ENOTDIR && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
        error = ELOOP;
    return -error;
}

/* Needs no openat2; makes what is missing. path is a scratch copy, cut in place. */
static int open_by_walking(int root_fd, char *path, int make)
{
    int dir_fd = root_fd;
    char *rest = path;
    for (char *part = strsep(&rest, "/"); part; part = strsep(&rest, "/")) {
        int fd = open_component(dir_fd, part, make);
        if (dir_fd != root_fd)
            close(dir_fd);
        if (fd < 0)
            return fd;
        dir_fd = fd;
    }
    return dir_fd;
}

static int open_at_once(int root_fd, const char *path)
{
    struct open_how how = {
        .flags = DIRECTORY_FLAGS & ~O_NOFOLLOW, /* with it a link at the end would be ENOTDIR, not ELOOP */
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;
    do {
        fd = syscall(SYS_openat2, root_fd, path, &how, sizeof how);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : (int)fd;
}

static int open_directory(struct stg_parents *parents, struct stg_str path, int make)
{
    char text[PATH_MAX];
    if (path.len >= sizeof text)
        return -ENAMETOOLONG;
    memcpy(text, path.ptr, path.len);
    text[path.len] = 0;
    if (!parents->walk) {
        int fd = open_at_once(parents->root_fd, text);
        /* EAGAIN: a rename raced with the lookup; EPERM: some container filters answer so for unknown calls. */
        if (fd >= 0 || (fd != -ENOENT && fd != -ENOSYS && fd != -EAGAIN && fd != -EPERM))
            return fd;
        parents->walk = fd == -ENOSYS || fd == -EPERM;
        if (fd == -ENOENT && !make)
            return fd;
    }
    return open_by_walking(parents->root_fd, text, make);
}

static int remember(struct stg_parents *parents, struct stg_str path, int fd)
{
    char *copy = malloc(path.len);
    if (!copy) {
        close(fd);
        return -ENOMEM;
    }
    memcpy(copy, path.ptr, path.len);
    if (parents->shared_open && atomic_load_explicit(parents->shared_open, memory_order_relaxed) >= STG_PARENTS_OPEN)
        stg_parents_clear(parents);
    unsigned i = parents->next++ % STG_PARENTS_SLOTS;
    forget(parents, i);
    if (parents->shared_open)
        atomic_fetch_add_explicit(parents->shared_open, 1, memory_order_relaxed);
    parents->slots[i].path = copy;
    parents->slots[i].len = path.len;
    parents->slots[i].fd = fd;
    return fd;
}

int stg_parents_open(struct stg_parents *parents, struct stg_str path, int make, char leaf[NAME_MAX + 1])
{
    ssize_t len = check_path(path, leaf);
    if (len < 0)
        return (int)len;
    if (len == 0)
        return parents->root_fd;
    struct stg_str directory = {path.ptr, (size_t)len};
    for (unsigned i = 0; i < STG_PARENTS_SLOTS; i++)
        if (parents->slots[i].path && parents->slots[i].len == directory.len &&
            memcmp(parents->slots[i].path, directory.ptr, directory.len) == 0)
            return parents->slots[i].fd;
    int fd = open_directory(parents, directory, make);
    if (fd == -EMFILE || fd == -ENFILE) { /* what is kept open for speed goes first */
        stg_parents_clear(parents);
        fd = open_directory(parents, directory, make);
    }
    return fd < 0 ? fd : remember(parents, directory, fd);
}

static void fill_stored(struct stg_stored *out, const struct stat *st)
{
    out->size = st->st_size;
    out->mode = st->st_mode;
    out->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    out->ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
}

static int stat_leaf(int dir_fd, const char *leaf, struct stg_stored *out)
{
    struct stat st;
    if (fstatat(dir_fd, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    fill_stored(out, &st);
    return 0;
}

static int rename_below(struct stg_parents *parents, int tmp_fd, const char *name, struct stg_str path,
                        struct stg_stored *out)
{
    char leaf[NAME_MAX + 1];
    int dir_fd = stg_parents_open(parents, path, 1, leaf);
    if (dir_fd < 0)
        return dir_fd;
    return renameat(tmp_fd, name, dir_fd, leaf) < 0 ? -errno : stat_leaf(dir_fd, leaf, out);
}

int stg_parents_publish(struct stg_parents *parents, int tmp_fd, const char *name, struct stg_str path,
                        struct stg_stored *out)
{
    int status = rename_below(parents, tmp_fd, name, path, out);
    if (status == -ENOENT) { /* a remembered directory may have been removed since */
        stg_parents_clear(parents);
        status = rename_below(parents, tmp_fd, name, path, out);
    }
    return status;
}

int stg_parents_stat(struct stg_parents *parents, struct stg_str path, struct stg_stored *out)
{
    char leaf[NAME_MAX + 1];
    int dir_fd = stg_parents_open(parents, path, 0, leaf);
    return dir_fd < 0 ? dir_fd : stat_leaf(dir_fd, leaf, out);
}

int stg_stored_from_fd(int fd, struct stg_stored *out)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    fill_stored(out, &st);
    return 0;
}
