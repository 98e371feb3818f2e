#include "copy.h"

#include "checksum.h"
#include "sink.h"
#include "whole.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define COPY_BYTES ((size_t)256 << 10) /* stays in L2 between read, hash and write */

int stg_reserve(int fd, int64_t size)
{
    struct statfs fs;
    int in_memory = fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
    if (!in_memory && fallocate(fd, 0, 0, size) == 0)
        return 0;
    if (!in_memory && errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    return ftruncate(fd, size) < 0 ? -errno : 0;
}

int stg_publish(int tmp_fd, const char *name, int root_fd, struct stg_str path, struct stg_stored *out)
{
    struct stg_parents parents;
    stg_parents_init(&parents, root_fd);
    int status = stg_parents_publish(&parents, tmp_fd, name, path, out);
    stg_parents_clear(&parents);
    return status;
}

int stg_stat_below(int root_fd, struct stg_str path, struct stg_stored *out)
{
    struct stg_parents parents;
    stg_parents_init(&parents, root_fd);
    int status = stg_parents_stat(&parents, path, out);
    stg_parents_clear(&parents);
    return status;
}

static int open_source(int source_dir_fd, struct stg_str source, struct stg_stored *before)
{
    struct stg_parents parents;
    char leaf[NAME_MAX + 1];
    stg_parents_init(&parents, source_dir_fd);
    int dir_fd = stg_parents_open(&parents, source, 0, leaf);
    int fd = dir_fd;
    if (dir_fd >= 0) {
        /* O_NONBLOCK: a FIFO planted there must not hang us; it is refused below */
        fd = openat(dir_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
            fd = -errno;
    }
    stg_parents_clear(&parents);
    if (fd < 0)
        return fd;
    int status = stg_stored_from_fd(fd, before);
    if (status == 0 && !S_ISREG(before->mode))
        status = -EINVAL;
    if (status < 0) {
        close(fd);
        return status;
    }
    return fd;
}

/* to -1: the bytes are only hashed. */
static int copy_bytes(int from, int to, struct stg_hasher *hasher, struct stg_sum *sum, char *buffer, int64_t *copied,
                      int64_t most)
{
    for (;;) {
        ssize_t n = read(from, buffer, COPY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        if (n > most - *copied)
            return -ESTALE; /* more than the file held when it was opened */
        stg_checksum_add(sum, hasher, buffer, (size_t)n);
        int status = to < 0 ? 0 : stg_landing_write(to, buffer, (size_t)n, *copied);
        if (status < 0)
            return status;
        *copied += n;
    }
}

/* Where the file system can, the copy shares the source's blocks, and is only read. */
static int copy_and_hash(int from, int to, const struct stg_stored *before, const uint8_t *sha256,
                         uint8_t digest[STG_DIGEST_BYTES])
{
    struct stg_sum sum = {0};
    uint8_t value[STG_SUM_MAX_BYTES];
    struct stg_whole whole = {0};
    char *buffer = malloc(COPY_BYTES);
    struct stg_stored after;
    int64_t copied = 0;
    int status = buffer ? stg_whole_start(&whole, before->size) : -ENOMEM;
    if (status == 0)
        status = stg_sum_start(&sum, sha256 ? STG_SUM_SHA256 : STG_SUM_NONE);
    if (status == 0) {
        int is_clone = before->size && ioctl(to, FICLONE, from) == 0;
        struct stg_hasher *hasher = whole.hasher;
        status = copy_bytes(is_clone ? to : from, is_clone ? -1 : to, hasher, &sum, buffer, &copied, before->size);
    }
    if (status == 0)
        status = stg_whole_finish(&whole, digest);
    if (status == 0)
        status = stg_stored_from_fd(from, &after);
    if (status == 0 && (copied != before->size || after.size != before->size || after.mtime_ns != before->mtime_ns ||
                        after.ctime_ns != before->ctime_ns))
        status = -ESTALE;
    if (status == 0 && sha256) {
        status = stg_sum_finish(&sum, value);
        if (status == 0 && memcmp(value, sha256, stg_sum_bytes(STG_SUM_SHA256)))
            status = -EBADMSG;
    }
    stg_sum_clear(&sum);
    stg_whole_clear(&whole);
    free(buffer);
    return status;
}

/* A name of its own each time: a forked child must not repeat its parent's. */
static int make_name(char out[STG_NAME_BYTES])
{
    uint64_t token[2];
    if (getrandom(token, sizeof token, 0) != sizeof token)
        return -EIO;
    snprintf(out, STG_NAME_BYTES, STG_NAME_PREFIX "%lx-%016llx%016llx", (unsigned long)getpid(),
             (unsigned long long)token[0], (unsigned long long)token[1]);
    return 0;
}

int stg_copy_file(int source_dir_fd, struct stg_str source, int tmp_fd, int root_fd, struct stg_str path, uint32_t mode,
                  int preserve, const uint8_t *sha256, uint8_t digest[STG_DIGEST_BYTES], struct stg_stored *out)
{
    char name[STG_NAME_BYTES];
    struct stg_stored before;
    int status = make_name(name);
    int from = status < 0 ? status : open_source(source_dir_fd, source, &before);
    if (from < 0)
        return from;
    int to = openat(tmp_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0) {
        status = -errno;
        close(from);
        return status;
    }
    status = copy_and_hash(from, to, &before, sha256, digest);
    if (status == 0 && fchmod(to, mode & 07777) < 0)
        status = -errno;
    if (close(to) < 0 && status == 0 && errno != EINTR)
        status = -errno;
    if (status == 0 && preserve)
        status = stg_landing_set_mtime(tmp_fd, name, before.mtime_ns);
    if (status == 0)
        status = stg_publish(tmp_fd, name, root_fd, path, out);
    close(from);
    if (status < 0)
        unlinkat(tmp_fd, name, 0);
    return status;
}
