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

ssize_t stg_url_undo(char *text, size_t len)
{
    size_t put = 0;

    for (size_t at = 0; at < len; at++) {
        char c = text[at];

        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = at + 2 < len ? stg_hex_value(text[at + 1]) : -1;
            int low = at + 2 < len ? stg_hex_value(text[at + 2]) : -1;

            if (high < 0 || low < 0)
                return -1;
            c = (char)(high << 4 | low);
            at += 2;
        }
        text[put++] = c;
    }
    return (ssize_t)put;
}
