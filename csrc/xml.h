/* A pull scanner for small, plain XML: what listxml.h says is accepted, no more. */
#ifndef STG_XML_H
#define STG_XML_H

#include "stg.h"

#define STG_XML_MAX_DEPTH 16
#define STG_XML_MAX_ENTITY 12 /* "&#x0010FFFF;" */

struct stg_xml_element {
    struct stg_str name;  /* as it stands */
    struct stg_str local; /* without its namespace prefix */
};

struct stg_xml {
    const char *at, *start, *end;
    struct stg_xml_element open[STG_XML_MAX_DEPTH]; /* the open elements, the root first */
    int depth;
    int empty_close; /* <name/> was opened and is to be closed by the next step */
    int rooted;      /* the root was seen */
    const char *problem;
};

enum stg_xml_kind { STG_XML_PROBLEM = -1, STG_XML_END = 0, STG_XML_OPEN, STG_XML_CLOSE };

/* One tag and the text before it, as both stand in the document. */
struct stg_xml_tag {
    struct stg_str name; /* without its namespace prefix */
    struct stg_str text; /* between the tag before and this one */
    int depth;           /* of the element: 1 for the root */
};

void stg_xml_start(struct stg_xml *xml, const char *data, size_t len);
/* STG_XML_END only after a closed root; after STG_XML_PROBLEM, xml->problem says what was wrong. */
enum stg_xml_kind stg_xml_next(struct stg_xml *xml, struct stg_xml_tag *tag);
/* The name, without its prefix, of the open element at that depth (1 is the root). */
static inline struct stg_str stg_xml_open_name(const struct stg_xml *xml, int depth)
{
    return xml->open[depth - 1].local;
}

static inline int stg_xml_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Nothing but ASCII from blank to tilde and DEL: such a text is UTF-8 without control characters, and most are. */
int stg_is_plain(struct stg_str text);
/* No control character but tab, line feed and carriage return. */
int stg_xml_is_text(struct stg_str text);
/* The length of the UTF-8 character at the start of text (RFC 3629), 0 when there is none. */
size_t stg_utf8_len(struct stg_str text);
int stg_is_utf8(struct stg_str text);
/* Undoes entities; out may hold cap bytes, four beyond the text at least. The length, or -1: bad, or too long. */
ssize_t stg_xml_entities_undo(struct stg_str raw, char *out, size_t cap);

#endif
