/* The digest of a whole file as its bytes come in order, for one file after another. */
#ifndef STG_WHOLE_H
#define STG_WHOLE_H

#include "digest.h"

/* Zero before the first start; one thread. */
struct stg_whole {
    struct stg_hasher *hasher; /* what bytes are given to */
    uint8_t *blocks;
    size_t room;
};

/* A file of at most so many bytes begins; -ENOMEM. */
int stg_whole_start(struct stg_whole *whole, int64_t size);
/* -EOVERFLOW: more bytes came than were said. */
int stg_whole_finish(struct stg_whole *whole, uint8_t digest[STG_DIGEST_BYTES]);
void stg_whole_clear(struct stg_whole *whole);

#endif
