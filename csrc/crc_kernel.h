/* The loops that compute a CRC. All are bit-identical; the first two are the references of the others.
 *
 * A kernel works on the register as it is inside of a computation (a value with all bits inverted). Bit i of a
 * register of w bits is the coefficient of x^(w-1-i): the polynomials are reflected.
 */
#ifndef STG_CRC_KERNEL_H
#define STG_CRC_KERNEL_H

#include "crc.h"

typedef uint64_t stg_crc_kernel(enum stg_crc_kind kind, uint64_t state, const uint8_t *data, size_t len);

stg_crc_kernel stg_crc_bitwise; /* the definition, a bit at a time */
stg_crc_kernel stg_crc_scalar;  /* eight bytes at a time by tables, on any machine */

#if defined(__x86_64__) && defined(__GNUC__)
#define STG_CRC_PCLMUL
stg_crc_kernel stg_crc_pclmul;       /* PCLMULQDQ: 4 x 128 bits at a time */
stg_crc_kernel stg_crc_vpclmul_avx2; /* VPCLMULQDQ: 4 x 256 bits at a time */
stg_crc_kernel stg_crc_vpclmul;      /* VPCLMULQDQ and AVX-512: 4 x 512 bits at a time */
int stg_crc_has_pclmul(void);
int stg_crc_has_vpclmul_avx2(void);
int stg_crc_has_vpclmul(void);
#endif

#if defined(__aarch64__) && defined(__GNUC__) && defined(__AARCH64EL__)
#define STG_CRC_ARM
stg_crc_kernel stg_crc_pmull;      /* PMULL: 4 x 128 bits at a time */
stg_crc_kernel stg_crc_arm_crc32;  /* the CRC32 instructions; CRC64NVME by tables */
int stg_crc_has_pmull(void);
int stg_crc_has_arm_crc32(void);
#endif

/* The fastest one that this processor runs. */
stg_crc_kernel *stg_crc_kernel_best(void);

/* What moves a 128-bit lane, read as data from memory, forward by a distance: the low half (the higher powers of x)
 * times high, plus the high half times low, is the same remainder that many bits further on. */
struct stg_crc_fold {
    uint64_t high, low;
};

struct stg_crc_folds {
    struct stg_crc_fold by_128, by_256, by_512, by_1024, by_2048; /* bits */
};

/* Not for STG_CRC_NONE. */
const struct stg_crc_folds *stg_crc_folds_of(enum stg_crc_kind kind);

#endif
