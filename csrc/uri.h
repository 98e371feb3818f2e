/* Percent-encoding of object keys and query values (RFC 3986 section 2.1). */
#ifndef STG_URI_H
#define STG_URI_H

#include "stg.h"

/* Percent-encode as S3 signs it: A-Z a-z 0-9 - . _ ~ stay, '/' too when keep_slash; upper-case hex.
 * Returns the length, or -ENOSPC when it does not fit in cap. */
ssize_t stg_uri_encode(struct stg_str raw, int keep_slash, char *out, size_t cap);
/* Undoes '+' and %XX, in place. The length, or -1: a % without two digits. */
ssize_t stg_url_undo(char *text, size_t len);

#endif
