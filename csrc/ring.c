#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ANNOUNCE_AT 256 /* completions that are announced without waiting for more */

int stg_ring_init(struct stg_ring *ring, unsigned slots)
{
    *ring = (struct stg_ring){.slots = slots};
    pthread_mutex_init(&ring->lock, NULL);
    ring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ring->event_fd < 0)
        return -errno;
    ring->entries = calloc(slots, sizeof *ring->entries);
    return ring->entries ? 0 : -ENOMEM;
}

void stg_ring_free(struct stg_ring *ring)
{
    if (ring->event_fd >= 0)
        close(ring->event_fd);
    pthread_mutex_destroy(&ring->lock);
    free(ring->entries);
}

static void write_event(struct stg_ring *ring)
{
    uint64_t one = 1;
    if (write(ring->event_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is readable */
}

void stg_ring_announce(struct stg_ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    int needed = !ring->announced;
    ring->announced = 1;
    pthread_mutex_unlock(&ring->lock);
    if (needed)
        write_event(ring);
}

int stg_ring_push(struct stg_ring *ring, const struct stg_completion *completion, int urgent)
{
    pthread_mutex_lock(&ring->lock);
    ring->entries[(ring->start + ring->count) % ring->slots] = *completion;
    ring->count++;
    int wanted = !ring->announced;
    int now = wanted && (urgent || ring->count >= ANNOUNCE_AT);
    if (now)
        ring->announced = 1;
    pthread_mutex_unlock(&ring->lock);
    if (now)
        write_event(ring);
    return wanted && !now;
}

size_t stg_ring_drain(struct stg_ring *ring, struct stg_completion *out, size_t max)
{
    uint64_t ignored;
    if (read(ring->event_fd, &ignored, sizeof ignored) < 0)
        ignored = 0; /* nothing was announced: look all the same */
    pthread_mutex_lock(&ring->lock);
    ring->announced = 0;
    size_t n = ring->count < max ? ring->count : max;
    for (size_t i = 0; i < n; i++) {
        out[i] = ring->entries[ring->start];
        ring->start = (ring->start + 1) % ring->slots;
    }
    ring->count -= (unsigned)n;
    pthread_mutex_unlock(&ring->lock);
    return n;
}
