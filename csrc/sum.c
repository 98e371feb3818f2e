#include "sum.h"

#include <errno.h>

#include <openssl/crypto.h>

static const struct {
    const char *name, *fetch; /* fetch: as OpenSSL calls it */
    size_t bytes;
} KINDS[] = {
    [STG_SUM_NONE] = {"", NULL, 0},
    [STG_SUM_CRC32] = {"CRC32", NULL, 4},
    [STG_SUM_CRC32C] = {"CRC32C", NULL, 4},
    [STG_SUM_CRC64NVME] = {"CRC64NVME", NULL, 8},
    [STG_SUM_SHA1] = {"SHA-1", "SHA1", 20},
    [STG_SUM_SHA256] = {"SHA-256", "SHA256", 32},
    [STG_SUM_MD5] = {"MD5", "MD5", 16},
};

size_t stg_sum_bytes(enum stg_sum_kind kind)
{
    return KINDS[kind].bytes;
}

const char *stg_sum_name(enum stg_sum_kind kind)
{
    return KINDS[kind].name;
}

static int fetch(struct stg_sum *sum, enum stg_sum_kind kind)
{
    /* The first fetch would read OpenSSL's configuration file. */
    if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
        return -ENOMEM;
    if (!sum->context && !(sum->context = EVP_MD_CTX_new()))
        return -ENOMEM;
    EVP_MD_free(sum->md);
    sum->fetched = STG_SUM_NONE;
    sum->md = EVP_MD_fetch(NULL, KINDS[kind].fetch, NULL);
    if (!sum->md)
        return -EOPNOTSUPP;
    sum->fetched = kind;
    return 0;
}

int stg_sum_start(struct stg_sum *sum, enum stg_sum_kind kind)
{
    sum->kind = kind;
    sum->crc = 0;
    sum->failed = 0;
    if (!KINDS[kind].fetch)
        return 0;
    int status = sum->fetched == kind ? 0 : fetch(sum, kind);
    if (status == 0 && !EVP_DigestInit_ex2(sum->context, sum->md, NULL))
        status = -EOPNOTSUPP;
    if (status < 0)
        sum->kind = STG_SUM_NONE;
    return status;
}

void stg_sum_add(struct stg_sum *sum, const void *data, size_t len)
{
    if (KINDS[sum->kind].fetch)
        sum->failed |= !EVP_DigestUpdate(sum->context, data, len);
    else
        sum->crc = stg_crc_update((enum stg_crc_kind)sum->kind, sum->crc, data, len);
}

int stg_sum_finish(struct stg_sum *sum, uint8_t out[STG_SUM_MAX_BYTES])
{
    size_t bytes = KINDS[sum->kind].bytes;

    if (KINDS[sum->kind].fetch)
        sum->failed |= !EVP_DigestFinal_ex(sum->context, out, NULL);
    else
        for (size_t i = 0; i < bytes; i++)
            out[i] = (uint8_t)(sum->crc >> 8 * (bytes - 1 - i));
    return sum->failed ? -EIO : 0;
}

void stg_sum_clear(struct stg_sum *sum)
{
    EVP_MD_CTX_free(sum->context);
    EVP_MD_free(sum->md);
    *sum = (struct stg_sum){.kind = STG_SUM_NONE};
}
