/* A packed table of objects: texts in an arena of segments, rows in segments of doubling size.
 *
 * Append-only; rows keep their index, and nothing that was handed out ever moves. Reference counted, so a running
 * batch keeps its table alive. One thread appends at a time; any thread may read rows below stg_table_count, also
 * while another appends. A row costs 32 bytes beside its texts.
 */
#ifndef STG_TABLE_H
#define STG_TABLE_H

#include "stg.h"

#define STG_TABLE_MAX_TEXT 65535

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

/* Returns the new row's index; -EINVAL: size < 0 or a text over STG_TABLE_MAX_TEXT bytes; -EOVERFLOW: the sizes
 * add up to more than 2^63-1, or 2^39 rows; -ENOMEM. A refused row leaves the table as it was. */
int64_t stg_table_append(struct stg_table *table, const struct stg_row *row);
/* Appends all rows of from and leaves it empty; their texts stay where they are. -EBUSY: somebody else has a reference
 * to from, or it is the table itself; -EOVERFLOW as above; -ENOMEM. Both are as they were after an error. */
int stg_table_move(struct stg_table *table, struct stg_table *from);
size_t stg_table_count(const struct stg_table *table);
int64_t stg_table_total_bytes(const struct stg_table *table);
/* index < count. The texts stay valid as long as the table. */
struct stg_row stg_table_row(const struct stg_table *table, size_t index);
/* Rows from *row on as "key NUL size NUL identity LF", as many as fit; *row becomes the first that does not. Returns their
 * bytes; -ENOBUFS: not even one fits. */
ssize_t stg_table_lines(const struct stg_table *table, size_t *row, char *out, size_t room);

#endif
