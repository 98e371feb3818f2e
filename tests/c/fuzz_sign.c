/* Texts separated by NUL: time (two bytes), access key, secret, token, region, service, method, path, query, then
 * header names and values. What is signed has no line but the ones that are ours; encoding is undone to what it was. */
#include <string.h>

#include "fuzz.h"
#include "sigv4.h"
#include "text.h"

static struct stg_str text_take(struct stg_str *rest)
{
    const char *end = rest->len ? memchr(rest->ptr, 0, rest->len) : NULL;
    size_t len = end ? (size_t)(end - rest->ptr) : rest->len;
    struct stg_str text = {rest->ptr, len};

    *rest = stg_str_from(*rest, end ? len + 1 : len);
    return text;
}

static void check_lines(const char *out, ssize_t len, int token)
{
    static const char *const names[] = {"x-amz-date: ", "x-amz-content-sha256: ", "x-amz-security-token: ",
                                        "authorization: AWS4-HMAC-SHA256 Credential="};
    const char *at = out;

    for (int i = 0; i < 4; i++) {
        const char *end;

        if (i == 2 && !token)
            continue;
        FUZZ_ASSERT(out + len - at > (ssize_t)strlen(names[i]) && !memcmp(at, names[i], strlen(names[i])));
        end = memchr(at, '\n', (size_t)(out + len - at));
        FUZZ_ASSERT(end && end[-1] == '\r' && !memchr(at, '\r', (size_t)(end - 1 - at)) &&
                    !memchr(at, 0, (size_t)(end - at)));
        at = end + 1;
    }
    FUZZ_ASSERT(at == out + len);
}

static void check_signed(struct stg_str rest)
{
    int64_t unix_s = rest.len > 1 ? (int64_t)(uint8_t)rest.ptr[0] << 32 | (int64_t)(uint8_t)rest.ptr[1] << 16 : 0;
    struct stg_str texts[8];
    struct stg_header headers[STG_SIGV4_MAX_HEADERS + 1];
    struct stg_credentials *credentials;
    size_t count = 0, cap = rest.len + 1024;
    char *out = malloc(cap);
    ssize_t len;

    rest = stg_str_from(rest, rest.len < 2 ? rest.len : 2);
    for (size_t i = 0; i < 8; i++)
        texts[i] = text_take(&rest);
    for (; rest.len && count <= STG_SIGV4_MAX_HEADERS; count++) {
        headers[count].name = text_take(&rest);
        headers[count].value = text_take(&rest);
    }
    credentials = stg_credentials_new(texts[0], texts[1], texts[2], texts[3], texts[4]);
    for (int again = 0; again < 2; again++) {
        len = stg_sigv4_sign(credentials, unix_s, texts[5], texts[6], texts[7], headers, count, out, cap);
        if (len > 0)
            check_lines(out, len, texts[2].len > 0);
    }
    stg_credentials_unref(credentials);
    free(out);
}

static void check_encoded(struct stg_str raw, int keep_slash)
{
    size_t cap = 3 * raw.len, at = 0;
    char *out = malloc(cap + 1);
    ssize_t len = stg_uri_encode(raw, keep_slash, out, cap);

    FUZZ_ASSERT(len >= (ssize_t)raw.len && len <= (ssize_t)cap);
    for (size_t i = 0; i < raw.len; i++) {
        uint8_t byte = (uint8_t)out[at++];

        if (byte == '%') {
            byte = (uint8_t)(stg_hex_value(out[at]) << 4 | stg_hex_value(out[at + 1]));
            at += 2;
        }
        FUZZ_ASSERT(byte == (uint8_t)raw.ptr[i]);
    }
    FUZZ_ASSERT(at == (size_t)len);
    FUZZ_ASSERT(!len || stg_uri_encode(raw, keep_slash, out, (size_t)len - 1) < 0);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stg_str text = {(const char *)data, size};

    check_signed(text);
    check_encoded(text, 0);
    check_encoded(text, 1);
    return 0;
}
