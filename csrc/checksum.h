/* What an answer announces of its object's checksum, and whether the bytes that came have it.
 *
 * Source: Amazon S3 User Guide, "Checking object integrity in Amazon S3", and API Reference, GetObject: the value is the
 * base64 of the big-endian CRC in x-amz-checksum-<algorithm>; x-amz-checksum-type says whether it is one of the whole
 * object's bytes (FULL_OBJECT) or of its parts' checksums (COMPOSITE, and the value then ends in "-<parts>"). SHA-1 and
 * SHA-256 are not looked at.
 */
#ifndef STG_CHECKSUM_H
#define STG_CHECKSUM_H

#include "crc.h"
#include "digest.h"
#include "failure.h"

struct stg_announced {
    enum stg_crc_kind kind; /* STG_CRC_NONE: nothing that could be compared with the bytes */
    uint64_t value;
};

/* A type other than FULL_OBJECT, a "-<parts>" behind the value, and a value that is none of its kind announce nothing.
 * Without a type (servers from before it, and other makes) the value counts unless the ETag is one of a multipart
 * upload: not all of those mark a composite. */
struct stg_announced stg_checksum_announced(const struct stg_http_head *head);

/* A body's CRC as it comes, beside its digest. */
struct stg_sum {
    enum stg_crc_kind kind; /* STG_CRC_NONE: nothing is computed */
    uint64_t value;
    int has_wanted; /* the answer announced what it must be */
    uint64_t wanted;
};

/* The next bytes of the body, to the CRC and to its digest. */
void stg_sum_add(struct stg_sum *sum, struct stg_hasher *hasher, const void *data, size_t len);
/* 0, or -EBADMSG: the CRC is not the wanted one; *failure says so (NULL when there is no memory to say it). */
int stg_sum_check(const struct stg_sum *sum, struct stg_failure **failure);

#endif
