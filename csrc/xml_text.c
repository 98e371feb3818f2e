#include "text.h"
#include "xml.h"

#define ONES UINT64_C(0x0101010101010101)

int stg_is_plain(struct stg_str text)
{
    size_t at = 0;

    for (; text.len - at >= 8; at += 8) {
        uint64_t word;

        memcpy(&word, text.ptr + at, 8);
        /* in a byte below 0x80, adding 0x60 sets the top bit when it is at least a blank */
        if ((((word & 0x7f * ONES) + 0x60 * ONES) & ~word & 0x80 * ONES) != 0x80 * ONES)
            return 0;
    }
    for (; at < text.len; at++)
        if ((uint8_t)text.ptr[at] < ' ' || (uint8_t)text.ptr[at] > 0x7f)
            return 0;
    return 1;
}

size_t stg_utf8_len(struct stg_str text)
{
    uint8_t c[4] = {0};
    size_t len;

    memcpy(c, text.ptr, text.len < 4 ? text.len : 4);
    if (c[0] < 0x80)
        return text.len > 0;
    if (c[0] < 0xc2 || c[0] > 0xf4)
        return 0;
    len = c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    for (size_t i = 1; i < len; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
        (c[0] == 0xf4 && c[1] > 0x8f))
        return 0;
    return len;
}

int stg_is_utf8(struct stg_str text)
{
    size_t at = 0;

    while (at < text.len) {
        size_t len = (uint8_t)text.ptr[at] < 0x80 ? 1 : stg_utf8_len(stg_str_from(text, at));

        if (!len)
            return 0;
        at += len;
    }
    return 1;
}

int stg_xml_is_text(struct stg_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((uint8_t)text.ptr[i] < ' ' && !stg_xml_is_space(text.ptr[i]))
            return 0;
    return 1;
}

static size_t utf8_put(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* What stands between "&#" and ";"; 0: no character. XML 1.0 forbids most control characters even here, but Amazon
 * sends keys that hold them this way. */
static uint32_t numeric_entity(struct stg_str digits)
{
    uint32_t base = 10, code = 0;

    if (digits.len && digits.ptr[0] == 'x') {
        base = 16;
        digits = stg_str_from(digits, 1);
    }
    for (size_t i = 0; i < digits.len; i++) {
        int digit = stg_hex_value(digits.ptr[i]);

        if (digit < 0 || (uint32_t)digit >= base)
            return 0;
        code = code * base + (uint32_t)digit;
        if (code > 0x10ffff)
            return 0;
    }
    return code >= 0xd800 && code < 0xe000 ? 0 : code;
}

static uint32_t entity_code(struct stg_str name)
{
    static const struct {
        struct stg_str name;
        uint32_t code;
    } known[] = {{{"amp", 3}, '&'}, {{"lt", 2}, '<'}, {{"gt", 2}, '>'}, {{"quot", 4}, '"'}, {{"apos", 4}, '\''}};

    if (name.len && name.ptr[0] == '#')
        return numeric_entity(stg_str_from(name, 1));
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (stg_str_same(name, known[i].name))
            return known[i].code;
    return 0;
}

ssize_t stg_xml_entities_undo(struct stg_str raw, char *out, size_t cap)
{
    size_t at = 0, put = 0;

    while (at < raw.len) {
        const char *amp = memchr(raw.ptr + at, '&', raw.len - at), *semicolon;
        size_t plain = (amp ? (size_t)(amp - raw.ptr) : raw.len) - at, room;
        uint32_t code;

        if (plain > cap - put)
            return -1;
        memcpy(out + put, raw.ptr + at, plain);
        put += plain;
        at += plain;
        if (!amp)
            break;
        room = raw.len - at < STG_XML_MAX_ENTITY ? raw.len - at : STG_XML_MAX_ENTITY;
        semicolon = memchr(amp, ';', room);
        code = semicolon ? entity_code(stg_str_between(amp + 1, semicolon)) : 0;
        if (!code || cap - put < 4)
            return -1;
        put += utf8_put(code, out + put);
        at = (size_t)(semicolon + 1 - raw.ptr);
    }
    return (ssize_t)put;
}
