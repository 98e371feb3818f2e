#include "endpoint.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct place {
    struct stg_address address;
    int64_t avoid_until_ms;
    int failed;  /* and has not been reached since */
    int reached; /* and has not failed since */
};

struct stg_endpoint {
    atomic_int refs;
    struct stg_tls *tls;
    struct stg_proxy *proxy;
    pthread_mutex_t lock;
    struct place places[STG_ENDPOINT_MAX_ADDRESSES];
    size_t count, next;
    struct stg_pace pace;
};

struct stg_endpoint *stg_endpoint_new(struct stg_tls *tls, struct stg_proxy *proxy,
                                      const struct stg_address *addresses, size_t count)
{
    struct stg_endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint) {
        stg_tls_free(tls);
        stg_proxy_free(proxy);
        return NULL;
    }
    endpoint->refs = 1;
    endpoint->tls = tls;
    endpoint->proxy = proxy;
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
    stg_proxy_free(endpoint->proxy);
    pthread_mutex_destroy(&endpoint->lock);
    free(endpoint);
}

struct stg_tls *stg_endpoint_tls(const struct stg_endpoint *endpoint)
{
    return endpoint->tls;
}

const struct stg_proxy *stg_endpoint_proxy(const struct stg_endpoint *endpoint)
{
    return endpoint->proxy;
}

struct stg_pace *stg_endpoint_pace(struct stg_endpoint *endpoint)
{
    return &endpoint->pace;
}

static struct place *find_place(struct stg_endpoint *endpoint, const struct stg_address *address)
{
    for (size_t i = 0; i < endpoint->count; i++)
        if (endpoint->places[i].address.len == address->len &&
            memcmp(&endpoint->places[i].address.storage, &address->storage, address->len) == 0)
            return &endpoint->places[i];
    return NULL;
}

int stg_endpoint_update(struct stg_endpoint *endpoint, const struct stg_address *addresses, size_t count)
{
    struct place fresh[STG_ENDPOINT_MAX_ADDRESSES];
    if (count == 0 || count > STG_ENDPOINT_MAX_ADDRESSES)
        return -EINVAL;
    pthread_mutex_lock(&endpoint->lock);
    for (size_t i = 0; i < count; i++) {
        const struct place *known = find_place(endpoint, &addresses[i]);
        fresh[i] = known ? *known : (struct place){.address = addresses[i]};
    }
    memcpy(endpoint->places, fresh, count * sizeof *fresh);
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
        if (endpoint->places[candidate].avoid_until_ms <= now_ms) {
            chosen = candidate;
            break;
        }
    }
    endpoint->next = chosen + 1;
    struct place *place = &endpoint->places[chosen];
    if (place->failed) /* one tries it again, the others wait for what becomes of that */
        place->avoid_until_ms = now_ms + STG_ENDPOINT_AVOID_MS;
    struct stg_address address = place->address;
    pthread_mutex_unlock(&endpoint->lock);
    return address;
}

static void judge(struct stg_endpoint *endpoint, const struct stg_address *address, int reached, int64_t avoid_until_ms)
{
    pthread_mutex_lock(&endpoint->lock);
    struct place *place = find_place(endpoint, address);
    if (place) {
        place->reached = reached;
        place->failed = !reached;
        place->avoid_until_ms = avoid_until_ms;
    }
    pthread_mutex_unlock(&endpoint->lock);
}

void stg_endpoint_failed(struct stg_endpoint *endpoint, const struct stg_address *address, int64_t now_ms)
{
    judge(endpoint, address, 0, now_ms + STG_ENDPOINT_AVOID_MS);
}

void stg_endpoint_reached(struct stg_endpoint *endpoint, const struct stg_address *address)
{
    judge(endpoint, address, 1, 0);
}

int stg_endpoint_has_better(struct stg_endpoint *endpoint, const struct stg_address *address, int64_t now_ms)
{
    int better = 0;
    pthread_mutex_lock(&endpoint->lock);
    const struct place *place = find_place(endpoint, address);
    for (size_t i = 0; i < endpoint->count; i++)
        better |= &endpoint->places[i] != place && endpoint->places[i].reached &&
                  endpoint->places[i].avoid_until_ms <= now_ms;
    pthread_mutex_unlock(&endpoint->lock);
    return better;
}
