/* Where single objects are asked for when no template can say it: each has a request target, header fields and a
 * SHA-256 of its own, as a Git LFS server gives them (git-lfs, docs/api/basic-transfers.md).
 *
 * Filled by one thread, then immutable. Reference counted, so a running batch keeps them alive. What they hold may be a
 * credential: it is wiped when it is freed.
 */
#ifndef STG_TARGETS_H
#define STG_TARGETS_H

#include "sha.h"
#include "sigv4.h"
#include "stg.h"

#define STG_TARGET_MAX 8192        /* bytes of a target: path and query */
#define STG_TARGET_FIELDS_MAX 8192 /* and of its header fields as they are sent */

struct stg_targets;

struct stg_target {
    struct stg_str path;   /* with its query, as it is sent; it begins with a slash */
    struct stg_str fields; /* whole lines, each with its CR LF */
    const uint8_t *sha256; /* STG_SHA_BYTES */
};

struct stg_targets *stg_targets_new(size_t count); /* NULL: no memory */
struct stg_targets *stg_targets_ref(struct stg_targets *targets);
void stg_targets_unref(struct stg_targets *targets);
size_t stg_targets_count(const struct stg_targets *targets);
/* Each once. -EINVAL: index; a target that does not begin with a slash or holds a blank, a control character, '#' or what
 * is not ASCII; a field whose name is no token or says how a message is framed, routed or asked for, which only the
 * engine does, or whose value holds a control character. -EMSGSIZE: too long. -ENOMEM. */
int stg_targets_set(struct stg_targets *targets, size_t index, struct stg_str path, const struct stg_header *headers,
                    size_t header_count, const uint8_t sha256[STG_SHA_BYTES]);
/* index < count, and set. */
struct stg_target stg_targets_at(const struct stg_targets *targets, size_t index);
/* Whether each was set. */
int stg_targets_are_set(const struct stg_targets *targets);

#endif
