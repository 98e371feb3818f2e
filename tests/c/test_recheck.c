#include "digest.h"
#include "identity.h"
#include "recheck.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "directory.h"

static void test_identity_is_an_etag_and_behind_a_nul_a_version(void)
{
    struct stg_identity both = stg_identity_split((struct stg_str){"e-2\0v1", 6});

    CHECK_STR(both.etag, "e-2");
    CHECK_STR(both.version, "v1");
    CHECK_STR(stg_identity_split(STG_STR("e")).etag, "e");
    CHECK_EQ(stg_identity_split(STG_STR("e")).version.len, 0);
    CHECK_EQ(stg_identity_split((struct stg_str){NULL, 0}).etag.len, 0);
    CHECK_STR(stg_identity_split((struct stg_str){"\0v", 2}).version, "v");
}

static void test_identities_agree_when_only_one_knows_the_version(void)
{
    static const struct {
        struct stg_str a, b;
        int agrees;
    } cases[] = {
        {{"e", 1}, {"e", 1}, 1},         {{"e", 1}, {"f", 1}, 0},           {{"e\0v", 3}, {"e", 1}, 1},
        {{"e", 1}, {"e\0v", 3}, 1},      {{"e\0v", 3}, {"e\0w", 3}, 0},     {{"e\0v", 3}, {"e\0v", 3}, 1},
        {{"f\0v", 3}, {"e\0v", 3}, 0},   {{"\0v", 2}, {"", 0}, 0},          {{"\0v", 2}, {"\0v", 2}, 1},
        {{"e\0", 2}, {"e", 1}, 0},       {{"\0\0a", 3}, {"\0\0b", 3}, 0},   {{"", 0}, {"", 0}, 1},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        CHECK_EQ(stg_identity_agrees(cases[i].a, cases[i].b), cases[i].agrees);
}

/* ---- a tree of files, each recorded as it is written ---- */

struct tree {
    char root[32];
    int fd;
    struct stg_table *table;
    struct stg_entries *entries;
};

static void tree_make(struct tree *tree)
{
    strcpy(tree->root, "/tmp/stg-recheck-XXXXXX");
    CHECK(mkdtemp(tree->root) != NULL);
    tree->fd = open(tree->root, O_RDONLY | O_DIRECTORY);
    mkdirat(tree->fd, "dir", 0700);
    tree->table = stg_table_new();
    tree->entries = stg_entries_new(tree->table, 1000);
}

static void tree_end(struct tree *tree)
{
    close(tree->fd);
    stg_entries_free(tree->entries);
    stg_table_unref(tree->table);
    CHECK_EQ(directory_remove(tree->root), 0);
}

static void write_file(struct tree *tree, const char *path, const char *text, mode_t mode)
{
    int fd;

    unlinkat(tree->fd, path, 0);
    fd = openat(tree->fd, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static uint32_t record(struct tree *tree, const char *path, const char *text, uint16_t mode)
{
    struct stg_row row = {.key = {path, strlen(path)}, .identity = STG_STR("e"), .size = (int64_t)strlen(text)};
    uint32_t at = (uint32_t)stg_table_append(tree->table, &row);
    struct stg_entry *entry = &tree->entries->rows[at];

    stg_digest_bytes(text, strlen(text), entry->digest);
    entry->mode = mode;
    entry->grade = 'B';
    entry->standing = STG_DOUBTFUL;
    return at;
}

static uint32_t add_file(struct tree *tree, const char *path, const char *text, mode_t mode)
{
    write_file(tree, path, text, mode);
    return record(tree, path, text, (uint16_t)mode);
}

static enum stg_found look(struct tree *tree, uint32_t row, int32_t *error)
{
    struct stg_recheck how = {.entries = tree->entries, .root_fd = tree->fd, .believed = STG_TRUSTED};
    uint8_t found;

    tree->entries->rows[row].standing = STG_DOUBTFUL;
    CHECK_EQ(stg_recheck(&how, &row, 1, &found, error), 0);
    CHECK_EQ(tree->entries->rows[row].standing, found == STG_FOUND_SAME ? STG_TRUSTED : STG_STALE);
    return (enum stg_found)found;
}

static void test_every_way_to_differ_has_its_name(void)
{
    struct tree tree;
    int32_t error;

    tree_make(&tree);
    uint32_t row = add_file(&tree, "dir/file", "text", 0644), link = record(&tree, "link", "dir/file", 0120777);
    CHECK_EQ(symlinkat("dir/file", tree.fd, "link"), 0);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_SAME);
    CHECK_EQ(look(&tree, link, &error), STG_FOUND_SAME);
    struct stat st;
    fstatat(tree.fd, "dir/file", &st, 0);
    CHECK_EQ(tree.entries->rows[row].ctime_ns, st.st_ctim.tv_sec * INT64_C(1000000000) + st.st_ctim.tv_nsec);

    write_file(&tree, "dir/file", "TEXT", 0644);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_CONTENT);
    write_file(&tree, "dir/file", "texts", 0644);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_SIZE);
    write_file(&tree, "dir/file", "text", 0755);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_EXECUTABLE);
    unlinkat(tree.fd, "dir/file", 0);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_MISSING);
    CHECK_EQ(mkfifoat(tree.fd, "dir/file", 0600), 0);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_KIND);
    unlinkat(tree.fd, "dir/file", 0);
    CHECK_EQ(symlinkat("../link", tree.fd, "dir/file"), 0);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_KIND);
    unlinkat(tree.fd, "link", 0);
    CHECK_EQ(symlinkat("dir/elif", tree.fd, "link"), 0);
    CHECK_EQ(look(&tree, link, &error), STG_FOUND_CONTENT);
    unlinkat(tree.fd, "link", 0);
    write_file(&tree, "link", "dir/file", 0644);
    CHECK_EQ(look(&tree, link, &error), STG_FOUND_KIND);

    unlinkat(tree.fd, "dir/file", 0);
    unlinkat(tree.fd, "dir", AT_REMOVEDIR);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_MISSING);
    CHECK_EQ(symlinkat(".", tree.fd, "dir"), 0);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_KIND);
    unlinkat(tree.fd, "dir", 0);
    write_file(&tree, "dir", "", 0644);
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_KIND);
    CHECK_EQ(error, 0);
    tree_end(&tree);
}

static void test_file_that_cannot_be_read_says_why(void)
{
    struct tree tree;
    int32_t error = 0;

    tree_make(&tree);
    uint32_t row = add_file(&tree, "file", "text", 0644);
    int closed = tree.fd;
    tree.fd = open(tree.root, O_PATH | O_DIRECTORY); /* a file in it can still be opened */
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_SAME);
    close(tree.fd);
    tree.fd = 999;
    CHECK_EQ(look(&tree, row, &error), STG_FOUND_UNREADABLE);
    CHECK_EQ(error, EBADF);
    tree.fd = closed;
    tree_end(&tree);
}

struct half {
    struct tree *tree;
    uint32_t first;
    int odd;
};

static void *look_at_half(void *given)
{
    struct half *half = given;
    struct stg_recheck how = {
        .entries = half->tree->entries, .root_fd = half->tree->fd, .from_disk = 1, .believed = STG_STANDS};
    uint32_t rows[100];
    uint8_t found[100];
    int32_t errors[100];

    for (uint32_t i = 0; i < 100; i++)
        rows[i] = half->first + i;
    if (stg_recheck(&how, rows, 100, found, errors) < 0)
        return half;
    for (size_t i = 0; i < 100; i++)
        half->odd += found[i] != STG_FOUND_SAME;
    return NULL;
}

static void test_threads_look_at_different_rows_at_a_time(void)
{
    struct tree tree;
    struct half halves[2] = {{&tree, 0, 0}, {&tree, 100, 0}};
    pthread_t threads[2];
    char path[32], text[32];

    tree_make(&tree);
    for (int i = 0; i < 200; i++) {
        snprintf(path, sizeof(path), "dir/%d", i);
        snprintf(text, sizeof(text), "content of %d", i);
        add_file(&tree, path, text, 0644);
    }
    write_file(&tree, "dir/150", "content of 051", 0644);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, look_at_half, &halves[i]), 0);
    for (int i = 0; i < 2; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(!failed);
    }
    CHECK_EQ(halves[0].odd, 0);
    CHECK_EQ(halves[1].odd, 1);
    CHECK_EQ(tree.entries->rows[150].standing, STG_STALE);
    CHECK_EQ(tree.entries->rows[151].standing, STG_STANDS);
    tree_end(&tree);
}

int main(void)
{
    RUN(test_identity_is_an_etag_and_behind_a_nul_a_version);
    RUN(test_identities_agree_when_only_one_knows_the_version);
    RUN(test_every_way_to_differ_has_its_name);
    RUN(test_file_that_cannot_be_read_says_why);
    RUN(test_threads_look_at_different_rows_at_a_time);
    END();
}
