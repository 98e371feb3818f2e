#include "table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROWS_LOG2 8
#define ROW_SEGMENTS 32
#define FIRST_TEXT_BYTES ((size_t)16 << 10)
#define MAX_TEXT_BYTES ((size_t)1 << 20)

struct packed_row {
    const char *texts; /* the key, then the identity */
    int64_t size;
    int64_t mtime_ns;
    uint32_t mode;
    uint16_t key_len;
    uint16_t identity_len;
};

struct text_segment {
    struct text_segment *older;
    size_t used;
    size_t room;
    char bytes[];
};

struct stg_table {
    atomic_int references;
    atomic_size_t count; /* released after the row it counts is complete */
    _Atomic int64_t total_bytes;
    struct packed_row *rows[ROW_SEGMENTS]; /* segment n holds 2^(n + FIRST_ROWS_LOG2) rows */
    struct text_segment *texts;
};

struct row_place {
    unsigned segment;
    size_t offset;
};

static struct row_place row_place_of(size_t index)
{
    size_t shifted = index + ((size_t)1 << FIRST_ROWS_LOG2);
    unsigned log2 = 63U - (unsigned)__builtin_clzll(shifted);

    return (struct row_place){log2 - FIRST_ROWS_LOG2, shifted - ((size_t)1 << log2)};
}

struct stg_table *stg_table_new(void)
{
    struct stg_table *table = calloc(1, sizeof(*table));

    if (table)
        atomic_init(&table->references, 1);
    return table;
}

struct stg_table *stg_table_ref(struct stg_table *table)
{
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
    return table;
}

void stg_table_unref(struct stg_table *table)
{
    if (!table || atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < ROW_SEGMENTS; i++)
        free(table->rows[i]);
    while (table->texts) {
        struct text_segment *older = table->texts->older;
        free(table->texts);
        table->texts = older;
    }
    free(table);
}

static char *text_reserve(struct stg_table *table, size_t need)
{
    struct text_segment *segment = table->texts;

    if (!segment || segment->room - segment->used < need) {
        size_t room = segment ? segment->room * 2 : FIRST_TEXT_BYTES;

        if (room > MAX_TEXT_BYTES)
            room = MAX_TEXT_BYTES;
        if (room < need)
            room = need;
        segment = malloc(sizeof(*segment) + room);
        if (!segment)
            return NULL;
        *segment = (struct text_segment){.older = table->texts, .room = room};
        table->texts = segment;
    }
    return segment->bytes + segment->used;
}

static struct packed_row *row_reserve(struct stg_table *table, struct row_place place)
{
    struct packed_row **segment = &table->rows[place.segment];

    if (!*segment)
        *segment = malloc(sizeof(**segment) << (place.segment + FIRST_ROWS_LOG2));
    return *segment ? *segment + place.offset : NULL;
}

static void text_put(char *to, struct stg_str text)
{
    if (text.len)
        memcpy(to, text.ptr, text.len);
}

int64_t stg_table_append(struct stg_table *table, const struct stg_row *row)
{
    size_t index = atomic_load_explicit(&table->count, memory_order_relaxed);
    int64_t total = atomic_load_explicit(&table->total_bytes, memory_order_relaxed);
    struct row_place place = row_place_of(index);

    if (row->size < 0 || row->key.len > STG_TABLE_MAX_TEXT || row->identity.len > STG_TABLE_MAX_TEXT)
        return -EINVAL;
    if (__builtin_add_overflow(total, row->size, &total) || place.segment >= ROW_SEGMENTS)
        return -EOVERFLOW;

    struct packed_row *packed = row_reserve(table, place);
    char *texts = text_reserve(table, row->key.len + row->identity.len);
    if (!packed || !texts)
        return -ENOMEM;
    text_put(texts, row->key);
    text_put(texts + row->key.len, row->identity);
    table->texts->used += row->key.len + row->identity.len;
    *packed = (struct packed_row){
        .texts = texts,
        .size = row->size,
        .mtime_ns = row->mtime_ns,
        .mode = row->mode,
        .key_len = (uint16_t)row->key.len,
        .identity_len = (uint16_t)row->identity.len,
    };
    atomic_store_explicit(&table->total_bytes, total, memory_order_relaxed);
    atomic_store_explicit(&table->count, index + 1, memory_order_release);
    return (int64_t)index;
}

/* The segments that hold the texts become older ones of the table, behind its newest: that one may have room. */
static void texts_move(struct stg_table *table, struct stg_table *from)
{
    struct text_segment *oldest = from->texts;

    if (!oldest)
        return;
    while (oldest->older)
        oldest = oldest->older;
    if (table->texts) {
        oldest->older = table->texts->older;
        table->texts->older = from->texts;
    } else {
        table->texts = from->texts;
    }
    from->texts = NULL;
}

static int rows_reserve(struct stg_table *table, size_t count)
{
    size_t index = atomic_load_explicit(&table->count, memory_order_relaxed);
    unsigned last;

    if (!count)
        return 0;
    last = row_place_of(index + count - 1).segment;
    if (last >= ROW_SEGMENTS)
        return -EOVERFLOW;
    for (unsigned i = row_place_of(index).segment; i <= last; i++)
        if (!row_reserve(table, (struct row_place){i, 0}))
            return -ENOMEM;
    return 0;
}

int stg_table_move(struct stg_table *table, struct stg_table *from)
{
    size_t index = atomic_load_explicit(&table->count, memory_order_relaxed);
    size_t count = atomic_load_explicit(&from->count, memory_order_relaxed);
    int64_t total;
    int error;

    if (table == from || atomic_load_explicit(&from->references, memory_order_acquire) != 1)
        return -EBUSY;
    if (__builtin_add_overflow(table->total_bytes, from->total_bytes, &total))
        return -EOVERFLOW;
    error = rows_reserve(table, count);
    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        struct row_place source = row_place_of(i), to = row_place_of(index + i);

        table->rows[to.segment][to.offset] = from->rows[source.segment][source.offset];
    }
    texts_move(table, from);
    atomic_store_explicit(&table->total_bytes, total, memory_order_relaxed);
    atomic_store_explicit(&table->count, index + count, memory_order_release);
    atomic_store_explicit(&from->total_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&from->count, 0, memory_order_release);
    return 0;
}

size_t stg_table_count(const struct stg_table *table)
{
    return atomic_load_explicit(&table->count, memory_order_acquire);
}

int64_t stg_table_total_bytes(const struct stg_table *table)
{
    return atomic_load_explicit(&table->total_bytes, memory_order_relaxed);
}

struct stg_row stg_table_row(const struct stg_table *table, size_t index)
{
    struct row_place place = row_place_of(index);
    const struct packed_row *packed = table->rows[place.segment] + place.offset;

    return (struct stg_row){
        .key = {packed->texts, packed->key_len},
        .identity = {packed->texts + packed->key_len, packed->identity_len},
        .size = packed->size,
        .mtime_ns = packed->mtime_ns,
        .mode = packed->mode,
    };
}

ssize_t stg_table_lines(const struct stg_table *table, size_t *row, char *out, size_t room)
{
    size_t count = stg_table_count(table), used = 0, first = *row;

    for (; *row < count; ++*row) {
        struct stg_row found = stg_table_row(table, *row);
        char size[24];
        int digits = snprintf(size, sizeof(size), "%" PRId64, found.size);
        size_t need = found.key.len + found.identity.len + (size_t)digits + 3;

        if (need > room - used)
            break;
        text_put(out + used, found.key);
        used += found.key.len;
        out[used++] = 0;
        memcpy(out + used, size, (size_t)digits);
        used += (size_t)digits;
        out[used++] = 0;
        text_put(out + used, found.identity);
        used += found.identity.len;
        out[used++] = '\n';
    }
    return *row == first && first < count ? -ENOBUFS : (ssize_t)used;
}
