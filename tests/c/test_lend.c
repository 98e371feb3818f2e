#include "lend.h"

#include "check.h"
#include "digest.h"
#include "directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/stg-lend-XXXXXX";
static int kept_fd, tmp_fd, root_fd;

struct world {
    struct stg_table *table;
    struct stg_entries *kept, *entries;
    uint32_t rows[8], given[8];
    size_t count;
    int64_t shared;
    int status;
};

static void begin(struct world *world)
{
    memset(world, 0, sizeof *world);
    world->table = stg_table_new();
    world->kept = stg_entries_new(world->table, 8);
    world->entries = stg_entries_new(world->table, 8);
}

static void end(struct world *world)
{
    stg_entries_free(world->kept);
    stg_entries_free(world->entries);
    stg_table_unref(world->table);
}

/* What lies at the key in the kept tree is recorded. */
static void record(struct world *world, const char *key, const char *text)
{
    struct stat st;
    CHECK_EQ(fstatat(kept_fd, key, &st, AT_SYMLINK_NOFOLLOW), 0);
    struct stg_row row = {.key = {key, strlen(key)}, .identity = {"i", 1}, .size = st.st_size};
    uint32_t number = (uint32_t)stg_table_append(world->table, &row);
    struct stg_entry *entry = &world->kept->rows[number];
    stg_digest_bytes(text, strlen(text), entry->digest);
    entry->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    entry->ctime_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
    entry->mode = (uint16_t)(S_ISLNK(st.st_mode) ? st.st_mode : st.st_mode & 07777);
    entry->grade = 'B';
    entry->standing = STG_STANDS;
    world->rows[world->count++] = number;
}

static void write_kept(const char *key, const char *text, mode_t mode)
{
    int fd = openat(kept_fd, key, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void keep(struct world *world, const char *key, const char *text, mode_t mode)
{
    write_kept(key, text, mode);
    record(world, key, text);
}

static size_t give(struct world *world, int keep_mtime)
{
    struct stg_lend *lend = stg_lend_new(world->kept, kept_fd, tmp_fd, root_fd, keep_mtime, 3, 0);
    size_t given = stg_lend_give(lend, world->entries, world->rows, world->count, world->given, &world->shared, &world->status);
    stg_lend_free(lend);
    CHECK_EQ(unlinkat(root_fd, "tmp", AT_REMOVEDIR), 0); /* only an empty directory can go */
    close(tmp_fd);
    mkdirat(root_fd, "tmp", 0700);
    tmp_fd = openat(root_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return given;
}

static void check_text(const char *key, const char *text)
{
    char found[64];
    int fd = openat(root_fd, key, O_RDONLY | O_CLOEXEC);
    CHECK_EQ(read(fd, found, sizeof found), (ssize_t)strlen(text));
    CHECK(memcmp(found, text, strlen(text)) == 0);
    close(fd);
}

static void test_files_programs_and_links_are_given_with_what_was_recorded(void)
{
    struct world world;
    struct stat st;
    char target[16];
    mode_t before = umask(022);
    begin(&world);
    mkdirat(kept_fd, "a", 0700);
    keep(&world, "a/text", "text", 0600);
    keep(&world, "program", "run", 0700);
    keep(&world, "empty", "", 0644);
    CHECK_EQ(symlinkat("../text", kept_fd, "a/link"), 0);
    record(&world, "a/link", "../text");
    CHECK_EQ(give(&world, 1), 4);
    umask(before);
    CHECK_EQ(world.status, 0);
    check_text("a/text", "text");
    CHECK_EQ(readlinkat(root_fd, "a/link", target, sizeof target), 7);
    CHECK_EQ(fstatat(root_fd, "a/text", &st, 0), 0);
    CHECK_EQ(st.st_mode & 07777, 0644);
    CHECK_EQ((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, world.kept->rows[0].mtime_ns);
    CHECK_EQ(fstatat(root_fd, "program", &st, 0), 0);
    CHECK_EQ(st.st_mode & 07777, 0755);
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQ(world.entries->rows[i].standing, STG_STANDS);
        CHECK_EQ(world.entries->rows[i].grade, 'B');
        CHECK(memcmp(world.entries->rows[i].digest, world.kept->rows[i].digest, STG_DIGEST_BYTES) == 0);
    }
    CHECK_EQ(world.entries->rows[1].mode, 0755);
    end(&world);
}

static void check_refused(struct world *world, int expected)
{
    CHECK_EQ(give(world, 0), 0);
    CHECK_EQ(world->status, expected);
    CHECK_EQ(faccessat(root_fd, "changed", F_OK, AT_SYMLINK_NOFOLLOW), -1);
    CHECK_EQ(world->entries->rows[0].standing, STG_UNKNOWN);
    end(world);
    unlinkat(kept_fd, "changed", 0);
}

static void test_file_that_is_not_what_was_recorded_is_not_given(void)
{
    struct world world;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {0}};
    struct stat st, changed;

    begin(&world);
    keep(&world, "changed", "one", 0600);
    CHECK_EQ(fstatat(kept_fd, "changed", &st, 0), 0);
    times[1] = st.st_mtim;
    do { /* the kernel's clock of files goes on in ticks */
        write_kept("changed", "two", 0600);
        CHECK_EQ(utimensat(kept_fd, "changed", times, 0), 0);
        CHECK_EQ(fstatat(kept_fd, "changed", &changed, 0), 0);
    } while (changed.st_ctim.tv_sec == st.st_ctim.tv_sec && changed.st_ctim.tv_nsec == st.st_ctim.tv_nsec);
    check_refused(&world, -ESTALE);

    begin(&world);
    keep(&world, "changed", "one", 0600);
    unlinkat(kept_fd, "changed", 0);
    check_refused(&world, -ESTALE);

    begin(&world);
    keep(&world, "changed", "one", 0600);
    unlinkat(kept_fd, "changed", 0);
    CHECK_EQ(symlinkat("a/text", kept_fd, "changed"), 0);
    check_refused(&world, -ESTALE);

    begin(&world);
    keep(&world, "changed", "one", 0600);
    unlinkat(kept_fd, "changed", 0);
    CHECK_EQ(mkfifoat(kept_fd, "changed", 0600), 0);
    check_refused(&world, -ESTALE);

    begin(&world);
    keep(&world, "changed", "one", 0600);
    world.kept->rows[0].digest[3] ^= 1; /* as when the disk gives other bytes behind the same times */
    check_refused(&world, -EBADMSG);
}

static void test_symbolic_link_above_a_file_is_not_followed(void)
{
    struct world world;
    begin(&world);
    mkdirat(kept_fd, "d", 0700);
    mkdirat(kept_fd, "real", 0700);
    keep(&world, "d/file", "one", 0600);
    CHECK_EQ(renameat(kept_fd, "d/file", kept_fd, "real/file"), 0);
    CHECK_EQ(unlinkat(kept_fd, "d", AT_REMOVEDIR), 0);
    CHECK_EQ(symlinkat("real", kept_fd, "d"), 0);
    CHECK_EQ(give(&world, 0), 0);
    CHECK_EQ(world.status, -ESTALE);
    end(&world);

    begin(&world);
    mkdirat(kept_fd, "e", 0700);
    keep(&world, "e/file", "one", 0600);
    CHECK_EQ(symlinkat("/tmp", root_fd, "e"), 0);
    CHECK_EQ(give(&world, 0), 0);
    CHECK_EQ(world.status, -ELOOP);
    end(&world);
}

#define LARGE ((size_t)33 << 20) /* four blocks and a part of one */
#define MANY 300

/* By any number of threads, files in other directories at a time, until one cannot be given. */
static void test_many_threads_give_every_file_once(void)
{
    struct world world;
    char key[16], text[16];
    uint32_t rows[MANY], given[MANY];
    begin(&world);
    stg_entries_free(world.kept);
    stg_entries_free(world.entries);
    world.kept = stg_entries_new(world.table, MANY);
    world.entries = stg_entries_new(world.table, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "m%u", i % 7);
        mkdirat(kept_fd, key, 0700);
        snprintf(key, sizeof key, "m%u/%u", i % 7, i);
        snprintf(text, sizeof text, "text %u", i);
        world.count = 0;
        keep(&world, key, text, 0600);
        rows[i] = world.rows[0];
    }
    struct stg_lend *lend = stg_lend_new(world.kept, kept_fd, tmp_fd, root_fd, 0, STG_LEND_THREADS, 600);
    CHECK_EQ(stg_lend_give(lend, world.entries, rows, MANY - 1, given, &world.shared, &world.status), MANY - 1);
    CHECK_EQ(world.status, 0);
    CHECK(memcmp(rows, given, (MANY - 1) * sizeof *rows) == 0);
    for (unsigned i = 0; i < MANY - 1; i++) {
        snprintf(key, sizeof key, "m%u/%u", i % 7, i);
        snprintf(text, sizeof text, "text %u", i);
        check_text(key, text);
        world.entries->rows[rows[i]].standing = STG_UNKNOWN;
    }
    unlinkat(kept_fd, "m0/140", 0);
    size_t count = stg_lend_give(lend, world.entries, rows, MANY, given, &world.shared, &world.status);
    CHECK_EQ(world.status, -ESTALE);
    CHECK(count < MANY);
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(world.entries->rows[given[i]].standing, STG_STANDS);
    CHECK_EQ(world.entries->rows[rows[140]].standing, STG_UNKNOWN);
    stg_lend_stop(lend);
    world.entries->rows[rows[0]].standing = STG_UNKNOWN;
    CHECK_EQ(stg_lend_give(lend, world.entries, rows, 1, given, &world.shared, &world.status), 0);
    CHECK_EQ(world.status, -ECANCELED);
    stg_lend_free(lend);
    end(&world);
}

static void test_large_file_is_copied_and_compared(void)
{
    struct world world;
    char *bytes = malloc(LARGE + 1), *found = malloc(LARGE);
    begin(&world);
    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = (char)('a' + (i * i >> 11) % 26);
    bytes[LARGE] = 0;
    keep(&world, "small", "text", 0600);
    keep(&world, "large", bytes, 0600);
    keep(&world, "other", "other", 0600);
    struct stg_lend *lend = stg_lend_new(world.kept, kept_fd, tmp_fd, root_fd, 0, 3, 0);
    CHECK_EQ(stg_lend_give(lend, world.entries, world.rows, 3, world.given, &world.shared, &world.status), 3);
    CHECK_EQ(world.status, 0);
    CHECK_EQ(world.entries->rows[world.rows[1]].standing, STG_STANDS);
    int fd = openat(root_fd, "large", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(read(fd, found, LARGE), (ssize_t)LARGE);
    CHECK(memcmp(found, bytes, LARGE) == 0);
    close(fd);
    CHECK_EQ(unlinkat(root_fd, "large", 0), 0);
    world.entries->rows[world.rows[1]].standing = STG_UNKNOWN;
    world.kept->rows[world.rows[1]].digest[3] ^= 1; /* as when the disk gives other bytes behind the same times */
    CHECK_EQ(stg_lend_give(lend, world.entries, world.rows + 1, 1, world.given, &world.shared, &world.status),
             world.shared ? 1 : 0); /* what is cloned is not read */
    CHECK_EQ(world.status, world.shared ? 0 : -EBADMSG);
    CHECK_EQ(faccessat(root_fd, "large", F_OK, AT_SYMLINK_NOFOLLOW), world.shared ? 0 : -1);
    stg_lend_free(lend);
    end(&world);
    free(bytes);
    free(found);
}

/* Sizes that nobody has to store: none of these files is there. */
static void test_a_call_is_for_so_many_bytes_or_one_file_for_each_thread(void)
{
    struct world world;
    static const int64_t SIZES[] = {INT64_C(1) << 40, INT64_C(1) << 40, 1, INT64_C(1) << 40};
    char key[16];
    begin(&world);
    for (int i = 0; i < 4; i++) {
        int len = snprintf(key, sizeof key, "none%d", i);
        struct stg_row row = {.key = {key, (size_t)len}, .identity = {"i", 1}, .size = SIZES[i]};
        world.rows[i] = (uint32_t)stg_table_append(world.table, &row);
        world.entries->rows[i].standing = STG_STANDS; /* so that what is the call's is told */
    }
    struct stg_lend *lend = stg_lend_new(world.kept, kept_fd, tmp_fd, root_fd, 0, 2, 0);
    CHECK_EQ(stg_lend_give(lend, world.entries, world.rows, 4, world.given, &world.shared, &world.status), 2);
    CHECK_EQ(world.status, -ESTALE);
    CHECK_EQ(stg_lend_give(lend, world.entries, world.rows + 1, 2, world.given, &world.shared, &world.status), 2);
    stg_lend_free(lend);
    end(&world);
}

int main(void)
{
    if (!mkdtemp(directory))
        return 1;
    int top = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdirat(top, "kept", 0700);
    mkdirat(top, "root", 0700);
    kept_fd = openat(top, "kept", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    root_fd = openat(top, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdirat(root_fd, "tmp", 0700);
    tmp_fd = openat(root_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    RUN(test_files_programs_and_links_are_given_with_what_was_recorded);
    RUN(test_file_that_is_not_what_was_recorded_is_not_given);
    RUN(test_symbolic_link_above_a_file_is_not_followed);
    RUN(test_many_threads_give_every_file_once);
    RUN(test_a_call_is_for_so_many_bytes_or_one_file_for_each_thread);
    RUN(test_large_file_is_copied_and_compared);
    close(tmp_fd);
    close(root_fd);
    close(kept_fd);
    close(top);
    directory_remove(directory);
    END();
}
