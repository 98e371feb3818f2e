/* What is sent for one row, and what may come back for it. One template per source carries everything constant. */
#ifndef STG_REQUEST_H
#define STG_REQUEST_H

#include "checksum.h"
#include "endpoint.h"
#include "failure.h"
#include "sigv4.h"
#include "stg.h"

/* The current generation of credentials and the clock's correction; thread-safe, reference counted. */
struct stg_signer;

struct stg_signer *stg_signer_new(struct stg_str access_key, struct stg_str secret_key, struct stg_str token,
                                  struct stg_str region, struct stg_str service); /* NULL: no memory */
struct stg_signer *stg_signer_ref(struct stg_signer *signer);
void stg_signer_unref(struct stg_signer *signer);
int stg_signer_update(struct stg_signer *signer, struct stg_str access_key, struct stg_str secret_key,
                      struct stg_str token); /* -ENOMEM */
void stg_signer_set_skew(struct stg_signer *signer, int64_t seconds);
int64_t stg_signer_skew(struct stg_signer *signer);
/* One reference for the caller. */
struct stg_credentials *stg_signer_credentials(struct stg_signer *signer);

/* Immutable, reference counted. */
struct stg_template;

/* References endpoint and signer (NULL: unsigned). Header names are made lower case. NULL: no memory, or a header
 * holds CR, LF or NUL, or there are more than STG_SIGV4_MAX_HEADERS - 4 of them. */
struct stg_template *stg_template_new(struct stg_endpoint *endpoint, struct stg_signer *signer, struct stg_str host,
                                      struct stg_str path_prefix, struct stg_str key_prefix,
                                      const struct stg_header *headers, size_t header_count);
struct stg_template *stg_template_ref(struct stg_template *template_);
void stg_template_unref(struct stg_template *template_);
/* Before the first request: which ETags are taken for digests, the grade that objects must reach (0: any), and whether
 * a whole object of which a digest of parts is announced fails before its body is read. */
void stg_template_set_checks(struct stg_template *template_, enum stg_etags etags, char grade, int refuses_parts);
enum stg_etags stg_template_etags(const struct stg_template *template_);
char stg_template_grade(const struct stg_template *template_);
int stg_template_refuses_parts(const struct stg_template *template_);
struct stg_endpoint *stg_template_endpoint(const struct stg_template *template_);
struct stg_str stg_template_key_prefix(const struct stg_template *template_);

struct stg_request {
    struct stg_str key;      /* raw, without the template's prefix; a listing has none */
    struct stg_str identity; /* what it is pinned to (identity.h), the ETag between its quotes; len 0: not pinned */
    struct stg_str query;    /* listings, and heads of a stored part */
    int is_list;
    int is_head;
    int is_part;             /* of the object, as it was uploaded: its offset and length are what is asked for */
    int ranged;              /* send Range: offset .. offset + length - 1 of size */
    int64_t offset, length, size;
};

/* Signs and writes the request. Returns its length; -EMSGSIZE: longer than cap; -E2BIG, -EINVAL as stg_sigv4_sign. */
ssize_t stg_request_write(const struct stg_template *template_, const struct stg_request *request, int64_t unix_s,
                          char *out, size_t cap);

/* Whether a 2xx answer is what was asked for, of the pinned object, in full. */
int stg_request_fits(const struct stg_request *request, const struct stg_http_head *head);
/* 0: the answer is what was asked for, of the pinned object, in full. -EBADMSG: *failure says why (NULL when there is
 * no memory to say it). Only for a 2xx status. */
int stg_request_check(const struct stg_request *request, const struct stg_http_head *head,
                      struct stg_failure **failure);

#endif
