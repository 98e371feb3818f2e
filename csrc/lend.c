#include "lend.h"

#include "behind.h"
#include "digest.h"
#include "landing.h"
#include "whole.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM ((size_t)256 << 10) /* stays in L2 between read, hash and write */
#define MOST_BYTES ((int64_t)256 << 20) /* of a call, but for a file for each thread */

/* What one thread has of its own. */
struct hand {
    struct stg_lend *lend;
    struct work *work;
    struct stg_parents from, to;
    int tmp_fd; /* -1 before the first file */
    char tmp_name[STG_NAME_BYTES];
    struct stg_whole whole;
    struct stg_behind behind;
    char *buffer; /* from the first copy on */
};

struct stg_lend {
    const struct stg_entries *kept;
    int tmp_fd, keep_mtime;
    atomic_int cannot_clone, stopped;
    uid_t uid;
    struct stg_names names;
    struct stg_cache_budget budget;
    unsigned count;
    struct hand hands[];
};

/* What all hands do together: each takes one row after the other, until one fails. */
struct work {
    size_t count;
    atomic_size_t next;
    atomic_int status;
    struct stg_entries *entries;
    const uint32_t *rows;
    atomic_int_fast64_t shared;
};

/* One file on its way. */
struct gift {
    const struct stg_entry *recorded;
    struct stg_row row;
    char name[STG_NAME_BYTES];
    int64_t shared;
};

struct stg_lend *stg_lend_new(const struct stg_entries *kept, int kept_fd, int tmp_fd, int root_fd, int keep_mtime,
                              unsigned threads, int64_t keep_cached_bytes)
{
    unsigned count = threads < 1 ? 1 : threads > STG_LEND_THREADS ? STG_LEND_THREADS : threads;
    struct stg_lend *lend = calloc(1, sizeof *lend + count * sizeof *lend->hands);
    if (!lend)
        return NULL;
    lend->kept = kept;
    lend->tmp_fd = tmp_fd;
    lend->keep_mtime = keep_mtime;
    lend->uid = geteuid();
    lend->budget.keep_bytes = keep_cached_bytes;
    lend->count = count;
    for (unsigned i = 0; i < count; i++) {
        lend->hands[i].lend = lend;
        lend->hands[i].tmp_fd = -1;
        stg_behind_init(&lend->hands[i].behind, &lend->budget);
        stg_parents_init(&lend->hands[i].from, kept_fd);
        stg_parents_init(&lend->hands[i].to, root_fd);
    }
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
    for (unsigned i = 0; i < lend->count; i++) {
        stg_parents_clear(&lend->hands[i].from);
        stg_parents_clear(&lend->hands[i].to);
        stg_whole_clear(&lend->hands[i].whole);
        stg_behind_end(&lend->hands[i].behind);
        free(lend->hands[i].buffer);
        if (lend->hands[i].tmp_fd >= 0) {
            close(lend->hands[i].tmp_fd);
            unlinkat(lend->tmp_fd, lend->hands[i].tmp_name, AT_REMOVEDIR);
        }
    }
    free(lend);
}

void stg_lend_stop(struct stg_lend *lend)
{
    atomic_store(&lend->stopped, 1);
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
static int open_kept(struct hand *hand, const struct gift *gift)
{
    char leaf[NAME_MAX + 1];
    struct stat found;
    int dir_fd = stg_parents_open(&hand->from, gift->row.key, 0, leaf);
    int fd = dir_fd < 0 ? -1 : openat(dir_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        int error = dir_fd < 0 ? -dir_fd : errno;
        return error == ENOMEM || error == EMFILE || error == ENFILE ? -error : -ESTALE;
    }
    if (fstat(fd, &found) < 0 || !is_as_recorded(hand->lend, gift, &found)) {
        close(fd);
        return -ESTALE;
    }
    return fd;
}

/* Where memory is too little for both, what the job reads first stays: of its copy. 10,000 x 200 KB in a memory control
 * group of 1 GiB, cached of each sixth afterwards (ext4, Linux 6.18): as the kernel does it none, none, none, none, half,
 * all, of the kept files too; with half of that to be kept all, 61%, none ..., of the kept files 61%, 20%, none ... */
static void let_go(struct hand *hand, int from, int to, int64_t offset, int64_t len)
{
    struct stg_cache_budget *budget = &hand->lend->budget;
    int64_t before = atomic_load_explicit(&budget->written_bytes, memory_order_relaxed);
    /* Write-back is not started early within the budget: that waits for a place in the disk's queue, and a copy comes as
     * fast as memory. 800 MB took 0.8-1.3 s with it, 0.2 s without, as cp takes (ext4 on a loop device). */
    if (before < budget->keep_bytes || !budget->keep_bytes)
        atomic_fetch_add_explicit(&budget->written_bytes, len, memory_order_relaxed);
    else
        stg_behind_wrote(&hand->behind, to, offset, len);
    if (budget->keep_bytes && before >= budget->keep_bytes / 2)
        posix_fadvise(from, offset, len, POSIX_FADV_DONTNEED);
}

/* A block, hashed on the way. -ESTALE: the file is shorter. */
static int copy_block(struct hand *hand, int from, int to, int64_t offset, int64_t end)
{
    const int64_t begin = offset;
    while (offset < end) {
        ssize_t n = pread(from, hand->buffer, end - offset < (int64_t)ROOM ? (size_t)(end - offset) : ROOM, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ESTALE;
        int status = stg_hasher_update(hand->whole.hasher, hand->buffer, (size_t)n);
        if (status == 0)
            status = stg_landing_write(to, hand->buffer, (size_t)n, offset);
        if (status < 0)
            return status;
        offset += n;
    }
    let_go(hand, from, to, begin, end - begin);
    return 0;
}

/* By one thread, however large: a file system lets one at a time write to a file. Two that copied blocks of one of 2 GiB
 * took 1.4 to 4.2 CPU s, waiting for each other, one 0.6 (ext4, Linux 6.18). */
static int copy(struct hand *hand, int from, int to, int64_t size, uint8_t digest[STG_DIGEST_BYTES])
{
    int status = stg_whole_start(&hand->whole, size);
    if (!hand->buffer && !(hand->buffer = malloc(ROOM)))
        return -ENOMEM;
    for (int64_t offset = 0; status == 0 && offset < size; offset += (int64_t)STG_BLOCK_BYTES) {
        int64_t rest = size - offset, block = (int64_t)STG_BLOCK_BYTES;
        status = copy_block(hand, from, to, offset, offset + (rest < block ? rest : block));
        if (status == 0 && atomic_load(&hand->lend->stopped))
            status = -ECANCELED;
    }
    return status < 0 ? status : stg_whole_finish(&hand->whole, digest);
}

static int fill(struct hand *hand, struct gift *gift, int from, int to)
{
    struct stg_lend *lend = hand->lend;
    uint8_t digest[STG_DIGEST_BYTES];
    struct stat after;
    if (gift->row.size == 0)
        return 0;
    if (!atomic_load_explicit(&lend->cannot_clone, memory_order_relaxed) && ioctl(to, FICLONE, from) == 0) {
        if (fstat(from, &after) < 0 || !is_as_recorded(lend, gift, &after))
            return -ESTALE;
        gift->shared = gift->row.size;
        return 0;
    }
    /* Anything else may be of this one file, as the space for a clone's records. */
    if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EXDEV || errno == ENOSYS)
        atomic_store_explicit(&lend->cannot_clone, 1, memory_order_relaxed);
    int status = copy(hand, from, to, gift->row.size, digest);
    return status == 0 && memcmp(digest, gift->recorded->digest, sizeof digest) ? -EBADMSG : status;
}

static int make_file(struct hand *hand, struct gift *gift)
{
    const struct stg_lend *lend = hand->lend;
    int from = open_kept(hand, gift);
    if (from < 0)
        return from;
    mode_t mode = gift->recorded->mode & S_IXUSR ? 0777 : 0666;
    int to = openat(hand->tmp_fd, gift->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    int status = to < 0 ? -errno : fill(hand, gift, from, to);
    if (to >= 0 && close(to) < 0 && status == 0 && errno != EINTR)
        status = -errno;
    close(from);
    if (status == 0 && lend->keep_mtime)
        status = stg_landing_set_mtime(hand->tmp_fd, gift->name, gift->recorded->mtime_ns);
    return status;
}

static int make_link(struct hand *hand, struct gift *gift)
{
    const struct stg_lend *lend = hand->lend;
    char leaf[NAME_MAX + 1], target[PATH_MAX];
    uint8_t digest[STG_DIGEST_BYTES];
    struct stat found;
    int dir_fd = stg_parents_open(&hand->from, gift->row.key, 0, leaf);
    if (dir_fd < 0 || fstatat(dir_fd, leaf, &found, AT_SYMLINK_NOFOLLOW) < 0 || !is_as_recorded(lend, gift, &found))
        return -ESTALE;
    ssize_t len = readlinkat(dir_fd, leaf, target, sizeof target);
    if (len != gift->row.size || len >= PATH_MAX)
        return -ESTALE;
    target[len] = '\0';
    stg_digest_bytes(target, (size_t)len, digest);
    if (memcmp(digest, gift->recorded->digest, sizeof digest))
        return -EBADMSG;
    if (symlinkat(target, hand->tmp_fd, gift->name) < 0)
        return -errno;
    return lend->keep_mtime ? stg_landing_set_mtime(hand->tmp_fd, gift->name, gift->recorded->mtime_ns) : 0;
}

/* Two threads that make files in one directory wait for each other. */
static int open_tmp(struct hand *hand)
{
    if (hand->tmp_fd >= 0)
        return 0;
    stg_names_next(&hand->lend->names, hand->tmp_name);
    if (mkdirat(hand->lend->tmp_fd, hand->tmp_name, 0700) < 0)
        return -errno;
    hand->tmp_fd = openat(hand->lend->tmp_fd, hand->tmp_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return hand->tmp_fd < 0 ? -errno : 0;
}

static int give(struct hand *hand, size_t number)
{
    struct stg_lend *lend = hand->lend;
    struct work *work = hand->work;
    uint32_t row = work->rows[number];
    struct gift gift = {.recorded = &lend->kept->rows[row], .row = stg_table_row(lend->kept->table, row)};
    struct stg_stored stored;
    int status = open_tmp(hand);
    if (status < 0)
        return status;
    stg_names_next(&lend->names, gift.name);
    status = S_ISLNK(gift.recorded->mode) ? make_link(hand, &gift) : make_file(hand, &gift);
    if (status == 0)
        status = stg_parents_publish(&hand->to, hand->tmp_fd, gift.name, gift.row.key, &stored);
    if (status < 0) {
        unlinkat(hand->tmp_fd, gift.name, 0);
        return status;
    }
    stg_entry_stand(&work->entries->rows[row], &stored, gift.recorded->digest, gift.recorded->grade);
    atomic_fetch_add_explicit(&work->shared, gift.shared, memory_order_relaxed);
    return 0;
}

static void *work_on(void *argument)
{
    struct hand *hand = argument;
    struct work *work = hand->work;
    for (;;) {
        int none = 0, status = 0;
        size_t number = atomic_fetch_add(&work->next, 1);
        if (number >= work->count || atomic_load(&work->status) < 0)
            return NULL;
        status = atomic_load(&hand->lend->stopped) ? -ECANCELED : give(hand, number);
        if (status < 0)
            atomic_compare_exchange_strong(&work->status, &none, status);
    }
}

/* With as many threads as there is work for; with fewer where no more can be started. */
static int do_all(struct stg_lend *lend, struct work *work)
{
    pthread_t threads[STG_LEND_THREADS];
    sigset_t all, before;
    unsigned started = 1;
    for (unsigned i = 0; i < lend->count; i++)
        lend->hands[i].work = work;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < lend->count && started < work->count &&
           pthread_create(&threads[started], NULL, work_on, &lend->hands[started]) == 0)
        started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work_on(&lend->hands[0]);
    while (started > 1)
        pthread_join(threads[--started], NULL);
    return atomic_load(&work->status);
}

/* How many of the rows are for one call: one for each thread, and more while they are small. */
static size_t count_for_a_call(const struct stg_lend *lend, const uint32_t *rows, size_t count)
{
    int64_t left = MOST_BYTES;
    for (size_t i = 0; i < count; i++) {
        int64_t size = stg_table_row(lend->kept->table, rows[i]).size;
        if (size > left && i >= lend->count)
            return i;
        left = size > left ? 0 : left - size;
    }
    return count;
}

size_t stg_lend_give(struct stg_lend *lend, struct stg_entries *entries, const uint32_t *rows, size_t count,
                     uint32_t *given, int64_t *shared, int *status)
{
    struct work work = {.entries = entries, .rows = rows, .count = count_for_a_call(lend, rows, count)};
    size_t in_place = 0;
    *status = do_all(lend, &work);
    for (size_t i = 0; i < work.count; i++)
        if (entries->rows[rows[i]].standing == STG_STANDS)
            given[in_place++] = rows[i];
    *shared += atomic_load(&work.shared);
    return in_place;
}
