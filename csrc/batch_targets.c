/* Objects that are asked for where their targets say. */
#include "batch.h"

#include <errno.h>

int stg_batch_take_targets(struct stg_batch *batch, struct stg_targets *targets)
{
    size_t needed = batch->kind == STG_BATCH_OBJECTS ? batch->count : 1;
    if (batch->kind > STG_BATCH_RANGES || batch->targets || stg_targets_count(targets) != needed ||
        !stg_targets_are_set(targets))
        return -EINVAL;
    batch->targets = stg_targets_ref(targets);
    return 0;
}

void stg_batch_aim(const struct stg_batch *batch, uint32_t index, struct stg_request *request)
{
    if (!batch->targets)
        return;
    struct stg_target target = stg_targets_at(batch->targets, batch->kind == STG_BATCH_OBJECTS ? index : 0);
    request->identity = (struct stg_str){0};
    request->target = target.path;
    request->fields = target.fields;
}
