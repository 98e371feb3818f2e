/* Common ground of the native engine: plain C11, no Python.h, no globals, no environment reads.
 *
 * Functions return 0 (or a count) on success and -errno on failure. A pointer and its length travel together as
 * struct stg_str; nothing relies on a terminating NUL unless it says so.
 */
#ifndef STG_H
#define STG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STG_BLOCK_BYTES ((size_t)8 << 20) /* the fixed grid of digests and ranges */
#define STG_DIGEST_BYTES 16               /* XXH3-128, canonical (big-endian) bytes */

struct stg_str {
    const char *ptr;
    size_t len;
};

#define STG_STR(literal) ((struct stg_str){(literal), sizeof(literal) - 1})

#endif
