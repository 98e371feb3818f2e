/* A source's rows against what was recorded of them and what lies below the destination: which are fetched, which stand.
 *
 * One lstat a row; nothing is written or opened but directories (parents.h).
 */
#ifndef STG_COMPARE_H
#define STG_COMPARE_H

#include "entries.h"
#include "order.h"
#include "parents.h"

enum stg_outcome {
    STG_KEEP,    /* now STG_STANDS */
    STG_FETCH,   /* now STG_WANTED */
    STG_HASH,    /* all agrees, but it is only STG_DOUBTFUL: hash the file, say so in its entry, compare again */
    STG_BLOCKED, /* now STG_WANTED, but a directory stands where the file must go, or what is none where one must go */
};

struct stg_comparison {
    struct stg_entries *entries;
    struct stg_parents parents;
    int empty;           /* nothing is below the root, so nothing is asked for */
    char required;       /* what was recorded with a lower grade is fetched again; 0: any will do */
    int64_t block_bytes; /* of the file system */
    /* sums over the rows that are kept or fetched */
    int64_t total_bytes, kept, fetched, fetched_bytes;
    int64_t disk_bytes; /* what is fetched in whole blocks, less the blocks of the files it replaces */
};

/* root_fd -1: the destination is empty. The entries are the caller's. */
void stg_comparison_init(struct stg_comparison *comparison, struct stg_entries *entries, int root_fd,
                         int64_t block_bytes);
void stg_comparison_clear(struct stg_comparison *comparison);
/* outcomes[i] of rows[i]; the same when it is asked again. Returns count, or -errno of the lstat of the row that *failed tells. */
int64_t stg_compare(struct stg_comparison *comparison, const uint32_t *rows, size_t count, uint8_t *outcomes,
                    uint32_t *failed);
/* Directories above the rows that are wanted. */
int64_t stg_wanted_directories(const struct stg_order *order, const struct stg_entries *entries);

/* A directory: the first len bytes of a row's key. */
struct stg_directory {
    uint32_t row, len;
};

/* Those above rows that are wanted, and above none that was recorded, so that no run is known to have put anything there;
 * each after all that lie in it. How many, into out unless that is NULL. Call it after stg_compare. */
size_t stg_unknown_directories(const struct stg_order *order, const struct stg_entries *entries,
                               struct stg_directory *out);

#endif
