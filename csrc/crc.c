#include "crc_kernel.h"

#include "crc_powers.h"

static const uint32_t crc32_tables[8][256] = TABLES(CRC32);
static const uint32_t crc32c_tables[8][256] = TABLES(CRC32C);
static const uint64_t crc64_tables[8][256] = TABLES(CRC64);

static const struct stg_crc_folds crc32_folds = FOLDS32(CRC32);
static const struct stg_crc_folds crc32c_folds = FOLDS32(CRC32C);
static const struct stg_crc_folds crc64_folds = FOLDS64(CRC64);

static uint64_t poly_of(enum stg_crc_kind kind)
{
    return kind == STG_CRC64NVME ? CRC64_POLY : kind == STG_CRC32C ? CRC32C_POLY : CRC32_POLY;
}

static uint64_t mask_of(enum stg_crc_kind kind)
{
    return kind == STG_CRC64NVME ? UINT64_MAX : UINT32_MAX;
}

const struct stg_crc_folds *stg_crc_folds_of(enum stg_crc_kind kind)
{
    return kind == STG_CRC64NVME ? &crc64_folds : kind == STG_CRC32C ? &crc32c_folds : &crc32_folds;
}

size_t stg_crc_bytes(enum stg_crc_kind kind)
{
    return kind == STG_CRC_NONE ? 0 : kind == STG_CRC64NVME ? 8 : 4;
}

/* ---- references ---- */

uint64_t stg_crc_bitwise(enum stg_crc_kind kind, uint64_t state, const uint8_t *data, size_t len)
{
    uint64_t poly = poly_of(kind);

    for (size_t i = 0; i < len; i++) {
        state ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            state = STEP(poly, state);
    }
    return state;
}

static uint64_t load_le64(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
           (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

/* The same for tables of both widths: all that differs is the type of an entry. */
#define SLICE_BY_8(tables, state, data, len)                                                                 \
    do {                                                                                                     \
        for (; len >= 8; data += 8, len -= 8) {                                                              \
            uint64_t word = load_le64(data) ^ state;                                                         \
            state = tables[7][word & 255] ^ tables[6][word >> 8 & 255] ^ tables[5][word >> 16 & 255] ^       \
                    tables[4][word >> 24 & 255] ^ tables[3][word >> 32 & 255] ^ tables[2][word >> 40 & 255] ^ \
                    tables[1][word >> 48 & 255] ^ tables[0][word >> 56];                                     \
        }                                                                                                    \
        for (; len; data++, len--)                                                                           \
            state = state >> 8 ^ tables[0][(state ^ *data) & 255];                                           \
    } while (0)

uint64_t stg_crc_scalar(enum stg_crc_kind kind, uint64_t state, const uint8_t *data, size_t len)
{
    if (kind == STG_CRC64NVME)
        SLICE_BY_8(crc64_tables, state, data, len);
    else if (kind == STG_CRC32C)
        SLICE_BY_8(crc32c_tables, state, data, len);
    else
        SLICE_BY_8(crc32_tables, state, data, len);
    return state;
}

/* ---- dispatch ---- */

stg_crc_kernel *stg_crc_kernel_best(void)
{
#ifdef STG_CRC_PCLMUL
    if (stg_crc_has_vpclmul())
        return stg_crc_vpclmul;
    if (stg_crc_has_vpclmul_avx2())
        return stg_crc_vpclmul_avx2;
    if (stg_crc_has_pclmul())
        return stg_crc_pclmul;
#endif
#ifdef STG_CRC_ARM
    if (stg_crc_has_pmull())
        return stg_crc_pmull;
    if (stg_crc_has_arm_crc32())
        return stg_crc_arm_crc32;
#endif
    return stg_crc_scalar;
}

uint64_t stg_crc_update(enum stg_crc_kind kind, uint64_t value, const void *data, size_t len)
{
    uint64_t mask = mask_of(kind);

    if (kind == STG_CRC_NONE || !len)
        return value;
    return stg_crc_kernel_best()(kind, value ^ mask, data, len) ^ mask;
}

/* ---- combining ---- */

/* The product of two registers modulo the polynomial, both of the same width. */
static uint64_t multiply(uint64_t poly, uint64_t one, uint64_t a, uint64_t b)
{
    uint64_t product = 0;

    for (uint64_t bit = one; bit; bit >>= 1) { /* from x^0 on */
        product ^= a & bit ? b : 0;
        b = STEP(poly, b);
    }
    return product;
}

/* The inversions at both ends cancel out: a's end and b's start are moved by the same number of bits. */
uint64_t stg_crc_combine(enum stg_crc_kind kind, uint64_t a, uint64_t b, int64_t len_b)
{
    uint64_t poly = poly_of(kind), one = mask_of(kind) ^ mask_of(kind) >> 1;

    if (kind == STG_CRC_NONE)
        return 0;
    for (uint64_t power = one >> 8, left = (uint64_t)len_b; left; left >>= 1) { /* x^8, its square, ... */
        if (left & 1)
            a = multiply(poly, one, power, a);
        power = multiply(poly, one, power, power);
    }
    return a ^ b;
}
