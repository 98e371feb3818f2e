#include "entries.h"

#include "parents.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void stg_entry_stand(struct stg_entry *entry, const struct stg_stored *stored, const uint8_t digest[STG_DIGEST_BYTES],
                     char grade)
{
    memcpy(entry->digest, digest, STG_DIGEST_BYTES);
    entry->mtime_ns = stored->mtime_ns;
    entry->ctime_ns = stored->ctime_ns;
    entry->mode = (uint16_t)(S_ISLNK(stored->mode) ? stored->mode : stored->mode & 07777);
    entry->grade = grade;
    entry->why = STG_WHY_NONE;
    entry->standing = STG_STANDS;
}

struct stg_entries *stg_entries_new(struct stg_table *table, size_t capacity)
{
    struct stg_entries *entries = calloc(1, sizeof(*entries));

    if (!entries)
        return NULL;
    entries->rows = calloc(capacity + !capacity, sizeof(*entries->rows));
    if (!entries->rows) {
        free(entries);
        return NULL;
    }
    entries->table = stg_table_ref(table);
    entries->capacity = capacity;
    return entries;
}

void stg_entries_free(struct stg_entries *entries)
{
    if (!entries)
        return;
    stg_table_unref(entries->table);
    free(entries->rows);
    free(entries);
}

struct stg_record stg_entries_record(const struct stg_entries *entries, size_t row)
{
    struct stg_row found = stg_table_row(entries->table, row);

    return (struct stg_record){
        .path = found.key, .identity = found.identity, .size = found.size, .entry = entries->rows[row]};
}

void stg_entries_count_grades(const struct stg_entries *entries, int64_t counts[3])
{
    memset(counts, 0, 3 * sizeof(*counts));
    for (size_t row = 0; row < entries->capacity; row++) {
        const struct stg_entry *entry = &entries->rows[row];

        if (entry->standing == STG_STANDS && entry->grade >= 'A' && entry->grade <= 'C')
            counts[entry->grade - 'A']++;
    }
}

void stg_entries_count_whys(const struct stg_entries *entries, int64_t counts[STG_WHYS])
{
    memset(counts, 0, STG_WHYS * sizeof(*counts));
    for (size_t row = 0; row < entries->capacity; row++) {
        const struct stg_entry *entry = &entries->rows[row];

        if (entry->standing == STG_STANDS && entry->grade != 'A' && entry->why < STG_WHYS)
            counts[entry->why]++;
    }
}

size_t stg_entries_below(const struct stg_entries *entries, char required, uint32_t *rows, size_t most)
{
    size_t count = 0;

    for (size_t row = 0; row < entries->capacity; row++) {
        const struct stg_entry *entry = &entries->rows[row];

        if (entry->standing != STG_STANDS || stg_grade_reaches(entry->grade, required))
            continue;
        if (count < most)
            rows[count] = (uint32_t)row;
        count++;
    }
    return count;
}

static int is_recorded(const struct stg_entry *entry)
{
    return entry->standing == STG_TRUSTED || entry->standing == STG_DOUBTFUL;
}

static int is_same_file(const struct stg_entry *a, const struct stg_entry *b)
{
    return !memcmp(a->digest, b->digest, sizeof(a->digest)) && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns && a->mode == b->mode && a->grade == b->grade;
}

size_t stg_entries_agree(const struct stg_entries *entries, const struct stg_entries *recorded, uint32_t *rows)
{
    size_t count = 0;

    for (size_t row = 0; row < entries->capacity && row < recorded->capacity; row++) {
        const struct stg_entry *entry = &entries->rows[row], *other = &recorded->rows[row];

        if (entry->standing != STG_STANDS || !is_recorded(other) || !is_same_file(entry, other))
            continue;
        if (rows)
            rows[count] = (uint32_t)row;
        count++;
    }
    return count;
}
