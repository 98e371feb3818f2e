/* Non-blocking TCP: addresses the caller resolved, one socket at a time; no policy.
 *
 * Every descriptor is close-on-exec and non-blocking, Nagle's delay is off, and no call raises SIGPIPE.
 */
#ifndef STG_NET_H
#define STG_NET_H

#include "stg.h"

#include <sys/socket.h>

struct stg_address {
    struct sockaddr_storage storage;
    socklen_t len;
};

/* family is AF_INET (4 bytes) or AF_INET6 (16 bytes), packed in network order; -EAFNOSUPPORT, -EINVAL. */
int stg_address_set(struct stg_address *out, int family, const void *packed, size_t len, uint16_t port);

/* Returns a socket whose connection is under way (writable when it is decided); -errno. */
int stg_net_connect(const struct stg_address *address);
/* What became of it: 0, or -errno of the connection. */
int stg_net_connect_result(int fd);

/* As send and recv, -errno in place of errno; -EINTR never. recv: 0 when the peer closed. */
ssize_t stg_net_send(int fd, const void *data, size_t len);
ssize_t stg_net_recv(int fd, void *data, size_t len);

#endif
