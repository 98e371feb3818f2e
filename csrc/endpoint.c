#include "endpoint.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define AVOID_FAILED_MS 30000

struct stg_endpoint {
    atomic_int refs;
    struct stg_tls *tls;
    pthread_mutex_t lock;
    struct stg_address addresses[STG_ENDPOINT_MAX_ADDRESSES];
    int64_t avoid_until_ms[STG_ENDPOINT_MAX_ADDRESSES];
    size_t count, next;
};

struct stg_endpoint *stg_endpoint_new(struct stg_tls *tls, const struct stg_address *addresses, size_t count)
{
    struct stg_endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint) {
        stg_tls_free(tls);
        return NULL;
    }
    endpoint->refs = 1;
    endpoint->tls = tls;
    pthread_mutex_init(&endpoint->lock, NULL);
    if (stg_endpoint_update(endpoint, addresses, count) < 0) {
        stg_endpoint_unref(endpoint);
        return NULL;
    }
    return endpoint;
}

struct stg_endpoint *stg_endpoint_ref(struct stg_endpoint *endpoint)
{
    atomic_fetch_add_explicit(&endpoint->refs, 1, memory_order_relaxed);
    return endpoint;
}

void stg_endpoint_unref(struct stg_endpoint *endpoint)
{
    if (!endpoint || atomic_fetch_sub_explicit(&endpoint->refs, 1, memory_order_acq_rel) != 1)
        return;
    stg_tls_free(endpoint->tls);
    pthread_mutex_destroy(&endpoint->lock);
    free(endpoint);
}

struct stg_tls *stg_endpoint_tls(const struct stg_endpoint *endpoint)
{
    return endpoint->tls;
}

int stg_endpoint_update(struct stg_endpoint *endpoint, const struct stg_address *addresses, size_t count)
{
    if (count == 0 || count > STG_ENDPOINT_MAX_ADDRESSES)
        return -EINVAL;
    pthread_mutex_lock(&endpoint->lock);
    memcpy(endpoint->addresses, addresses, count * sizeof *addresses);
    memset(endpoint->avoid_until_ms, 0, sizeof endpoint->avoid_until_ms);
    endpoint->count = count;
    endpoint->next = 0;
    pthread_mutex_unlock(&endpoint->lock);
    return 0;
}

size_t stg_endpoint_count(struct stg_endpoint *endpoint)
{
    pthread_mutex_lock(&endpoint->lock);
    size_t count = endpoint->count;
    pthread_mutex_unlock(&endpoint->lock);
    return count;
}

struct stg_address stg_endpoint_next(struct stg_endpoint *endpoint, int64_t now_ms)
{
    pthread_mutex_lock(&endpoint->lock);
    size_t chosen = endpoint->next % endpoint->count;
    for (size_t i = 0; i < endpoint->count; i++) {
        size_t candidate = (endpoint->next + i) % endpoint->count;
        if (endpoint->avoid_until_ms[candidate] <= now_ms) {
            chosen = candidate;
            break;
        }
    }
    endpoint->next = chosen + 1;
    struct stg_address address = endpoint->addresses[chosen];
    pthread_mutex_unlock(&endpoint->lock);
    return address;
}

void stg_endpoint_failed(struct stg_endpoint *endpoint, const struct stg_address *address, int64_t now_ms)
{
    pthread_mutex_lock(&endpoint->lock);
    for (size_t i = 0; i < endpoint->count; i++)
        if (endpoint->addresses[i].len == address->len &&
            memcmp(&endpoint->addresses[i].storage, &address->storage, address->len) == 0)
            endpoint->avoid_until_ms[i] = now_ms + AVOID_FAILED_MS;
    pthread_mutex_unlock(&endpoint->lock);
}
