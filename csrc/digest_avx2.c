#include "digest_kernel.h"

#ifdef STG_XXH_AVX2

#pragma GCC target("avx2")
#define XXH_INLINE_ALL
#define XXH_VECTOR 2 /* XXH_AVX2, which xxhash.h defines only later */
#include <xxhash.h>

void stg_xxh_update_avx2(void *state, const void *data, size_t len)
{
    XXH3_128bits_update(state, data, len);
}

#endif
