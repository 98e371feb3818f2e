#include "targets.h"

#include "text.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

struct packed {
    char *bytes; /* SHA-256, target, fields */
    size_t path_len, fields_len;
};

struct stg_targets {
    atomic_int references;
    size_t count;
    struct packed rows[];
};

struct stg_targets *stg_targets_new(size_t count)
{
    struct stg_targets *targets;

    if (count > (SIZE_MAX - sizeof *targets) / sizeof targets->rows[0])
        return NULL;
    targets = calloc(1, sizeof *targets + count * sizeof targets->rows[0]);
    if (!targets)
        return NULL;
    atomic_init(&targets->references, 1);
    targets->count = count;
    return targets;
}

struct stg_targets *stg_targets_ref(struct stg_targets *targets)
{
    atomic_fetch_add_explicit(&targets->references, 1, memory_order_relaxed);
    return targets;
}

void stg_targets_unref(struct stg_targets *targets)
{
    if (!targets || atomic_fetch_sub_explicit(&targets->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < targets->count; i++) {
        struct packed *row = &targets->rows[i];
        if (row->bytes)
            OPENSSL_cleanse(row->bytes, STG_SHA_BYTES + row->path_len + row->fields_len);
        free(row->bytes);
    }
    free(targets);
}

size_t stg_targets_count(const struct stg_targets *targets)
{
    return targets->count;
}

/* RFC 3986 without a fragment, as far as it matters here: nothing that ends or splits a request line. */
static int is_path(struct stg_str path)
{
    if (!path.len || path.ptr[0] != '/')
        return 0;
    for (size_t i = 0; i < path.len; i++)
        if (path.ptr[i] <= ' ' || path.ptr[i] >= 0x7f || path.ptr[i] == '#')
            return 0;
    return 1;
}

static int is_token(struct stg_str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!stg_is_token(name.ptr[i]))
            return 0;
    return name.len != 0;
}

static int is_value(struct stg_str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (!stg_is_value(value.ptr[i]))
            return 0;
    return 1;
}

static int is_for_the_engine(struct stg_str name)
{
    static const struct stg_str names[] = {
        {"te", 2}, {"host", 4}, {"range", 5}, {"expect", 6}, {"trailer", 7}, {"upgrade", 7}, {"if-match", 8},
        {"if-range", 8}, {"connection", 10}, {"keep-alive", 10}, {"if-none-match", 13}, {"content-length", 14},
        {"accept-encoding", 15}, {"proxy-connection", 16}, {"if-modified-since", 17}, {"transfer-encoding", 17},
        {"if-unmodified-since", 19}, {"proxy-authorization", 19},
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (stg_str_is(name, names[i]))
            return 1;
    return 0;
}

static int measure(const struct stg_header *headers, size_t count, size_t *out)
{
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_token(headers[i].name) || is_for_the_engine(headers[i].name) || !is_value(headers[i].value))
            return -EINVAL;
        if (headers[i].name.len > STG_TARGET_FIELDS_MAX || headers[i].value.len > STG_TARGET_FIELDS_MAX)
            return -EMSGSIZE;
        *out += headers[i].name.len + headers[i].value.len + 4;
        if (*out > STG_TARGET_FIELDS_MAX)
            return -EMSGSIZE;
    }
    return 0;
}

static char *put(char *at, const char *text, size_t len)
{
    if (len)
        memcpy(at, text, len);
    return at + len;
}

int stg_targets_set(struct stg_targets *targets, size_t index, struct stg_str path, const struct stg_header *headers,
                    size_t header_count, const uint8_t sha256[STG_SHA_BYTES])
{
    size_t fields_len;
    int status = measure(headers, header_count, &fields_len);

    if (status < 0)
        return status;
    if (index >= targets->count || targets->rows[index].bytes || !is_path(path))
        return -EINVAL;
    if (path.len > STG_TARGET_MAX)
        return -EMSGSIZE;
    char *bytes = malloc(STG_SHA_BYTES + path.len + fields_len);
    if (!bytes)
        return -ENOMEM;
    memcpy(bytes, sha256, STG_SHA_BYTES);
    char *at = put(bytes + STG_SHA_BYTES, path.ptr, path.len);
    for (size_t i = 0; i < header_count; i++) {
        at = put(at, headers[i].name.ptr, headers[i].name.len);
        at = put(at, ": ", 2);
        at = put(at, headers[i].value.ptr, headers[i].value.len);
        at = put(at, "\r\n", 2);
    }
    targets->rows[index] = (struct packed){bytes, path.len, fields_len};
    return 0;
}

struct stg_target stg_targets_at(const struct stg_targets *targets, size_t index)
{
    const struct packed *row = &targets->rows[index];
    const char *path = row->bytes + STG_SHA_BYTES;

    return (struct stg_target){
        .path = {path, row->path_len},
        .fields = {path + row->path_len, row->fields_len},
        .sha256 = (const uint8_t *)row->bytes,
    };
}

int stg_targets_are_set(const struct stg_targets *targets)
{
    for (size_t i = 0; i < targets->count; i++)
        if (!targets->rows[i].bytes)
            return 0;
    return 1;
}
