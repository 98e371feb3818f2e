#include "identity.h"

#include "text.h"

#include <string.h>

struct stg_identity stg_identity_split(struct stg_str text)
{
    const char *cut = text.len ? memchr(text.ptr, 0, text.len) : NULL;
    size_t len = cut ? (size_t)(cut - text.ptr) : text.len;

    return (struct stg_identity){.etag = {text.ptr, len}, .version = stg_str_from(text, cut ? len + 1 : len)};
}

int stg_identity_agrees(struct stg_str a, struct stg_str b)
{
    struct stg_identity one, other;

    if (stg_str_same(a, b))
        return 1;
    one = stg_identity_split(a);
    other = stg_identity_split(b);
    return one.etag.len && stg_str_same(one.etag, other.etag) && !one.version.len != !other.version.len;
}
