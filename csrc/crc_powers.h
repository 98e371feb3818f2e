/* Powers of x modulo each polynomial, worked out by the compiler; only crc.c includes it.
 *
 * STEP multiplies a register by x: bit 0 is the coefficient of x^(w-1), so that x^w comes in as POLY. From POLY = x^w
 * on, PREFIX_S<s>_B<b> is x^(w + 8s + 7 - b): what bit b of a byte weighs once 8s further zero bits have passed. The
 * tables are sums of them, and so is the product of any register with x^w (w/8 zero bytes passed).
 */
#ifndef STG_CRC_POWERS_H
#define STG_CRC_POWERS_H

#define STEP(poly, a) ((a) >> 1 ^ ((a) & 1 ? (poly) : 0))
#define BYTE_POWERS(p, s, start)                                                                                      \
    p##_S##s##_B7 = start, p##_S##s##_B6 = STEP(p##_POLY, p##_S##s##_B7),                                             \
    p##_S##s##_B5 = STEP(p##_POLY, p##_S##s##_B6), p##_S##s##_B4 = STEP(p##_POLY, p##_S##s##_B5),                     \
    p##_S##s##_B3 = STEP(p##_POLY, p##_S##s##_B4), p##_S##s##_B2 = STEP(p##_POLY, p##_S##s##_B3),                     \
    p##_S##s##_B1 = STEP(p##_POLY, p##_S##s##_B2), p##_S##s##_B0 = STEP(p##_POLY, p##_S##s##_B1)
#define NEXT_BYTE_POWERS(p, s, before) BYTE_POWERS(p, s, STEP(p##_POLY, p##_S##before##_B0))
#define POWERS(p)                                                                                                     \
    BYTE_POWERS(p, 0, p##_POLY), NEXT_BYTE_POWERS(p, 1, 0), NEXT_BYTE_POWERS(p, 2, 1), NEXT_BYTE_POWERS(p, 3, 2),     \
    NEXT_BYTE_POWERS(p, 4, 3), NEXT_BYTE_POWERS(p, 5, 4), NEXT_BYTE_POWERS(p, 6, 5), NEXT_BYTE_POWERS(p, 7, 6)

/* What the byte v weighs s bytes before the end. */
#define WEIGHT(p, s, v)                                                                                               \
    (((v) & 1 ? p##_S##s##_B0 : 0) ^ ((v) & 2 ? p##_S##s##_B1 : 0) ^ ((v) & 4 ? p##_S##s##_B2 : 0) ^                  \
     ((v) & 8 ? p##_S##s##_B3 : 0) ^ ((v) & 16 ? p##_S##s##_B4 : 0) ^ ((v) & 32 ? p##_S##s##_B5 : 0) ^                \
     ((v) & 64 ? p##_S##s##_B6 : 0) ^ ((v) & 128 ? p##_S##s##_B7 : 0))

#define ROW4(p, s, v) WEIGHT(p, s, v), WEIGHT(p, s, (v) + 1), WEIGHT(p, s, (v) + 2), WEIGHT(p, s, (v) + 3)
#define ROW16(p, s, v) ROW4(p, s, v), ROW4(p, s, (v) + 4), ROW4(p, s, (v) + 8), ROW4(p, s, (v) + 12)
#define ROW64(p, s, v) ROW16(p, s, v), ROW16(p, s, (v) + 16), ROW16(p, s, (v) + 32), ROW16(p, s, (v) + 48)
#define TABLE(p, s) {ROW64(p, s, 0), ROW64(p, s, 64), ROW64(p, s, 128), ROW64(p, s, 192)}
#define TABLES(p)                                                                                                     \
    {TABLE(p, 0), TABLE(p, 1), TABLE(p, 2), TABLE(p, 3), TABLE(p, 4), TABLE(p, 5), TABLE(p, 6), TABLE(p, 7)}

/* a times x^w. */
#define WORD_WEIGHT(p, s3, s2, s1, s0, a)                                                                             \
    (WEIGHT(p, s3, (a)) ^ WEIGHT(p, s2, (a) >> 8) ^ WEIGHT(p, s1, (a) >> 16) ^ WEIGHT(p, s0, (a) >> 24))
#define PASS32(p, a) WORD_WEIGHT(p, 3, 2, 1, 0, (a))
#define PASS64(p, a) (WORD_WEIGHT(p, 7, 6, 5, 4, (a)) ^ WORD_WEIGHT(p, 3, 2, 1, 0, (uint64_t)(a) >> 32))

/* PREFIX_P<m> is x^(w - 1 + w m): the register 1 after m passes of w bits. */
#define PASSES10(p, t, start)                                                                                         \
    p##_P##t##0 = start, p##_P##t##1 = p##_PASS(p, p##_P##t##0), p##_P##t##2 = p##_PASS(p, p##_P##t##1),              \
    p##_P##t##3 = p##_PASS(p, p##_P##t##2), p##_P##t##4 = p##_PASS(p, p##_P##t##3),                                   \
    p##_P##t##5 = p##_PASS(p, p##_P##t##4), p##_P##t##6 = p##_PASS(p, p##_P##t##5),                                   \
    p##_P##t##7 = p##_PASS(p, p##_P##t##6), p##_P##t##8 = p##_PASS(p, p##_P##t##7),                                   \
    p##_P##t##9 = p##_PASS(p, p##_P##t##8)
#define NEXT_PASSES10(p, t, before) PASSES10(p, t, p##_PASS(p, p##_P##before##9))
#define PASSES(p)                                                                                                     \
    PASSES10(p, 0, 1), NEXT_PASSES10(p, 1, 0), NEXT_PASSES10(p, 2, 1), NEXT_PASSES10(p, 3, 2),                        \
    NEXT_PASSES10(p, 4, 3), NEXT_PASSES10(p, 5, 4), NEXT_PASSES10(p, 6, 5)

/* The enumerators are wider than int where they have to be, as GCC, Clang and C23 allow. */
#define CRC32_PASS PASS32
enum { CRC32_POLY = 0xEDB88320U, POWERS(CRC32), PASSES(CRC32) };

#define CRC32C_PASS PASS32
enum { CRC32C_POLY = 0x82F63B78U, POWERS(CRC32C), PASSES(CRC32C) };

#define CRC64_PASS PASS64
enum { CRC64_POLY = 0x9A6C9329AC4BC9B5U, POWERS(CRC64), PASSES(CRC64) };

/* To fold by D bits, the halves of a lane are multiplied by x^(D+64) and x^D. A carry-less product of two reflected
 * registers of 64 bits has 127 bits, and read as one of 128 it is a factor x too high: so by x^(D+63) and x^(D-1), as
 * registers of 64 bits. With x^63 = register 1 these are the passes of 64 bits D/64 - 1 and D/64; a residue of 32 bits
 * stands in the upper half of 64, and x^(63 + 64 k) is x^(31 + 32 (2k + 1)). */
#define FOLD32(p, m_low, m_high) {(uint64_t)p##_P##m_high << 32, (uint64_t)p##_P##m_low << 32}
#define FOLD64(p, m_low, m_high) {p##_P##m_high, p##_P##m_low}

#define FOLDS32(p) {FOLD32(p, 03, 05), FOLD32(p, 07, 09), FOLD32(p, 15, 17), FOLD32(p, 31, 33), FOLD32(p, 63, 65)}
#define FOLDS64(p) {FOLD64(p, 01, 02), FOLD64(p, 03, 04), FOLD64(p, 07, 08), FOLD64(p, 15, 16), FOLD64(p, 31, 32)}

#endif
