/* Whether an answer is what was asked for; see request.h. */
#include "identity.h"
#include "request.h"
#include "text.h"

#include <errno.h>
#include <string.h>

struct flaw {
    const char *where, *message;
};

/* An object from before its bucket had versions is its version "null", which an answer need not name. */
static int is_version(struct stg_str pinned, struct stg_str told)
{
    return stg_str_same(pinned, told) || (!told.len && stg_str_same(pinned, STG_STR("null")));
}

static struct flaw find_other_object(struct stg_identity pinned, const struct stg_http_head *head)
{
    if (pinned.etag.len && (head->etag_weak || !stg_str_same(pinned.etag, head->etag)))
        return (struct flaw){"etag", "the ETag is not the pinned one"};
    if (pinned.version.len && !is_version(pinned.version, head->version_id))
        return (struct flaw){"version", head->version_id.len ? "the version is not the pinned one"
                                                             : "the server does not say which version it sent"};
    return (struct flaw){0};
}

static struct flaw find_flaw(const struct stg_request *request, const struct stg_http_head *head)
{
    if (head->encoded)
        return (struct flaw){"content-encoding", "the server sent a Content-Encoding although identity was asked for"};
    if (request->is_list)
        return head->status == 200 ? (struct flaw){0} : (struct flaw){"status", "a listing must be a 200"};
    if (request->is_part) { /* 206 by S3; others say 200 */
        if (head->status != 206 && head->status != 200)
            return (struct flaw){"status", "a part must be a 206"};
        if (head->bad_range || (head->has_range && head->range_total != request->size))
            return (struct flaw){"content-range", "another range than one of the object"};
        return find_other_object(stg_identity_split(request->identity), head);
    }
    if (request->ranged) {
        /* rclone's server answers a range with 200 and a proper Content-Range: what counts is checked below. */
        if (head->status != 206 && !(head->status == 200 && head->has_range))
            return (struct flaw){"status", "the server ignored the range"};
        if (!head->has_range || head->bad_range || head->range_first != request->offset ||
            head->range_last != request->offset + request->length - 1)
            return (struct flaw){"content-range", "another range than asked for"};
        if (head->range_total != request->size)
            return (struct flaw){"content-range", "the object's size has changed"};
    } else if (head->status != 200) {
        return (struct flaw){"status", "a whole object must be a 200"};
    }
    if (head->content_length >= 0 ? head->content_length != request->length : !head->chunked)
        return (struct flaw){"content-length", "the length is not the object's"};
    return find_other_object(stg_identity_split(request->identity), head);
}

int stg_request_fits(const struct stg_request *request, const struct stg_http_head *head)
{
    return !find_flaw(request, head).where;
}

int stg_request_check(const struct stg_request *request, const struct stg_http_head *head,
                      struct stg_failure **failure)
{
    struct flaw flaw = find_flaw(request, head);
    if (!flaw.where)
        return 0;
    *failure = stg_failure_from_head(head);
    if (*failure) {
        (*failure)->kind = STG_FAIL_IDENTITY;
        (*failure)->where = flaw.where;
        strncpy((*failure)->s3.message, flaw.message, sizeof (*failure)->s3.message - 1);
    }
    return -EBADMSG;
}
