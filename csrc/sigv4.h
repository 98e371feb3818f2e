/* AWS Signature Version 4 for S3 requests without a body.
 *
 * Source: AWS, "Create a signed AWS API request" and "Authenticating Requests: Using the Authorization Header".
 * S3 does not normalise or double-encode the path. Tested byte for byte against botocore's S3SigV4Auth.
 */
#ifndef STG_SIGV4_H
#define STG_SIGV4_H

#include "stg.h"
#include "uri.h"

#define STG_SIGV4_MAX_HEADERS 32

struct stg_header {
    struct stg_str name;  /* lower case; never one of the names stg_sigv4_sign adds */
    struct stg_str value; /* blanks around it and runs of blanks inside are signed as the protocol says */
};

/* One immutable generation of credentials. Thread-safe; the derived key is cached by UTC day inside. */
struct stg_credentials;

/* NULL: no memory, or OpenSSL has no SHA-256. token.len == 0: none. Texts that cannot stand in a header or scope
 * (control characters; a '/' in region or service) are found by stg_sigv4_sign. */
struct stg_credentials *stg_credentials_new(struct stg_str access_key, struct stg_str secret_key,
                                            struct stg_str token, struct stg_str region, struct stg_str service);
struct stg_credentials *stg_credentials_ref(struct stg_credentials *credentials);
void stg_credentials_unref(struct stg_credentials *credentials); /* wipes the secrets with the last reference */

/* Writes the header lines to add, each "name: value\r\n": x-amz-date, x-amz-content-sha256 (the digest of the empty
 * body), x-amz-security-token when there is a token, authorization. path is encoded already and starts with '/',
 * query is canonical (encoded, sorted, may be empty). headers are those the request carries and that are signed:
 * host among them, any order; values of a repeated name are joined with ','. Returns the length; -ENOSPC: cap is
 * too small; -E2BIG: too many headers; -EINVAL: a time outside of the years 1970 to 9999, a method that is no
 * token, a path or query with a byte that is not visible ASCII, a name that is no lower-case token or is added
 * here, a control character in a value, credentials that cannot be sent; -EIO: OpenSSL failed. */
ssize_t stg_sigv4_sign(struct stg_credentials *credentials, int64_t unix_s, struct stg_str method,
                       struct stg_str path, struct stg_str query, const struct stg_header *headers,
                       size_t header_count, char *out, size_t cap);

#endif
