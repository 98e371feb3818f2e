/* Manifest lines and journal records keep their promises whatever they are given: within bounds, and what is read is
 * read again as the same from what would be written for it. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "names.h"
#include "recall.h"
#include "text.h"

static void check_bounds(const struct stg_record *record)
{
    FUZZ_ASSERT(record->size >= 0 && record->entry.grade >= 'A' && record->entry.grade <= 'C');
    FUZZ_ASSERT(stg_path_is_usable(record->path, STG_PATH_BYTES) && record->identity.len <= STG_TABLE_MAX_TEXT);
}

static void check_same(const struct stg_record *a, const struct stg_record *b)
{
    FUZZ_ASSERT(stg_str_same(a->path, b->path) && stg_str_same(a->identity, b->identity) && a->size == b->size);
    FUZZ_ASSERT(!memcmp(a->entry.digest, b->entry.digest, STG_DIGEST_BYTES) && a->entry.mode == b->entry.mode);
    FUZZ_ASSERT(a->entry.mtime_ns == b->entry.mtime_ns && a->entry.ctime_ns == b->entry.ctime_ns);
    FUZZ_ASSERT(a->entry.grade == b->entry.grade);
}

static void check_line_again(const struct stg_record *record)
{
    char *texts = malloc(STG_RECORD_TEXT_BYTES), *line = malloc(stg_line_room(record));
    size_t len = stg_line_encode(record, line);
    struct stg_record again;

    FUZZ_ASSERT(len <= stg_line_room(record) && len <= STG_LINE_MAX_BYTES && line[len - 1] == '\n');
    FUZZ_ASSERT(stg_line_decode((struct stg_str){line, len - 1}, texts, &again) == 0);
    check_same(record, &again);
    free(line);
    free(texts);
}

static void check_journal_again(const struct stg_record *record)
{
    size_t len = stg_journal_length(record);
    char *data = malloc(len);
    struct stg_record again;

    stg_journal_encode(record, data);
    FUZZ_ASSERT(stg_journal_decode((struct stg_str){data, len}, &again) == (int64_t)len);
    check_same(record, &again);
    free(data);
}

static void fuzz_lines(struct stg_str text)
{
    char *texts = malloc(STG_RECORD_TEXT_BYTES);
    const char *at = text.ptr, *end = text.ptr + text.len;

    while (at < end) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        struct stg_record record;
        int status = stg_line_decode(stg_str_between(at, feed ? feed : end), texts, &record);

        FUZZ_ASSERT(status == 0 || status == -EBADMSG);
        if (status == 0) {
            check_bounds(&record);
            check_line_again(&record);
            check_journal_again(&record);
        }
        at = feed ? feed + 1 : end;
    }
    free(texts);
}

static void fuzz_recall(struct stg_str text)
{
    struct stg_table *table = stg_table_new();
    struct stg_entries *entries = stg_entries_new(table, 16);
    struct stg_recall *recall;

    FUZZ_ASSERT(stg_recall_new(entries, NULL, STG_TRUSTED, &recall) == 0);
    int status = stg_recall_lines(recall, text);
    FUZZ_ASSERT(status == 0 || status == -EBADMSG);
    FUZZ_ASSERT(recall->count <= 16 && stg_table_count(table) <= 16);
    int64_t taken = stg_recall_journal(recall, text);
    FUZZ_ASSERT(taken >= 0 && (size_t)taken <= text.len);
    stg_recall_free(recall);
    stg_entries_free(entries);
    stg_table_unref(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stg_str text = {(const char *)data, size};
    struct stg_record record;

    fuzz_lines(text);
    fuzz_recall(text);
    if (stg_journal_decode(text, &record) > 0)
        check_bounds(&record);
    return 0;
}
