#include "listxml.h"
#include "text.h"
#include "xml.h"

#define MAX_RAW 4000

/* At most MAX_RAW bytes, not ending inside of an entity. */
static struct stg_str raw_cut(struct stg_str raw)
{
    if (raw.len <= MAX_RAW)
        return raw;
    for (size_t len = MAX_RAW; len > MAX_RAW - STG_XML_MAX_ENTITY; len--)
        if (raw.ptr[len - 1] == '&')
            return (struct stg_str){raw.ptr, len - 1};
    return (struct stg_str){raw.ptr, MAX_RAW};
}

/* The character at the start of text, or "?" for one that is none or a control character (C0, DEL, C1). */
static struct stg_str printable(struct stg_str text, size_t width)
{
    uint8_t first = (uint8_t)text.ptr[0];

    if (!width || first < ' ' || first == 0x7f || (first == 0xc2 && (uint8_t)text.ptr[1] < 0xa0))
        return STG_STR("?");
    return (struct stg_str){text.ptr, width};
}

/* raw, undone and made printable, cut to fit with its NUL. */
static void printable_copy(struct stg_str raw, char *out, size_t cap)
{
    char undone[MAX_RAW + 4];
    ssize_t len = stg_xml_entities_undo(raw_cut(raw), undone, sizeof(undone));
    struct stg_str text = {undone, len > 0 ? (size_t)len : 0};
    size_t put = 0;

    while (text.len) {
        size_t width = stg_utf8_len(text);
        struct stg_str shown = printable(text, width);

        if (put + shown.len >= cap)
            break;
        memcpy(out + put, shown.ptr, shown.len);
        put += shown.len;
        text = stg_str_from(text, width ? width : 1);
    }
    out[put] = 0;
}

static void error_text_take(struct stg_s3_error *out, const struct stg_xml_tag *tag)
{
    if (stg_str_same(tag->name, STG_STR("Code")))
        printable_copy(tag->text, out->code, sizeof(out->code));
    else if (stg_str_same(tag->name, STG_STR("Message")))
        printable_copy(tag->text, out->message, sizeof(out->message));
    else if (stg_str_same(tag->name, STG_STR("Region")))
        printable_copy(tag->text, out->region, sizeof(out->region));
    else if (stg_str_same(tag->name, STG_STR("RequestId")))
        printable_copy(tag->text, out->request_id, sizeof(out->request_id));
}

void stg_s3_error_scan(const char *data, size_t len, struct stg_s3_error *out)
{
    struct stg_xml xml;
    struct stg_xml_tag tag;
    enum stg_xml_kind kind;

    *out = (struct stg_s3_error){.code = ""};
    stg_xml_start(&xml, data, len);
    while ((kind = stg_xml_next(&xml, &tag)) > STG_XML_END)
        if (kind == STG_XML_CLOSE && tag.depth > 1 &&
            stg_str_same(stg_xml_open_name(&xml, tag.depth - 1), STG_STR("Error")))
            error_text_take(out, &tag);
}
