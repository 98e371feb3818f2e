/* What is said to an HTTP proxy on the way to one endpoint. Immutable once made.
 *
 * To a server that speaks TLS the proxy is asked for a tunnel (RFC 9110, section 9.3.6); the server's handshake and
 * name checks happen inside of it, and what authorises us at the proxy stays outside. Requests in the clear go to the
 * proxy itself, with the whole URL as their target (RFC 9112, section 3.2.2) and the authorisation on each.
 */
#ifndef STG_PROXY_H
#define STG_PROXY_H

#include "tls.h"

#define STG_PROXY_MAX_AUTHORIZATION ((size_t)4 << 10)

struct stg_proxy;

/* tls: to reach the proxy itself by, taken over also on error; NULL: in the clear. authority: host:port of the server, an IPv6 address in brackets. authorization: the value of Proxy-Authorization,
 * len 0: none. *out is NULL on error: -EINVAL: an authority without a host, over 512 bytes, or with a blank or control
 * character in it; an authorization with a control character or over STG_PROXY_MAX_AUTHORIZATION; -ENOMEM. */
int stg_proxy_new(struct stg_tls *tls, struct stg_str authority, struct stg_str authorization, struct stg_proxy **out);
void stg_proxy_free(struct stg_proxy *proxy); /* wipes it; NULL is fine */

/* NULL: the proxy is reached in the clear. */
struct stg_tls *stg_proxy_tls(const struct stg_proxy *proxy);
/* The request that asks for the tunnel, whole. */
struct stg_str stg_proxy_connect_request(const struct stg_proxy *proxy);
/* The header line that authorises one request, with its CR LF; len 0: none. */
struct stg_str stg_proxy_authorization_line(const struct stg_proxy *proxy);

#endif
