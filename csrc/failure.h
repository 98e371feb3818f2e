/* Why one request failed. Made only when something failed; the good path never allocates one. */
#ifndef STG_FAILURE_H
#define STG_FAILURE_H

#include "http.h"
#include "listxml.h"
#include "stg.h"

enum stg_fail_kind {
    STG_FAIL_ERRNO,     /* a local call: see error and where */
    STG_FAIL_CONNECT,   /* no address took the connection: error is the last one's */
    STG_FAIL_PROXY,     /* the proxy was not reached or does not serve: see where, status and message */
    STG_FAIL_TLS,       /* the handshake or a record was refused: see message */
    STG_FAIL_RESET,     /* the peer ended the connection inside an answer */
    STG_FAIL_STALL,     /* no progress for the stall timeout */
    STG_FAIL_PROTOCOL,  /* not HTTP as we accept it */
    STG_FAIL_HTTP,      /* a status that is no success: see status and s3 */
    STG_FAIL_IDENTITY,  /* ETag, range, length or coding is not what was pinned */
    STG_FAIL_CANCELLED,
};

struct stg_failure {
    enum stg_fail_kind kind;
    int error; /* errno, positive; 0: none */
    const char *where; /* a literal */
    int status;
    int64_t retry_after_s; /* -1: none */
    char date[40];
    char *location; /* of a redirect: where to, as it stands; else NULL. It may hold a credential: it is wiped */
    struct stg_s3_error s3; /* message also holds the reason of the other kinds */
};

/* NULL: no memory; a completion without a failure record still says that it failed. message: NULL or printf. */
struct stg_failure *stg_failure_new(enum stg_fail_kind kind, int error, const char *where, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* For a response that is no success; its reason is the message until stg_s3_error_scan finds a better one in the body. */
struct stg_failure *stg_failure_from_head(const struct stg_http_head *head);
void stg_failure_free(struct stg_failure *failure);
/* "errno", "connect", ...: as Python sees it. */
const char *stg_fail_kind_name(enum stg_fail_kind kind);

#endif
