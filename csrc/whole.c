#include "whole.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int stg_whole_start(struct stg_whole *whole, int64_t size)
{
    size_t room = (size_t)size / STG_BLOCK_BYTES + 1;
    if (!whole->hasher && !(whole->hasher = stg_hasher_new()))
        return -ENOMEM;
    if (room > whole->room) {
        uint8_t *blocks = realloc(whole->blocks, room * STG_DIGEST_BYTES);
        if (!blocks)
            return -ENOMEM;
        whole->blocks = blocks;
        whole->room = room;
    }
    stg_hasher_reset(whole->hasher, whole->blocks, room);
    return 0;
}

int stg_whole_finish(struct stg_whole *whole, uint8_t digest[STG_DIGEST_BYTES])
{
    ssize_t count = stg_hasher_finish(whole->hasher);
    return count < 0 ? (int)count : stg_digest_combine(whole->blocks, (size_t)count, digest);
}

void stg_whole_clear(struct stg_whole *whole)
{
    stg_hasher_free(whole->hasher);
    free(whole->blocks);
    memset(whole, 0, sizeof *whole);
}
