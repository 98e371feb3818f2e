#include "blobs.h"

#include "landing.h"
#include "sum.h"
#include "whole.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM ((size_t)256 << 10) /* stays in L2 between read, both hashes and write */
#define HEAD_MAX 128             /* id, kind, size */
#define SHA1_DIGITS 40
#define SHA256_DIGITS 64

struct stg_blobs {
    int from, tmp_fd;
    struct stg_parents parents;
    struct stg_names names;
    struct stg_whole whole;
    struct stg_sum sum;
    size_t begin, end; /* what has been read and not used */
    char buffer[ROOM];
};

struct stg_blobs *stg_blobs_new(int from, int tmp_fd, int root_fd)
{
    struct stg_blobs *blobs = malloc(sizeof *blobs);
    if (!blobs)
        return NULL;
    memset(blobs, 0, offsetof(struct stg_blobs, buffer));
    blobs->from = from;
    blobs->tmp_fd = tmp_fd;
    stg_parents_init(&blobs->parents, root_fd);
    if (stg_names_init(&blobs->names) < 0) {
        stg_blobs_free(blobs);
        return NULL;
    }
    return blobs;
}

void stg_blobs_free(struct stg_blobs *blobs)
{
    if (!blobs)
        return;
    stg_parents_clear(&blobs->parents);
    stg_sum_clear(&blobs->sum);
    stg_whole_clear(&blobs->whole);
    free(blobs);
}

/* At least one byte more in the buffer. */
static int fill(struct stg_blobs *blobs)
{
    if (blobs->begin > 0) {
        memmove(blobs->buffer, blobs->buffer + blobs->begin, blobs->end - blobs->begin);
        blobs->end -= blobs->begin;
        blobs->begin = 0;
    }
    for (;;) {
        ssize_t n = read(blobs->from, blobs->buffer + blobs->end, ROOM - blobs->end);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        blobs->end += (size_t)n;
        return 0;
    }
}

/* "ID blob SIZE": of the row, or -EBADMSG, -ESTALE. */
static int check_head(const char *head, size_t len, const struct stg_row *row)
{
    char expected[HEAD_MAX + 32];
    if (row->identity.len != SHA1_DIGITS && row->identity.len != SHA256_DIGITS)
        return -EBADMSG;
    int before = snprintf(expected, sizeof expected, "%.*s blob ", (int)row->identity.len, row->identity.ptr);
    if (len <= (size_t)before || memcmp(head, expected, (size_t)before))
        return -EBADMSG;
    int whole = snprintf(expected, sizeof expected, "%.*s blob %lld", (int)row->identity.len, row->identity.ptr,
                         (long long)row->size);
    return len == (size_t)whole && !memcmp(head, expected, len) ? 0 : -ESTALE;
}

static int read_head(struct stg_blobs *blobs, const struct stg_row *row)
{
    for (;;) {
        size_t here = blobs->end - blobs->begin;
        const char *head = blobs->buffer + blobs->begin, *newline = memchr(head, '\n', here);
        if (newline) {
            blobs->begin += (size_t)(newline - head) + 1;
            return check_head(head, (size_t)(newline - head), row);
        }
        if (here > HEAD_MAX)
            return -EBADMSG;
        int status = fill(blobs);
        if (status < 0)
            return status;
    }
}

static int start_hashing(struct stg_blobs *blobs, const struct stg_row *row)
{
    char head[32];
    int status = stg_whole_start(&blobs->whole, row->size);
    if (status == 0)
        status = stg_sum_start(&blobs->sum, row->identity.len == SHA1_DIGITS ? STG_SUM_SHA1 : STG_SUM_SHA256);
    if (status < 0)
        return status;
    int len = snprintf(head, sizeof head, "blob %lld", (long long)row->size);
    stg_sum_add(&blobs->sum, head, (size_t)len + 1);
    return 0;
}

static int finish_hashing(struct stg_blobs *blobs, const struct stg_row *row, uint8_t digest[STG_DIGEST_BYTES])
{
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t value[STG_SUM_MAX_BYTES];
    char hex[2 * STG_SUM_MAX_BYTES];
    size_t bytes = stg_sum_bytes(blobs->sum.kind);
    int status = stg_sum_finish(&blobs->sum, value);
    if (status < 0)
        return status;
    for (size_t i = 0; i < bytes; i++) {
        hex[2 * i] = DIGITS[value[i] >> 4];
        hex[2 * i + 1] = DIGITS[value[i] & 15];
    }
    if (memcmp(hex, row->identity.ptr, 2 * bytes))
        return -EILSEQ;
    return stg_whole_finish(&blobs->whole, digest);
}

/* The blob's bytes and the newline behind them; to is where they go, unless link takes them. */
static int take_bytes(struct stg_blobs *blobs, const struct stg_row *row, int to, char *link)
{
    int64_t left = row->size;
    while (left > 0) {
        size_t here = blobs->end - blobs->begin;
        if (here == 0) {
            int status = fill(blobs);
            if (status < 0)
                return status;
            continue;
        }
        size_t some = (int64_t)here < left ? here : (size_t)left;
        const char *data = blobs->buffer + blobs->begin;
        stg_sum_add(&blobs->sum, data, some);
        int status = stg_hasher_update(blobs->whole.hasher, data, some);
        if (status == 0 && link)
            memcpy(link + (row->size - left), data, some);
        else if (status == 0)
            status = stg_landing_write(to, data, some, row->size - left);
        if (status < 0)
            return status;
        blobs->begin += some;
        left -= (int64_t)some;
    }
    if (blobs->begin == blobs->end) {
        int status = fill(blobs);
        if (status < 0)
            return status;
    }
    return blobs->buffer[blobs->begin++] == '\n' ? 0 : -EBADMSG;
}

static int make_file(struct stg_blobs *blobs, const struct stg_row *row, const char *name,
                     uint8_t digest[STG_DIGEST_BYTES])
{
    mode_t mode = row->mode & S_IXUSR ? 0777 : 0666;
    int to = openat(blobs->tmp_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (to < 0)
        return -errno;
    int status = take_bytes(blobs, row, to, NULL);
    if (status == 0)
        status = finish_hashing(blobs, row, digest);
    if (close(to) < 0 && status == 0 && errno != EINTR)
        status = -errno; /* over a network, what says that a write was lost */
    return status;
}

static int make_link(struct stg_blobs *blobs, const struct stg_row *row, const char *name,
                     uint8_t digest[STG_DIGEST_BYTES])
{
    char target[PATH_MAX];
    if (row->size <= 0 || row->size >= PATH_MAX)
        return -EINVAL;
    int status = take_bytes(blobs, row, -1, target);
    if (status == 0)
        status = finish_hashing(blobs, row, digest);
    if (status < 0)
        return status;
    target[row->size] = '\0';
    if (strlen(target) != (size_t)row->size)
        return -EINVAL;
    return symlinkat(target, blobs->tmp_fd, name) < 0 ? -errno : 0;
}

static int land(struct stg_blobs *blobs, struct stg_entries *entries, uint32_t number)
{
    struct stg_row row = stg_table_row(entries->table, number);
    struct stg_stored stored;
    uint8_t digest[STG_DIGEST_BYTES];
    char name[STG_NAME_BYTES];
    int status = read_head(blobs, &row);
    if (status == 0)
        status = start_hashing(blobs, &row);
    if (status < 0)
        return status;
    stg_names_next(&blobs->names, name);
    status = S_ISLNK(row.mode) ? make_link(blobs, &row, name, digest) : make_file(blobs, &row, name, digest);
    if (status == 0)
        status = stg_parents_publish(&blobs->parents, blobs->tmp_fd, name, row.key, &stored);
    if (status < 0) {
        unlinkat(blobs->tmp_fd, name, 0);
        return status;
    }
    stg_entry_stand(&entries->rows[number], &stored, digest, 'A');
    return 0;
}

size_t stg_blobs_land(struct stg_blobs *blobs, struct stg_entries *entries, const uint32_t *rows, size_t count,
                      int *status)
{
    *status = 0;
    for (size_t i = 0; i < count; i++)
        if ((*status = land(blobs, entries, rows[i])) < 0)
            return i;
    return count;
}
