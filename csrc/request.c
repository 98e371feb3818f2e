#include "request.h"

#include "identity.h"
#include "uri.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

struct stg_signer {
    atomic_int refs;
    atomic_int_fast64_t skew_s;
    pthread_mutex_t lock;
    struct stg_credentials *credentials;
    struct stg_str region, service; /* owned */
};

struct stg_template {
    atomic_int refs;
    struct stg_endpoint *endpoint;
    struct stg_signer *signer;
    struct stg_str host, path_prefix, key_prefix; /* owned */
    struct stg_header headers[STG_SIGV4_MAX_HEADERS]; /* owned texts */
    size_t header_count;
    enum stg_etags etags;
    char grade;
    int refuses_parts;
};

static int copy_str(struct stg_str *out, struct stg_str text)
{
    char *copy = malloc(text.len + 1);
    if (!copy)
        return -ENOMEM;
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    *out = (struct stg_str){copy, text.len};
    return 0;
}

static void free_str(struct stg_str *text)
{
    if (text->ptr)
        OPENSSL_cleanse((char *)(uintptr_t)text->ptr, text->len); /* it may be a key of the customer's */
    free((char *)(uintptr_t)text->ptr);
}

/* ---- signer ---- */

struct stg_signer *stg_signer_new(struct stg_str access_key, struct stg_str secret_key, struct stg_str token,
                                  struct stg_str region, struct stg_str service)
{
    struct stg_signer *signer = calloc(1, sizeof *signer);
    if (!signer)
        return NULL;
    signer->refs = 1;
    pthread_mutex_init(&signer->lock, NULL);
    if (copy_str(&signer->region, region) < 0 || copy_str(&signer->service, service) < 0 ||
        stg_signer_update(signer, access_key, secret_key, token) < 0) {
        stg_signer_unref(signer);
        return NULL;
    }
    return signer;
}

struct stg_signer *stg_signer_ref(struct stg_signer *signer)
{
    atomic_fetch_add_explicit(&signer->refs, 1, memory_order_relaxed);
    return signer;
}

void stg_signer_unref(struct stg_signer *signer)
{
    if (!signer || atomic_fetch_sub_explicit(&signer->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (signer->credentials)
        stg_credentials_unref(signer->credentials);
    free_str(&signer->region);
    free_str(&signer->service);
    pthread_mutex_destroy(&signer->lock);
    free(signer);
}

int stg_signer_update(struct stg_signer *signer, struct stg_str access_key, struct stg_str secret_key,
                      struct stg_str token)
{
    struct stg_credentials *fresh =
        stg_credentials_new(access_key, secret_key, token, signer->region, signer->service);
    if (!fresh)
        return -ENOMEM;
    pthread_mutex_lock(&signer->lock);
    struct stg_credentials *old = signer->credentials;
    signer->credentials = fresh;
    pthread_mutex_unlock(&signer->lock);
    if (old)
        stg_credentials_unref(old);
    return 0;
}

void stg_signer_set_skew(struct stg_signer *signer, int64_t seconds)
{
    atomic_store_explicit(&signer->skew_s, seconds, memory_order_relaxed);
}

int64_t stg_signer_skew(struct stg_signer *signer)
{
    return atomic_load_explicit(&signer->skew_s, memory_order_relaxed);
}

struct stg_credentials *stg_signer_credentials(struct stg_signer *signer)
{
    pthread_mutex_lock(&signer->lock);
    struct stg_credentials *credentials = stg_credentials_ref(signer->credentials);
    pthread_mutex_unlock(&signer->lock);
    return credentials;
}

/* ---- template ---- */

static int has_break(struct stg_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '\r' || text.ptr[i] == '\n' || text.ptr[i] == 0)
            return 1;
    return 0;
}

static int copy_header(struct stg_header *out, const struct stg_header *header)
{
    if (header->name.len == 0 || has_break(header->name) || has_break(header->value))
        return -EINVAL;
    if (copy_str(&out->name, header->name) < 0 || copy_str(&out->value, header->value) < 0)
        return -ENOMEM;
    char *name = (char *)(uintptr_t)out->name.ptr;
    for (size_t i = 0; i < out->name.len; i++)
        if (name[i] >= 'A' && name[i] <= 'Z')
            name[i] = (char)(name[i] | 0x20);
    return 0;
}

struct stg_template *stg_template_new(struct stg_endpoint *endpoint, struct stg_signer *signer, struct stg_str host,
                                      struct stg_str path_prefix, struct stg_str key_prefix,
                                      const struct stg_header *headers, size_t header_count)
{
    if (header_count > STG_SIGV4_MAX_HEADERS - 4 || has_break(host) || has_break(path_prefix))
        return NULL;
    struct stg_template *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->refs = 1;
    made->endpoint = stg_endpoint_ref(endpoint);
    made->signer = signer ? stg_signer_ref(signer) : NULL;
    made->header_count = header_count;
    int status = copy_str(&made->host, host);
    if (status == 0)
        status = copy_str(&made->path_prefix, path_prefix);
    if (status == 0)
        status = copy_str(&made->key_prefix, key_prefix);
    for (size_t i = 0; i < header_count && status == 0; i++)
        status = copy_header(&made->headers[i], &headers[i]);
    if (status < 0) {
        stg_template_unref(made);
        return NULL;
    }
    return made;
}

struct stg_template *stg_template_ref(struct stg_template *template_)
{
    atomic_fetch_add_explicit(&template_->refs, 1, memory_order_relaxed);
    return template_;
}

void stg_template_unref(struct stg_template *template_)
{
    if (!template_ || atomic_fetch_sub_explicit(&template_->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < template_->header_count; i++) {
        free_str(&template_->headers[i].name);
        free_str(&template_->headers[i].value);
    }
    free_str(&template_->host);
    free_str(&template_->path_prefix);
    free_str(&template_->key_prefix);
    stg_signer_unref(template_->signer);
    stg_endpoint_unref(template_->endpoint);
    free(template_);
}

struct stg_endpoint *stg_template_endpoint(const struct stg_template *template_)
{
    return template_->endpoint;
}

struct stg_str stg_template_key_prefix(const struct stg_template *template_)
{
    return template_->key_prefix;
}

void stg_template_set_checks(struct stg_template *template_, enum stg_etags etags, char grade, int refuses_parts)
{
    template_->etags = etags;
    template_->grade = grade;
    template_->refuses_parts = refuses_parts;
}

enum stg_etags stg_template_etags(const struct stg_template *template_)
{
    return template_->etags;
}

char stg_template_grade(const struct stg_template *template_)
{
    return template_->grade;
}

int stg_template_refuses_parts(const struct stg_template *template_)
{
    return template_->refuses_parts;
}

/* ---- writing ---- */

struct writer {
    char *out;
    size_t len, cap;
    int full;
};

static void put(struct writer *w, struct stg_str text)
{
    if (w->full || text.len > w->cap - w->len) {
        w->full = 1;
        return;
    }
    if (text.len)
        memcpy(w->out + w->len, text.ptr, text.len);
    w->len += text.len;
}

static void put_encoded(struct writer *w, struct stg_str raw)
{
    ssize_t n = w->full ? -ENOSPC : stg_uri_encode(raw, 1, w->out + w->len, w->cap - w->len);
    if (n < 0)
        w->full = 1;
    else
        w->len += (size_t)n;
}

static size_t put_decimal(char *out, int64_t value)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

static struct stg_str range_value(const struct stg_request *request, char out[64])
{
    size_t n = 6;
    memcpy(out, "bytes=", 6);
    n += put_decimal(out + n, request->offset);
    out[n++] = '-';
    n += put_decimal(out + n, request->offset + request->length - 1);
    return (struct stg_str){out, n};
}

static struct stg_str put_path(struct writer *w, const struct stg_template *t, const struct stg_request *request)
{
    size_t start = w->len;
    struct stg_str prefix = t->path_prefix;
    if (request->is_list && prefix.len > 1 && prefix.ptr[prefix.len - 1] == '/')
        prefix.len--; /* "/bucket", as botocore asks for a listing */
    put(w, prefix);
    if (!request->is_list) {
        put_encoded(w, t->key_prefix);
        put_encoded(w, request->key);
    }
    return (struct stg_str){w->out + start, w->len - start};
}

/* Header fields that a proxy may change stay unsigned, as in botocore. */
static int is_unsigned(struct stg_str name)
{
    static const struct stg_str names[] = {
        {"user-agent", 10}, {"accept-encoding", 15}, {"x-amzn-trace-id", 15}, {"expect", 6},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].len == name.len && memcmp(names[i].ptr, name.ptr, name.len) == 0)
            return 1;
    return 0;
}

static int put_signature(struct writer *w, const struct stg_template *t, const struct stg_request *request,
                         struct stg_str path, struct stg_str query, const struct stg_header *headers, size_t count,
                         int64_t unix_s)
{
    struct stg_header signed_headers[STG_SIGV4_MAX_HEADERS];
    size_t signed_count = 0;
    for (size_t i = 0; i < count; i++)
        if (!is_unsigned(headers[i].name))
            signed_headers[signed_count++] = headers[i];
    struct stg_str method = request->is_head ? STG_STR("HEAD") : STG_STR("GET");
    struct stg_credentials *credentials = stg_signer_credentials(t->signer);
    ssize_t n = stg_sigv4_sign(credentials, unix_s + stg_signer_skew(t->signer), method, path,
                               query, signed_headers, signed_count, w->out + w->len, w->cap - w->len);
    stg_credentials_unref(credentials);
    if (n < 0)
        return (int)n;
    w->len += (size_t)n;
    return 0;
}

#define VERSION_FIELD "versionId="
#define PART_QUERY_BYTES 32 /* with the "&" behind it */

/* What stands behind the path's "?", in canonical order; len 0: nothing. room is enough for any version and part. */
static struct stg_str query_of(const struct stg_request *request, struct stg_str version_id, char *room, size_t cap)
{
    size_t start = request->query.len;
    if (!version_id.len)
        return request->query;
    if (start) { /* "partNumber=<n>" */
        memcpy(room, request->query.ptr, start);
        room[start++] = '&';
    }
    memcpy(room + start, VERSION_FIELD, sizeof VERSION_FIELD - 1);
    start += sizeof VERSION_FIELD - 1;
    ssize_t n = stg_uri_encode(version_id, 0, room + start, cap - start);
    return (struct stg_str){room, n < 0 ? 0 : start + (size_t)n};
}

ssize_t stg_request_write(const struct stg_template *template_, const struct stg_request *request, int64_t unix_s,
                          char *out, size_t cap)
{
    struct writer w = {.out = out, .cap = cap};
    struct stg_header headers[STG_SIGV4_MAX_HEADERS];
    size_t count = 0;
    char range[64], etag[1024], room[PART_QUERY_BYTES + sizeof VERSION_FIELD + 3 * STG_VERSION_MAX];
    struct stg_identity pinned = stg_identity_split(request->identity);
    struct stg_str query = query_of(request, pinned.version, room, sizeof room);
    const struct stg_endpoint *endpoint = template_->endpoint;
    const struct stg_proxy *proxy = stg_endpoint_tls(endpoint) ? NULL : stg_endpoint_proxy(endpoint);

    if (pinned.version.len > STG_VERSION_MAX)
        return -EINVAL;
    put(&w, request->is_head ? STG_STR("HEAD ") : STG_STR("GET "));
    if (proxy) {
        put(&w, STG_STR("http://"));
        put(&w, template_->host);
    }
    struct stg_str path = put_path(&w, template_, request);
    if (query.len) {
        put(&w, STG_STR("?"));
        put(&w, query);
    }
    put(&w, STG_STR(" HTTP/1.1\r\n"));

    headers[count++] = (struct stg_header){STG_STR("host"), template_->host};
    if (request->ranged)
        headers[count++] = (struct stg_header){STG_STR("range"), range_value(request, range)};
    if (pinned.etag.len) {
        if (pinned.etag.len + 2 > sizeof etag || has_break(pinned.etag))
            return -EINVAL;
        etag[0] = '"';
        memcpy(etag + 1, pinned.etag.ptr, pinned.etag.len);
        etag[pinned.etag.len + 1] = '"';
        headers[count++] = (struct stg_header){STG_STR("if-match"), {etag, pinned.etag.len + 2}};
    }
    for (size_t i = 0; i < template_->header_count; i++)
        headers[count++] = template_->headers[i];
    for (size_t i = 0; i < count; i++) {
        put(&w, headers[i].name);
        put(&w, STG_STR(": "));
        put(&w, headers[i].value);
        put(&w, STG_STR("\r\n"));
    }
    put(&w, STG_STR("accept-encoding: identity\r\n"));
    if (proxy)
        put(&w, stg_proxy_authorization_line(proxy)); /* for this hop alone: never signed */
    if (w.full)
        return -EMSGSIZE;
    if (template_->signer) {
        int status = put_signature(&w, template_, request, path, query, headers, count, unix_s);
        if (status < 0)
            return status;
    }
    put(&w, STG_STR("\r\n"));
    return w.full ? -EMSGSIZE : (ssize_t)w.len;
}
