#include "compare.h"
#include "entries.h"
#include "order.h"
#include "recall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static struct stg_table *table_of(size_t count, const char *const *keys)
{
    struct stg_table *table = stg_table_new();

    for (size_t i = 0; i < count; i++) {
        struct stg_row row = {.key = {keys[i], strlen(keys[i])}, .identity = STG_STR("e"), .size = 3};
        stg_table_append(table, &row);
    }
    return table;
}

#define TABLE(...) table_of(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *const[]){__VA_ARGS__})

static struct stg_order *order_of(struct stg_table *table)
{
    struct stg_order *order = NULL;

    CHECK_EQ(stg_order_new(table, &order), 0);
    while (stg_order_step(order))
        continue;
    return order;
}

static void test_many_rows_are_sorted_by_key_and_equal_keys_by_row(void)
{
    static const size_t counts[] = {2, 1000, 32768, 32769, 65536, 100000, 131073};

    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
        struct stg_table *table = stg_table_new();
        char key[16];

        for (size_t row = 0; row < counts[i]; row++) {
            int len = snprintf(key, sizeof(key), "%05u", (unsigned)((counts[i] - row) * 7919 % 50021));
            struct stg_row found = {.key = {key, (size_t)len}};
            stg_table_append(table, &found);
        }
        struct stg_order *order = order_of(table);
        size_t wrong = 0;
        for (size_t place = 1; place < counts[i]; place++) {
            size_t before = stg_order_row(order, place - 1), row = stg_order_row(order, place);
            struct stg_str left = stg_table_row(table, before).key, right = stg_table_row(table, row).key;
            int by_key = memcmp(left.ptr, right.ptr, 5);

            wrong += by_key > 0 || (by_key == 0 && before >= row);
        }
        CHECK_EQ(wrong, 0);
        stg_order_free(order);
        stg_table_unref(table);
    }
}

static void test_keys_are_found_whatever_their_order(void)
{
    struct stg_table *tables[] = {TABLE("a", "a-b", "a/b", "b"), TABLE("b", "a/b", "a", "a-b"), TABLE("x"), table_of(0, NULL)};
    const char *keys[] = {"a", "a-b", "a/b", "b"};

    for (size_t t = 0; t < 4; t++) {
        struct stg_order *order = order_of(tables[t]);

        CHECK((order->rows != NULL) == (t == 1));
        for (size_t near = 0; near < 5; near++)
            for (size_t i = 0; i < 4; i++) {
                struct stg_str key = {keys[i], strlen(keys[i])};
                int64_t row = stg_order_find(order, key, near);

                CHECK((row >= 0) == (t < 2));
                if (row >= 0)
                    check_str(__FILE__, __LINE__, "key", stg_table_row(tables[t], (size_t)row).key, key);
            }
        CHECK_EQ(stg_order_find(order, STG_STR(""), 0), -1);
        CHECK_EQ(stg_order_find(order, STG_STR("zz"), 0), -1);
        stg_order_free(order);
        stg_table_unref(tables[t]);
    }
}

static void stand(struct stg_entries *entries, size_t row)
{
    entries->rows[row] = (struct stg_entry){.mtime_ns = -5, .ctime_ns = 6, .mode = 0644, .grade = 'B', .standing = STG_STANDS};
    entries->rows[row].digest[3] = (uint8_t)row;
}

/* Lines and records of one table, read against another one. */
static void check_recalled(struct stg_table *from, struct stg_table *to, const int wanted[])
{
    struct stg_entries *written = stg_entries_new(from, stg_table_count(from)), *read;
    struct stg_order *order = order_of(to);
    uint32_t rows[8];
    char lines[8192], records[1024];
    int64_t count = 0;
    size_t next = 0;

    for (size_t row = 0; row < stg_table_count(from); row++) {
        stand(written, row);
        rows[row] = (uint32_t)row;
    }
    ssize_t line_bytes = stg_entries_lines(written, &next, lines, sizeof(lines), &count);
    size_t record_bytes = stg_entries_journal_length(written, rows, stg_table_count(from));
    stg_entries_journal(written, rows, stg_table_count(from), records);
    CHECK_EQ(count, stg_table_count(from));

    for (int journal = 0; journal < 2; journal++) {
        struct stg_recall *recall;

        read = stg_entries_new(to, stg_table_count(to));
        CHECK_EQ(stg_recall_new(read, order, STG_DOUBTFUL, &recall), 0);
        if (journal)
            CHECK_EQ(stg_recall_journal(recall, (struct stg_str){records, record_bytes}), record_bytes);
        else
            CHECK_EQ(stg_recall_lines(recall, (struct stg_str){lines, (size_t)line_bytes}), 0);
        CHECK_EQ(recall->count, count);
        for (size_t row = 0; row < stg_table_count(to); row++) {
            CHECK_EQ(read->rows[row].standing, wanted[row] < 0 ? STG_UNKNOWN : STG_DOUBTFUL);
            if (wanted[row] >= 0)
                CHECK(read->rows[row].digest[3] == wanted[row] && read->rows[row].mtime_ns == -5 &&
                      read->rows[row].ctime_ns == 6 && read->rows[row].mode == 0644 && read->rows[row].grade == 'B');
        }
        stg_recall_free(recall);
        stg_entries_free(read);
    }
    stg_order_free(order);
    stg_entries_free(written);
    stg_table_unref(from);
    stg_table_unref(to);
}

static void test_what_was_written_is_recalled_by_name(void)
{
    check_recalled(TABLE("a", "b", "c"), TABLE("a", "b", "c"), (int[]){0, 1, 2});
    check_recalled(TABLE("a", "b", "c"), TABLE("c", "x", "a"), (int[]){2, -1, 0});
    check_recalled(TABLE("q\"\\\b\n\x01\x7f", "\xff", "\xc3\xa9"), TABLE("\xff", "\xc3\xa9", "q\"\\\b\n\x01\x7f"),
                   (int[]){1, 2, 0});
    check_recalled(TABLE("a"), table_of(0, NULL), (int[]){0});
}

static void test_wrong_length_of_base64_and_bytes_in_it_are_refused(void)
{
    const char *bad[] = {"{\"base64\":\"/w=\"}",   "{\"base64\":\"/w\"}",     "{\"base64\":\"=w==\"}", "{\"base64\":\"/w==/w==\"}",
                         "{\"base64\":\"/w=A\"}", "{\"base64\":\"/-==\"}", "{\"base64\":\"",       "{\"base64\":\"\"}"};
    char texts[STG_RECORD_TEXT_BYTES], line[256];
    struct stg_record record;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        int len = snprintf(line, sizeof(line), "[%s,1,\"e\",\"%032d\",0,0,420,\"B\"]", bad[i], 0);
        CHECK_EQ(stg_line_decode((struct stg_str){line, (size_t)len}, texts, &record), -EBADMSG);
    }
}

static void test_journal_ends_at_the_first_record_that_is_not_whole_or_not_right(void)
{
    struct stg_table *table = TABLE("a", "b");
    struct stg_entries *entries = stg_entries_new(table, 2);
    char records[256];
    uint32_t rows[] = {0, 1};

    stand(entries, 0);
    stand(entries, 1);
    size_t one = stg_entries_journal_length(entries, rows, 1), both = stg_entries_journal_length(entries, rows, 2);
    struct stg_order *order = order_of(table);
    for (size_t cut = 0; cut <= both; cut++)
        for (int flip = 0; flip < 2; flip++) {
            struct stg_recall *recall;
            char *exact = malloc(cut + 1);

            stg_entries_journal(entries, rows, 2, records);
            memcpy(exact, records, cut);
            CHECK_EQ(stg_recall_new(entries, order, STG_TRUSTED, &recall), 0);
            if (flip && cut)
                exact[cut - 1] ^= 4;
            size_t whole = flip && cut ? cut - 1 : cut;
            CHECK_EQ(stg_recall_journal(recall, (struct stg_str){exact, cut}), whole / one * one);
            stg_recall_free(recall);
            free(exact);
        }
    stg_order_free(order);
    stg_entries_free(entries);
    stg_table_unref(table);
}

static void test_directories_above_wanted_rows_are_counted_once(void)
{
    struct stg_table *table = TABLE("a/x/1", "b", "a/y/1", "a/x/2", "k/l/m", "a-b/1");
    struct stg_entries *entries = stg_entries_new(table, 6);
    struct stg_order *order = order_of(table);

    CHECK_EQ(stg_wanted_directories(order, entries), 0);
    for (size_t row = 0; row < 6; row++)
        entries->rows[row].standing = row == 4 ? STG_STANDS : STG_WANTED;
    CHECK_EQ(stg_wanted_directories(order, entries), 4);
    stg_order_free(order);
    stg_entries_free(entries);
    stg_table_unref(table);
}

static void test_comparison_tells_what_is_in_the_way_and_what_is_replaced(void)
{
    char root[] = "/tmp/stg-compare-XXXXXX";
    struct stg_table *table = TABLE("dir", "file/x", "old", "new");
    struct stg_entries *entries = stg_entries_new(table, 4);
    struct stg_comparison comparison;
    uint32_t rows[] = {0, 1, 2, 3}, failed;
    uint8_t outcomes[4];

    CHECK(mkdtemp(root) != NULL);
    int fd = open(root, O_RDONLY | O_DIRECTORY);
    CHECK_EQ(mkdirat(fd, "dir", 0700), 0);
    close(openat(fd, "file", O_CREAT | O_WRONLY, 0600));
    int old = openat(fd, "old", O_CREAT | O_WRONLY, 0600);
    CHECK_EQ(ftruncate(old, 5000), 0);
    close(old);
    stg_comparison_init(&comparison, entries, fd, 4096);
    CHECK_EQ(stg_compare(&comparison, rows, 4, outcomes, &failed), 4);
    CHECK_EQ(outcomes[0], STG_BLOCKED);
    CHECK_EQ(outcomes[1], STG_BLOCKED);
    CHECK_EQ(outcomes[2], STG_FETCH);
    CHECK_EQ(outcomes[3], STG_FETCH);
    CHECK(comparison.fetched == 4 && comparison.fetched_bytes == 12 && comparison.kept == 0);
    CHECK_EQ(comparison.disk_bytes, 3 * 4096);
    stg_comparison_clear(&comparison);
    unlinkat(fd, "dir", AT_REMOVEDIR);
    unlinkat(fd, "file", 0);
    unlinkat(fd, "old", 0);
    close(fd);
    rmdir(root);
    stg_entries_free(entries);
    stg_table_unref(table);
}

static void test_directories_are_unknown_below_which_nothing_was_recorded(void)
{
    struct stg_table *table = TABLE("top", "a/b/new", "a/x/new", "a/b/old", "c/d/e/new", "//", "c/known", "a/x-y");
    struct stg_order *order = order_of(table);
    struct stg_entries *entries = stg_entries_new(table, 8);
    static const char *const expected[] = {"a/x", "c/d/e", "c/d"};
    struct stg_directory found[8];

    CHECK_EQ(stg_unknown_directories(order, entries, NULL), 0);
    for (size_t row = 0; row < 8; row++)
        entries->rows[row].standing = row == 3 || row == 5 || row == 6 ? STG_UNKNOWN : STG_WANTED;
    entries->rows[3].grade = entries->rows[6].grade = 'B'; /* recorded */
    CHECK_EQ(stg_unknown_directories(order, entries, NULL), 3);
    CHECK_EQ(stg_unknown_directories(order, entries, found), 3);
    for (size_t i = 0; i < 3; i++) {
        struct stg_str key = stg_table_row(table, found[i].row).key;

        CHECK_EQ(found[i].len, strlen(expected[i]));
        CHECK_EQ(memcmp(key.ptr, expected[i], found[i].len), 0);
    }
    stg_entries_free(entries);
    stg_order_free(order);
    stg_table_unref(table);
}

static void record_as_it_stands(int root_fd, struct stg_entries *entries, size_t row, const char *name, char grade)
{
    struct stat st;
    int fd = openat(root_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && write(fd, "abc", 3) == 3 && fstat(fd, &st) == 0);
    close(fd);
    entries->rows[row] = (struct stg_entry){.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                                            .ctime_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec,
                                            .mode = 0600,
                                            .grade = grade,
                                            .standing = STG_TRUSTED};
}

static void test_what_was_recorded_below_the_required_grade_is_fetched_again(void)
{
    static const uint32_t rows[] = {0, 1, 2};
    char root[] = "/tmp/stg-test-entries-XXXXXX";
    int fd = open(mkdtemp(root), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stg_table *table = TABLE("a", "b", "c");
    struct stg_entries *entries = stg_entries_new(table, 3);
    struct stg_comparison comparison;
    uint8_t outcomes[3];
    uint32_t failed, found[3] = {9, 9, 9};
    int64_t whys[STG_WHYS];

    record_as_it_stands(fd, entries, 0, "a", 'A');
    record_as_it_stands(fd, entries, 1, "b", 'B');
    record_as_it_stands(fd, entries, 2, "c", 'C');
    stg_comparison_init(&comparison, entries, fd, 4096);
    comparison.required = 'B';
    CHECK_EQ(stg_compare(&comparison, rows, 3, outcomes, &failed), 3);
    CHECK(outcomes[0] == STG_KEEP && outcomes[1] == STG_KEEP && outcomes[2] == STG_FETCH);
    stg_comparison_clear(&comparison);
    entries->rows[2].standing = STG_STANDS; /* it was, and is no better */
    entries->rows[2].why = STG_WHY_UNPINNED;
    CHECK_EQ(stg_entries_below(entries, 'B', found, 3), 1);
    CHECK_EQ(found[0], 2);
    CHECK_EQ(stg_entries_below(entries, 'A', found, 1), 2);
    CHECK(found[0] == 1 && found[1] == 9);
    CHECK_EQ(stg_entries_below(entries, 0, found, 3), 0);
    stg_entries_count_whys(entries, whys);
    CHECK(whys[STG_WHY_NONE] == 1 && whys[STG_WHY_UNPINNED] == 1 && whys[STG_WHY_UNTOLD] == 0);
    unlinkat(fd, "a", 0);
    unlinkat(fd, "b", 0);
    unlinkat(fd, "c", 0);
    close(fd);
    rmdir(root);
    stg_entries_free(entries);
    stg_table_unref(table);
}

int main(void)
{
    RUN(test_many_rows_are_sorted_by_key_and_equal_keys_by_row);
    RUN(test_keys_are_found_whatever_their_order);
    RUN(test_what_was_written_is_recalled_by_name);
    RUN(test_wrong_length_of_base64_and_bytes_in_it_are_refused);
    RUN(test_journal_ends_at_the_first_record_that_is_not_whole_or_not_right);
    RUN(test_directories_above_wanted_rows_are_counted_once);
    RUN(test_directories_are_unknown_below_which_nothing_was_recorded);
    RUN(test_comparison_tells_what_is_in_the_way_and_what_is_replaced);
    RUN(test_what_was_recorded_below_the_required_grade_is_fetched_again);
    END();
}
