#include "check.h"
#include "pace.h"

#include <limits.h>

#define MS INT64_C(1000000)

static void test_bucket_without_a_rate_lets_everything_through(void)
{
    struct stg_bucket bucket = {0};
    CHECK_EQ(stg_bucket_take(&bucket, 1 << 30, 5), 1 << 30);
    CHECK_EQ(stg_bucket_wait_ns(&bucket, 1 << 30, 5), 0);
}

static void test_bucket_gives_its_burst_and_then_its_rate(void)
{
    struct stg_bucket bucket = {0};
    stg_bucket_set(&bucket, 1000, 20, 7 * MS);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 7 * MS), 20);
    CHECK_EQ(stg_bucket_take(&bucket, 1, 7 * MS), 0);
    CHECK_EQ(stg_bucket_wait_ns(&bucket, 3, 7 * MS), 3 * MS + 1);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 10 * MS + 1), 3);
    stg_bucket_give(&bucket, 2);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 10 * MS + 1), 2);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 5000 * MS), 20); /* what was not used for long is no more than the burst */
}

static void test_no_window_sees_more_than_rate_and_burst(void)
{
    struct stg_bucket bucket = {0};
    int64_t now_ns = 0, taken[4000];
    size_t n = 0;
    uint64_t seed = 1;
    stg_bucket_set(&bucket, 700, stg_burst_requests(700), 0);
    while (n < 4000) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        size_t want = (seed >> 40) % 9 + 1;
        size_t got = stg_bucket_take(&bucket, want < 4000 - n ? want : 4000 - n, now_ns);
        for (size_t i = 0; i < got; i++)
            taken[n++] = now_ns;
        now_ns += (seed >> 32) % 64 ? (int64_t)(seed >> 50) * 100 : 40 * MS;
    }
    for (size_t first = 0, end = 0; first < n; first++) {
        while (end < n && taken[end] - taken[first] <= 1000 * MS)
            end++;
        CHECK(end - first <= 700 + 14 + 1);
    }
    CHECK(now_ns >= (int64_t)((4000 - 14) / 700.0 * 1000) * MS);
}

static void test_new_rate_holds_from_then_on(void)
{
    struct stg_bucket bucket = {0};
    stg_bucket_set(&bucket, 1000, 20, 0);
    stg_bucket_set(&bucket, 100, 2, 0);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 0), 2);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 10 * MS), 1);
    stg_bucket_set(&bucket, 1000, 20, 10 * MS);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 15 * MS), 5);
    stg_bucket_set(&bucket, 0, 1, 15 * MS);
    CHECK_EQ(stg_bucket_take(&bucket, 5000, 15 * MS), 5000);
}

static void test_clock_read_by_another_thread_before_is_no_time_going_back(void)
{
    struct stg_bucket bucket = {0};
    stg_bucket_set(&bucket, 1000, 20, 0);
    CHECK_EQ(stg_bucket_take(&bucket, 20, 0), 20);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 10 * MS), 10);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 5 * MS), 0);
    CHECK_EQ(stg_bucket_take(&bucket, 50, 11 * MS), 1);
}

static void test_shares_add_up(void)
{
    for (unsigned workers = 1; workers <= STG_MAX_WORKERS; workers++)
        for (unsigned connections = 0; connections < 50; connections++) {
            unsigned sum = 0;
            for (unsigned i = 0; i < workers; i++)
                sum += stg_pace_share(connections, i, workers);
            CHECK_EQ(sum, connections);
        }
    struct stg_pace pace = {0};
    CHECK_EQ(stg_pace_allowed(&pace, 0, 2), UINT_MAX);
    pace.connections = 1;
    CHECK_EQ(stg_pace_allowed(&pace, 0, 2), 1);
    CHECK_EQ(stg_pace_allowed(&pace, 1, 2), 0);
}

/* Whether it was. */
static int send_late(struct stg_pace_part *part, int64_t ms)
{
    if (!stg_pace_is_late(part, ms))
        return 0;
    stg_pace_note_again(part);
    return 1;
}

static void test_late_is_what_takes_many_times_the_usual_and_only_so_often(void)
{
    struct stg_pace_part part = {0};
    CHECK_EQ(sizeof part, 64);
    for (int i = 0; i < 9; i++)
        stg_pace_note_first_byte(&part, 20);
    CHECK_EQ(send_late(&part, 5000), 0); /* nobody knows yet what is usual */
    stg_pace_note_first_byte(&part, 20);
    CHECK_EQ(send_late(&part, 299), 0);
    CHECK_EQ(send_late(&part, 301), 1);
    CHECK_EQ(send_late(&part, 2000), 1);
    CHECK_EQ(send_late(&part, 2000), 0); /* used up */
    for (int i = 0; i < 51; i++)
        stg_pace_note_first_byte(&part, 20);
    CHECK_EQ(send_late(&part, 2000), 1);
    CHECK_EQ(send_late(&part, 2000), 0);
    for (int i = 0; i < 1000; i++)
        stg_pace_note_first_byte(&part, 500); /* now this is usual */
    CHECK_EQ(send_late(&part, 3500), 0);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(send_late(&part, 4500), 1);
    CHECK_EQ(send_late(&part, 4500), 0);
}

int main(void)
{
    RUN(test_bucket_without_a_rate_lets_everything_through);
    RUN(test_bucket_gives_its_burst_and_then_its_rate);
    RUN(test_no_window_sees_more_than_rate_and_burst);
    RUN(test_new_rate_holds_from_then_on);
    RUN(test_clock_read_by_another_thread_before_is_no_time_going_back);
    RUN(test_shares_add_up);
    RUN(test_late_is_what_takes_many_times_the_usual_and_only_so_often);
    END();
}
