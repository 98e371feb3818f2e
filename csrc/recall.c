#include "recall.h"

#include "identity.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int stg_recall_new(struct stg_entries *entries, const struct stg_order *order, enum stg_standing standing,
                   struct stg_recall **out)
{
    struct stg_recall *recall = calloc(1, sizeof(*recall));
    char *texts = malloc(STG_RECORD_TEXT_BYTES);

    if (!recall || !texts) {
        free(recall);
        free(texts);
        return -ENOMEM;
    }
    *recall = (struct stg_recall){.entries = entries, .order = order, .standing = standing, .texts = texts};
    *out = recall;
    return 0;
}

void stg_recall_free(struct stg_recall *recall)
{
    if (!recall)
        return;
    free(recall->texts);
    free(recall);
}

/* The row that a record is of; -1: none. */
static int64_t row_of(struct stg_recall *recall, const struct stg_record *record)
{
    int64_t row;

    if (!recall->order) {
        struct stg_row fresh = {
            .key = record->path, .identity = record->identity, .size = record->size, .mode = record->entry.mode};

        row = (size_t)recall->count < recall->entries->capacity ? stg_table_append(recall->entries->table, &fresh) : -EBADMSG;
        return row == -EINVAL || row == -EOVERFLOW ? -EBADMSG : row;
    }
    row = stg_order_find(recall->order, record->path, recall->next);
    if (row >= 0)
        recall->next = (size_t)row + 1;
    return row;
}

static void note(struct stg_recall *recall, size_t row, const struct stg_record *record)
{
    struct stg_row known = stg_table_row(recall->entries->table, row);
    struct stg_entry *entry = &recall->entries->rows[row];
    int same = known.size == record->size && stg_identity_agrees(known.identity, record->identity);

    *entry = record->entry;
    entry->standing = (uint8_t)(same ? recall->standing : STG_STALE);
}

static int recall_line(struct stg_recall *recall, struct stg_str line)
{
    struct stg_record record;
    int status = stg_line_decode(line, recall->texts, &record);
    int64_t row;

    if (status < 0)
        return status;
    row = row_of(recall, &record);
    if (row < -1)
        return (int)row;
    recall->count++;
    recall->passed += row < 0;
    if (row < 0 || (size_t)row >= recall->entries->capacity)
        return 0;
    if (recall->entries->rows[row].standing != STG_UNKNOWN)
        return -EBADMSG;
    note(recall, (size_t)row, &record);
    return 0;
}

int stg_recall_lines(struct stg_recall *recall, struct stg_str lines)
{
    const char *at = lines.ptr, *end = lines.ptr + lines.len;

    while (at < end) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        int status = feed ? recall_line(recall, stg_str_between(at, feed)) : -EBADMSG;

        if (status < 0)
            return status;
        at = feed + 1;
    }
    return 0;
}

int64_t stg_recall_journal(struct stg_recall *recall, struct stg_str data)
{
    size_t done = 0;

    while (done < data.len) {
        struct stg_record record;
        int64_t length = stg_journal_decode(stg_str_from(data, done), &record), row;

        if (length <= 0)
            break;
        row = row_of(recall, &record);
        if (row == -ENOMEM)
            return row;
        if (row < -1)
            break;
        recall->count++;
        recall->passed += row < 0;
        if (row >= 0 && (size_t)row < recall->entries->capacity)
            note(recall, (size_t)row, &record);
        done += (size_t)length;
    }
    return (int64_t)done;
}

ssize_t stg_entries_lines(const struct stg_entries *entries, size_t *row, char *out, size_t room, int64_t *count)
{
    size_t used = 0;

    for (; *row < entries->capacity; ++*row) {
        struct stg_record record;

        if (entries->rows[*row].standing != STG_STANDS)
            continue;
        record = stg_entries_record(entries, *row);
        if (stg_line_room(&record) > room - used)
            return used ? (ssize_t)used : -ENOBUFS;
        used += stg_line_encode(&record, out + used);
        ++*count;
    }
    return (ssize_t)used;
}

size_t stg_entries_journal_length(const struct stg_entries *entries, const uint32_t *rows, size_t count)
{
    size_t length = 0;

    for (size_t i = 0; i < count; i++) {
        struct stg_record record = stg_entries_record(entries, rows[i]);

        length += stg_journal_length(&record);
    }
    return length;
}

void stg_entries_journal(const struct stg_entries *entries, const uint32_t *rows, size_t count, char *out)
{
    for (size_t i = 0; i < count; i++) {
        struct stg_record record = stg_entries_record(entries, rows[i]);

        stg_journal_encode(&record, out);
        out += stg_journal_length(&record);
    }
}
