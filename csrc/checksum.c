#include "checksum.h"

#include <errno.h>
#include <string.h>

#include "text.h"

/* Of two passes, one after the other. Measured on a Zen 5 server, digest and CRC64NVME of bytes just received: 34 ms a
 * GiB from 32 KiB on, 36 at 8 KiB; it must not be more than any L2 holds. */
#define STEP_BYTES ((size_t)32 << 10)

#define MD5_DIGITS 32

/* Exactly `bytes` bytes in base64, padded, with no bit set behind them. 0, or -EINVAL. */
static int value_parse(struct stg_str text, size_t bytes, uint8_t *out)
{
    size_t digits = (8 * bytes + 5) / 6, done = 0;
    uint32_t held = 0;
    unsigned bits = 0;

    if (text.len != (bytes + 2) / 3 * 4)
        return -EINVAL;
    for (size_t i = 0; i < digits; i++) {
        int digit = stg_base64_value(text.ptr[i]);
        if (digit < 0)
            return -EINVAL;
        held = held << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[done++] = (uint8_t)(held >> bits);
            held &= (1U << bits) - 1;
        }
    }
    for (size_t i = digits; i < text.len; i++)
        if (text.ptr[i] != '=')
            return -EINVAL;
    return held ? -EINVAL : 0;
}

/* Cuts "-<parts>" off: how many; 0: there is none. -EINVAL: a number that no upload has. */
static int64_t parts_cut(struct stg_str *text)
{
    const char *dash = text->len ? memrchr(text->ptr, '-', text->len) : NULL;
    int64_t parts;

    if (!dash)
        return 0;
    parts = stg_decimal_parse(stg_str_from(*text, (size_t)(dash - text->ptr) + 1));
    text->len = (size_t)(dash - text->ptr);
    return parts >= 1 && parts <= STG_PARTS_MAX ? parts : -EINVAL;
}

int64_t stg_etag_parts(struct stg_str etag)
{
    int64_t parts = parts_cut(&etag);

    return parts > 0 && etag.len ? parts : 0;
}

/* -EINVAL: nothing to compare; else how many parts the value is one of (0: none). */
static int64_t composite_of(const struct stg_http_head *head, struct stg_str *value)
{
    int64_t parts = parts_cut(value);

    if (parts < 0)
        return parts;
    if (stg_str_is(head->checksum_type, STG_STR("full_object")))
        return parts ? -EINVAL : 0;
    if (stg_str_is(head->checksum_type, STG_STR("composite")))
        return parts ? parts : -EINVAL;
    return head->checksum_type.len || (!parts && stg_etag_parts(head->etag)) ? -EINVAL : parts;
}

static void take_checksum(const struct stg_http_head *head, struct stg_announced *announced)
{
    const struct {
        enum stg_sum_kind kind;
        struct stg_str text;
    } said[] = {
        {STG_SUM_CRC64NVME, head->checksum_crc64nvme}, {STG_SUM_CRC32C, head->checksum_crc32c},
        {STG_SUM_CRC32, head->checksum_crc32},         {STG_SUM_SHA256, head->checksum_sha256},
        {STG_SUM_SHA1, head->checksum_sha1},
    };

    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct stg_str text = said[i].text;
        int64_t parts = text.len ? composite_of(head, &text) : -EINVAL;

        if (text.len && parts < 0)
            announced->why = STG_WHY_PARTS;
        if (parts < 0 || value_parse(text, stg_sum_bytes(said[i].kind), announced->value) < 0)
            continue;
        announced->kind = said[i].kind;
        announced->parts = (uint32_t)parts;
        return;
    }
}

static int hex_parse(struct stg_str text, uint8_t *out)
{
    if (text.len != MD5_DIGITS)
        return -EINVAL;
    for (size_t i = 0; i < MD5_DIGITS; i += 2) {
        int high = stg_hex_value(text.ptr[i]), low = stg_hex_value(text.ptr[i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        out[i / 2] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

static void take_etag(const struct stg_http_head *head, enum stg_etags etags, struct stg_announced *announced)
{
    struct stg_str etag = head->etag;
    int64_t parts = parts_cut(&etag);

    if (parts < 0 || head->etag_weak || hex_parse(etag, announced->value) < 0)
        return;
    if (head->sse_customer.len || (head->sse.len && !stg_str_is(head->sse, STG_STR("aes256")))) {
        announced->why = STG_WHY_ENCRYPTED;
    } else if (etags >= (parts ? STG_ETAGS_PARTS : STG_ETAGS_PLAIN)) {
        announced->kind = STG_SUM_MD5;
        announced->parts = (uint32_t)parts;
    } else if (parts && announced->why == STG_WHY_UNTOLD) {
        announced->why = STG_WHY_ETAG_OF_PARTS;
    }
}

struct stg_announced stg_checksum_announced(const struct stg_http_head *head, enum stg_etags etags)
{
    struct stg_announced announced = {.kind = STG_SUM_NONE, .why = STG_WHY_UNTOLD};

    take_checksum(head, &announced);
    if (announced.kind == STG_SUM_NONE)
        take_etag(head, etags, &announced);
    if (announced.kind != STG_SUM_NONE)
        announced.why = STG_WHY_NONE;
    return announced;
}

void stg_checksum_add(struct stg_sum *sum, struct stg_hasher *hasher, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    for (size_t at = 0; at < len; at += STEP_BYTES) {
        size_t take = STEP_BYTES < len - at ? STEP_BYTES : len - at;

        stg_hasher_update(hasher, bytes + at, take);
        stg_sum_add(sum, bytes + at, take);
    }
}

static struct stg_str hex(const uint8_t *value, size_t bytes, char out[2 * STG_SUM_MAX_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < bytes; i++) {
        out[2 * i] = digits[value[i] >> 4];
        out[2 * i + 1] = digits[value[i] & 15];
    }
    return (struct stg_str){out, 2 * bytes};
}

int stg_checksum_check(const struct stg_announced *announced, struct stg_sum *sum, struct stg_failure **failure)
{
    size_t bytes = stg_sum_bytes(announced->kind);
    uint8_t value[STG_SUM_MAX_BYTES];
    char texts[2][2 * STG_SUM_MAX_BYTES];
    int status = stg_sum_finish(sum, value);

    if (status == 0 && announced->parts == 1) {
        status = stg_sum_start(sum, announced->kind);
        stg_sum_add(sum, value, bytes);
        status = status < 0 ? status : stg_sum_finish(sum, value);
    }
    if (status == 0 && !memcmp(value, announced->value, bytes))
        return 0;
    if (status < 0) {
        *failure = stg_failure_new(STG_FAIL_ERRNO, -status, "digest", NULL);
        return -EBADMSG;
    }
    struct stg_str came = hex(value, bytes, texts[0]), wanted = hex(announced->value, bytes, texts[1]);
    *failure = stg_failure_new(STG_FAIL_IDENTITY, 0, "checksum", "%s is %.*s, and %.*s was announced",
                               stg_sum_name(announced->kind), (int)came.len, came.ptr, (int)wanted.len, wanted.ptr);
    return -EBADMSG;
}
