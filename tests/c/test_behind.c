/* What is started and dropped, in which order: told by calls in place of the kernel's. */
#include "behind.h"
#include "check.h"

#include <fcntl.h>
#include <unistd.h>

#define MIB ((int64_t)1 << 20)

struct call {
    int64_t offset, len;
};

static struct call started[256], dropped[256];
static unsigned started_count, dropped_count, wrong;

int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags)
{
    wrong += fd < 0 || flags != SYNC_FILE_RANGE_WRITE;
    started[started_count++] = (struct call){offset, len};
    return 0;
}

int posix_fadvise(int fd, off_t offset, off_t len, int advice)
{
    wrong += fcntl(fd, F_GETFD) != FD_CLOEXEC || advice != POSIX_FADV_DONTNEED; /* it stands, and is not the caller's */
    dropped[dropped_count++] = (struct call){offset, len};
    return 0;
}

static int lowest_free(void)
{
    int fd = open("/dev/null", O_RDONLY);
    close(fd);
    return fd;
}

static void start_over(void)
{
    started_count = dropped_count = 0;
}

static void test_within_the_budget_only_whole_windows_are_started(void)
{
    struct stg_cache_budget budget = {.keep_bytes = 100 * MIB};
    struct stg_behind behind;
    start_over();
    stg_behind_init(&behind, &budget);
    stg_behind_wrote(&behind, 0, 0, (int64_t)STG_BEHIND_WINDOW);
    stg_behind_wrote(&behind, 0, (int64_t)STG_BEHIND_WINDOW, 3 * MIB);
    stg_behind_end(&behind);
    CHECK_EQ(started_count, 1);
    CHECK_EQ(started[0].len, (int64_t)STG_BEHIND_WINDOW);
    CHECK_EQ(dropped_count, 0);
    CHECK_EQ(budget.written_bytes, 11 * MIB);
}

static void test_beyond_the_budget_all_is_dropped_the_oldest_first_and_no_descriptor_stays(void)
{
    struct stg_cache_budget budget = {.keep_bytes = 10 * MIB};
    struct stg_behind behind;
    int free_before = lowest_free();
    start_over();
    stg_behind_init(&behind, &budget);
    for (int i = 0; i < 10 + STG_BEHIND_LAG; i++) {
        stg_behind_wrote(&behind, 0, i * MIB, MIB);
        CHECK_EQ(dropped_count, 0); /* they have time to reach the disk */
    }
    stg_behind_wrote(&behind, 0, 0, 0);
    CHECK_EQ(dropped_count, 0);
    stg_behind_wrote(&behind, 0, 1000 * MIB, 1);
    CHECK_EQ(dropped_count, 1);
    CHECK_EQ(dropped[0].offset, 10 * MIB); /* what came first was kept */
    stg_behind_end(&behind);
    CHECK_EQ(dropped_count, STG_BEHIND_LAG + 1);
    CHECK_EQ(started_count, dropped_count);
    for (unsigned i = 1; i < dropped_count; i++)
        CHECK(dropped[i].offset > dropped[i - 1].offset);
    CHECK_EQ(lowest_free(), free_before);
    CHECK_EQ(wrong, 0);
}

static void test_no_budget_keeps_everything(void)
{
    struct stg_cache_budget budget = {0};
    struct stg_behind behind;
    start_over();
    stg_behind_init(&behind, &budget);
    for (int i = 0; i < 100; i++)
        stg_behind_wrote(&behind, 0, i * 1000 * MIB, 1000 * MIB);
    stg_behind_end(&behind);
    CHECK_EQ(started_count, 100);
    CHECK_EQ(dropped_count, 0);
}

static void test_budget_counts_all_threads_together(void)
{
    struct stg_cache_budget budget = {.keep_bytes = 2 * MIB};
    struct stg_behind one, other;
    start_over();
    stg_behind_init(&one, &budget);
    stg_behind_init(&other, &budget);
    stg_behind_wrote(&one, 0, 0, 2 * MIB);
    stg_behind_wrote(&other, 0, 0, 1);
    stg_behind_end(&one);
    CHECK_EQ(dropped_count, 0);
    stg_behind_end(&other);
    CHECK_EQ(dropped_count, 1);
}

static void test_many_threads_share_the_descriptors(void)
{
    enum { THREADS = 18, KEPT = STG_BEHIND_OPEN + THREADS };
    struct stg_cache_budget budget = {.keep_bytes = 1};
    struct stg_behind all[THREADS];
    int free_before = lowest_free();
    start_over();
    budget.written_bytes = 1;
    for (int i = 0; i < THREADS; i++)
        stg_behind_init(&all[i], &budget);
    for (int i = 0; i < 10 * THREADS; i++)
        stg_behind_wrote(&all[i % THREADS], 0, i, 1);
    CHECK(budget.open <= KEPT);
    CHECK_EQ((int)dropped_count, 10 * THREADS - budget.open);
    for (int i = 0; i < THREADS; i++) {
        CHECK(all[i].count > 0); /* none is left without time */
        stg_behind_end(&all[i]);
    }
    CHECK_EQ(dropped_count, 10 * THREADS);
    CHECK_EQ(budget.open, 0);
    CHECK_EQ(lowest_free(), free_before);
    CHECK_EQ(wrong, 0);
}

int main(void)
{
    RUN(test_within_the_budget_only_whole_windows_are_started);
    RUN(test_beyond_the_budget_all_is_dropped_the_oldest_first_and_no_descriptor_stays);
    RUN(test_no_budget_keeps_everything);
    RUN(test_budget_counts_all_threads_together);
    RUN(test_many_threads_share_the_descriptors);
    END();
}
