/* What written data leaves in the page cache: write-back is started early, and beyond a budget pages are dropped behind.
 *
 * Why: without it the kernel begins to write when a tenth of memory is dirty and then holds the writer up; and of a
 * dataset larger than memory the cache keeps the end, which a job that reads in order wants last, at the price of what
 * was cached before. Measured with 3 GiB into a memory control group of 1 GiB (ext4, Linux 6.18):
 *                                                  as the kernel does it    started early, half is kept
 *   longest pwrite of a plain loop                       39-52 ms                    2-5 ms
 *   cached after 30,000 x 100 KiB: first, last sixth     none, all                   95%, none
 *   cached after 12 x 256 MiB, four at a time            the last third              of the first four, a fifth to 27%
 * Half of the available memory is what may be kept: about as much as the kernel itself leaves to pages that were used
 * once before it takes those that were used again (mm/workingset.c), and the job wants memory too.
 *
 * Nothing waits for the disk here: starting and dropping are hints, and the first error of write-back stays for whoever
 * asks with fsync. Pages still on their way to a slow disk are left to the kernel.
 */
#ifndef STG_BEHIND_H
#define STG_BEHIND_H

#include "stg.h"

#include <stdatomic.h>

#define STG_BEHIND_WINDOW STG_BLOCK_BYTES /* write-back is started in pieces of this size */
#define STG_BEHIND_LAG 32                 /* pieces of one thread that have time to reach the disk before they are dropped */
#define STG_BEHIND_OPEN 128               /* descriptors of all threads; above it each keeps only its last piece */

/* Shared by all threads of one sink. */
struct stg_cache_budget {
    int64_t keep_bytes; /* so much of what is written stays cached; 0: all of it */
    atomic_int_fast64_t written_bytes;
    atomic_int open; /* descriptors held */
};

/* Of one thread: written pieces on their way to the disk, the oldest first. */
struct stg_behind {
    struct stg_cache_budget *budget;
    unsigned first, count;
    struct {
        int fd; /* a duplicate of the caller's */
        int64_t offset, len;
    } pieces[STG_BEHIND_LAG];
};

void stg_behind_init(struct stg_behind *behind, struct stg_cache_budget *budget);
/* data[offset..offset+len) of fd is written and will not be written again. */
void stg_behind_wrote(struct stg_behind *behind, int fd, int64_t offset, int64_t len);
/* Gives up what is held. */
void stg_behind_end(struct stg_behind *behind);

#endif
