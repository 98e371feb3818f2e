/* What pins an object: its ETag, and behind a NUL its version id where one is known. Neither can hold a NUL. */
#ifndef STG_IDENTITY_H
#define STG_IDENTITY_H

#include "stg.h"

#define STG_VERSION_MAX 1024 /* bytes of a version id (Amazon S3 User Guide, "How S3 Versioning works") */

struct stg_identity {
    struct stg_str etag;    /* len 0: none */
    struct stg_str version; /* len 0: none */
};

struct stg_identity stg_identity_split(struct stg_str text);
/* Whether both are of one content: they are the same, or have the same ETag and only one of them has a version. */
int stg_identity_agrees(struct stg_str a, struct stg_str b);

#endif
