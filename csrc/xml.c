#include "xml.h"

#include "text.h"

/* The ASCII part of XML's names, one bit a character; other alphabets do not occur here. */
static int is_name(char c)
{
    static const uint32_t map[8] = {0, 0x07ff6000, 0x87fffffe, 0x07fffffe};

    return (int)(map[(uint8_t)c >> 5] >> (c & 31) & 1);
}

static int is_all_space(struct stg_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!stg_xml_is_space(text.ptr[i]))
            return 0;
    return 1;
}

static struct stg_str local_name(struct stg_str name)
{
    const char *colon = memchr(name.ptr, ':', name.len);

    return colon ? stg_str_from(name, (size_t)(colon + 1 - name.ptr)) : name;
}

static enum stg_xml_kind xml_refuse(struct stg_xml *xml, const char *problem)
{
    xml->problem = problem;
    return STG_XML_PROBLEM;
}

static void space_skip(struct stg_xml *xml)
{
    while (xml->at < xml->end && stg_xml_is_space(*xml->at))
        xml->at++;
}

static struct stg_str name_take(struct stg_xml *xml)
{
    const char *start = xml->at;

    while (xml->at < xml->end && is_name(*xml->at))
        xml->at++;
    return stg_str_between(start, xml->at);
}

static int byte_take(struct stg_xml *xml, char wanted)
{
    if (xml->at == xml->end || *xml->at != wanted)
        return 0;
    xml->at++;
    return 1;
}

/* name = "value"; 0 when it is not one. */
static int attribute_take(struct stg_xml *xml, struct stg_str *name, struct stg_str *value)
{
    const char *close;
    char quote;

    *name = name_take(xml);
    space_skip(xml);
    if (!name->len || !byte_take(xml, '='))
        return 0;
    space_skip(xml);
    if (xml->at == xml->end || (*xml->at != '"' && *xml->at != '\''))
        return 0;
    quote = *xml->at++;
    close = memchr(xml->at, quote, (size_t)(xml->end - xml->at));
    if (!close)
        return 0;
    *value = stg_str_between(xml->at, close);
    xml->at = close + 1;
    return !memchr(value->ptr, '<', value->len) && stg_xml_is_text(*value) && stg_is_utf8(*value);
}

static int is_encoding_utf8(struct stg_str value)
{
    return value.len == 5 && (value.ptr[0] | 32) == 'u' && (value.ptr[1] | 32) == 't' &&
           (value.ptr[2] | 32) == 'f' && value.ptr[3] == '-' && value.ptr[4] == '8';
}

/* An optional byte order mark, blanks and <?xml ... ?>. */
static int prolog_skip(struct stg_xml *xml)
{
    struct stg_str name, value;

    if (xml->end - xml->at >= 3 && !memcmp(xml->at, "\xef\xbb\xbf", 3))
        xml->at += 3;
    space_skip(xml);
    if (xml->end - xml->at < 6 || memcmp(xml->at, "<?xml", 5) != 0 || !stg_xml_is_space(xml->at[5]))
        return 1;
    xml->at += 5;
    for (space_skip(xml); !byte_take(xml, '?'); space_skip(xml)) {
        if (!attribute_take(xml, &name, &value))
            return 0;
        if (stg_str_same(name, STG_STR("encoding")) && !is_encoding_utf8(value))
            return 0;
    }
    return byte_take(xml, '>');
}

void stg_xml_start(struct stg_xml *xml, const char *data, size_t len)
{
    *xml = (struct stg_xml){.at = data, .start = data, .end = data + len};
    if (len && !prolog_skip(xml))
        xml->problem = "not an XML declaration in UTF-8";
}

static enum stg_xml_kind tag_close(struct stg_xml *xml, struct stg_xml_tag *tag)
{
    tag->name = stg_xml_open_name(xml, xml->depth);
    tag->depth = xml->depth--;
    return STG_XML_CLOSE;
}

static enum stg_xml_kind close_tag_take(struct stg_xml *xml, struct stg_xml_tag *tag)
{
    struct stg_str name = xml->depth ? xml->open[xml->depth - 1].name : STG_STR("");

    if (!name.len || (size_t)(xml->end - xml->at) < name.len || memcmp(xml->at, name.ptr, name.len) != 0)
        return xml_refuse(xml, "an end tag that closes nothing");
    xml->at += name.len;
    space_skip(xml);
    if (!byte_take(xml, '>'))
        return xml_refuse(xml, "a broken end tag");
    return tag_close(xml, tag);
}

static enum stg_xml_kind open_tag_take(struct stg_xml *xml, struct stg_xml_tag *tag)
{
    struct stg_str name = name_take(xml), attribute, value;

    if (!name.len)
        return xml_refuse(xml, "a tag without a name (DOCTYPE, comments, CDATA and instructions are not accepted)");
    if (xml->depth == STG_XML_MAX_DEPTH)
        return xml_refuse(xml, "elements nested too deeply");
    if (!xml->depth && xml->rooted)
        return xml_refuse(xml, "more than one root");
    while (!byte_take(xml, '>')) {
        const char *before = xml->at;

        space_skip(xml);
        if (byte_take(xml, '/')) {
            xml->empty_close = 1;
            if (!byte_take(xml, '>'))
                return xml_refuse(xml, "a broken empty tag");
            break;
        }
        if (byte_take(xml, '>'))
            break;
        if (before == xml->at || !attribute_take(xml, &attribute, &value))
            return xml_refuse(xml, "a broken attribute");
    }
    xml->rooted = 1;
    xml->open[xml->depth++] = (struct stg_xml_element){name, local_name(name)};
    tag->depth = xml->depth;
    tag->name = stg_xml_open_name(xml, tag->depth);
    return STG_XML_OPEN;
}

static enum stg_xml_kind xml_end(struct stg_xml *xml, struct stg_str text)
{
    if (xml->depth || !xml->rooted || !is_all_space(text))
        return xml_refuse(xml, xml->depth ? "the answer is cut off" : "not an XML answer");
    return STG_XML_END;
}

enum stg_xml_kind stg_xml_next(struct stg_xml *xml, struct stg_xml_tag *tag)
{
    const char *text = xml->at, *tag_start;

    if (xml->problem)
        return STG_XML_PROBLEM;
    if (xml->empty_close) {
        xml->empty_close = 0;
        tag->text = stg_str_between(text, text);
        return tag_close(xml, tag);
    }
    tag_start = text < xml->end ? memchr(text, '<', (size_t)(xml->end - text)) : NULL;
    tag->text = stg_str_between(text, tag_start ? tag_start : xml->end);
    if (!tag_start)
        return xml_end(xml, tag->text);
    if (!xml->depth && !is_all_space(tag->text))
        return xml_refuse(xml, "text outside of the root");
    xml->at = tag_start + 1;
    return byte_take(xml, '/') ? close_tag_take(xml, tag) : open_tag_take(xml, tag);
}
