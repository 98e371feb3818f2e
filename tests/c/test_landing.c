#include "batch.h"
#include "check.h"
#include "copy.h"
#include "directory.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char directory[] = "/tmp/stg-landing-XXXXXX";
static const struct stg_made WRITTEN; /* with no mode and no time of its own */
static struct stg_landing landing;
static struct stg_parents parents[3];
static atomic_int losing; /* closing a regular file reports that a write was lost, as NFS and quotas do */

int close(int fd)
{
    struct stat st;
    int lost = atomic_load(&losing) && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (syscall(SYS_close, fd) < 0)
        return -1;
    errno = ENOSPC;
    return lost ? -1 : 0;
}

static void check_nothing_arrived(const char *name)
{
    CHECK_EQ(faccessat(landing.root_fd, name, F_OK, 0), -1);
    CHECK_EQ(unlinkat(landing.root_fd, "tmp", AT_REMOVEDIR), 0); /* only an empty directory can go */
    close(landing.tmp_fd);
    mkdirat(landing.root_fd, "tmp", 0700);
    landing.tmp_fd = openat(landing.root_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void test_body_stored_at_once_is_published_only_after_it_was_closed_well(void)
{
    struct stg_names names = {0};
    struct stg_cache_budget cached = {0};
    struct stg_behind behind = {.budget = &cached};
    struct stg_hand hand = {0, &names, &behind};
    struct stg_stored stored = {0};
    const char *where = "";
    CHECK_EQ(stg_names_init(&names), 0);
    losing = 1;
    CHECK_EQ(stg_landing_store(&landing, hand, STG_STR("a/b"), WRITTEN, "text", 4, 0, &stored, &where), -ENOSPC);
    losing = 0;
    CHECK(strcmp(where, "close") == 0);
    check_nothing_arrived("a/b");
    CHECK_EQ(stg_landing_store(&landing, hand, STG_STR("a/b"), (struct stg_made){.mode = 0640}, "text", 4, 0, &stored,
                               &where), 0);
    CHECK_EQ(stored.size, 4);
    CHECK_EQ(stored.mode & 07777, 0640);
}

static void test_file_has_its_time_before_it_is_published(void)
{
    const int64_t times[] = {INT64_C(1700000000123456789), -1, INT64_C(-1500000000)};
    struct stg_names names = {0};
    struct stg_cache_budget cached = {0};
    struct stg_behind behind = {.budget = &cached};
    struct stg_hand hand = {0, &names, &behind};
    const char *where = "";
    CHECK_EQ(stg_names_init(&names), 0);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        struct stg_stored stored = {0};
        struct stg_made made = {.has_mtime = 1, .mtime_ns = times[i]};
        CHECK_EQ(stg_landing_store(&landing, hand, STG_STR("dated"), made, "text", 4, 0, &stored, &where), 0);
        CHECK_EQ(stored.mtime_ns, times[i]);
        CHECK_EQ(unlinkat(landing.root_fd, "dated", 0), 0);
    }
}

struct ended {
    int error, kept;
    const char *where;
    int announced; /* an eventfd */
};

static void on_wake(void *context, unsigned worker)
{
    (void)context, (void)worker;
}

static int on_done(void *context, void *owner, uint32_t index, void *note, int error, const char *where,
                   const struct stg_stored *stored)
{
    (void)owner, (void)index, (void)note;
    struct ended *ended = context;
    *ended = (struct ended){error, stored != NULL, where, ended->announced};
    return 1;
}

static void on_announce(void *context)
{
    uint64_t one = 1;
    CHECK_EQ(write(((struct ended *)context)->announced, &one, sizeof one), sizeof one);
}

/* Returns when it was announced; the sink does that by itself, in time. */
static struct ended store_by_disk_thread(const char *key)
{
    struct ended ended = {.announced = eventfd(0, EFD_CLOEXEC)};
    struct stg_sink_config config = {.buffer_bytes = 4096, .buffer_count = 2, .workers = 1, .disk_threads = 1,
                                     .hooks = {&ended, on_wake, on_done, on_announce}};
    struct stg_sink *sink = NULL;
    CHECK_EQ(stg_sink_new(&config, &sink), 0);
    struct stg_file *file = stg_file_new(sink, &landing, 0, (struct stg_str){key, strlen(key)}, WRITTEN, NULL, 0);
    struct stg_buffer *buffer = stg_sink_take(sink, 0);
    memset(buffer->data, 'x', 4096);
    buffer->start = 0;
    buffer->len = 4096;
    buffer->offset = 0;
    CHECK_EQ(stg_file_write(file, buffer), 0);
    stg_file_end(file, 1, NULL);
    stg_sink_flush(sink);
    struct pollfd ready = {.fd = ended.announced, .events = POLLIN};
    CHECK_EQ(poll(&ready, 1, 60000), 1);
    stg_sink_free(sink);
    close(ended.announced);
    return ended;
}

static void test_body_stored_by_a_disk_thread_is_published_only_after_it_was_closed_well(void)
{
    losing = 1;
    struct ended ended = store_by_disk_thread("c");
    losing = 0;
    CHECK_EQ(ended.error, -ENOSPC);
    CHECK(strcmp(ended.where, "close") == 0);
    CHECK(!ended.kept);
    check_nothing_arrived("c");
    ended = store_by_disk_thread("c");
    CHECK_EQ(ended.error, 0);
    CHECK(ended.kept);
}

static void test_copy_is_published_only_after_it_was_closed_well(void)
{
    struct stg_stored stored;
    uint8_t digest[STG_DIGEST_BYTES];
    int source = openat(landing.root_fd, "source", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQ(write(source, "text", 4), 4);
    close(source);
    losing = 1;
    CHECK_EQ(stg_copy_file(landing.root_fd, STG_STR("source"), landing.tmp_fd, landing.root_fd, STG_STR("d"), 0644,
                           0, NULL, digest, &stored), -ENOSPC);
    losing = 0;
    check_nothing_arrived("d");
}

static void test_lost_write_is_known_when_the_file_of_ranges_is_closed(void)
{
    int64_t range[] = {0, 4};
    struct stg_row row = {.key = STG_STR("k"), .identity = STG_STR("e"), .size = 4};
    struct stg_table *table = stg_table_new();
    struct stg_endpoint *endpoint = stg_endpoint_new(NULL, NULL, &(struct stg_address){0}, 1);
    struct stg_template *template_ =
        stg_template_new(endpoint, NULL, STG_STR("h"), STG_STR("/"), STG_STR(""), NULL, 0);
    struct stg_batch *batch = NULL;
    CHECK_EQ(stg_table_append(table, &row), 0);
    int fd = openat(landing.root_fd, "parts", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQ(stg_batch_ranges(template_, table, 0, range, 1, fd, &batch), 0);
    losing = 1;
    CHECK_EQ(stg_batch_close_landing(batch), -ENOSPC);
    CHECK_EQ(stg_batch_close_landing(batch), 0);
    losing = 0;
    close(fd);
    stg_batch_unref(batch);
    stg_template_unref(template_);
    stg_endpoint_unref(endpoint);
    stg_table_unref(table);
}

static void open_many(struct stg_parents *some, const char *under)
{
    char leaf[NAME_MAX + 1], path[64];
    for (int i = 0; i < 2 * STG_PARENTS_SLOTS; i++) {
        int n = snprintf(path, sizeof path, "%s/%d/x", under, i);
        CHECK(stg_parents_open(some, (struct stg_str){path, (size_t)n}, 1, leaf) >= 0);
    }
}

static void test_directories_kept_open_are_bounded_for_all_together(void)
{
    struct stg_parents some;
    atomic_int open = 0;
    stg_parents_init(&some, landing.root_fd);
    some.shared_open = &open;
    open_many(&some, "few");
    CHECK_EQ(open, STG_PARENTS_SLOTS);
    open += STG_PARENTS_OPEN; /* of others */
    open_many(&some, "many");
    CHECK_EQ(open, STG_PARENTS_OPEN + 1);
    stg_parents_clear(&some);
    CHECK_EQ(open, STG_PARENTS_OPEN);
}

int main(void)
{
    if (!mkdtemp(directory))
        return 1;
    landing = (struct stg_landing){.fd = -1, .parents = parents, .threads = 3};
    landing.root_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdirat(landing.root_fd, "tmp", 0700);
    landing.tmp_fd = openat(landing.root_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        stg_parents_init(&parents[i], landing.root_fd);
    RUN(test_body_stored_at_once_is_published_only_after_it_was_closed_well);
    RUN(test_file_has_its_time_before_it_is_published);
    RUN(test_body_stored_by_a_disk_thread_is_published_only_after_it_was_closed_well);
    RUN(test_copy_is_published_only_after_it_was_closed_well);
    RUN(test_lost_write_is_known_when_the_file_of_ranges_is_closed);
    RUN(test_directories_kept_open_are_bounded_for_all_together);
    for (int i = 0; i < 3; i++)
        stg_parents_clear(&parents[i]);
    close(landing.tmp_fd);
    close(landing.root_fd);
    directory_remove(directory);
    END();
}
