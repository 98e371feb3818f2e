#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

struct stg_failure *stg_failure_new(enum stg_fail_kind kind, int error, const char *where, const char *format, ...)
{
    struct stg_failure *failure = calloc(1, sizeof *failure);
    if (!failure)
        return NULL;
    failure->kind = kind;
    failure->error = error;
    failure->where = where;
    failure->retry_after_s = -1;
    if (format) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(failure->s3.message, sizeof failure->s3.message, format, arguments);
        va_end(arguments);
    }
    return failure;
}

static void copy_text(char *out, size_t cap, struct stg_str text)
{
    size_t len = text.len < cap ? text.len : cap - 1;
    for (size_t i = 0; i < len; i++)
        out[i] = text.ptr[i] < ' ' || text.ptr[i] == 0x7f ? '?' : text.ptr[i];
    out[len] = 0;
}

struct stg_failure *stg_failure_from_head(const struct stg_http_head *head)
{
    struct stg_failure *failure = stg_failure_new(STG_FAIL_HTTP, 0, "response", NULL);
    if (!failure)
        return NULL;
    failure->status = head->status;
    failure->retry_after_s = head->retry_after_s;
    if (head->status >= 300 && head->status <= 399 && head->location.len)
        failure->location = strndup(head->location.ptr, head->location.len);
    copy_text(failure->s3.message, sizeof failure->s3.message, head->reason);
    copy_text(failure->date, sizeof failure->date, head->date);
    copy_text(failure->s3.region, sizeof failure->s3.region, head->region);
    copy_text(failure->s3.request_id, sizeof failure->s3.request_id, head->request_id);
    return failure;
}

void stg_failure_free(struct stg_failure *failure)
{
    if (failure && failure->location) {
        OPENSSL_cleanse(failure->location, strlen(failure->location));
        free(failure->location);
    }
    free(failure);
}

const char *stg_fail_kind_name(enum stg_fail_kind kind)
{
    static const char *const names[] = {
        [STG_FAIL_ERRNO] = "errno",       [STG_FAIL_CONNECT] = "connect", [STG_FAIL_PROXY] = "proxy",
        [STG_FAIL_TLS] = "tls",           [STG_FAIL_RESET] = "reset",     [STG_FAIL_STALL] = "stall",
        [STG_FAIL_PROTOCOL] = "protocol", [STG_FAIL_HTTP] = "http",       [STG_FAIL_IDENTITY] = "identity",
        [STG_FAIL_CANCELLED] = "cancelled",
    };
    return names[kind];
}
