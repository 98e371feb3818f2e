/* The list scanner keeps its promises whatever it is given. */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "listxml.h"

static void check_rows(const struct stg_table *table, const struct stg_list_page *page)
{
    int in_order = 1;

    FUZZ_ASSERT(page->count == (int64_t)stg_table_count(table));
    FUZZ_ASSERT(!page->truncated || page->token_len > 0);
    FUZZ_ASSERT(page->token_len <= sizeof(page->token));
    for (size_t i = 0; i < stg_table_count(table); i++) {
        struct stg_row row = stg_table_row(table, i);

        FUZZ_ASSERT(row.size >= 0 && row.mtime_ns >= 0);
        if (i) {
            struct stg_str before = stg_table_row(table, i - 1).key;
            size_t common = before.len < row.key.len ? before.len : row.key.len;
            int order = common ? memcmp(before.ptr, row.key.ptr, common) : 0;

            in_order &= order < 0 || (order == 0 && before.len < row.key.len);
        }
    }
    FUZZ_ASSERT(page->in_order == in_order);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char prefix[] = "data/";
    struct stg_list_page page;

    for (size_t prefix_len = 0; prefix_len < sizeof(prefix); prefix_len += sizeof(prefix) - 1) {
        struct stg_table *table = stg_table_new();
        int error = stg_list_scan((const char *)data, size, (struct stg_str){prefix, prefix_len}, prefix_len, table, NULL,
                                  &page);

        FUZZ_ASSERT(error == 0 || (error == -EBADMSG && page.problem[0]));
        for (const char *c = page.problem; *c; c++)
            FUZZ_ASSERT(*c >= ' ' && *c < 0x7f);
        if (!error)
            check_rows(table, &page);
        stg_table_unref(table);
    }
    return 0;
}
