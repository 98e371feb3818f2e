#include "blobs.h"
#include "check.h"
#include "digest.h"
#include "directory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* `git hash-object` of "text\n", of nothing, of "a/target", and of "text\n" in a repository with SHA-256. */
#define TEXT "8e27be7d6154a1f68ea9160ef0e18691d20560dc"
#define EMPTY "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
#define TARGET "83696c4854c905220e48fc3e060459330266cf36"
#define TEXT256 "b3266f5722b0701cf93ece47c374b0513e8eb55d41b19c767833040319c82187"

static char directory[] = "/tmp/stg-blobs-XXXXXX";
static int root_fd, tmp_fd;

struct world {
    struct stg_table *table;
    struct stg_entries *entries;
    uint32_t rows[8];
    size_t count;
};

static void add(struct world *world, const char *key, const char *identity, int64_t size, uint32_t mode)
{
    struct stg_row row = {.key = {key, strlen(key)}, .identity = {identity, strlen(identity)}, .size = size, .mode = mode};
    world->rows[world->count++] = (uint32_t)stg_table_append(world->table, &row);
}

static void check_nothing_is_left(void)
{
    CHECK_EQ(unlinkat(root_fd, "tmp", AT_REMOVEDIR), 0); /* only an empty directory can go */
    close(tmp_fd);
    mkdirat(root_fd, "tmp", 0700);
    tmp_fd = openat(root_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What comes of a stream that ends behind these bytes. */
static size_t land(struct world *world, const char *stream, size_t len, int *status)
{
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(write(ends[1], stream, len), (ssize_t)len);
    close(ends[1]);
    struct stg_blobs *blobs = stg_blobs_new(ends[0], tmp_fd, root_fd);
    world->entries = stg_entries_new(world->table, stg_table_count(world->table));
    size_t landed = stg_blobs_land(blobs, world->entries, world->rows, world->count, status);
    stg_blobs_free(blobs);
    close(ends[0]);
    check_nothing_is_left();
    return landed;
}

static void end(struct world *world)
{
    stg_entries_free(world->entries);
    stg_table_unref(world->table);
}

static void test_files_programs_and_links_come_as_their_blobs_say(void)
{
    static const char STREAM[] = TEXT " blob 5\ntext\n\n" EMPTY " blob 0\n\n" TARGET " blob 8\na/target\n" TEXT
                                      " blob 5\ntext\n\n" TEXT256 " blob 5\ntext\n\n";
    struct world world = {.table = stg_table_new()};
    int status = -1;
    uint8_t digest[STG_DIGEST_BYTES];
    char target[16];
    struct stat st;
    mode_t before = umask(022);
    add(&world, "a/text", TEXT, 5, 0644);
    add(&world, "empty", EMPTY, 0, 0644);
    add(&world, "a/b/link", TARGET, 8, S_IFLNK | 0777);
    add(&world, "a/program", TEXT, 5, 0755);
    add(&world, "other hash", TEXT256, 5, 0644);
    CHECK_EQ(land(&world, STREAM, sizeof STREAM - 1, &status), 5);
    umask(before);
    CHECK_EQ(status, 0);
    CHECK_EQ(readlinkat(root_fd, "a/b/link", target, sizeof target), 8);
    CHECK(memcmp(target, "a/target", 8) == 0);
    CHECK_EQ(fstatat(root_fd, "a/program", &st, 0), 0);
    CHECK_EQ(st.st_mode & 07777, 0755);
    CHECK_EQ(fstatat(root_fd, "a/text", &st, 0), 0);
    CHECK_EQ(st.st_mode & 07777, 0644);
    CHECK_EQ(st.st_size, 5);
    stg_digest_bytes("text\n", 5, digest);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQ(world.entries->rows[i].standing, STG_STANDS);
        CHECK_EQ(world.entries->rows[i].grade, 'A');
    }
    CHECK(memcmp(world.entries->rows[0].digest, digest, STG_DIGEST_BYTES) == 0);
    CHECK(S_ISLNK(world.entries->rows[2].mode));
    CHECK_EQ(world.entries->rows[3].mode, 0755);
    end(&world);
}

/* The second of two is wrong: the first is in place, nothing of the second is. */
static void check_refused(const char *stream, const char *identity, int64_t size, uint32_t mode, int expected)
{
    static const char FIRST[] = TEXT " blob 5\ntext\n\n";
    char whole[512];
    struct world world = {.table = stg_table_new()};
    int status = 0;
    struct stat st;
    unlinkat(root_fd, "first", 0);
    add(&world, "first", TEXT, 5, 0644);
    add(&world, "second", identity, size, mode);
    int len = snprintf(whole, sizeof whole, "%s%s", FIRST, stream);
    CHECK_EQ(land(&world, whole, (size_t)len, &status), 1);
    CHECK_EQ(status, expected);
    CHECK_EQ(fstatat(root_fd, "first", &st, 0), 0);
    CHECK_EQ(fstatat(root_fd, "second", &st, AT_SYMLINK_NOFOLLOW), -1);
    CHECK_EQ(world.entries->rows[1].standing, STG_UNKNOWN);
    end(&world);
}

static void test_what_is_not_the_blob_is_never_put_in_place(void)
{
    check_refused(TEXT " blob 5\ntexT\n\n", TEXT, 5, 0644, -EILSEQ);
    check_refused(TARGET " blob 8\na/Target\n", TARGET, 8, S_IFLNK | 0777, -EILSEQ);
    check_refused(TEXT256 " blob 5\ntexT\n\n", TEXT256, 5, 0644, -EILSEQ);
    check_refused(EMPTY " blob 0\n\n", TEXT, 5, 0644, -EBADMSG);
    check_refused(TEXT " tree 5\ntext\n\n", TEXT, 5, 0644, -EBADMSG);
    check_refused(TEXT " missing\n", TEXT, 5, 0644, -EBADMSG);
    check_refused(TEXT " blob 5\ntext\n\n", TEXT, 6, 0644, -ESTALE);
    check_refused(TEXT " blob 5\ntext\n!", TEXT, 5, 0644, -EBADMSG);
    check_refused(TEXT " blob 5\ntext\n\n", "8e27", 5, 0644, -EBADMSG);
    check_refused(EMPTY " blob 0\n\n", EMPTY, 0, S_IFLNK | 0777, -EINVAL);
}

static void test_stream_that_ends_early_leaves_nothing(void)
{
    check_refused("", TEXT, 5, 0644, -EPIPE);
    check_refused(TEXT " bl", TEXT, 5, 0644, -EPIPE);
    check_refused(TEXT " blob 5\nte", TEXT, 5, 0644, -EPIPE);
    check_refused(TEXT " blob 5\ntext\n", TEXT, 5, 0644, -EPIPE);
    check_refused(TARGET " blob 8\na/", TARGET, 8, S_IFLNK | 0777, -EPIPE);
}

static void test_head_without_end_is_no_head(void)
{
    char endless[400];
    memset(endless, 'a', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    check_refused(endless, TEXT, 5, 0644, -EBADMSG);
}

static void test_symbolic_link_on_the_way_is_not_followed(void)
{
    static const char STREAM[] = TEXT " blob 5\ntext\n\n";
    struct world world = {.table = stg_table_new()};
    int status = 0;
    CHECK_EQ(symlinkat("/", root_fd, "way"), 0);
    add(&world, "way/stg-blobs-escaped", TEXT, 5, 0644);
    CHECK_EQ(land(&world, STREAM, sizeof STREAM - 1, &status), 0);
    CHECK_EQ(status, -ELOOP);
    end(&world);
}

/* Larger than the buffer, and than a block of the digest. */
static const size_t LARGE = STG_BLOCK_BYTES + 12345;

static void *write_large(void *argument)
{
    int fd = *(int *)argument;
    char head[96], *piece = malloc(LARGE + 1);
    memset(piece, 'x', LARGE);
    piece[LARGE] = '\n';
    int len = snprintf(head, sizeof head, "1fd09750d9672f186bce1a1972b7cd6403f4664d blob %zu\n", LARGE);
    CHECK_EQ(write(fd, head, (size_t)len), len);
    for (size_t at = 0; at < LARGE + 1;) {
        ssize_t n = write(fd, piece + at, LARGE + 1 - at);
        CHECK(n > 0);
        at += (size_t)n;
    }
    free(piece);
    close(fd);
    return NULL;
}

static void test_large_blob_passes_through_the_buffer(void)
{
    struct world world = {.table = stg_table_new()};
    int ends[2], status = -1;
    pthread_t writer;
    uint8_t digest[STG_DIGEST_BYTES];
    char *content = malloc(LARGE);
    CHECK_EQ(pipe(ends), 0);
    pthread_create(&writer, NULL, write_large, &ends[1]);
    add(&world, "large", "1fd09750d9672f186bce1a1972b7cd6403f4664d", (int64_t)LARGE, 0644);
    struct stg_blobs *blobs = stg_blobs_new(ends[0], tmp_fd, root_fd);
    world.entries = stg_entries_new(world.table, 1);
    CHECK_EQ(stg_blobs_land(blobs, world.entries, world.rows, 1, &status), 1);
    CHECK_EQ(status, 0);
    pthread_join(writer, NULL);
    memset(content, 'x', LARGE);
    stg_digest_bytes(content, LARGE, digest);
    CHECK(memcmp(world.entries->rows[0].digest, digest, STG_DIGEST_BYTES) == 0);
    free(content);
    stg_blobs_free(blobs);
    close(ends[0]);
    end(&world);
}

int main(void)
{
    if (!mkdtemp(directory))
        return 1;
    root_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdirat(root_fd, "tmp", 0700);
    tmp_fd = openat(root_fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    RUN(test_files_programs_and_links_come_as_their_blobs_say);
    RUN(test_what_is_not_the_blob_is_never_put_in_place);
    RUN(test_stream_that_ends_early_leaves_nothing);
    RUN(test_head_without_end_is_no_head);
    RUN(test_symbolic_link_on_the_way_is_not_followed);
    RUN(test_large_blob_passes_through_the_buffer);
    close(tmp_fd);
    close(root_fd);
    directory_remove(directory);
    END();
}
