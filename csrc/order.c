#include "order.h"

#include "text.h"

#include <errno.h>
#include <stdlib.h>

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
        if (!order->rows) {
            stg_order_free(order);
            return -ENOMEM;
        }
        for (size_t row = 0; row < count; row++)
            order->rows[row] = (uint32_t)row;
        qsort_r(order->rows, count, sizeof(*order->rows), compare_rows, table);
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
    free(order);
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
