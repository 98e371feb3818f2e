#include "frontier.h"

#include "readback.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES ((size_t)64 << 10) /* stays in L2 between pread and hashing; as fast as 256 KiB */

struct stg_frontier {
    enum stg_sum_kind kind;
    struct stg_sum sum;   /* of the bytes, since the last part began */
    struct stg_sum outer; /* of the parts' sums */
    int64_t at;
    size_t part, count;
    int64_t *ends;
    char *buffer;
};

static int check_ends(const int64_t *ends, size_t count)
{
    int64_t before = 0;

    for (size_t i = 0; i < count; i++) {
        if (ends[i] <= before)
            return -EINVAL;
        before = ends[i];
    }
    return 0;
}

static int set_up(struct stg_frontier *frontier, const int64_t *ends, size_t count)
{
    int status;

    frontier->count = count;
    frontier->buffer = malloc(READ_BYTES);
    frontier->ends = malloc((count + !count) * sizeof(*ends));
    if (!frontier->buffer || !frontier->ends)
        return -ENOMEM;
    if (count)
        memcpy(frontier->ends, ends, count * sizeof(*ends));
    status = stg_sum_start(&frontier->sum, frontier->kind);
    return status < 0 || !count ? status : stg_sum_start(&frontier->outer, frontier->kind);
}

int stg_frontier_new(enum stg_sum_kind kind, const int64_t *ends, size_t count, struct stg_frontier **out)
{
    struct stg_frontier *frontier;
    int status;

    if (kind == STG_SUM_NONE || check_ends(ends, count) < 0)
        return -EINVAL;
    frontier = calloc(1, sizeof(*frontier));
    if (!frontier)
        return -ENOMEM;
    frontier->kind = kind;
    status = set_up(frontier, ends, count);
    if (status < 0) {
        stg_frontier_free(frontier);
        return status;
    }
    *out = frontier;
    return 0;
}

void stg_frontier_free(struct stg_frontier *frontier)
{
    if (!frontier)
        return;
    stg_sum_clear(&frontier->sum);
    stg_sum_clear(&frontier->outer);
    free(frontier->ends);
    free(frontier->buffer);
    free(frontier);
}

int64_t stg_frontier_at(const struct stg_frontier *frontier)
{
    return frontier->at;
}

/* Where the part ends that the next byte belongs to. */
static int64_t part_end(const struct stg_frontier *frontier)
{
    if (!frontier->count)
        return INT64_MAX;
    return frontier->part < frontier->count ? frontier->ends[frontier->part] : frontier->at;
}

static int close_part(struct stg_frontier *frontier)
{
    uint8_t value[STG_SUM_MAX_BYTES];
    int status = stg_sum_finish(&frontier->sum, value);

    if (status < 0)
        return status;
    stg_sum_add(&frontier->outer, value, stg_sum_bytes(frontier->kind));
    frontier->part++;
    return stg_sum_start(&frontier->sum, frontier->kind);
}

int stg_frontier_advance(struct stg_frontier *frontier, int fd, int64_t upto)
{
    if (frontier->count && upto > frontier->ends[frontier->count - 1])
        return -EINVAL;
    while (frontier->at < upto) {
        int64_t end = part_end(frontier), room = (end < upto ? end : upto) - frontier->at;
        size_t wanted = room < (int64_t)READ_BYTES ? (size_t)room : READ_BYTES;
        ssize_t got = stg_read_at(fd, frontier->buffer, wanted, frontier->at);
        int status;

        if (got <= 0)
            return got < 0 ? (int)got : -ENODATA;
        stg_sum_add(&frontier->sum, frontier->buffer, (size_t)got);
        frontier->at += got;
        status = frontier->at == end ? close_part(frontier) : 0;
        if (status < 0)
            return status;
    }
    return 0;
}

int stg_frontier_finish(struct stg_frontier *frontier, uint8_t out[STG_SUM_MAX_BYTES])
{
    if (!frontier->count)
        return stg_sum_finish(&frontier->sum, out);
    return frontier->part == frontier->count ? stg_sum_finish(&frontier->outer, out) : -EINVAL;
}
