#include "uri.h"

#include <errno.h>

#include "text.h"

ssize_t stg_uri_encode(struct stg_str raw, int keep_slash, char *out, size_t cap)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t at = 0;

    for (size_t i = 0; i < raw.len; i++) {
        uint8_t c = (uint8_t)raw.ptr[i];

        if (stg_is_alnum((char)c) || c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash)) {
            if (cap - at < 1)
                return -ENOSPC;
            out[at++] = (char)c;
        } else {
            if (cap - at < 3)
                return -ENOSPC;
            out[at++] = '%';
            out[at++] = hex[c >> 4];
            out[at++] = hex[c & 15];
        }
    }
    return (ssize_t)at;
}
