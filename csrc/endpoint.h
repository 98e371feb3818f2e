/* Where requests go: one host and port, the addresses it was resolved to, TLS or not, a proxy or none. Reference
 * counted.
 *
 * Addresses are used in turn. One that failed is left alone for 30 s; then one connection tries it, and the others
 * follow when that one was accepted. An address that does not answer while another one does is dropped long before the
 * connect timeout. Behind a proxy the addresses are the proxy's.
 */
#ifndef STG_ENDPOINT_H
#define STG_ENDPOINT_H

#include "net.h"
#include "pace.h"
#include "proxy.h"
#include "tls.h"

#define STG_ENDPOINT_MAX_ADDRESSES 64
#define STG_ENDPOINT_AVOID_MS 30000

struct stg_endpoint;

/* Takes over tls (NULL: plain) and proxy (NULL: none), also when it fails (NULL: no memory, or count is not in 1..64).
 */
struct stg_endpoint *stg_endpoint_new(struct stg_tls *tls, struct stg_proxy *proxy,
                                      const struct stg_address *addresses, size_t count);
struct stg_endpoint *stg_endpoint_ref(struct stg_endpoint *endpoint);
void stg_endpoint_unref(struct stg_endpoint *endpoint);

/* NULL when requests go in the clear. */
struct stg_tls *stg_endpoint_tls(const struct stg_endpoint *endpoint);
/* NULL when the server is reached directly. */
const struct stg_proxy *stg_endpoint_proxy(const struct stg_endpoint *endpoint);
/* What it is allowed and has used; lives as long as the endpoint. */
struct stg_pace *stg_endpoint_pace(struct stg_endpoint *endpoint);
/* -EINVAL: count is not in 1..64. Connections that stand are not touched; what is known of an address stays. */
int stg_endpoint_update(struct stg_endpoint *endpoint, const struct stg_address *addresses, size_t count);
size_t stg_endpoint_count(struct stg_endpoint *endpoint);
/* The next address in rotation; one to be left alone only when all are. */
struct stg_address stg_endpoint_next(struct stg_endpoint *endpoint, int64_t now_ms);
void stg_endpoint_failed(struct stg_endpoint *endpoint, const struct stg_address *address, int64_t now_ms);
void stg_endpoint_reached(struct stg_endpoint *endpoint, const struct stg_address *address);
/* The address has not answered for long: whether another one did, and can be used instead. */
int stg_endpoint_has_better(struct stg_endpoint *endpoint, const struct stg_address *address, int64_t now_ms);

#endif
