/* A packed table of objects: one arena of texts and one array of rows.
 *
 * Append-only; rows keep their index. Reference counted, so a running batch keeps its table alive. One thread
 * appends; others may read rows below a count they were handed through a lock (the arena grows by segments and
 * never moves a text that was handed out).
 */
#ifndef STG_TABLE_H
#define STG_TABLE_H

#include "stg.h"

struct stg_table;

struct stg_row {
    struct stg_str key;      /* below the destination: raw bytes, may hold anything */
    struct stg_str identity; /* ETag as it stands between the quotes, blob id, ... */
    int64_t size;
    int64_t mtime_ns;
    uint32_t mode;
};

/* NULL: no memory. */
struct stg_table *stg_table_new(void);
struct stg_table *stg_table_ref(struct stg_table *table);
void stg_table_unref(struct stg_table *table);

/* Returns the new row's index; -EINVAL: size < 0 or a text over 65,535 bytes; -ENOMEM. */
int64_t stg_table_append(struct stg_table *table, const struct stg_row *row);
size_t stg_table_count(const struct stg_table *table);
int64_t stg_table_total_bytes(const struct stg_table *table);
/* index < count. The texts stay valid as long as the table. */
struct stg_row stg_table_row(const struct stg_table *table, size_t index);

#endif
