/* What is announced of a body, and whether it has that. */
#include "batch.h"

#include <errno.h>

static const char *why_text(enum stg_why why)
{
    switch (why) {
    case STG_WHY_PARTS:
        return "only a checksum of its parts is announced, whose boundaries are not known";
    case STG_WHY_ETAG_OF_PARTS:
        return "no checksum is announced, and the ETag is one of parts";
    case STG_WHY_ENCRYPTED:
        return "no checksum is announced, and the ETag of an encrypted object is no digest";
    default:
        return "no checksum is announced";
    }
}

/* Nothing can be compared, because of why. */
static int settle_for_less(struct stg_batch *batch, uint32_t index, enum stg_why why, struct stg_announced *announced,
                           struct stg_failure **failure)
{
    int is_pinned = stg_batch_row(batch, index).identity.len != 0;

    *announced = (struct stg_announced){.kind = STG_SUM_NONE, .why = is_pinned ? why : STG_WHY_UNPINNED};
    batch->results[index].why = (uint8_t)announced->why;
    if (stg_grade_reaches(is_pinned ? 'B' : 'C', stg_template_grade(batch->template_)))
        return 0;
    *failure = stg_failure_new(STG_FAIL_IDENTITY, 0, "grade", "%s", why_text(why));
    return -EBADMSG;
}

int stg_batch_take_announced(struct stg_batch *batch, uint32_t index, const struct stg_http_head *head,
                             struct stg_announced *announced, struct stg_failure **failure)
{
    if (batch->kind == STG_BATCH_RANGES) { /* what an answer to a range announces may be of the range or of the whole */
        *announced = (struct stg_announced){.kind = STG_SUM_NONE};
        return 0;
    }
    *announced = stg_checksum_announced(head, stg_template_etags(batch->template_));
    if (announced->kind == STG_SUM_NONE)
        return settle_for_less(batch, index, announced->why, announced, failure);
    if (announced->parts > 1 && stg_template_refuses_parts(batch->template_)) {
        *failure = stg_failure_new(STG_FAIL_IDENTITY, 0, "parts", "%s", why_text(STG_WHY_PARTS));
        return -EBADMSG;
    }
    if (announced->parts > 1)
        return settle_for_less(batch, index, STG_WHY_PARTS, announced, failure);
    return 0;
}

int stg_batch_start_sum(struct stg_batch *batch, uint32_t index, struct stg_announced *announced, struct stg_sum *sum,
                        struct stg_failure **failure)
{
    int status = stg_sum_start(sum, batch->kind == STG_BATCH_RANGES ? (enum stg_sum_kind)batch->crc : announced->kind);
    if (status == -EOPNOTSUPP)
        return settle_for_less(batch, index, STG_WHY_UNTOLD, announced, failure);
    if (status < 0)
        *failure = stg_failure_new(STG_FAIL_ERRNO, -status, "digest", NULL);
    return status;
}

int stg_batch_take_sum(struct stg_batch *batch, uint32_t index, const struct stg_announced *announced,
                       struct stg_sum *sum, struct stg_failure **failure)
{
    if (batch->kind == STG_BATCH_RANGES)
        batch->ranges[index].crc = sum->crc;
    if (announced->kind == STG_SUM_NONE)
        return 0;
    int status = stg_checksum_check(announced, sum, failure);
    batch->results[index].verified = status == 0;
    return status;
}

int stg_batch_take_whole(struct stg_batch *batch, uint32_t index, struct stg_announced *announced,
                         struct stg_sum *sum, const char *data, size_t len, struct stg_failure **failure)
{
    int is_range = batch->kind == STG_BATCH_RANGES;
    stg_digest_bytes(data, len, is_range ? batch->ranges[index].blocks : batch->results[index].digest);
    batch->results[index].block_count = 1;
    int status = stg_batch_start_sum(batch, index, announced, sum, failure);
    if (status < 0)
        return status;
    stg_sum_add(sum, data, len);
    return stg_batch_take_sum(batch, index, announced, sum, failure);
}
