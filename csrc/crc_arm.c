#include "crc_kernel.h"

#ifdef STG_CRC_ARM

#include <arm_acle.h>
#include <arm_neon.h>
#include <string.h>
#include <sys/auxv.h>

/* The bits of AT_HWCAP, from the kernel's Documentation/arch/arm64/elf_hwcaps.rst and asm/hwcap.h. */
#define HAS_PMULL (1UL << 4)
#define HAS_CRC32 (1UL << 7)

#define LEAST 64 /* bytes: below, the tables are as fast */

int stg_crc_has_pmull(void)
{
    return (getauxval(AT_HWCAP) & HAS_PMULL) != 0;
}

int stg_crc_has_arm_crc32(void)
{
    return (getauxval(AT_HWCAP) & HAS_CRC32) != 0;
}

#define PMULL __attribute__((target("+crypto")))
#define ARM_CRC32 __attribute__((target("+crc")))

/* Folding as in crc_pclmul.c, where it is explained; the lanes and constants are the same. */
PMULL static inline uint64x2_t fold(uint64x2_t lane, struct stg_crc_fold by, uint64x2_t onto)
{
    uint64x2_t low = vreinterpretq_u64_p128(vmull_p64(vgetq_lane_u64(lane, 0), by.high));
    uint64x2_t high = vreinterpretq_u64_p128(vmull_p64(vgetq_lane_u64(lane, 1), by.low));

    return veorq_u64(veorq_u64(low, high), onto);
}

PMULL static inline uint64x2_t load(const uint8_t *at)
{
    return vreinterpretq_u64_u8(vld1q_u8(at));
}

PMULL uint64_t stg_crc_pmull(enum stg_crc_kind kind, uint64_t state, const uint8_t *data, size_t len)
{
    if (len < LEAST)
        return stg_crc_scalar(kind, state, data, len);

    const struct stg_crc_folds *folds = stg_crc_folds_of(kind);
    uint64x2_t a = veorq_u64(load(data), vcombine_u64(vcreate_u64(state), vcreate_u64(0)));
    uint64x2_t b = load(data + 16), c = load(data + 32), d = load(data + 48);
    uint8_t left[16];

    for (data += 64, len -= 64; len >= 64; data += 64, len -= 64) {
        a = fold(a, folds->by_512, load(data));
        b = fold(b, folds->by_512, load(data + 16));
        c = fold(c, folds->by_512, load(data + 32));
        d = fold(d, folds->by_512, load(data + 48));
    }
    b = fold(a, folds->by_128, b);
    c = fold(b, folds->by_128, c);
    d = fold(c, folds->by_128, d);
    for (; len >= 16; data += 16, len -= 16)
        d = fold(d, folds->by_128, load(data));
    vst1q_u8(left, vreinterpretq_u8_u64(d));
    return stg_crc_scalar(kind, stg_crc_scalar(kind, 0, left, sizeof left), data, len);
}

ARM_CRC32 static uint64_t crc32_instructions(uint32_t state, const uint8_t *data, size_t len)
{
    for (uint64_t word; len >= 8; data += 8, len -= 8) {
        memcpy(&word, data, 8);
        state = __crc32d(state, word);
    }
    for (; len; data++, len--)
        state = __crc32b(state, *data);
    return state;
}

ARM_CRC32 static uint64_t crc32c_instructions(uint32_t state, const uint8_t *data, size_t len)
{
    for (uint64_t word; len >= 8; data += 8, len -= 8) {
        memcpy(&word, data, 8);
        state = __crc32cd(state, word);
    }
    for (; len; data++, len--)
        state = __crc32cb(state, *data);
    return state;
}

uint64_t stg_crc_arm_crc32(enum stg_crc_kind kind, uint64_t state, const uint8_t *data, size_t len)
{
    if (kind == STG_CRC64NVME)
        return stg_crc_scalar(kind, state, data, len);
    return kind == STG_CRC32C ? crc32c_instructions((uint32_t)state, data, len)
                              : crc32_instructions((uint32_t)state, data, len);
}

#endif
