#include "table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

static char big[STG_TABLE_MAX_TEXT + 1];

static struct stg_row row_numbered(int number, char key[16])
{
    int len = snprintf(key, 16, "key-%d", number);

    return (struct stg_row){.key = {key, (size_t)len}, .identity = STG_STR("etag"), .size = number, .mtime_ns = -number,
                            .mode = (uint32_t)number};
}

static void test_rows_come_back_as_they_were_appended(void)
{
    struct stg_table *table = stg_table_new();
    char key[16];

    for (int i = 0; i < 20000; i++) {
        struct stg_row row = row_numbered(i, key);
        CHECK_EQ(stg_table_append(table, &row), i);
    }
    CHECK_EQ(stg_table_count(table), 20000);
    CHECK_EQ(stg_table_total_bytes(table), 20000LL * 19999 / 2);
    for (int i = 0; i < 20000; i++) {
        struct stg_row wanted = row_numbered(i, key), got = stg_table_row(table, (size_t)i);

        check_str(__FILE__, __LINE__, "key", got.key, wanted.key);
        CHECK_STR(got.identity, "etag");
        CHECK(got.size == i && got.mtime_ns == -i && got.mode == (uint32_t)i);
    }
    stg_table_unref(table);
}

static void test_texts_never_move(void)
{
    struct stg_table *table = stg_table_new();
    struct stg_row row = {.key = {big, STG_TABLE_MAX_TEXT}, .identity = {big, STG_TABLE_MAX_TEXT}};
    const char *first;

    memset(big, 'x', sizeof(big));
    CHECK_EQ(stg_table_append(table, &row), 0);
    first = stg_table_row(table, 0).key.ptr;
    for (int i = 1; i < 64; i++)
        CHECK_EQ(stg_table_append(table, &row), i);
    CHECK(stg_table_row(table, 0).key.ptr == first);
    CHECK(!memcmp(first, big, STG_TABLE_MAX_TEXT));
    CHECK_EQ(stg_table_row(table, 63).identity.len, STG_TABLE_MAX_TEXT);
    stg_table_unref(table);
}

static void test_empty_texts_are_kept(void)
{
    struct stg_table *table = stg_table_new();
    struct stg_row row = {.size = 0};

    CHECK_EQ(stg_table_append(table, &row), 0);
    CHECK_EQ(stg_table_row(table, 0).key.len, 0);
    CHECK_EQ(stg_table_row(table, 0).identity.len, 0);
    stg_table_unref(table);
}

static void test_bad_row_is_refused_and_leaves_the_table_as_it_was(void)
{
    struct stg_table *table = stg_table_new();
    struct stg_row negative = {.size = -1}, largest = {.size = INT64_MAX}, one = {.size = 1};
    struct stg_row long_key = {.key = {big, sizeof(big)}}, long_identity = {.identity = {big, sizeof(big)}};

    CHECK_EQ(stg_table_append(table, &negative), -EINVAL);
    CHECK_EQ(stg_table_append(table, &long_key), -EINVAL);
    CHECK_EQ(stg_table_append(table, &long_identity), -EINVAL);
    CHECK_EQ(stg_table_append(table, &largest), 0);
    CHECK_EQ(stg_table_append(table, &one), -EOVERFLOW);
    CHECK_EQ(stg_table_count(table), 1);
    CHECK_EQ(stg_table_total_bytes(table), INT64_MAX);
    stg_table_unref(table);
}

static void test_table_lives_until_its_last_reference(void)
{
    struct stg_table *table = stg_table_new();

    CHECK(stg_table_ref(table) == table);
    stg_table_unref(table);
    CHECK_EQ(stg_table_count(table), 0);
    stg_table_unref(table);
    stg_table_unref(NULL);
}

/* Rows first..first+count-1 of row_numbered. */
static struct stg_table *table_of(int first, int count)
{
    struct stg_table *table = stg_table_new();
    char key[16];

    for (int i = first; i < first + count; i++) {
        struct stg_row row = row_numbered(i, key);
        CHECK_EQ(stg_table_append(table, &row), i - first);
    }
    return table;
}

static void test_moved_rows_follow_those_that_were_there(void)
{
    static const int counts[] = {0, 1, 255, 0, 300, 5000, 2};
    struct stg_table *table = stg_table_new();
    int total = 0;
    char key[16];

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct stg_table *from = table_of(total, counts[i]);
        CHECK_EQ(stg_table_move(table, from), 0);
        total += counts[i];
        CHECK_EQ(stg_table_count(from), 0);
        CHECK_EQ(stg_table_total_bytes(from), 0);
        struct stg_row row = row_numbered(7, key);
        CHECK_EQ(stg_table_append(from, &row), 0); /* it can be used again */
        stg_table_unref(from);
    }
    CHECK_EQ(stg_table_count(table), total);
    CHECK_EQ(stg_table_total_bytes(table), (int64_t)total * (total - 1) / 2);
    for (int i = 0; i < total; i++) {
        struct stg_row wanted = row_numbered(i, key), got = stg_table_row(table, (size_t)i);

        check_str(__FILE__, __LINE__, "key", got.key, wanted.key);
        CHECK(got.size == i && got.mtime_ns == -i);
    }
    struct stg_row more = row_numbered(total, key);
    CHECK_EQ(stg_table_append(table, &more), total);
    stg_table_unref(table);
}

static void test_table_that_is_shared_or_too_large_is_not_moved(void)
{
    struct stg_table *table = table_of(1, 3), *from = table_of(4, 2), *full = stg_table_new();
    struct stg_row largest = {.size = INT64_MAX};

    CHECK_EQ(stg_table_append(full, &largest), 0);
    CHECK_EQ(stg_table_move(table, full), -EOVERFLOW);
    CHECK_EQ(stg_table_move(table, table), -EBUSY);
    stg_table_ref(from);
    CHECK_EQ(stg_table_move(table, from), -EBUSY);
    stg_table_unref(from);
    CHECK_EQ(stg_table_count(table), 3);
    CHECK_EQ(stg_table_count(from), 2);
    stg_table_unref(full);
    stg_table_unref(from);
    stg_table_unref(table);
}

static void *rows_read(void *argument)
{
    struct stg_table *table = argument;
    size_t seen = 0;
    intptr_t wrong = 0;

    while (seen < 5000) {
        size_t count = stg_table_count(table);

        for (; seen < count; seen++)
            wrong += stg_table_row(table, seen).size != (int64_t)seen || stg_table_row(table, seen).identity.ptr[0] != 'e';
    }
    return (void *)wrong;
}

static void test_rows_can_be_read_while_others_are_appended(void)
{
    struct stg_table *table = stg_table_new();
    pthread_t reader;
    void *wrong = NULL;
    char key[16];

    CHECK_EQ(pthread_create(&reader, NULL, rows_read, table), 0);
    for (int i = 0; i < 5000; i++) {
        struct stg_row row = row_numbered(i, key);
        CHECK_EQ(stg_table_append(table, &row), i);
    }
    pthread_join(reader, &wrong);
    CHECK(wrong == NULL);
    stg_table_unref(table);
}

int main(void)
{
    RUN(test_rows_come_back_as_they_were_appended);
    RUN(test_texts_never_move);
    RUN(test_empty_texts_are_kept);
    RUN(test_bad_row_is_refused_and_leaves_the_table_as_it_was);
    RUN(test_table_lives_until_its_last_reference);
    RUN(test_moved_rows_follow_those_that_were_there);
    RUN(test_table_that_is_shared_or_too_large_is_not_moved);
    RUN(test_rows_can_be_read_while_others_are_appended);
    END();
}
