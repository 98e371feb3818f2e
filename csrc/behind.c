#include "behind.h"

#include <fcntl.h>
#include <unistd.h>

void stg_behind_init(struct stg_behind *behind, struct stg_cache_budget *budget)
{
    behind->budget = budget;
    behind->first = behind->count = 0;
}

static void drop_oldest(struct stg_behind *behind)
{
    unsigned i = behind->first;
    posix_fadvise(behind->pieces[i].fd, behind->pieces[i].offset, behind->pieces[i].len, POSIX_FADV_DONTNEED);
    close(behind->pieces[i].fd);
    atomic_fetch_sub_explicit(&behind->budget->open, 1, memory_order_relaxed);
    behind->first = (i + 1) % STG_BEHIND_LAG;
    behind->count--;
}

static int is_over_budget(struct stg_cache_budget *budget, int64_t len)
{
    int64_t before = atomic_fetch_add_explicit(&budget->written_bytes, len, memory_order_relaxed);
    return budget->keep_bytes && before >= budget->keep_bytes;
}

static int may_hold_more(const struct stg_behind *behind)
{
    return behind->count < STG_BEHIND_LAG &&
           atomic_load_explicit(&behind->budget->open, memory_order_relaxed) < STG_BEHIND_OPEN;
}

void stg_behind_wrote(struct stg_behind *behind, int fd, int64_t offset, int64_t len)
{
    int drop = is_over_budget(behind->budget, len);
    if (len == 0 || (!drop && len < (int64_t)STG_BEHIND_WINDOW))
        return;
    sync_file_range(fd, offset, len, SYNC_FILE_RANGE_WRITE);
    if (!drop)
        return;
    while (behind->count && !may_hold_more(behind))
        drop_oldest(behind);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) /* too few descriptors: the kernel drops these when it needs the room */
        return;
    unsigned i = (behind->first + behind->count++) % STG_BEHIND_LAG;
    atomic_fetch_add_explicit(&behind->budget->open, 1, memory_order_relaxed);
    behind->pieces[i].fd = copy;
    behind->pieces[i].offset = offset;
    behind->pieces[i].len = len;
}

void stg_behind_end(struct stg_behind *behind)
{
    while (behind->count)
        drop_oldest(behind);
}
