#include "proxy.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

struct stg_proxy {
    struct stg_tls *tls;
    size_t request_len, line_at, line_len;
    char request[]; /* the authorization line is a part of it */
};

static int is_clean(struct stg_str text, unsigned char lowest)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < lowest || text.ptr[i] == 0x7f)
            return 0;
    return 1;
}

static int make(struct stg_str authority, struct stg_str authorization, struct stg_proxy **out)
{
    *out = NULL;
    if (!authority.len || authority.ptr[0] == ':' || authority.len > 512 || !is_clean(authority, '!') || !is_clean(authorization, ' ') ||
        authorization.len > STG_PROXY_MAX_AUTHORIZATION)
        return -EINVAL;
    size_t cap = 2 * authority.len + authorization.len + 128;
    struct stg_proxy *proxy = calloc(1, sizeof *proxy + cap);
    if (!proxy)
        return -ENOMEM;
    int where = (int)authority.len, what = (int)authorization.len;
    int at = snprintf(proxy->request, cap, "CONNECT %.*s HTTP/1.1\r\nhost: %.*s\r\n", where, authority.ptr, where,
                      authority.ptr);
    proxy->line_at = (size_t)at;
    if (what)
        at += snprintf(proxy->request + at, cap - (size_t)at, "proxy-authorization: %.*s\r\n", what, authorization.ptr);
    proxy->line_len = (size_t)at - proxy->line_at;
    at += snprintf(proxy->request + at, cap - (size_t)at, "\r\n");
    proxy->request_len = (size_t)at;
    *out = proxy;
    return 0;
}

int stg_proxy_new(struct stg_tls *tls, struct stg_str authority, struct stg_str authorization, struct stg_proxy **out)
{
    int status = make(authority, authorization, out);
    if (status < 0)
        stg_tls_free(tls);
    else
        (*out)->tls = tls;
    return status;
}

void stg_proxy_free(struct stg_proxy *proxy)
{
    if (!proxy)
        return;
    stg_tls_free(proxy->tls);
    OPENSSL_cleanse(proxy->request, proxy->request_len);
    free(proxy);
}

struct stg_tls *stg_proxy_tls(const struct stg_proxy *proxy)
{
    return proxy->tls;
}

struct stg_str stg_proxy_connect_request(const struct stg_proxy *proxy)
{
    return (struct stg_str){proxy->request, proxy->request_len};
}

struct stg_str stg_proxy_authorization_line(const struct stg_proxy *proxy)
{
    return (struct stg_str){proxy->request + proxy->line_at, proxy->line_len};
}
