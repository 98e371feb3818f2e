/* The rows of a table by key, in byte order: to find one by its key, and to walk a tree directory by directory.
 *
 * A table that is in order already (S3 lists so) costs nothing; any other, 4 bytes a row.
 */
#ifndef STG_ORDER_H
#define STG_ORDER_H

#include "stg.h"
#include "table.h"

struct stg_order {
    struct stg_table *table;
    size_t count;
    uint32_t *rows;  /* NULL: the table is in order */
    uint32_t *spare; /* while it is being sorted */
    size_t width;    /* rows of each sorted run; 0: not even those are */
    size_t at;       /* the next run */
};

/* Of the rows that are there now; steps put them in order. -ENOMEM; -EOVERFLOW: more than 2^32 rows. */
int stg_order_new(struct stg_table *table, struct stg_order **out);
/* A part of the sorting (by merging; about a tenth of a second for a million rows). Whether there is more to do. */
int stg_order_step(struct stg_order *order);
void stg_order_free(struct stg_order *order);
/* place < count */
size_t stg_order_row(const struct stg_order *order, size_t place);
/* A row of this key, -1 when there is none. near: the row that is asked first. */
int64_t stg_order_find(const struct stg_order *order, struct stg_str key, size_t near);

#endif
