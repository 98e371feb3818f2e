#include "sha.h"

#include <string.h>

#include <openssl/crypto.h>

void stg_sha_start(struct stg_sha *sha)
{
    sha->failed |= !EVP_DigestInit_ex2(sha->context, sha->sha256, NULL);
}

void stg_sha_add(struct stg_sha *sha, struct stg_str text)
{
    sha->failed |= !EVP_DigestUpdate(sha->context, text.ptr, text.len);
}

void stg_sha_finish(struct stg_sha *sha, uint8_t out[STG_SHA_BYTES])
{
    sha->failed |= !EVP_DigestFinal_ex(sha->context, out, NULL);
}

void stg_sha_hex(char out[2 * STG_SHA_BYTES], const uint8_t digest[STG_SHA_BYTES])
{
    static const char hex[] = "0123456789abcdef";

    for (size_t i = 0; i < STG_SHA_BYTES; i++) {
        out[2 * i] = hex[digest[i] >> 4];
        out[2 * i + 1] = hex[digest[i] & 15];
    }
}

static struct stg_str bytes(const uint8_t *data, size_t len)
{
    return (struct stg_str){(const char *)data, len};
}

void stg_hmac_key_set(struct stg_sha *sha, struct stg_hmac_key *key, struct stg_str secret)
{
    uint8_t block[STG_SHA_BLOCK] = {0};

    if (secret.len > STG_SHA_BLOCK) {
        stg_sha_start(sha);
        stg_sha_add(sha, secret);
        stg_sha_finish(sha, block);
    } else {
        memcpy(block, secret.ptr, secret.len);
    }
    for (size_t i = 0; i < STG_SHA_BLOCK; i++) {
        key->inner[i] = block[i] ^ 0x36;
        key->outer[i] = block[i] ^ 0x5c;
    }
    OPENSSL_cleanse(block, sizeof(block));
}

void stg_hmac(struct stg_sha *sha, const struct stg_hmac_key *key, struct stg_str message,
              uint8_t out[STG_SHA_BYTES])
{
    stg_sha_start(sha);
    stg_sha_add(sha, bytes(key->inner, STG_SHA_BLOCK));
    stg_sha_add(sha, message);
    stg_sha_finish(sha, out);
    stg_sha_start(sha);
    stg_sha_add(sha, bytes(key->outer, STG_SHA_BLOCK));
    stg_sha_add(sha, bytes(out, STG_SHA_BYTES));
    stg_sha_finish(sha, out);
}
