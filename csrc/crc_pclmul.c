#include "crc_kernel.h"

#ifdef STG_CRC_PCLMUL

#include <immintrin.h>

/* Folding: see Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009).
 * What is left at the end, 16 bytes that stand for everything before, goes through the tables: that needs no further
 * constants and is a few nanoseconds a call. */

#define LEAST 64 /* bytes: below, the tables are as fast */

int stg_crc_has_pclmul(void)
{
    return __builtin_cpu_supports("pclmul") != 0;
}

int stg_crc_has_vpclmul_avx2(void)
{
    return __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("pclmul");
}

int stg_crc_has_vpclmul(void)
{
    return __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("pclmul");
}

#define PCLMUL __attribute__((target("pclmul,sse2")))
#define VPCLMUL_AVX2 __attribute__((target("vpclmulqdq,pclmul,avx2")))
#define VPCLMUL __attribute__((target("vpclmulqdq,pclmul,avx512f,avx512vl")))

#define LOAD(at) _mm_loadu_si128((const __m128i *)(const void *)(at))
#define CONSTANT(fold) _mm_set_epi64x((long long)(fold).low, (long long)(fold).high)

/* lane, moved forward by the constant's distance, onto what lies there. */
#define FOLD(lane, constant, onto)                                                                           \
    _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(lane, constant, 0x00),                                  \
                                _mm_clmulepi64_si128(lane, constant, 0x11)), onto)

/* Folds whole 16 bytes into the lane, then the tables take it and the rest. */
PCLMUL static inline uint64_t finish(enum stg_crc_kind kind, __m128i lane, __m128i by_128, const uint8_t *data,
                                     size_t len)
{
    uint8_t left[16];

    for (; len >= 16; data += 16, len -= 16)
        lane = FOLD(lane, by_128, LOAD(data));
    _mm_storeu_si128((__m128i *)(void *)left, lane);
    return stg_crc_scalar(kind, stg_crc_scalar(kind, 0, left, sizeof left), data, len);
}

PCLMUL uint64_t stg_crc_pclmul(enum stg_crc_kind kind, uint64_t state, const uint8_t *data, size_t len)
{
    if (len < LEAST)
        return stg_crc_scalar(kind, state, data, len);

    const struct stg_crc_folds *folds = stg_crc_folds_of(kind);
    __m128i by_128 = CONSTANT(folds->by_128), by_512 = CONSTANT(folds->by_512);
    __m128i a = _mm_xor_si128(LOAD(data), _mm_cvtsi64_si128((long long)state));
    __m128i b = LOAD(data + 16), c = LOAD(data + 32), d = LOAD(data + 48);

    for (data += 64, len -= 64; len >= 64; data += 64, len -= 64) {
        a = FOLD(a, by_512, LOAD(data));
        b = FOLD(b, by_512, LOAD(data + 16));
        c = FOLD(c, by_512, LOAD(data + 32));
        d = FOLD(d, by_512, LOAD(data + 48));
    }
    b = FOLD(a, by_128, b);
    c = FOLD(b, by_128, c);
    d = FOLD(c, by_128, d);
    return finish(kind, d, by_128, data, len);
}

#define PAIR_LOAD(at) _mm256_loadu_si256((const __m256i *)(const void *)(at))
#define PAIR_CONSTANT(fold) _mm256_broadcastsi128_si256(CONSTANT(fold))
#define PAIR_FOLD(lanes, constant, onto)                                                                     \
    _mm256_xor_si256(_mm256_xor_si256(_mm256_clmulepi64_epi128(lanes, constant, 0x00),                       \
                                      _mm256_clmulepi64_epi128(lanes, constant, 0x11)), onto)

/* For processors without AVX-512: AMD's Zen 3, Intel's for desktops since Alder Lake. */
VPCLMUL_AVX2 uint64_t stg_crc_vpclmul_avx2(enum stg_crc_kind kind, uint64_t state, const uint8_t *data, size_t len)
{
    if (len < 128)
        return stg_crc_pclmul(kind, state, data, len);

    const struct stg_crc_folds *folds = stg_crc_folds_of(kind);
    __m128i by_128 = CONSTANT(folds->by_128);
    __m256i by_256 = PAIR_CONSTANT(folds->by_256), by_1024 = PAIR_CONSTANT(folds->by_1024);
    __m256i a = _mm256_xor_si256(PAIR_LOAD(data), _mm256_zextsi128_si256(_mm_cvtsi64_si128((long long)state)));
    __m256i b = PAIR_LOAD(data + 32), c = PAIR_LOAD(data + 64), d = PAIR_LOAD(data + 96);

    for (data += 128, len -= 128; len >= 128; data += 128, len -= 128) {
        a = PAIR_FOLD(a, by_1024, PAIR_LOAD(data));
        b = PAIR_FOLD(b, by_1024, PAIR_LOAD(data + 32));
        c = PAIR_FOLD(c, by_1024, PAIR_LOAD(data + 64));
        d = PAIR_FOLD(d, by_1024, PAIR_LOAD(data + 96));
    }
    b = PAIR_FOLD(a, by_256, b);
    c = PAIR_FOLD(b, by_256, c);
    d = PAIR_FOLD(c, by_256, d);
    for (; len >= 32; data += 32, len -= 32)
        d = PAIR_FOLD(d, by_256, PAIR_LOAD(data));
    return finish(kind, FOLD(_mm256_castsi256_si128(d), by_128, _mm256_extracti128_si256(d, 1)), by_128, data, len);
}

#define WIDE_LOAD(at) _mm512_loadu_si512((const void *)(at))
#define WIDE_CONSTANT(fold) _mm512_broadcast_i32x4(CONSTANT(fold))
#define XOR3 0x96 /* the truth table of a ^ b ^ c */
#define WIDE_FOLD(lanes, constant, onto)                                                                     \
    _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(lanes, constant, 0x00),                               \
                              _mm512_clmulepi64_epi128(lanes, constant, 0x11), onto, XOR3)

VPCLMUL uint64_t stg_crc_vpclmul(enum stg_crc_kind kind, uint64_t state, const uint8_t *data, size_t len)
{
    if (len < 256)
        return stg_crc_pclmul(kind, state, data, len);

    const struct stg_crc_folds *folds = stg_crc_folds_of(kind);
    __m128i by_128 = CONSTANT(folds->by_128);
    __m512i by_512 = WIDE_CONSTANT(folds->by_512), by_2048 = WIDE_CONSTANT(folds->by_2048);
    __m512i start = _mm512_zextsi128_si512(_mm_cvtsi64_si128((long long)state));
    __m512i a = _mm512_xor_si512(WIDE_LOAD(data), start);
    __m512i b = WIDE_LOAD(data + 64), c = WIDE_LOAD(data + 128), d = WIDE_LOAD(data + 192);

    for (data += 256, len -= 256; len >= 256; data += 256, len -= 256) {
        a = WIDE_FOLD(a, by_2048, WIDE_LOAD(data));
        b = WIDE_FOLD(b, by_2048, WIDE_LOAD(data + 64));
        c = WIDE_FOLD(c, by_2048, WIDE_LOAD(data + 128));
        d = WIDE_FOLD(d, by_2048, WIDE_LOAD(data + 192));
    }
    b = WIDE_FOLD(a, by_512, b);
    c = WIDE_FOLD(b, by_512, c);
    d = WIDE_FOLD(c, by_512, d);
    for (; len >= 64; data += 64, len -= 64)
        d = WIDE_FOLD(d, by_512, WIDE_LOAD(data));

    __m128i lane = _mm512_castsi512_si128(d);
    lane = FOLD(lane, by_128, _mm512_extracti32x4_epi32(d, 1));
    lane = FOLD(lane, by_128, _mm512_extracti32x4_epi32(d, 2));
    lane = FOLD(lane, by_128, _mm512_extracti32x4_epi32(d, 3));
    return finish(kind, lane, by_128, data, len);
}

#endif
