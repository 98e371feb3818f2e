/* Which keys may be files below a destination, as stager/names.py judges: the plain ones at once, the rest is left to it.
 *
 * Whoever compares finds the same verdicts there; this is only quicker.
 */
#ifndef STG_NAMES_H
#define STG_NAMES_H

#include "order.h"
#include "stg.h"
#include "table.h"

#define STG_PATH_BYTES 4095 /* in a whole path, without the closing NUL */

enum stg_verdict {
    STG_NAME_DOUBTFUL,  /* bad, a directory marker, or good after a closer look */
    STG_NAME_GOOD,
    STG_NAME_DIRECTORY, /* a file, and also a directory of other keys */
    STG_NAME_TWICE,     /* listed more than once */
};

/* A path of at most limit bytes without NUL, whose segments are 1 to 255 bytes, none of them "." or "..", and whose first
 * is not ".stager" in any case of ASCII. */
int stg_path_is_usable(struct stg_str path, size_t limit);
/* The same, and its first segment is ASCII: no folding of Unicode makes that the state directory's name. */
int stg_name_is_plain(struct stg_str key, size_t limit);
/* verdicts[row] of count rows from start: STG_NAME_GOOD or STG_NAME_DOUBTFUL. */
void stg_names_judge(const struct stg_table *table, size_t start, size_t count, size_t limit, uint8_t *verdicts);
/* Among rows that are STG_NAME_GOOD, marks those that exclude each other. Returns how many; -ENOMEM. */
int64_t stg_names_clash(const struct stg_order *order, uint8_t *verdicts);

#endif
