#include "http.h"

#include "http_fields.h"
#include "text.h"

static int field_line_parse(struct stg_http_fields *fields, struct stg_str line)
{
    size_t name_len = 0;

    while (name_len < line.len && stg_is_token(line.ptr[name_len]))
        name_len++;
    if (!name_len || name_len == line.len || line.ptr[name_len] != ':')
        return -STG_HTTP_BAD_FIELD;
    for (size_t i = name_len + 1; i < line.len; i++)
        if (!stg_is_value(line.ptr[i]))
            return -STG_HTTP_BAD_FIELD;
    return stg_http_field_take(fields, (struct stg_str){line.ptr, name_len},
                               stg_str_trimmed(stg_str_from(line, name_len + 1)));
}

static int status_line_parse(struct stg_http_head *head, struct stg_str line)
{
    if (line.len < 12 || memcmp(line.ptr, "HTTP/1.", 7) != 0 || (line.ptr[7] != '0' && line.ptr[7] != '1') ||
        line.ptr[8] != ' ' || (line.len > 12 && line.ptr[12] != ' '))
        return -STG_HTTP_BAD_STATUS_LINE;
    for (size_t i = 9; i < 12; i++)
        if (!stg_is_digit(line.ptr[i]))
            return -STG_HTTP_BAD_STATUS_LINE;
    for (size_t i = 12; i < line.len; i++)
        if (!stg_is_value(line.ptr[i]))
            return -STG_HTTP_BAD_STATUS_LINE;
    head->minor = line.ptr[7] - '0';
    head->status = (int)stg_decimal_at(line, 9, 3);
    head->reason = stg_str_from(line, line.len > 12 ? 13 : 12);
    if (head->status < 100 || head->status > 599 || head->status == 101)
        return -STG_HTTP_BAD_STATUS_LINE;
    return 0;
}

/* lines: a complete head without its last, empty line; every line end is known to be CR LF. */
static int head_lines_parse(struct stg_str lines, struct stg_http_head *head)
{
    struct stg_http_fields fields = {.head = head};
    int count = 0, error;

    *head = (struct stg_http_head){.content_length = -1, .range_total = -1, .retry_after_s = -1, .parts = -1};
    while (lines.len) {
        const char *lf = memchr(lines.ptr, '\n', lines.len);
        size_t len = (size_t)(lf - lines.ptr);
        struct stg_str line = {lines.ptr, len - 1};

        error = count ? field_line_parse(&fields, line) : status_line_parse(head, line);
        if (error)
            return error;
        if (count++ > STG_HTTP_MAX_FIELDS)
            return -STG_HTTP_TOO_BIG;
        lines = stg_str_from(lines, len + 1);
    }
    return stg_http_fields_conclude(&fields);
}

static int prefix_is_http(const char *data, size_t len)
{
    return !memcmp(data, "HTTP/1.", len < 7 ? len : 7);
}

/* The length of the head that starts at begin, its empty line included; 0: more bytes are needed. */
static ssize_t head_end_find(const char *data, size_t begin, size_t len, size_t *scanned)
{
    size_t at = *scanned > begin ? *scanned : begin;

    while (at < len) {
        const char *lf = memchr(data + at, '\n', len - at);
        size_t end;

        if (!lf)
            break;
        end = (size_t)(lf - data);
        if (end < begin + 1 || data[end - 1] != '\r')
            return -STG_HTTP_BAD_FIELD;
        at = end + 1;
        if (end >= begin + 2 && data[end - 2] == '\n') {
            *scanned = at;
            return (ssize_t)(at - begin);
        }
    }
    *scanned = len;
    return 0;
}

ssize_t stg_http_head_parse(const char *data, size_t len, size_t *scanned, struct stg_http_head *out)
{
    size_t limit = len < STG_HTTP_MAX_HEAD ? len : STG_HTTP_MAX_HEAD;
    size_t begin = 0;

    /* The end of an interim head is found again at each call: it has no place in *scanned. */
    if (limit > 9 && data[9] == '1')
        *scanned = 0;
    for (int interim = 0; interim <= STG_HTTP_MAX_INTERIM; interim++) {
        ssize_t head_len;
        int error;

        if (!prefix_is_http(data + begin, limit - begin))
            return -STG_HTTP_BAD_STATUS_LINE;
        head_len = head_end_find(data, begin, limit, scanned);
        if (head_len < 0)
            return head_len;
        if (!head_len)
            return limit == STG_HTTP_MAX_HEAD ? -STG_HTTP_TOO_BIG : 0;
        error = head_lines_parse((struct stg_str){data + begin, (size_t)head_len - 2}, out);
        if (error)
            return error;
        begin += (size_t)head_len;
        if (!stg_http_is_interim(out))
            return (ssize_t)begin;
    }
    return -STG_HTTP_TOO_BIG;
}

const char *stg_http_error_text(ssize_t error)
{
    switch (-error) {
    case STG_HTTP_BAD_STATUS_LINE:
        return "the status line is not HTTP/1.1";
    case STG_HTTP_BAD_FIELD:
        return "a malformed header field";
    case STG_HTTP_BAD_LENGTH:
        return "the length is malformed or contradicts itself";
    case STG_HTTP_BAD_CODING:
        return "a transfer coding that is not accepted";
    case STG_HTTP_BAD_CHUNK:
        return "malformed chunked coding";
    case STG_HTTP_TOO_BIG:
        return "more headers, trailers or chunk extensions than are accepted";
    default:
        return "the answer is cut off";
    }
}
