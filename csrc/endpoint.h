/* Where requests go: one host and port, the addresses it was resolved to, and TLS or not. Reference counted. */
#ifndef STG_ENDPOINT_H
#define STG_ENDPOINT_H

#include "net.h"
#include "tls.h"

#define STG_ENDPOINT_MAX_ADDRESSES 64

struct stg_endpoint;

/* Takes over tls (NULL: plain), also when it fails (NULL: no memory, or count is not in 1..64). */
struct stg_endpoint *stg_endpoint_new(struct stg_tls *tls, const struct stg_address *addresses, size_t count);
struct stg_endpoint *stg_endpoint_ref(struct stg_endpoint *endpoint);
void stg_endpoint_unref(struct stg_endpoint *endpoint);

/* NULL when requests go in the clear. */
struct stg_tls *stg_endpoint_tls(const struct stg_endpoint *endpoint);
/* -EINVAL: count is not in 1..64. Connections that stand are not touched. */
int stg_endpoint_update(struct stg_endpoint *endpoint, const struct stg_address *addresses, size_t count);
size_t stg_endpoint_count(struct stg_endpoint *endpoint);
/* The next address in rotation; one that failed in the last 30 s only when all did. */
struct stg_address stg_endpoint_next(struct stg_endpoint *endpoint, int64_t now_ms);
void stg_endpoint_failed(struct stg_endpoint *endpoint, const struct stg_address *address, int64_t now_ms);

#endif
