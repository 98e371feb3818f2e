/* The loop that feeds XXH3-128, compiled for any machine and, on x86-64 with GCC, for AVX2; same digests.
 *
 * Measured from L2 on a Xeon with both: 16 to 25 GB/s with SSE2 (-O2, -O3), 36 with AVX2; 38 with AVX-512, which is
 * not worth a third one.
 */
#ifndef STG_DIGEST_KERNEL_H
#define STG_DIGEST_KERNEL_H

#include <stddef.h>

/* state is an XXH3_state_t, which each includer of xxhash.h names differently. */
typedef void stg_xxh_update(void *state, const void *data, size_t len);

stg_xxh_update stg_xxh_update_plain;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define STG_XXH_AVX2
stg_xxh_update stg_xxh_update_avx2; /* the processor has to have it */
#endif

/* The fastest one that this processor runs. */
stg_xxh_update *stg_xxh_update_best(void);

#endif
