#include "names.h"

#include "text.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static int segment_is_plain(struct stg_str segment)
{
    if (segment.len == 0 || segment.len > NAME_MAX)
        return 0;
    if (segment.ptr[0] != '.')
        return 1;
    return segment.len > 2 || (segment.len == 2 && segment.ptr[1] != '.');
}

int stg_path_is_usable(struct stg_str path, size_t limit)
{
    const char *start = path.ptr, *end = path.ptr + path.len;

    if (path.len == 0 || path.len > limit || memchr(path.ptr, 0, path.len))
        return 0;
    for (;;) {
        const char *slash = memchr(start, '/', (size_t)(end - start));
        struct stg_str segment = stg_str_between(start, slash ? slash : end);

        if (!segment_is_plain(segment) || (start == path.ptr && stg_str_is(segment, STG_STR(".stager"))))
            return 0;
        if (!slash)
            return 1;
        start = slash + 1;
    }
}

int stg_name_is_plain(struct stg_str key, size_t limit)
{
    for (size_t i = 0; i < key.len && key.ptr[i] != '/'; i++)
        if ((uint8_t)key.ptr[i] >= 0x80) /* might fold to where the state is kept */
            return 0;
    return stg_path_is_usable(key, limit);
}

void stg_names_judge(const struct stg_table *table, size_t start, size_t count, size_t limit, uint8_t *verdicts)
{
    for (size_t row = start; row < start + count; row++)
        verdicts[row] = stg_name_is_plain(stg_table_row(table, row).key, limit) ? STG_NAME_GOOD : STG_NAME_DOUBTFUL;
}

/* Places in the order whose keys are a beginning of the key at hand, the shortest first; of equal keys the first one. */
struct beginnings {
    size_t count, room;
    size_t *places;
};

static int beginnings_push(struct beginnings *held, size_t place)
{
    if (held->count == held->room) {
        size_t room = held->room ? held->room * 2 : 64;
        size_t *grown = realloc(held->places, room * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        held->places = grown;
        held->room = room;
    }
    held->places[held->count++] = place;
    return 0;
}

static struct stg_str key_at(const struct stg_order *order, size_t place)
{
    return stg_table_row(order->table, stg_order_row(order, place)).key;
}

static int begins_with(struct stg_str key, struct stg_str beginning)
{
    return beginning.len <= key.len && !memcmp(key.ptr, beginning.ptr, beginning.len);
}

static int64_t mark(uint8_t *verdict, enum stg_verdict wrong)
{
    int fresh = *verdict == STG_NAME_GOOD;

    *verdict = (uint8_t)wrong;
    return fresh;
}

/* All rows of the key at a place: equal ones follow each other. */
static int64_t mark_directory(const struct stg_order *order, size_t place, uint8_t *verdicts)
{
    struct stg_str key = key_at(order, place);
    int64_t marked = 0;

    if (verdicts[stg_order_row(order, place)] == STG_NAME_DIRECTORY)
        return 0;
    for (; place < order->count && stg_str_same(key_at(order, place), key); place++)
        if (verdicts[stg_order_row(order, place)] != STG_NAME_DOUBTFUL)
            marked += mark(&verdicts[stg_order_row(order, place)], STG_NAME_DIRECTORY);
    return marked;
}

int64_t stg_names_clash(const struct stg_order *order, uint8_t *verdicts)
{
    struct beginnings held = {0};
    int64_t marked = 0;

    for (size_t place = 0; place < order->count; place++) {
        size_t row = stg_order_row(order, place);
        struct stg_str key = key_at(order, place);

        if (verdicts[row] != STG_NAME_GOOD)
            continue;
        while (held.count && !begins_with(key, key_at(order, held.places[held.count - 1])))
            held.count--;
        for (size_t i = 0; i < held.count; i++) {
            size_t length = key_at(order, held.places[i]).len;

            if (length < key.len && key.ptr[length] == '/')
                marked += mark_directory(order, held.places[i], verdicts);
        }
        if (held.count && key_at(order, held.places[held.count - 1]).len == key.len) {
            marked += mark(&verdicts[stg_order_row(order, held.places[held.count - 1])], STG_NAME_TWICE);
            marked += mark(&verdicts[row], STG_NAME_TWICE);
        } else if (beginnings_push(&held, place) < 0) {
            free(held.places);
            return -ENOMEM;
        }
    }
    free(held.places);
    return marked;
}
