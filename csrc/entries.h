/* What is known of each row of a table: how its file stands below the destination; 40 bytes a row.
 *
 * Path, size and identity are the table's row itself: what was recorded of another size or identity says nothing about
 * it. Rows of a fixed capacity are zero (STG_UNKNOWN) until something is known; memory is touched as they are written.
 * Different rows may be written by different threads at a time.
 *
 * What one object takes from the listing to the receipt, in bytes, t being its key's and identity's:
 *
 *     32 + t   its row and texts (table.h; row segments double, and what is not written to is not resident)
 *     40       its entry
 *      1       the verdict on its name, while names are judged; 4 its row's number, if that is good
 *      4       its row's number among those to fetch
 *      4       its place in the order by key, where a listing is not in byte order (order.h)
 *     44       its row's number and result in a batch, of at most 2,048 in flight
 *
 * So 80 + t, and 85 + t of an unordered listing: 127 for a key of 13 bytes with an MD5 and its part count as identity
 * (RssAnon between 10^5 and 10^6 such objects grew by 128 each). A manifest or a journal is read in pieces of 1 MiB and
 * takes nothing more.
 */
#ifndef STG_ENTRIES_H
#define STG_ENTRIES_H

#include "grade.h"
#include "stg.h"
#include "table.h"

enum stg_standing {
    STG_UNKNOWN,
    STG_STALE,    /* recorded, of another size or identity */
    STG_DOUBTFUL, /* recorded; believed once the file has been hashed again */
    STG_TRUSTED,  /* recorded; believed when size, times and mode of the file agree */
    STG_WANTED,   /* to be fetched */
    STG_STANDS,   /* the file is in place and is what the source has */
};

struct stg_entry {
    uint8_t digest[STG_DIGEST_BYTES];
    int64_t mtime_ns, ctime_ns; /* of the local file */
    uint16_t mode;              /* permission bits; with S_IFLNK: a symlink, size and digest are of its target's text */
    char grade;                 /* 'A', 'B', 'C' */
    uint8_t standing;
    uint8_t why;                /* enum stg_why; it is not recorded */
};

struct stg_entries {
    struct stg_table *table;
    size_t capacity;
    struct stg_entry *rows;
};

struct stg_stored;

/* The file is in place, as it was stored: permission bits, or what says that it is a symbolic link, and its times. */
void stg_entry_stand(struct stg_entry *entry, const struct stg_stored *stored, const uint8_t digest[STG_DIGEST_BYTES],
                     char grade);

/* NULL: no memory. Keeps a reference to the table. */
struct stg_entries *stg_entries_new(struct stg_table *table, size_t capacity);
void stg_entries_free(struct stg_entries *entries);

/* What a manifest or a journal keeps of a file. */
struct stg_record {
    struct stg_str path, identity;
    int64_t size;
    struct stg_entry entry;
};

/* row < capacity and below the table's count. */
struct stg_record stg_entries_record(const struct stg_entries *entries, size_t row);
/* Files that stand, of each grade from 'A' to 'C'. */
void stg_entries_count_grades(const struct stg_entries *entries, int64_t counts[3]);
/* Files that stand without an 'A', by why; of those that an earlier run recorded it is not known (STG_WHY_NONE). */
void stg_entries_count_whys(const struct stg_entries *entries, int64_t counts[STG_WHYS]);
/* Rows that stand with a grade below the required one: how many, the first `most` of them into rows. */
size_t stg_entries_below(const struct stg_entries *entries, char required, uint32_t *rows, size_t most);
/* Rows that stand and that the other one, of the same table, recorded with the same file: how many, into rows unless
 * that is NULL. */
size_t stg_entries_agree(const struct stg_entries *entries, const struct stg_entries *recorded, uint32_t *rows);

#endif
