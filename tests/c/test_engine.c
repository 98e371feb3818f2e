#include "check.h"
#include "directory.h"
#include "engine.h"
#include "loopback.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>

static struct loopback server;
static char directory[] = "/tmp/stg-engine-XXXXXX";
static int root_fd, tmp_fd;

struct bench {
    struct stg_engine *engine;
    struct stg_template *template_;
    struct stg_table *table;
};

static struct stg_engine_config usual(void)
{
    return (struct stg_engine_config){.workers = 2, .disk_threads = 2, .connections = 6, .memory_bytes = 2 << 20,
                                      .buffer_bytes = 64 << 10, .ring_slots = 64, .connect_timeout_ms = 5000,
                                      .stall_timeout_ms = 20000};
}

static struct bench set_up(struct stg_engine_config config)
{
    struct bench bench = {0};
    struct stg_address address;
    struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ(stg_address_set(&address, AF_INET, &loopback, sizeof loopback, server.port), 0);
    CHECK_EQ(stg_engine_new(&config, &bench.engine), 0);
    struct stg_endpoint *endpoint = stg_endpoint_new(NULL, NULL, &address, 1);
    struct stg_signer *signer = stg_signer_new(STG_STR("AKID"), STG_STR("secret"), STG_STR(""), STG_STR("us-east-1"),
                                               STG_STR("s3"));
    bench.template_ = stg_template_new(endpoint, signer, STG_STR("127.0.0.1"), STG_STR("/b/"), STG_STR(""), NULL, 0);
    bench.table = stg_table_new();
    stg_endpoint_unref(endpoint);
    stg_signer_unref(signer);
    return bench;
}

static void tear_down(struct bench *bench)
{
    stg_engine_free(bench->engine);
    stg_template_unref(bench->template_);
    stg_table_unref(bench->table);
}

static uint32_t add(struct bench *bench, const char *how, unsigned number, int64_t size)
{
    char key[64];
    snprintf(key, sizeof key, "%s/%u/%lld", how, number, (long long)size);
    struct stg_row row = {.key = {key, strlen(key)}, .identity = STG_STR("e"), .size = size};
    return (uint32_t)stg_table_append(bench->table, &row);
}

static struct stg_batch *start_objects(struct bench *bench, const uint32_t *rows, size_t count)
{
    struct stg_batch *batch = NULL;
    CHECK_EQ(stg_batch_objects(bench->template_, bench->table, rows, count, root_fd, tmp_fd, &batch), 0);
    CHECK_EQ(stg_engine_submit(bench->engine, batch), 0);
    return batch;
}

struct outcome {
    size_t done, failed, cancelled;
    struct stg_failure last;
};

static struct outcome wait_for(struct bench *bench, size_t count)
{
    struct outcome outcome = {0};
    struct stg_completion some[16];
    while (outcome.done + outcome.failed < count) {
        struct pollfd ready = {.fd = stg_engine_fileno(bench->engine), .events = POLLIN};
        if (poll(&ready, 1, 60000) != 1) {
            CHECK(!"no completion for a minute");
            break;
        }
        size_t n = stg_engine_drain(bench->engine, some, 16);
        for (size_t i = 0; i < n; i++) {
            outcome.done += !some[i].failed;
            outcome.failed += some[i].failed;
            outcome.cancelled += some[i].failed && !some[i].failure;
            if (some[i].failure)
                outcome.last = *some[i].failure;
            outcome.last.location = NULL; /* it goes with the failure */
            stg_failure_free(some[i].failure);
        }
    }
    return outcome;
}

static void expected_digest(unsigned number, int64_t size, uint8_t out[STG_DIGEST_BYTES])
{
    uint8_t *bytes = malloc((size_t)size + 1);
    for (int64_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((uint64_t)i * 7 + number);
    stg_digest_bytes(bytes, (size_t)size, out);
    free(bytes);
}

static void check_file(struct bench *bench, uint32_t row, unsigned number, const uint8_t *reported)
{
    uint8_t wanted[STG_DIGEST_BYTES], found[STG_DIGEST_BYTES];
    char name[256];
    struct stg_row entry = stg_table_row(bench->table, row);
    int64_t size = -1;
    snprintf(name, sizeof name, "%.*s", (int)entry.key.len, entry.key.ptr);
    expected_digest(number, entry.size, wanted);
    int fd = openat(root_fd, name, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(stg_digest_fd(fd, found, &size), 0);
    close(fd);
    CHECK_EQ(size, entry.size);
    CHECK(memcmp(found, wanted, sizeof wanted) == 0);
    CHECK(memcmp(reported, wanted, sizeof wanted) == 0);
}

enum disk { LOCAL, REMOTE, TURNING_SLOW };

static void fetch_mixed(struct stg_engine_config config, const char *how, enum disk disk)
{
    static const int64_t sizes[] = {0, 1, 5000, 65000, 65536, 70000, 300000, 1 << 20, 9 << 20};
    struct bench bench = set_up(config);
    uint32_t rows[200];
    for (unsigned i = 0; i < 200; i++)
        rows[i] = add(&bench, how, i, i < 9 ? sizes[i] : (int64_t)(i * 211 % 90000));
    struct stg_batch *batch = NULL;
    CHECK_EQ(stg_batch_objects(bench.template_, bench.table, rows, 200, root_fd, tmp_fd, &batch), 0);
    batch->landing.is_local = disk != REMOTE;
    CHECK_EQ(stg_engine_submit(bench.engine, batch), 0);
    struct outcome outcome = wait_for(&bench, disk == TURNING_SLOW ? 3 : 200);
    if (disk == TURNING_SLOW) {
        atomic_store(&batch->slow, 1);
        outcome.done += wait_for(&bench, 200 - outcome.done).done;
    }
    CHECK_EQ(outcome.done, 200);
    for (unsigned i = 0; i < 200; i++)
        check_file(&bench, rows[i], i, batch->results[i].digest);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_objects_of_all_sizes_arrive(void)
{
    fetch_mixed(usual(), "good", LOCAL);
    fetch_mixed(usual(), "remote", REMOTE);
}

static void test_objects_arrive_while_their_disk_turns_slow(void)
{
    for (int i = 0; i < 5; i++)
        fetch_mixed(usual(), "slow", TURNING_SLOW);
}

static void test_chunked_objects_arrive(void)
{
    fetch_mixed(usual(), "chunked", LOCAL);
    fetch_mixed(usual(), "chunked", REMOTE);
}

static void test_two_buffers_and_four_credits_are_enough(void)
{
    struct stg_engine_config config = usual();
    config.memory_bytes = 2 * (config.buffer_bytes + STG_HTTP_MAX_HEAD);
    config.ring_slots = 4;
    fetch_mixed(config, "tight", LOCAL);
    fetch_mixed(config, "tight", REMOTE);
}

static void test_stale_connections_are_retried(void)
{
    struct bench bench = set_up(usual());
    struct stg_engine_stats stats;
    uint32_t rows[60];
    for (unsigned i = 0; i < 60; i++)
        rows[i] = add(&bench, "stale", i, 1000);
    struct stg_batch *batch = start_objects(&bench, rows, 60);
    CHECK_EQ(wait_for(&bench, 60).done, 60);
    stg_engine_stats(bench.engine, &stats);
    CHECK(stats.connections > 6);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_server_may_end_the_connection_behind_any_body(void)
{
    struct bench bench = set_up(usual());
    uint32_t rows[48];
    for (unsigned i = 0; i < 48; i++)
        rows[i] = add(&bench, i % 2 ? "stale" : "late", i, (int64_t)(i % 12 + 1) << 20);
    for (unsigned i = 1; i < 48; i += 2) {
        struct stg_batch *batch = start_objects(&bench, &rows[i], 1);
        CHECK_EQ(wait_for(&bench, 1).done, 1);
        stg_batch_unref(batch);
    }
    struct stg_batch *batch = start_objects(&bench, rows, 48);
    struct outcome outcome = wait_for(&bench, 48);
    CHECK_EQ(outcome.done + outcome.failed, 48);
    stg_batch_unref(batch);
    tear_down(&bench);
}

/* With a head of less than a page, bodies of 19 + 20n pages end where a buffer is full. */
static void test_body_that_ends_with_a_full_buffer_is_finished_when_buffers_are_short(void)
{
    struct stg_engine_config config = usual();
    config.memory_bytes = 2 * (config.buffer_bytes + STG_HTTP_MAX_HEAD);
    struct bench bench = set_up(config);
    uint32_t rows[60];
    for (unsigned i = 0; i < 60; i++)
        rows[i] = add(&bench, "good", i, 4096 * (19 + 20 * (int64_t)(i % 10 + 1)));
    struct stg_batch *batch = start_objects(&bench, rows, 60);
    CHECK_EQ(wait_for(&bench, 60).done, 60);
    for (unsigned i = 0; i < 60; i++)
        check_file(&bench, rows[i], i, batch->results[i].digest);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_ranges_of_a_large_object_arrive(void)
{
    int64_t ranges[] = {0, 16 << 20, 16 << 20, 8 << 20, 24 << 20, 1234567};
    struct bench bench = set_up(usual());
    struct stg_batch *batch = NULL;
    uint8_t digest[STG_DIGEST_BYTES], wanted[STG_DIGEST_BYTES];
    uint32_t row = add(&bench, "good", 3, (24 << 20) + 1234567);
    int fd = openat(root_fd, "parts", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQ(stg_batch_ranges(bench.template_, bench.table, row, ranges, 3, fd, &batch), 0);
    CHECK_EQ(stg_engine_submit(bench.engine, batch), 0);
    CHECK_EQ(wait_for(&bench, 3).done, 3);
    expected_digest(3, (24 << 20) + 1234567, wanted);
    CHECK_EQ(stg_digest_fd(fd, digest, NULL), 0);
    CHECK(memcmp(digest, wanted, sizeof wanted) == 0);
    CHECK_EQ(batch->results[0].block_count, 2);
    CHECK_EQ(stg_digest_combine(batch->blocks, 4, digest), 0);
    CHECK(memcmp(digest, wanted, sizeof wanted) == 0);
    close(fd);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void aim(struct stg_targets *targets, size_t index, unsigned number, int64_t size, int is_right)
{
    struct stg_header header = {STG_STR("authorization"), STG_STR("Bearer x")};
    uint8_t *bytes = malloc((size_t)size + 1), sha256[STG_SUM_MAX_BYTES];
    struct stg_sum sum = {0};
    char path[64];
    for (int64_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((uint64_t)i * 7 + number);
    CHECK_EQ(stg_sum_start(&sum, STG_SUM_SHA256), 0);
    stg_sum_add(&sum, bytes, (size_t)size);
    CHECK_EQ(stg_sum_finish(&sum, sha256), 0);
    sha256[0] ^= !is_right;
    stg_sum_clear(&sum);
    free(bytes);
    snprintf(path, sizeof path, "/b/good/%u/%lld", number, (long long)size);
    CHECK_EQ(stg_targets_set(targets, index, (struct stg_str){path, strlen(path)}, &header, 1, sha256), 0);
}

/* Small, streamed inline and by the disk threads; the ETag that their rows are pinned to is another one. */
static void test_objects_are_fetched_by_their_targets_and_have_their_sha256(void)
{
    static const int64_t sizes[] = {0, 1, 5000, 65536, 300000, 1 << 20};
    struct bench bench = set_up(usual());
    struct stg_targets *targets = stg_targets_new(12);
    struct stg_batch *batch = NULL;
    uint32_t rows[12];
    for (unsigned i = 0; i < 12; i++) {
        rows[i] = add(&bench, "etag", i, sizes[i % 6]);
        aim(targets, i, i, sizes[i % 6], i != 4 && i != 8);
    }
    CHECK_EQ(stg_batch_objects(bench.template_, bench.table, rows, 12, root_fd, tmp_fd, &batch), 0);
    CHECK_EQ(stg_batch_take_targets(batch, targets), 0);
    stg_targets_unref(targets);
    CHECK_EQ(stg_engine_submit(bench.engine, batch), 0);
    struct outcome outcome = wait_for(&bench, 12);
    CHECK_EQ(outcome.done, 10);
    CHECK_EQ(outcome.last.kind, STG_FAIL_IDENTITY);
    CHECK(!strcmp(outcome.last.where, "checksum"));
    for (unsigned i = 0; i < 12; i++) {
        CHECK_EQ(batch->results[i].verified, i != 4 && i != 8);
        if (batch->results[i].verified)
            check_file(&bench, rows[i], i, batch->results[i].digest);
    }
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_range_off_the_grid_is_refused(void)
{
    int64_t off_grid[] = {4096, 8 << 20}, outside[] = {0, (int64_t)16 << 20}, ragged[] = {0, 4096};
    struct bench bench = set_up(usual());
    struct stg_batch *batch = NULL;
    uint32_t row = add(&bench, "good", 3, 9 << 20);
    CHECK_EQ(stg_batch_ranges(bench.template_, bench.table, row, off_grid, 1, root_fd, &batch), -EINVAL);
    CHECK_EQ(stg_batch_ranges(bench.template_, bench.table, row, outside, 1, root_fd, &batch), -EINVAL);
    CHECK_EQ(stg_batch_ranges(bench.template_, bench.table, row, ragged, 1, root_fd, &batch), -EINVAL);
    CHECK_EQ(stg_batch_ranges(bench.template_, bench.table, row, NULL, 0, root_fd, &batch), -EINVAL);
    tear_down(&bench);
}

static struct outcome fetch_one(const char *how, int64_t size)
{
    struct stg_engine_config config = usual();
    config.stall_timeout_ms = 100;
    struct bench bench = set_up(config);
    uint32_t row = add(&bench, how, 1, size);
    struct stg_batch *batch = start_objects(&bench, &row, 1);
    struct outcome outcome = wait_for(&bench, 1);
    stg_batch_unref(batch);
    tear_down(&bench);
    return outcome;
}

static const char *const SUMS[] = {"sum-crc32", "sum-crc32c", "sum-crc64nvme"};

static void test_bytes_with_the_announced_checksum_are_verified(void)
{
    static const int64_t sizes[] = {0, 1000, 65536, 300000, 9 << 20};
    struct bench bench = set_up(usual());
    uint32_t rows[16];
    for (unsigned i = 0; i < 16; i++)
        rows[i] = add(&bench, i < 15 ? SUMS[i / 5] : "good", i, sizes[i % 5]);
    struct stg_batch *batch = start_objects(&bench, rows, 16);
    CHECK_EQ(wait_for(&bench, 16).done, 16);
    for (unsigned i = 0; i < 16; i++) {
        CHECK_EQ(batch->results[i].verified, i < 15);
        check_file(&bench, rows[i], i, batch->results[i].digest);
    }
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_bytes_without_the_announced_checksum_are_not_kept(void)
{
    static const int64_t sizes[] = {1000, 300000};
    for (unsigned i = 0; i < 2; i++) {
        struct outcome outcome = fetch_one("sum-wrong", sizes[i]);
        char name[64];
        CHECK_EQ(outcome.failed, 1);
        CHECK_EQ(outcome.last.kind, STG_FAIL_IDENTITY);
        CHECK(strcmp(outcome.last.where, "checksum") == 0);
        snprintf(name, sizeof name, "sum-wrong/1/%lld", (long long)sizes[i]);
        CHECK(faccessat(root_fd, name, F_OK, 0) < 0);
    }
}

/* The server announces the whole object's checksum with each range, and a wrong one: it is not looked at. */
static void test_ranges_have_the_checksum_that_was_asked_for(void)
{
    int64_t ranges[] = {0, 8 << 20, 8 << 20, 1000};
    enum stg_crc_kind kind = STG_CRC32C;
    struct bench bench = set_up(usual());
    struct stg_batch *batch = NULL;
    uint32_t row = add(&bench, "sum-wrong", 3, (8 << 20) + 1000);
    int fd = openat(root_fd, "summed", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQ(stg_batch_ranges(bench.template_, bench.table, row, ranges, 2, fd, &batch), 0);
    batch->crc = kind;
    CHECK_EQ(stg_engine_submit(bench.engine, batch), 0);
    CHECK_EQ(wait_for(&bench, 2).done, 2);
    CHECK(stg_crc_combine(kind, batch->ranges[0].crc, batch->ranges[1].crc, 1000) ==
          loopback_crc(kind, 3, (8 << 20) + 1000));
    close(fd);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static uint64_t announced_number(const struct stg_announced *announced)
{
    uint64_t value = 0;
    for (size_t i = 0; i < stg_sum_bytes(announced->kind); i++)
        value = value << 8 | announced->value[i];
    return value;
}

/* "good" has neither a checksum nor an ETag that is one. */
static void test_objects_below_the_required_grade_are_refused_before_their_bytes(void)
{
    struct bench bench = set_up(usual());
    uint32_t rows[] = {add(&bench, "sum-crc32", 5, 9 << 20), add(&bench, "good", 7, 100)};
    stg_template_set_checks(bench.template_, STG_ETAGS_PARTS, 'A', 0);
    struct stg_batch *batch = start_objects(&bench, rows, 2);
    struct outcome outcome = wait_for(&bench, 2);
    CHECK_EQ(outcome.done, 1);
    CHECK_EQ(outcome.last.kind, STG_FAIL_IDENTITY);
    CHECK(strcmp(outcome.last.where, "grade") == 0);
    CHECK_EQ(batch->results[0].verified, 1);
    CHECK_EQ(batch->results[1].why, STG_WHY_UNTOLD);
    CHECK(faccessat(root_fd, "good/7/100", F_OK, 0) < 0);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_heads_of_parts_tell_where_they_lie(void)
{
    struct bench bench = set_up(usual());
    struct stg_batch *batch = NULL;
    uint32_t parted = add(&bench, "parted", 5, 1000), rows[] = {parted, parted, add(&bench, "good", 7, 100)};
    uint32_t numbers[] = {1, 2, 1};
    CHECK_EQ(stg_batch_parts(bench.template_, bench.table, rows, numbers, 3, &batch), 0);
    CHECK_EQ(stg_engine_submit(bench.engine, batch), 0);
    CHECK_EQ(wait_for(&bench, 3).done, 3);
    CHECK_EQ(batch->parts[0].offset, 0);
    CHECK_EQ(batch->parts[0].length, 600);
    CHECK_EQ(batch->parts[1].offset, 600);
    CHECK_EQ(batch->parts[1].length, 400);
    CHECK_EQ(batch->parts[1].count, 2);
    CHECK_EQ(batch->parts[2].count, -1);
    stg_batch_unref(batch);
    numbers[2] = 0;
    CHECK_EQ(stg_batch_parts(bench.template_, bench.table, rows, numbers, 3, &batch), -EINVAL);
    numbers[2] = STG_PARTS_MAX + 1;
    CHECK_EQ(stg_batch_parts(bench.template_, bench.table, rows, numbers, 3, &batch), -EINVAL);
    tear_down(&bench);
}

static void test_heads_tell_what_is_announced(void)
{
    struct bench bench = set_up(usual());
    struct stg_batch *batch = NULL;
    uint32_t rows[] = {add(&bench, "sum-crc32", 5, 9 << 20), add(&bench, "sum-crc64nvme", 6, 100),
                       add(&bench, "good", 7, 100),          add(&bench, "refused", 8, 100),
                       add(&bench, "etag", 9, 100),          add(&bench, "busy", 10, 100)};
    CHECK_EQ(stg_batch_heads(bench.template_, bench.table, rows, 6, &batch), 0);
    CHECK_EQ(stg_engine_submit(bench.engine, batch), 0);
    struct outcome outcome = wait_for(&bench, 6);
    CHECK_EQ(outcome.done, 5);
    CHECK_EQ(outcome.last.kind, STG_FAIL_HTTP);
    CHECK_EQ(outcome.last.status, 503);
    CHECK_EQ(batch->announced[0].kind, STG_SUM_CRC32);
    CHECK(announced_number(&batch->announced[0]) == loopback_crc(STG_CRC32, 5, 9 << 20));
    CHECK_EQ(batch->announced[1].kind, STG_SUM_CRC64NVME);
    CHECK(announced_number(&batch->announced[1]) == loopback_crc(STG_CRC64NVME, 6, 100));
    for (unsigned i = 2; i < 6; i++) {
        CHECK_EQ(batch->announced[i].kind, STG_SUM_NONE);
        CHECK_EQ(batch->announced[i].why, STG_WHY_UNTOLD);
    }
    stg_batch_unref(batch);
    CHECK_EQ(stg_batch_heads(bench.template_, bench.table, rows, 0, &batch), -EINVAL);
    rows[0] = 6;
    CHECK_EQ(stg_batch_heads(bench.template_, bench.table, rows, 1, &batch), -EINVAL);
    tear_down(&bench);
}

static void test_wrong_answers_fail_by_kind(void)
{
    CHECK_EQ(fetch_one("etag", 10).last.kind, STG_FAIL_IDENTITY);
    CHECK_EQ(fetch_one("cut", 1000).last.kind, STG_FAIL_RESET);
    CHECK_EQ(fetch_one("cut", 3 << 20).last.kind, STG_FAIL_RESET);
    CHECK_EQ(fetch_one("extra", 1000).last.kind, STG_FAIL_PROTOCOL);
    CHECK_EQ(fetch_one("garbage", 10).last.kind, STG_FAIL_PROTOCOL);
    CHECK_EQ(fetch_one("stall", 10).last.kind, STG_FAIL_STALL);
    struct outcome missing = fetch_one("missing", 10);
    CHECK_EQ(missing.last.kind, STG_FAIL_HTTP);
    CHECK_EQ(missing.last.status, 404);
    CHECK(strcmp(missing.last.s3.code, "NoSuchKey") == 0);
}

static void test_a_late_byte_after_an_answer_is_not_taken_for_content(void)
{
    struct stg_engine_config config = usual();
    config.workers = config.connections = 1;
    struct bench bench = set_up(config);
    for (unsigned i = 0; i < 20; i++) {
        uint32_t row = add(&bench, "late", i, i % 2 ? 1000 : 300000);
        struct stg_batch *batch = start_objects(&bench, &row, 1);
        struct outcome outcome = wait_for(&bench, 1);
        if (outcome.done)
            check_file(&bench, row, i, batch->results[0].digest);
        else
            CHECK_EQ(outcome.last.kind, STG_FAIL_PROTOCOL);
        stg_batch_unref(batch);
    }
    tear_down(&bench);
}

static void test_cancelled_batch_completes_every_request(void)
{
    struct bench bench = set_up(usual());
    uint32_t rows[300];
    for (unsigned i = 0; i < 300; i++)
        rows[i] = add(&bench, "good", i, i % 3 ? 20000 : 2 << 20);
    struct stg_batch *batch = start_objects(&bench, rows, 300);
    struct outcome before = wait_for(&bench, 5);
    stg_engine_cancel(bench.engine, batch);
    struct outcome after = wait_for(&bench, 300 - before.done - before.failed);
    CHECK_EQ(before.done + before.failed + after.done + after.failed, 300);
    CHECK(after.cancelled > 0);
    CHECK_EQ(after.cancelled, after.failed);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_close_in_the_middle_leaves_nothing(void)
{
    struct bench bench = set_up(usual());
    uint32_t rows[100];
    for (unsigned i = 0; i < 100; i++)
        rows[i] = add(&bench, "good", i, i % 2 ? 1000 : 4 << 20);
    struct stg_batch *batch = start_objects(&bench, rows, 100);
    struct outcome before = wait_for(&bench, 3);
    stg_engine_close(bench.engine);
    CHECK_EQ(stg_engine_submit(bench.engine, batch), -ESHUTDOWN);
    struct outcome after = wait_for(&bench, 100 - before.done - before.failed);
    CHECK_EQ(before.done + before.failed + after.done + after.failed, 100);
    stg_engine_close(bench.engine);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_listing_arrives_natively(void)
{
    struct bench bench = set_up(usual());
    struct stg_batch *batch = NULL;
    struct stg_list_page page = {0};
    CHECK_EQ(stg_batch_list(bench.template_, STG_STR("list-type=2"), &batch), 0);
    CHECK_EQ(stg_engine_submit(bench.engine, batch), 0);
    CHECK_EQ(wait_for(&bench, 1).done, 1);
    CHECK_EQ(stg_list_scan(batch->body, batch->body_len, STG_STR(""), 0, bench.table, NULL, &page), 0);
    CHECK_EQ(stg_table_count(bench.table), 1);
    stg_batch_unref(batch);
    tear_down(&bench);
}

/* ---- limits: elapsed times are checked from below only, which no slow machine can break ---- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void test_limit_of_bytes_holds_over_all_workers(void)
{
    struct stg_engine_config config = usual();
    config.bytes_per_second = 8 << 20;
    struct bench bench = set_up(config);
    struct stg_engine_stats stats;
    uint32_t rows[12];
    double start = seconds();
    for (unsigned i = 0; i < 12; i++)
        rows[i] = add(&bench, "good", i, 300000);
    struct stg_batch *batch = start_objects(&bench, rows, 12);
    CHECK_EQ(wait_for(&bench, 12).done, 12);
    stg_engine_stats(bench.engine, &stats);
    CHECK(stats.bytes_received > 12 * 300000);
    CHECK(seconds() - start >= ((double)stats.bytes_received - stg_burst_bytes(8 << 20)) / (8 << 20));
    for (unsigned i = 0; i < 12; i++)
        check_file(&bench, rows[i], i, batch->results[i].digest);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_waiting_for_the_limit_of_bytes_is_no_stall(void)
{
    struct stg_engine_config config = usual();
    config.bytes_per_second = 3000;
    config.stall_timeout_ms = 40;
    struct bench bench = set_up(config);
    uint32_t rows[2] = {add(&bench, "good", 1, 900), add(&bench, "chunked", 2, 900)};
    struct stg_batch *batch = start_objects(&bench, rows, 2);
    CHECK_EQ(wait_for(&bench, 2).done, 2);
    stg_batch_unref(batch);
    tear_down(&bench);
}

/* So little that nothing ends; then none, or as much as is checked again. */
static void test_limits_change_while_requests_wait_for_them(void)
{
    for (int by = 0; by < 2; by++) {
        struct stg_engine_config config = usual();
        config.requests_per_second = by ? 0 : 0.01;
        config.bytes_per_second = by ? 1 : 0;
        struct bench bench = set_up(config);
        struct stg_engine_stats stats;
        uint32_t rows[12];
        for (unsigned i = 0; i < 12; i++)
            rows[i] = add(&bench, "good", i, 100000);
        struct stg_batch *batch = start_objects(&bench, rows, 12);
        struct stg_pace *pace = stg_endpoint_pace(stg_template_endpoint(bench.template_));
        while (stg_pace_sum(pace).sent == 0 || (by && stg_pace_sum(pace).received <= 512))
            usleep(1000);
        double start = seconds();
        CHECK_EQ(stg_engine_limit(bench.engine, -1, 0), -EINVAL);
        CHECK_EQ(stg_engine_limit(bench.engine, 100, 8 << 20), 0);
        stg_engine_stats(bench.engine, &stats);
        CHECK_EQ(stats.bytes_per_second, 8 << 20);
        CHECK_EQ(stats.requests_per_1000_s, 100000);
        CHECK_EQ(wait_for(&bench, 12).done, 12);
        double least = by ? (12 * 100000 - 512 - stg_burst_bytes(8 << 20)) / (8 << 20) : (11 - stg_burst_requests(100)) / 100;
        CHECK(seconds() - start >= least);
        CHECK_EQ(stg_engine_limit(bench.engine, 0, 0), 0);
        stg_engine_stats(bench.engine, &stats);
        CHECK_EQ(stats.bytes_per_second + stats.requests_per_1000_s, 0);
        stg_batch_unref(batch);
        tear_down(&bench);
    }
}

static void check_requests(const char *how, unsigned workers)
{
    struct stg_engine_config config = usual();
    config.requests_per_second = 400;
    config.workers = workers;
    struct bench bench = set_up(config);
    uint32_t rows[80];
    int before = server.requests;
    double start = seconds();
    for (unsigned i = 0; i < 80; i++)
        rows[i] = add(&bench, how, i, 100);
    struct stg_batch *batch = start_objects(&bench, rows, 80);
    CHECK_EQ(wait_for(&bench, 80).done, 80);
    int sent = server.requests - before;
    CHECK(sent >= 80);
    CHECK(seconds() - start >= (sent - stg_burst_requests(400)) / 400);
    stg_batch_unref(batch);
    tear_down(&bench);
}

static void test_limit_of_requests_holds_over_all_workers_and_for_what_is_sent_again(void)
{
    check_requests("good", 2);
    check_requests("stale", 1);
    check_requests("stale", 2);
}

static void test_connections_follow_the_pace_up_and_down(void)
{
    struct bench bench = set_up(usual());
    struct stg_endpoint *endpoint = stg_template_endpoint(bench.template_);
    uint32_t rows[24];
    for (unsigned i = 0; i < 24; i++)
        rows[i] = add(&bench, "good", i, 20000);
    while (server.connections > 0) /* of the test before */
        usleep(1000);
    for (unsigned allowed = 1; allowed <= 5; allowed += 2) {
        server.most = 0;
        CHECK_EQ(stg_engine_pace(bench.engine, endpoint, allowed, 0), 0);
        struct stg_batch *batch = start_objects(&bench, rows, 24);
        CHECK_EQ(wait_for(&bench, 24).done, 24);
        stg_batch_unref(batch);
        CHECK((unsigned)server.most <= allowed);
        CHECK(stg_pace_sum(stg_endpoint_pace(endpoint)).open <= allowed);
        CHECK_EQ(stg_pace_sum(stg_endpoint_pace(endpoint)).busy, 0);
    }
    CHECK_EQ(stg_pace_sum(stg_endpoint_pace(endpoint)).sent, 72);
    CHECK_EQ(stg_engine_pace(bench.engine, endpoint, 1, 0), 0);
    while (server.connections > 1) /* idle ones are closed */
        usleep(1000);
    CHECK_EQ(stg_engine_pace(bench.engine, endpoint, 1, -1.0), -EINVAL);
    tear_down(&bench);
}

static void test_slow_endpoint_holds_up_no_other(void)
{
    struct bench bench = set_up(usual()), other = bench;
    struct stg_address address;
    struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ(stg_address_set(&address, AF_INET, &loopback, sizeof loopback, server.port), 0);
    struct stg_endpoint *endpoint = stg_endpoint_new(NULL, NULL, &address, 1);
    other.template_ = stg_template_new(endpoint, NULL, STG_STR("127.0.0.1"), STG_STR("/b/"), STG_STR(""), NULL, 0);
    CHECK_EQ(stg_engine_pace(bench.engine, stg_template_endpoint(bench.template_), 6, 0.01), 0);
    uint32_t rows[40];
    for (unsigned i = 0; i < 40; i++)
        rows[i] = add(&bench, "good", i, 1000);
    struct stg_batch *slow = start_objects(&bench, rows, 40);
    struct stg_batch *quick = start_objects(&other, rows, 40);
    CHECK_EQ(wait_for(&bench, 41).done, 41); /* the slow one's burst is one request */
    stg_engine_cancel(bench.engine, slow);
    CHECK_EQ(wait_for(&bench, 39).cancelled, 39);
    stg_batch_unref(slow);
    stg_batch_unref(quick);
    stg_template_unref(other.template_);
    stg_endpoint_unref(endpoint);
    tear_down(&bench);
}

/* Each limit so low that nothing ends by itself. */
static struct bench held_up(int by, struct stg_batch **batch)
{
    struct stg_engine_config config = usual();
    uint32_t rows[50];
    if (by == 0)
        config.requests_per_second = 0.01;
    else
        config.bytes_per_second = 1;
    struct bench bench = set_up(config);
    for (unsigned i = 0; i < 50; i++)
        rows[i] = add(&bench, by == 2 ? "stale" : "good", i, i % 2 ? 5000 : 2 << 20);
    *batch = start_objects(&bench, rows, 50);
    struct stg_pace *pace = stg_endpoint_pace(stg_template_endpoint(bench.template_));
    while (stg_pace_sum(pace).sent == 0 || (by && stg_pace_sum(pace).received <= 512)) /* half of the burst: held up */
        usleep(1000);
    return bench;
}

static void test_what_a_limit_holds_up_is_cancelled_and_closed_at_once(void)
{
    for (int by = 0; by < 3; by++)
        for (int how = 0; how < 2; how++) {
            struct stg_batch *batch;
            struct bench bench = held_up(by, &batch);
            if (how)
                stg_engine_close(bench.engine);
            else
                stg_engine_cancel(bench.engine, batch);
            struct outcome outcome = wait_for(&bench, 50);
            CHECK_EQ(outcome.done + outcome.cancelled, 50);
            CHECK(outcome.cancelled >= 49);
            stg_batch_unref(batch);
            tear_down(&bench);
        }
}

static void check_parents(int walk)
{
    struct stg_parents parents;
    struct stg_stored stored;
    char leaf[NAME_MAX + 1], place[8];
    snprintf(place, sizeof place, "p%d", walk);
    mkdirat(root_fd, place, 0700);
    int fd = openat(root_fd, place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQ(symlinkat("/tmp", fd, "out"), 0);
    CHECK_EQ(symlinkat("a", fd, "inside"), 0);
    stg_parents_init(&parents, fd);
    parents.walk = walk;
    CHECK_EQ(stg_parents_open(&parents, STG_STR("a/b/c"), 0, leaf), -ENOENT);
    CHECK(stg_parents_open(&parents, STG_STR("a/b/c"), 1, leaf) >= 0);
    CHECK(strcmp(leaf, "c") == 0);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("plain"), 1, leaf), fd);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("out/x"), 1, leaf), -ELOOP);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("inside/x"), 1, leaf), -ELOOP);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("a/../x"), 1, leaf), -EINVAL);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("../x"), 1, leaf), -EINVAL);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("/x"), 1, leaf), -EINVAL);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("a//x"), 1, leaf), -EINVAL);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("a/"), 1, leaf), -EINVAL);
    CHECK_EQ(stg_parents_open(&parents, STG_STR("a/\0x"), 1, leaf), -EINVAL);
    CHECK_EQ(stg_parents_open(&parents, STG_STR(""), 1, leaf), -EINVAL);
    CHECK_EQ(stg_parents_stat(&parents, STG_STR("a/b"), &stored), 0);
    CHECK(S_ISDIR(stored.mode));
    for (int i = 0; i < 3 * STG_PARENTS_SLOTS; i++) {
        char path[32];
        int n = snprintf(path, sizeof path, "many/%d/x", i);
        CHECK(stg_parents_open(&parents, (struct stg_str){path, (size_t)n}, 1, leaf) >= 0);
    }
    stg_parents_clear(&parents);
    close(fd);
}

static void test_parents_are_made_and_links_are_not_followed(void)
{
    check_parents(0);
    check_parents(1);
}

static void test_no_temporary_is_left(void)
{
    CHECK_EQ(unlinkat(root_fd, "tmp", AT_REMOVEDIR), 0); /* only an empty directory can go */
}

int main(void)
{
    if (!mkdtemp(directory))
        return 1;
    root_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdirat(root_fd, "tmp", 0700);
    tmp_fd = openat(root_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    loopback_start(&server);
    RUN(test_objects_of_all_sizes_arrive);
    RUN(test_objects_arrive_while_their_disk_turns_slow);
    RUN(test_chunked_objects_arrive);
    RUN(test_objects_are_fetched_by_their_targets_and_have_their_sha256);
    RUN(test_two_buffers_and_four_credits_are_enough);
    RUN(test_stale_connections_are_retried);
    RUN(test_server_may_end_the_connection_behind_any_body);
    RUN(test_body_that_ends_with_a_full_buffer_is_finished_when_buffers_are_short);
    RUN(test_ranges_of_a_large_object_arrive);
    RUN(test_range_off_the_grid_is_refused);
    RUN(test_bytes_with_the_announced_checksum_are_verified);
    RUN(test_bytes_without_the_announced_checksum_are_not_kept);
    RUN(test_ranges_have_the_checksum_that_was_asked_for);
    RUN(test_heads_tell_what_is_announced);
    RUN(test_objects_below_the_required_grade_are_refused_before_their_bytes);
    RUN(test_heads_of_parts_tell_where_they_lie);
    RUN(test_wrong_answers_fail_by_kind);
    RUN(test_a_late_byte_after_an_answer_is_not_taken_for_content);
    RUN(test_cancelled_batch_completes_every_request);
    RUN(test_close_in_the_middle_leaves_nothing);
    RUN(test_listing_arrives_natively);
    RUN(test_limit_of_bytes_holds_over_all_workers);
    RUN(test_waiting_for_the_limit_of_bytes_is_no_stall);
    RUN(test_limits_change_while_requests_wait_for_them);
    RUN(test_limit_of_requests_holds_over_all_workers_and_for_what_is_sent_again);
    RUN(test_connections_follow_the_pace_up_and_down);
    RUN(test_slow_endpoint_holds_up_no_other);
    RUN(test_what_a_limit_holds_up_is_cancelled_and_closed_at_once);
    RUN(test_parents_are_made_and_links_are_not_followed);
    RUN(test_no_temporary_is_left);
    loopback_stop(&server);
    close(tmp_fd);
    close(root_fd);
    directory_remove(directory);
    END();
}
