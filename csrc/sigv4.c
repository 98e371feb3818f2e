#include "sigv4.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "sha.h"
#include "text.h"

#define STAMP_BYTES 16 /* YYYYMMDDTHHMMSSZ */
#define DAY_BYTES 8
#define LAST_SECOND INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct stg_credentials {
    atomic_int references;
    int usable;
    struct stg_str access_key, aws4_secret, token, region, service;
    EVP_MD *sha256;
    pthread_mutex_t lock;        /* guards the two below */
    int64_t day;                 /* since 1970; -1: no key yet */
    struct stg_hmac_key day_key; /* derived for that day */
    size_t text_bytes;
    char texts[]; /* access key, AWS4 and secret key, token, region, service */
};

static int is_visible_byte(char c)
{
    return c > ' ' && c < 0x7f;
}

static int is_lower_token_byte(char c)
{
    return stg_is_token(c) && stg_to_lower(c) == c;
}

static int is_all(struct stg_str text, int (*fits)(char))
{
    for (size_t i = 0; i < text.len; i++)
        if (!fits(text.ptr[i]))
            return 0;
    return 1;
}

static int is_visible(struct stg_str text)
{
    return is_all(text, is_visible_byte);
}

static int is_scope_part(struct stg_str text)
{
    return text.len > 0 && is_visible(text) && !memchr(text.ptr, '/', text.len);
}

static struct stg_str text_keep(char **at, struct stg_str text)
{
    struct stg_str kept = {*at, text.len};

    if (text.len)
        memcpy(*at, text.ptr, text.len);
    *at += text.len;
    return kept;
}

struct stg_credentials *stg_credentials_new(struct stg_str access_key, struct stg_str secret_key,
                                            struct stg_str token, struct stg_str region, struct stg_str service)
{
    size_t text_bytes = access_key.len + 4 + secret_key.len + token.len + region.len + service.len;
    struct stg_credentials *credentials = calloc(1, sizeof(*credentials) + text_bytes);
    char *at;

    if (!credentials)
        return NULL;
    /* The first fetch would read OpenSSL's configuration file. */
    if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1)
        credentials->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!credentials->sha256) {
        free(credentials);
        return NULL;
    }
    at = credentials->texts;
    credentials->text_bytes = text_bytes;
    credentials->access_key = text_keep(&at, access_key);
    credentials->aws4_secret = text_keep(&at, STG_STR("AWS4"));
    credentials->aws4_secret.len += text_keep(&at, secret_key).len;
    credentials->token = text_keep(&at, token);
    credentials->region = text_keep(&at, region);
    credentials->service = text_keep(&at, service);
    credentials->usable =
        is_scope_part(access_key) && is_visible(token) && is_scope_part(region) && is_scope_part(service);
    credentials->day = -1;
    pthread_mutex_init(&credentials->lock, NULL);
    atomic_init(&credentials->references, 1);
    return credentials;
}

struct stg_credentials *stg_credentials_ref(struct stg_credentials *credentials)
{
    atomic_fetch_add_explicit(&credentials->references, 1, memory_order_relaxed);
    return credentials;
}

void stg_credentials_unref(struct stg_credentials *credentials)
{
    if (!credentials || atomic_fetch_sub_explicit(&credentials->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&credentials->lock);
    EVP_MD_free(credentials->sha256);
    OPENSSL_cleanse(&credentials->day_key, sizeof(credentials->day_key));
    OPENSSL_cleanse(credentials->texts, credentials->text_bytes);
    free(credentials);
}

/* kSigning = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, day), region), service), "aws4_request") */
static void day_key_derive(struct stg_sha *sha, const struct stg_credentials *credentials, const char *day,
                           struct stg_hmac_key *key)
{
    struct stg_str steps[] = {{day, DAY_BYTES}, credentials->region, credentials->service, STG_STR("aws4_request")};
    uint8_t secret[STG_SHA_BYTES];

    stg_hmac_key_set(sha, key, credentials->aws4_secret);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        stg_hmac(sha, key, steps[i], secret);
        stg_hmac_key_set(sha, key, (struct stg_str){(const char *)secret, sizeof(secret)});
    }
    OPENSSL_cleanse(secret, sizeof(secret));
}

static void day_key_get(struct stg_sha *sha, struct stg_credentials *credentials, int64_t day, const char *day_text,
                        struct stg_hmac_key *key)
{
    int cached;

    pthread_mutex_lock(&credentials->lock);
    cached = credentials->day == day;
    if (cached)
        *key = credentials->day_key;
    pthread_mutex_unlock(&credentials->lock);
    if (cached)
        return;

    day_key_derive(sha, credentials, day_text, key);
    if (sha->failed)
        return;
    pthread_mutex_lock(&credentials->lock);
    credentials->day = day;
    credentials->day_key = *key;
    pthread_mutex_unlock(&credentials->lock);
}

static void decimal_put(char *out, int digits, int64_t value)
{
    while (digits--) {
        out[digits] = (char)('0' + value % 10);
        value /= 10;
    }
}

static void stamp_put(char out[STAMP_BYTES], int64_t unix_s)
{
    struct stg_time time = stg_time_of_unix(unix_s);

    decimal_put(out, 4, time.year);
    decimal_put(out + 4, 2, time.month);
    decimal_put(out + 6, 2, time.day);
    out[8] = 'T';
    decimal_put(out + 9, 2, time.hour);
    decimal_put(out + 11, 2, time.minute);
    decimal_put(out + 13, 2, time.second);
    out[15] = 'Z';
}

/* Text that goes to the caller's buffer; running out of room sticks. */
struct writer {
    char *at;
    size_t room;
    int full;
};

static void put(struct writer *writer, struct stg_str text)
{
    if (text.len > writer->room) {
        writer->full = 1;
        writer->room = 0;
        return;
    }
    if (text.len)
        memcpy(writer->at, text.ptr, text.len);
    writer->at += text.len;
    writer->room -= text.len;
}

/* What is signed: the caller's headers and our own, sorted by name. */
struct signed_headers {
    struct stg_header list[STG_SIGV4_MAX_HEADERS + 3];
    size_t count;
};

static void header_insert(struct signed_headers *headers, struct stg_header header)
{
    size_t at = headers->count++;

    while (at && stg_str_compare(headers->list[at - 1].name, header.name) > 0) {
        headers->list[at] = headers->list[at - 1];
        at--;
    }
    headers->list[at] = header;
}

static int is_added_here(struct stg_str name)
{
    return stg_str_same(name, STG_STR("x-amz-date")) || stg_str_same(name, STG_STR("x-amz-content-sha256")) ||
           stg_str_same(name, STG_STR("x-amz-security-token")) || stg_str_same(name, STG_STR("authorization"));
}

static int is_repeat(const struct signed_headers *headers, size_t i)
{
    return i && stg_str_same(headers->list[i - 1].name, headers->list[i].name);
}

/* Runs of blanks inside a value are signed as one space. */
static void sha_add_value(struct stg_sha *sha, struct stg_str value)
{
    size_t start = 0, at = 0;

    value = stg_str_trimmed(value);
    while (at < value.len) {
        if (!stg_is_blank(value.ptr[at])) {
            at++;
            continue;
        }
        stg_sha_add(sha, stg_str_between(value.ptr + start, value.ptr + at));
        stg_sha_add(sha, STG_STR(" "));
        while (stg_is_blank(value.ptr[at]))
            at++;
        start = at;
    }
    stg_sha_add(sha, stg_str_from(value, start));
}

static void sha_add_names(struct stg_sha *sha, const struct signed_headers *headers)
{
    for (size_t i = 0; i < headers->count; i++) {
        if (is_repeat(headers, i))
            continue;
        if (i)
            stg_sha_add(sha, STG_STR(";"));
        stg_sha_add(sha, headers->list[i].name);
    }
}

static void put_names(struct writer *writer, const struct signed_headers *headers)
{
    for (size_t i = 0; i < headers->count; i++) {
        if (is_repeat(headers, i))
            continue;
        if (i)
            put(writer, STG_STR(";"));
        put(writer, headers->list[i].name);
    }
}

static void canonical_request_hash(struct stg_sha *sha, struct stg_str method, struct stg_str path,
                                   struct stg_str query, const struct signed_headers *headers,
                                   uint8_t out[STG_SHA_BYTES])
{
    stg_sha_start(sha);
    stg_sha_add(sha, method);
    stg_sha_add(sha, STG_STR("\n"));
    stg_sha_add(sha, path);
    stg_sha_add(sha, STG_STR("\n"));
    stg_sha_add(sha, query);
    for (size_t i = 0; i < headers->count; i++) {
        if (is_repeat(headers, i)) {
            stg_sha_add(sha, STG_STR(","));
        } else {
            stg_sha_add(sha, STG_STR("\n"));
            stg_sha_add(sha, headers->list[i].name);
            stg_sha_add(sha, STG_STR(":"));
        }
        sha_add_value(sha, headers->list[i].value);
    }
    stg_sha_add(sha, STG_STR("\n\n"));
    sha_add_names(sha, headers);
    stg_sha_add(sha, STG_STR("\n" EMPTY_SHA256));
    stg_sha_finish(sha, out);
}

static int headers_collect(struct signed_headers *signed_headers, const struct stg_header *headers, size_t count,
                           const struct stg_credentials *credentials, struct stg_str stamp)
{
    if (count > STG_SIGV4_MAX_HEADERS)
        return -E2BIG;
    for (size_t i = 0; i < count; i++) {
        if (!headers[i].name.len || !is_all(headers[i].name, is_lower_token_byte) ||
            is_added_here(headers[i].name) || !is_all(headers[i].value, stg_is_value))
            return -EINVAL;
        header_insert(signed_headers, headers[i]);
    }
    header_insert(signed_headers, (struct stg_header){STG_STR("x-amz-date"), stamp});
    header_insert(signed_headers, (struct stg_header){STG_STR("x-amz-content-sha256"), STG_STR(EMPTY_SHA256)});
    if (credentials->token.len)
        header_insert(signed_headers, (struct stg_header){STG_STR("x-amz-security-token"), credentials->token});
    return 0;
}

/* The string to sign and the credential scope share "YYYYMMDD/region/service/aws4_request". */
static void put_scope(struct writer *writer, const struct stg_credentials *credentials, struct stg_str day)
{
    put(writer, day);
    put(writer, STG_STR("/"));
    put(writer, credentials->region);
    put(writer, STG_STR("/"));
    put(writer, credentials->service);
    put(writer, STG_STR("/aws4_request"));
}

static int signature_make(struct stg_sha *sha, struct stg_credentials *credentials, int64_t unix_s,
                          struct stg_str stamp, const uint8_t request_hash[STG_SHA_BYTES],
                          char signature[2 * STG_SHA_BYTES])
{
    char text[512], request_hex[2 * STG_SHA_BYTES];
    struct writer writer = {text, sizeof(text), 0};
    struct stg_hmac_key key;
    uint8_t digest[STG_SHA_BYTES];

    stg_sha_hex(request_hex, request_hash);
    put(&writer, STG_STR("AWS4-HMAC-SHA256\n"));
    put(&writer, stamp);
    put(&writer, STG_STR("\n"));
    put_scope(&writer, credentials, (struct stg_str){stamp.ptr, DAY_BYTES});
    put(&writer, STG_STR("\n"));
    put(&writer, (struct stg_str){request_hex, sizeof(request_hex)});
    if (writer.full)
        return -EINVAL;

    day_key_get(sha, credentials, unix_s / STG_DAY_S, stamp.ptr, &key);
    stg_hmac(sha, &key, stg_str_between(text, writer.at), digest);
    OPENSSL_cleanse(&key, sizeof(key));
    stg_sha_hex(signature, digest);
    return sha->failed ? -EIO : 0;
}

ssize_t stg_sigv4_sign(struct stg_credentials *credentials, int64_t unix_s, struct stg_str method,
                       struct stg_str path, struct stg_str query, const struct stg_header *headers,
                       size_t header_count, char *out, size_t cap)
{
    struct signed_headers signed_headers = {.count = 0};
    struct writer writer = {out, cap, 0};
    struct stg_sha sha = {.sha256 = credentials->sha256};
    uint8_t request_hash[STG_SHA_BYTES];
    char stamp_text[STAMP_BYTES], signature[2 * STG_SHA_BYTES];
    struct stg_str stamp = {stamp_text, STAMP_BYTES};
    int error;

    if (unix_s < 0 || unix_s > LAST_SECOND || !credentials->usable || !method.len || !is_all(method, stg_is_token) || !path.len ||
        path.ptr[0] != '/' || !is_visible(path) || !is_visible(query))
        return -EINVAL;
    stamp_put(stamp_text, unix_s);
    error = headers_collect(&signed_headers, headers, header_count, credentials, stamp);
    if (error)
        return error;
    sha.context = EVP_MD_CTX_new();
    if (!sha.context)
        return -EIO;
    canonical_request_hash(&sha, method, path, query, &signed_headers, request_hash);
    error = signature_make(&sha, credentials, unix_s, stamp, request_hash, signature);
    EVP_MD_CTX_free(sha.context);
    if (error)
        return error;

    put(&writer, STG_STR("x-amz-date: "));
    put(&writer, stamp);
    put(&writer, STG_STR("\r\nx-amz-content-sha256: " EMPTY_SHA256 "\r\n"));
    if (credentials->token.len) {
        put(&writer, STG_STR("x-amz-security-token: "));
        put(&writer, credentials->token);
        put(&writer, STG_STR("\r\n"));
    }
    put(&writer, STG_STR("authorization: AWS4-HMAC-SHA256 Credential="));
    put(&writer, credentials->access_key);
    put(&writer, STG_STR("/"));
    put_scope(&writer, credentials, (struct stg_str){stamp_text, DAY_BYTES});
    put(&writer, STG_STR(", SignedHeaders="));
    put_names(&writer, &signed_headers);
    put(&writer, STG_STR(", Signature="));
    put(&writer, (struct stg_str){signature, sizeof(signature)});
    put(&writer, STG_STR("\r\n"));
    return writer.full ? -ENOSPC : writer.at - out;
}
