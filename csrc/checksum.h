/* What an answer announces of its object's digest, and whether the bytes that came have it.
 *
 * Sources: Amazon S3 User Guide, "Checking object integrity in Amazon S3", and API Reference, GetObject, HeadObject and
 * Object: the value is the base64 of the (big-endian) checksum in x-amz-checksum-<algorithm>; x-amz-checksum-type says
 * whether it is one of the whole object's bytes (FULL_OBJECT) or of its parts' checksums (COMPOSITE, and the value then
 * ends in "-<parts>"). The ETag of an object that came in one piece, in plain text or under SSE-S3, is the MD5 of its
 * bytes; of one that came in parts, "-<parts>" behind the MD5 of its parts' MD5s; under SSE-C and SSE-KMS it is neither.
 */
#ifndef STG_CHECKSUM_H
#define STG_CHECKSUM_H

#include "digest.h"
#include "failure.h"
#include "grade.h"
#include "sum.h"

#define STG_PARTS_MAX 10000 /* of a multipart upload (User Guide, "Amazon S3 multipart upload limits") */

struct stg_announced {
    enum stg_sum_kind kind; /* STG_SUM_NONE: nothing that could be compared with the bytes */
    enum stg_why why;       /* then */
    uint32_t parts;         /* 0: a sum of the bytes; else of the sums of so many parts */
    uint8_t value[STG_SUM_MAX_BYTES];
};

/* Which ETags are taken for digests: none, those of one piece, those of parts too. */
enum stg_etags { STG_ETAGS_NONE, STG_ETAGS_PLAIN, STG_ETAGS_PARTS };

/* A type other than these two, a value that does not fit its type, and one that is none of its kind announce nothing.
 * Without a type (servers from before it, and other makes) a value without "-<parts>" counts as one of the bytes, unless
 * the ETag is one of a multipart upload: not all of those mark a composite. An ETag serves where nothing else does. */
struct stg_announced stg_checksum_announced(const struct stg_http_head *head, enum stg_etags etags);

/* How many parts an object came in, by its ETag; 0: that does not say. */
int64_t stg_etag_parts(struct stg_str etag);

/* The next bytes of a body, to its sum and to its digest. */
void stg_checksum_add(struct stg_sum *sum, struct stg_hasher *hasher, const void *data, size_t len);
/* Ends the sum of an object's bytes. For an announced one of at most one part: 0, or -EBADMSG and *failure says what
 * came instead (NULL when there is no memory to say it). */
int stg_checksum_check(const struct stg_announced *announced, struct stg_sum *sum, struct stg_failure **failure);

#endif
