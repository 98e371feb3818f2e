#include "order.h"

#include "text.h"

#include <errno.h>
#include <stdlib.h>

#define RUN_ROWS ((size_t)1 << 15) /* sorted at once */

static int is_in_order(struct stg_table *table, size_t count)
{
    struct stg_str before = {0};

    for (size_t row = 0; row < count; row++) {
        struct stg_str key = stg_table_row(table, row).key;

        if (stg_str_compare(before, key) > 0)
            return 0;
        before = key;
    }
    return 1;
}

static int compare_rows(const void *a, const void *b, void *table)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    int by_key = stg_str_compare(stg_table_row(table, left).key, stg_table_row(table, right).key);

    return by_key ? by_key : (left > right) - (left < right);
}

int stg_order_new(struct stg_table *table, struct stg_order **out)
{
    size_t count = stg_table_count(table);
    struct stg_order *order;

    if (count > UINT32_MAX)
        return -EOVERFLOW;
    order = calloc(1, sizeof(*order));
    if (!order)
        return -ENOMEM;
    *order = (struct stg_order){.table = stg_table_ref(table), .count = count};
    if (!is_in_order(table, count)) {
        order->rows = malloc(count * sizeof(*order->rows));
        order->spare = malloc(count * sizeof(*order->spare));
        if (!order->rows || !order->spare) {
            stg_order_free(order);
            return -ENOMEM;
        }
        for (size_t row = 0; row < count; row++)
            order->rows[row] = (uint32_t)row;
    }
    *out = order;
    return 0;
}

void stg_order_free(struct stg_order *order)
{
    if (!order)
        return;
    stg_table_unref(order->table);
    free(order->rows);
    free(order->spare);
    free(order);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Two sorted runs of rows next to each other, from at on, into the same place of spare. */
static void merge_runs(struct stg_order *order)
{
    size_t left = order->at, middle = smaller(left + order->width, order->count);
    size_t right = middle, end = smaller(middle + order->width, order->count);

    for (size_t to = left; to < end; to++) {
        int from_left = right == end || (left < middle && compare_rows(&order->rows[left], &order->rows[right], order->table) < 0);

        order->spare[to] = from_left ? order->rows[left++] : order->rows[right++];
    }
    order->at = end;
}

static void sort_run(struct stg_order *order)
{
    size_t count = smaller(RUN_ROWS, order->count - order->at);

    qsort_r(order->rows + order->at, count, sizeof(*order->rows), compare_rows, order->table);
    order->at += count;
}

static void begin_pass(struct stg_order *order)
{
    uint32_t *merged = order->spare;

    if (order->width) {
        order->spare = order->rows;
        order->rows = merged;
    }
    order->width = order->width ? order->width * 2 : RUN_ROWS;
    order->at = 0;
}

int stg_order_step(struct stg_order *order)
{
    if (!order->spare)
        return 0;
    if (order->width)
        merge_runs(order);
    else
        sort_run(order);
    if (order->at < order->count)
        return 1;
    begin_pass(order);
    if (order->width < order->count)
        return 1;
    free(order->spare);
    order->spare = NULL;
    return 0;
}

size_t stg_order_row(const struct stg_order *order, size_t place)
{
    return order->rows ? order->rows[place] : place;
}

int64_t stg_order_find(const struct stg_order *order, struct stg_str key, size_t near)
{
    size_t low = 0, high = order->count;

    if (near < order->count && stg_str_same(stg_table_row(order->table, near).key, key))
        return (int64_t)near;
    while (low < high) {
        size_t middle = low + (high - low) / 2, row = stg_order_row(order, middle);
        int direction = stg_str_compare(key, stg_table_row(order->table, row).key);

        if (!direction)
            return (int64_t)row;
        if (direction < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}
