/* SHA-256 and HMAC-SHA-256 (RFC 2104) over OpenSSL, for many short messages.
 *
 * Measured: hashing a key's 64-byte block again is cheaper than copying an EVP context that has absorbed it, which
 * allocates; so a prepared HMAC key is its two blocks.
 */
#ifndef STG_SHA_H
#define STG_SHA_H

#include <openssl/evp.h>

#include "stg.h"

#define STG_SHA_BYTES 32
#define STG_SHA_BLOCK 64

/* A running SHA-256, used for one message after another; failures stick in failed and are asked for once. */
struct stg_sha {
    EVP_MD_CTX *context;
    const EVP_MD *sha256;
    int failed;
};

void stg_sha_start(struct stg_sha *sha);
void stg_sha_add(struct stg_sha *sha, struct stg_str text);
void stg_sha_finish(struct stg_sha *sha, uint8_t out[STG_SHA_BYTES]);

/* In lower case, without a NUL. */
void stg_sha_hex(char out[2 * STG_SHA_BYTES], const uint8_t digest[STG_SHA_BYTES]);

struct stg_hmac_key {
    uint8_t inner[STG_SHA_BLOCK];
    uint8_t outer[STG_SHA_BLOCK];
};

void stg_hmac_key_set(struct stg_sha *sha, struct stg_hmac_key *key, struct stg_str secret);
void stg_hmac(struct stg_sha *sha, const struct stg_hmac_key *key, struct stg_str message,
              uint8_t out[STG_SHA_BYTES]);

#endif
