/* Finished requests on their way to the caller, and the eventfd that announces them.
 *
 * One announcement stands until the next drain. A completion that is not urgent (a stored object in the middle of a
 * batch) is announced with others: whoever pushed it and was told so has to announce it within STG_ANNOUNCE_MS.
 */
#ifndef STG_RING_H
#define STG_RING_H

#include "engine.h"

#include <pthread.h>

#define STG_ANNOUNCE_MS 10

struct stg_ring {
    int event_fd;
    unsigned slots;
    pthread_mutex_t lock; /* of everything below */
    struct stg_completion *entries;
    unsigned start, count;
    int announced;
};

int stg_ring_init(struct stg_ring *ring, unsigned slots); /* -ENOMEM, -EMFILE; stg_ring_free also after a failure */
void stg_ring_free(struct stg_ring *ring);
/* The caller sees to it that there is room. 1: announcing it is left to the caller, 0: it is seen to. */
int stg_ring_push(struct stg_ring *ring, const struct stg_completion *completion, int urgent);
void stg_ring_announce(struct stg_ring *ring);
/* Takes the announcement back, and up to max completions. */
size_t stg_ring_drain(struct stg_ring *ring, struct stg_completion *out, size_t max);

#endif
