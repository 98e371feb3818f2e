#include "http.h"

#include <string.h>

enum { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE };

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    TRAILERS_END_LF,
};

enum field {
    FIELD_CONNECTION,
    FIELD_CONTENT_ENCODING,
    FIELD_CONTENT_LENGTH,
    FIELD_CONTENT_RANGE,
    FIELD_ETAG,
    FIELD_RETRY_AFTER,
    FIELD_TRANSFER_ENCODING,
    FIELD_DATE,
    FIELD_LOCATION,
    FIELD_REGION,
    FIELD_REQUEST_ID,
    FIELD_VERSION_ID,
    FIELD_CRC32,
    FIELD_CRC32C,
    FIELD_CRC64NVME,
    FIELD_SHA1,
    FIELD_SHA256,
    FIELD_CHECKSUM_TYPE,
    FIELD_OTHER,
};

/* What the fields of one head said beyond struct stg_http_head. */
struct fields {
    struct stg_http_head *head;
    struct stg_str retry_after;
    struct stg_str content_range;
    int connection_close;
    int connection_keep_alive;
    int has_etag;
};

static int is_token(uint8_t c)
{
    /* RFC 9110 section 5.6.2, one bit a character */
    static const uint32_t map[8] = {0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff};

    return (int)(map[c >> 5] >> (c & 31) & 1);
}

static int is_value_byte(uint8_t c)
{
    return (c >= ' ' && c != 0x7f) || c == '\t';
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static uint8_t to_lower(char c)
{
    return (uint8_t)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* lower is in lower case */
static int str_is(struct stg_str text, struct stg_str lower)
{
    if (text.len != lower.len)
        return 0;
    for (size_t i = 0; i < text.len; i++)
        if (to_lower(text.ptr[i]) != (uint8_t)lower.ptr[i])
            return 0;
    return 1;
}

static int str_same(struct stg_str a, struct stg_str b)
{
    return a.len == b.len && !memcmp(a.ptr, b.ptr, a.len);
}

static struct stg_str trimmed(struct stg_str text)
{
    while (text.len && (text.ptr[0] == ' ' || text.ptr[0] == '\t')) {
        text.ptr++;
        text.len--;
    }
    while (text.len && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t'))
        text.len--;
    return text;
}

static struct stg_str str_from(struct stg_str text, size_t start)
{
    return (struct stg_str){text.ptr + start, text.len - start};
}

/* Takes the text before the separator off the front, and the separator; without one (0) the whole rest. */
static int item_take(struct stg_str *rest, char separator, struct stg_str *item)
{
    const char *found = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    size_t len = found ? (size_t)(found - rest->ptr) : rest->len;

    *item = (struct stg_str){rest->ptr, len};
    *rest = str_from(*rest, found ? len + 1 : len);
    return found != NULL;
}

/* At least one digit, nothing else, at most 2^63-1; else -1. */
static int64_t decimal_parse(struct stg_str text)
{
    int64_t value = 0;

    if (!text.len)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.ptr[i]) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text.ptr[i] - '0', &value))
            return -1;
    }
    return value;
}

static int64_t days_since_1970(int64_t year, int64_t month, int64_t day)
{
    int64_t march_year = month > 2 ? year : year - 1;
    int64_t march_month = month > 2 ? month - 3 : month + 9;

    return 365 * march_year + march_year / 4 - march_year / 100 + march_year / 400 + (153 * march_month + 2) / 5 +
           day - 1 - 719468;
}

static int64_t digits_at(struct stg_str text, size_t start, size_t len)
{
    return decimal_parse((struct stg_str){text.ptr + start, len});
}

/* RFC 9110 section 5.6.7, the preferred form only ("Sun, 06 Nov 1994 08:49:37 GMT"); -1: not one. */
static int64_t http_date_parse(struct stg_str text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const char shape[] = "???, ?? ??? ???? ??:??:?? GMT";
    int64_t day, month = 0, year, hour, minute, second;

    if (text.len != sizeof(shape) - 1)
        return -1;
    for (size_t i = 0; i < text.len; i++)
        if (shape[i] != '?' && shape[i] != text.ptr[i])
            return -1;
    for (int64_t i = 0; i < 12; i++)
        if (!memcmp(months + 3 * i, text.ptr + 8, 3))
            month = i + 1;
    day = digits_at(text, 5, 2);
    year = digits_at(text, 12, 4);
    hour = digits_at(text, 17, 2);
    minute = digits_at(text, 20, 2);
    second = digits_at(text, 23, 2);
    if (!month || day < 1 || day > 31 || year < 1970 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 60)
        return -1;
    return days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
}

static int64_t retry_after_parse(struct stg_str value, struct stg_str date)
{
    int64_t seconds = decimal_parse(value), until, now;

    if (seconds >= 0)
        return seconds;
    until = http_date_parse(value);
    now = http_date_parse(date);
    if (until < 0 || now < 0)
        return -1;
    return until > now ? until - now : 0;
}

static int length_parse(struct stg_http_head *head, struct stg_str value)
{
    struct stg_str item;
    int more;

    do {
        int64_t length;

        more = item_take(&value, ',', &item);
        length = decimal_parse(trimmed(item));
        if (length < 0 || (head->content_length >= 0 && head->content_length != length))
            return -STG_HTTP_BAD_LENGTH;
        head->content_length = length;
    } while (more);
    return 0;
}

static void range_parse(struct stg_http_head *head, struct stg_str value)
{
    struct stg_str first, last;
    int64_t total = -1;

    head->bad_range = 1;
    if (value.len < 6 || !str_is((struct stg_str){value.ptr, 6}, STG_STR("bytes ")))
        return;
    value = str_from(value, 6);
    if (!item_take(&value, '/', &last))
        return;
    if (!str_is(value, STG_STR("*"))) {
        total = decimal_parse(value);
        if (total < 0)
            return;
    }
    if (str_is(last, STG_STR("*"))) {
        head->range_total = total;
        head->bad_range = total < 0;
        return;
    }
    item_take(&last, '-', &first);
    head->range_first = decimal_parse(first);
    head->range_last = decimal_parse(last);
    if (head->range_first < 0 || head->range_last < head->range_first || (total >= 0 && head->range_last >= total))
        return;
    head->range_total = total;
    head->has_range = 1;
    head->bad_range = 0;
}

static int etag_parse(struct stg_http_head *head, struct stg_str value)
{
    if (value.len >= 2 && value.ptr[0] == 'W' && value.ptr[1] == '/') {
        head->etag_weak = 1;
        value = str_from(value, 2);
    }
    if (value.len && value.ptr[0] == '"') {
        if (value.len < 2 || value.ptr[value.len - 1] != '"')
            return -STG_HTTP_BAD_FIELD;
        value = (struct stg_str){value.ptr + 1, value.len - 2};
    }
    if (value.len && memchr(value.ptr, '"', value.len))
        return -STG_HTTP_BAD_FIELD;
    head->etag = value;
    return 0;
}

static int etag_take(struct fields *fields, struct stg_str value)
{
    struct stg_http_head *head = fields->head;
    struct stg_str before = head->etag;
    int weak_before = head->etag_weak, error;

    head->etag_weak = 0;
    error = etag_parse(head, value);
    if (error)
        return error;
    if (fields->has_etag && (weak_before != head->etag_weak || !str_same(before, head->etag)))
        return -STG_HTTP_BAD_FIELD;
    fields->has_etag = 1;
    return 0;
}

static int content_range_take(struct fields *fields, struct stg_str value)
{
    if (fields->content_range.ptr && !str_same(fields->content_range, value))
        return -STG_HTTP_BAD_FIELD;
    fields->content_range = value;
    return 0;
}

static void connection_take(struct fields *fields, struct stg_str value)
{
    while (value.len) {
        struct stg_str option;

        item_take(&value, ',', &option);
        option = trimmed(option);
        fields->connection_close |= str_is(option, STG_STR("close"));
        fields->connection_keep_alive |= str_is(option, STG_STR("keep-alive"));
    }
}

static int transfer_encoding_take(struct stg_http_head *head, struct stg_str value)
{
    if (head->chunked || !str_is(value, STG_STR("chunked")))
        return -STG_HTTP_BAD_CODING;
    head->chunked = 1;
    return 0;
}

static enum field field_of(struct stg_str name)
{
    static const struct {
        struct stg_str name;
        enum field field;
    } known[] = {
        {{"date", 4}, FIELD_DATE},
        {{"etag", 4}, FIELD_ETAG},
        {{"location", 8}, FIELD_LOCATION},
        {{"connection", 10}, FIELD_CONNECTION},
        {{"retry-after", 11}, FIELD_RETRY_AFTER},
        {{"content-range", 13}, FIELD_CONTENT_RANGE},
        {{"content-length", 14}, FIELD_CONTENT_LENGTH},
        {{"content-encoding", 16}, FIELD_CONTENT_ENCODING},
        {{"x-amz-request-id", 16}, FIELD_REQUEST_ID},
        {{"x-amz-version-id", 16}, FIELD_VERSION_ID},
        {{"transfer-encoding", 17}, FIELD_TRANSFER_ENCODING},
        {{"x-amz-bucket-region", 19}, FIELD_REGION},
        {{"x-amz-checksum-sha1", 19}, FIELD_SHA1},
        {{"x-amz-checksum-type", 19}, FIELD_CHECKSUM_TYPE},
        {{"x-amz-checksum-crc32", 20}, FIELD_CRC32},
        {{"x-amz-checksum-crc32c", 21}, FIELD_CRC32C},
        {{"x-amz-checksum-sha256", 21}, FIELD_SHA256},
        {{"x-amz-checksum-crc64nvme", 24}, FIELD_CRC64NVME},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && known[i].name.len <= name.len; i++)
        if (str_is(name, known[i].name))
            return known[i].field;
    return FIELD_OTHER;
}

static struct stg_str *text_of(struct stg_http_head *head, enum field field)
{
    switch (field) {
    case FIELD_DATE:
        return &head->date;
    case FIELD_LOCATION:
        return &head->location;
    case FIELD_REGION:
        return &head->region;
    case FIELD_REQUEST_ID:
        return &head->request_id;
    case FIELD_VERSION_ID:
        return &head->version_id;
    case FIELD_CRC32:
        return &head->checksum_crc32;
    case FIELD_CRC32C:
        return &head->checksum_crc32c;
    case FIELD_CRC64NVME:
        return &head->checksum_crc64nvme;
    case FIELD_SHA1:
        return &head->checksum_sha1;
    case FIELD_SHA256:
        return &head->checksum_sha256;
    case FIELD_CHECKSUM_TYPE:
        return &head->checksum_type;
    default:
        return NULL;
    }
}

static int field_take(struct fields *fields, struct stg_str name, struct stg_str value)
{
    enum field field = field_of(name);
    struct stg_str *text = text_of(fields->head, field);

    if (text) {
        if (!text->len)
            *text = value;
        return 0;
    }
    switch (field) {
    case FIELD_CONNECTION:
        connection_take(fields, value);
        return 0;
    case FIELD_CONTENT_ENCODING:
        fields->head->encoded |= value.len && !str_is(value, STG_STR("identity"));
        return 0;
    case FIELD_CONTENT_LENGTH:
        return length_parse(fields->head, value);
    case FIELD_CONTENT_RANGE:
        return content_range_take(fields, value);
    case FIELD_ETAG:
        return etag_take(fields, value);
    case FIELD_RETRY_AFTER:
        if (!fields->retry_after.len)
            fields->retry_after = value;
        return 0;
    case FIELD_TRANSFER_ENCODING:
        return transfer_encoding_take(fields->head, value);
    default:
        return 0;
    }
}

static int field_line_parse(struct fields *fields, struct stg_str line)
{
    size_t name_len = 0;

    while (name_len < line.len && is_token((uint8_t)line.ptr[name_len]))
        name_len++;
    if (!name_len || name_len == line.len || line.ptr[name_len] != ':')
        return -STG_HTTP_BAD_FIELD;
    for (size_t i = name_len + 1; i < line.len; i++)
        if (!is_value_byte((uint8_t)line.ptr[i]))
            return -STG_HTTP_BAD_FIELD;
    return field_take(fields, (struct stg_str){line.ptr, name_len}, trimmed(str_from(line, name_len + 1)));
}

static int status_line_parse(struct stg_http_head *head, struct stg_str line)
{
    if (line.len < 12 || memcmp(line.ptr, "HTTP/1.", 7) != 0 || (line.ptr[7] != '0' && line.ptr[7] != '1') ||
        line.ptr[8] != ' ' || (line.len > 12 && line.ptr[12] != ' '))
        return -STG_HTTP_BAD_STATUS_LINE;
    for (size_t i = 9; i < 12; i++)
        if (!is_digit(line.ptr[i]))
            return -STG_HTTP_BAD_STATUS_LINE;
    for (size_t i = 12; i < line.len; i++)
        if (!is_value_byte((uint8_t)line.ptr[i]))
            return -STG_HTTP_BAD_STATUS_LINE;
    head->minor = line.ptr[7] - '0';
    head->status = (int)digits_at(line, 9, 3);
    if (head->status < 100 || head->status > 599 || head->status == 101)
        return -STG_HTTP_BAD_STATUS_LINE;
    return 0;
}

static int is_interim(const struct stg_http_head *head)
{
    return head->status < 200;
}

/* What only all fields together decide. */
static int head_conclude(struct fields *fields)
{
    struct stg_http_head *head = fields->head;
    int bodiless = is_interim(head) || head->status == 204;

    if (head->chunked && (head->content_length >= 0 || head->minor == 0 || bodiless))
        return -STG_HTTP_BAD_CODING;
    if (bodiless && head->content_length > 0)
        return -STG_HTTP_BAD_LENGTH;
    head->keep_alive = (head->minor == 1 || fields->connection_keep_alive) && !fields->connection_close &&
                       (head->chunked || head->content_length >= 0 || bodiless || head->status == 304);
    head->retry_after_s = retry_after_parse(fields->retry_after, head->date);
    if (fields->content_range.ptr)
        range_parse(head, fields->content_range);
    return 0;
}

/* lines: a complete head without its last, empty line; every line end is known to be CR LF. */
static int head_lines_parse(struct stg_str lines, struct stg_http_head *head)
{
    struct fields fields = {.head = head};
    int count = 0, error;

    *head = (struct stg_http_head){.content_length = -1, .range_total = -1, .retry_after_s = -1};
    while (lines.len) {
        const char *lf = memchr(lines.ptr, '\n', lines.len);
        size_t len = (size_t)(lf - lines.ptr);
        struct stg_str line = {lines.ptr, len - 1};

        error = count ? field_line_parse(&fields, line) : status_line_parse(head, line);
        if (error)
            return error;
        if (count++ > STG_HTTP_MAX_FIELDS)
            return -STG_HTTP_TOO_BIG;
        lines = str_from(lines, len + 1);
    }
    return head_conclude(&fields);
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
        if (!is_interim(out))
            return (ssize_t)begin;
    }
    return -STG_HTTP_TOO_BIG;
}

void stg_http_body_start(struct stg_http_body *body, const struct stg_http_head *head, int method_head)
{
    *body = (struct stg_http_body){.state = CHUNK_SIZE};
    if (method_head || is_interim(head) || head->status == 204 || head->status == 304) {
        body->kind = BODY_NONE;
    } else if (head->chunked) {
        body->kind = BODY_CHUNKED;
        return;
    } else if (head->content_length >= 0) {
        body->kind = BODY_LENGTH;
        body->remaining = head->content_length;
    } else {
        body->kind = BODY_UNTIL_CLOSE;
        body->remaining = -1;
    }
    body->complete = !body->remaining;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (to_lower(c) >= 'a' && to_lower(c) <= 'f')
        return to_lower(c) - 'a' + 10;
    return -1;
}

static int chunk_size_byte(struct stg_http_body *body, char c)
{
    int digit = hex_value(c);

    if (digit >= 0) {
        if (++body->counter > 16 || body->remaining > INT64_MAX >> 4)
            return -STG_HTTP_BAD_CHUNK;
        body->remaining = body->remaining << 4 | digit;
        return 0;
    }
    if (!body->counter || (c != ';' && c != '\r'))
        return -STG_HTTP_BAD_CHUNK;
    body->state = c == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_LF;
    return 0;
}

static int expect(struct stg_http_body *body, char c, char wanted, enum chunk_state next)
{
    if (c != wanted)
        return -STG_HTTP_BAD_CHUNK;
    body->state = next;
    return 0;
}

static int chunk_size_end(struct stg_http_body *body, char c)
{
    body->counter = 0;
    return expect(body, c, '\n', body->remaining ? CHUNK_DATA : TRAILER_START);
}

static int extension_byte(struct stg_http_body *body, char c)
{
    if (c == '\r')
        return expect(body, c, '\r', CHUNK_SIZE_LF);
    if (!is_value_byte((uint8_t)c))
        return -STG_HTTP_BAD_CHUNK;
    return ++body->extensions > STG_HTTP_MAX_EXTENSIONS ? -STG_HTTP_TOO_BIG : 0;
}

static int trailer_byte(struct stg_http_body *body, char c)
{
    if (++body->counter > STG_HTTP_MAX_TRAILERS)
        return -STG_HTTP_TOO_BIG;
    if (body->state == TRAILER_VALUE) {
        if (c == '\r')
            return expect(body, c, '\r', TRAILER_LF);
        return is_value_byte((uint8_t)c) ? 0 : -STG_HTTP_BAD_FIELD;
    }
    if (body->state == TRAILER_START && c == '\r')
        return expect(body, c, '\r', TRAILERS_END_LF);
    if (body->state == TRAILER_NAME && c == ':')
        return expect(body, c, ':', TRAILER_VALUE);
    body->state = TRAILER_NAME;
    return is_token((uint8_t)c) ? 0 : -STG_HTTP_BAD_FIELD;
}

/* One byte of chunked framing. */
static int framing_byte(struct stg_http_body *body, char c)
{
    switch ((enum chunk_state)body->state) {
    case CHUNK_SIZE:
        return chunk_size_byte(body, c);
    case CHUNK_EXTENSION:
        return extension_byte(body, c);
    case CHUNK_SIZE_LF:
        return chunk_size_end(body, c);
    case CHUNK_DATA_CR:
        return expect(body, c, '\r', CHUNK_DATA_LF);
    case CHUNK_DATA_LF:
        return expect(body, c, '\n', CHUNK_SIZE);
    case TRAILER_START:
    case TRAILER_NAME:
    case TRAILER_VALUE:
        return trailer_byte(body, c);
    case TRAILER_LF:
        return expect(body, c, '\n', TRAILER_START);
    case TRAILERS_END_LF:
        body->complete = 1;
        return expect(body, c, '\n', TRAILERS_END_LF);
    case CHUNK_DATA:
        break;
    }
    return -STG_HTTP_BAD_CHUNK;
}

static ssize_t run_take(struct stg_http_body *body, size_t room)
{
    size_t run = (uint64_t)body->remaining < room ? (size_t)body->remaining : room;

    body->remaining -= (int64_t)run;
    return (ssize_t)run;
}

static ssize_t chunked_next(struct stg_http_body *body, const char *data, size_t len, size_t *skip)
{
    ssize_t run;

    while (body->state != CHUNK_DATA && !body->complete) {
        int error;

        if (*skip == len)
            return 0;
        error = framing_byte(body, data[*skip]);
        if (error)
            return error;
        ++*skip;
    }
    if (body->complete)
        return 0;
    run = run_take(body, len - *skip);
    if (!body->remaining)
        body->state = CHUNK_DATA_CR;
    return run;
}

ssize_t stg_http_body_next(struct stg_http_body *body, const char *data, size_t len, size_t *skip)
{
    ssize_t run;

    *skip = 0;
    if (body->complete)
        return 0;
    if (body->kind == BODY_UNTIL_CLOSE)
        return (ssize_t)len;
    if (body->kind == BODY_CHUNKED)
        return chunked_next(body, data, len, skip);
    run = run_take(body, len);
    body->complete = !body->remaining;
    return run;
}

int stg_http_body_eof(struct stg_http_body *body)
{
    if (body->kind == BODY_UNTIL_CLOSE)
        body->complete = 1;
    return body->complete ? 0 : -STG_HTTP_TRUNCATED;
}
