#include "landing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define NS_A_SECOND INT64_C(1000000000)

static size_t put_hex(char *out, uint64_t value)
{
    char digits[16];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

int stg_names_init(struct stg_names *names)
{
    uint64_t token;
    if (getrandom(&token, sizeof token, 0) != sizeof token)
        return -EIO;
    char *at = names->prefix;
    memcpy(at, STG_NAME_PREFIX, sizeof STG_NAME_PREFIX - 1);
    at += sizeof STG_NAME_PREFIX - 1;
    at += put_hex(at, (uint64_t)getpid());
    *at++ = '-';
    at += put_hex(at, token);
    *at++ = '-';
    names->prefix_len = (size_t)(at - names->prefix);
    return 0;
}

void stg_names_next(struct stg_names *names, char out[STG_NAME_BYTES])
{
    uint64_t number = atomic_fetch_add_explicit(&names->counter, 1, memory_order_relaxed);
    memcpy(out, names->prefix, names->prefix_len);
    out[names->prefix_len + put_hex(out + names->prefix_len, number)] = 0;
}

int stg_landing_write(int fd, const char *data, size_t len, int64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        data += n;
        len -= (size_t)n;
        offset += n;
    }
    return 0;
}

int stg_landing_create(const struct stg_landing *landing, const char *name, struct stg_made made)
{
    mode_t bits = made.mode & 0777 ? made.mode & 0777 : 0666;
    int fd = openat(landing->tmp_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, bits);
    return fd < 0 ? -errno : fd;
}

int stg_landing_set_mtime(int tmp_fd, const char *name, int64_t mtime_ns)
{
    int64_t second = mtime_ns / NS_A_SECOND - (mtime_ns % NS_A_SECOND < 0);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {.tv_sec = second, .tv_nsec = (long)(mtime_ns - second * NS_A_SECOND)}};
    return utimensat(tmp_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int stg_landing_publish(struct stg_landing *landing, unsigned thread, const char *name, struct stg_str key,
                        struct stg_made made, struct stg_stored *out, const char **where)
{
    *where = "set the time of";
    int status = made.has_mtime ? stg_landing_set_mtime(landing->tmp_fd, name, made.mtime_ns) : 0;
    if (status < 0)
        return status;
    *where = "rename";
    return stg_parents_publish(&landing->parents[thread], landing->tmp_fd, name, key, out);
}

int stg_landing_store(struct stg_landing *landing, struct stg_hand hand, struct stg_str key, struct stg_made made,
                      const char *data, size_t len, int64_t offset, struct stg_stored *out, const char **where)
{
    char name[STG_NAME_BYTES];
    *where = "write";
    if (landing->fd >= 0) {
        int status = stg_landing_write(landing->fd, data, len, offset);
        if (status == 0)
            stg_behind_wrote(hand.behind, landing->fd, offset, (int64_t)len);
        return status;
    }
    stg_names_next(hand.names, name);
    *where = "create";
    int fd = stg_landing_create(landing, name, made);
    if (fd < 0)
        return fd;
    *where = "write";
    int status = stg_landing_write(fd, data, len, 0);
    if (status == 0)
        stg_behind_wrote(hand.behind, fd, 0, (int64_t)len);
    if (close(fd) < 0 && status == 0 && errno != EINTR) {
        *where = "close";
        status = -errno;
    }
    if (status == 0)
        status = stg_landing_publish(landing, hand.thread, name, key, made, out, where);
    if (status < 0)
        unlinkat(landing->tmp_fd, name, 0);
    return status;
}
