#include "http_fields.h"

#include "text.h"

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
    FIELD_MTIME,
    FIELD_CRC32,
    FIELD_CRC32C,
    FIELD_CRC64NVME,
    FIELD_SHA1,
    FIELD_SHA256,
    FIELD_CHECKSUM_TYPE,
    FIELD_PARTS,
    FIELD_SSE,
    FIELD_SSE_CUSTOMER,
    FIELD_OTHER,
};

/* Takes the text before the separator off the front, and the separator; without one (0) the whole rest. */
static int item_take(struct stg_str *rest, char separator, struct stg_str *item)
{
    const char *found = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    size_t len = found ? (size_t)(found - rest->ptr) : rest->len;

    *item = (struct stg_str){rest->ptr, len};
    *rest = stg_str_from(*rest, found ? len + 1 : len);
    return found != NULL;
}

/* RFC 9110 section 5.6.7, the preferred form only ("Sun, 06 Nov 1994 08:49:37 GMT"); -1: not one. */
static int64_t http_date_parse(struct stg_str text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const char shape[] = "???, ?? ??? ???? ??:??:?? GMT";
    struct stg_time time = {0};

    if (text.len != sizeof(shape) - 1)
        return -1;
    for (size_t i = 0; i < text.len; i++)
        if (shape[i] != '?' && shape[i] != text.ptr[i])
            return -1;
    for (int64_t i = 0; i < 12; i++)
        if (!memcmp(months + 3 * i, text.ptr + 8, 3))
            time.month = i + 1;
    time.day = stg_decimal_at(text, 5, 2);
    time.year = stg_decimal_at(text, 12, 4);
    time.hour = stg_decimal_at(text, 17, 2);
    time.minute = stg_decimal_at(text, 20, 2);
    time.second = stg_decimal_at(text, 23, 2);
    return stg_time_to_unix(time);
}

static int64_t retry_after_parse(struct stg_str value, struct stg_str date)
{
    int64_t seconds = stg_decimal_parse(value), until, now;

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
        length = stg_decimal_parse(stg_str_trimmed(item));
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
    if (value.len < 6 || !stg_str_is((struct stg_str){value.ptr, 6}, STG_STR("bytes ")))
        return;
    value = stg_str_from(value, 6);
    item_take(&value, '/', &last);
    if (!stg_str_is(value, STG_STR("*"))) {
        total = stg_decimal_parse(value);
        if (total < 0)
            return;
    }
    if (stg_str_is(last, STG_STR("*"))) {
        head->range_total = total;
        head->bad_range = total < 0;
        return;
    }
    item_take(&last, '-', &first);
    head->range_first = stg_decimal_parse(first);
    head->range_last = stg_decimal_parse(last);
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
        value = stg_str_from(value, 2);
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

static int etag_take(struct stg_http_fields *fields, struct stg_str value)
{
    struct stg_http_head *head = fields->head;
    struct stg_str before = head->etag;
    int weak_before = head->etag_weak, error;

    head->etag_weak = 0;
    error = etag_parse(head, value);
    if (error)
        return error;
    if (fields->has_etag && (weak_before != head->etag_weak || !stg_str_same(before, head->etag)))
        return -STG_HTTP_BAD_FIELD;
    fields->has_etag = 1;
    return 0;
}

static int content_range_take(struct stg_http_fields *fields, struct stg_str value)
{
    if (fields->content_range.ptr && !stg_str_same(fields->content_range, value))
        return -STG_HTTP_BAD_FIELD;
    fields->content_range = value;
    return 0;
}

static void connection_take(struct stg_http_fields *fields, struct stg_str value)
{
    while (value.len) {
        struct stg_str option;

        item_take(&value, ',', &option);
        option = stg_str_trimmed(option);
        fields->connection_close |= stg_str_is(option, STG_STR("close"));
        fields->connection_keep_alive |= stg_str_is(option, STG_STR("keep-alive"));
    }
}

static int transfer_encoding_take(struct stg_http_head *head, struct stg_str value)
{
    if (head->chunked || !stg_str_is(value, STG_STR("chunked")))
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
        {{"x-amz-meta-mtime", 16}, FIELD_MTIME},
        {{"x-amz-request-id", 16}, FIELD_REQUEST_ID},
        {{"x-amz-version-id", 16}, FIELD_VERSION_ID},
        {{"transfer-encoding", 17}, FIELD_TRANSFER_ENCODING},
        {{"x-amz-bucket-region", 19}, FIELD_REGION},
        {{"x-amz-checksum-sha1", 19}, FIELD_SHA1},
        {{"x-amz-checksum-type", 19}, FIELD_CHECKSUM_TYPE},
        {{"x-amz-checksum-crc32", 20}, FIELD_CRC32},
        {{"x-amz-mp-parts-count", 20}, FIELD_PARTS},
        {{"x-amz-checksum-crc32c", 21}, FIELD_CRC32C},
        {{"x-amz-checksum-sha256", 21}, FIELD_SHA256},
        {{"x-amz-checksum-crc64nvme", 24}, FIELD_CRC64NVME},
        {{"x-amz-server-side-encryption", 28}, FIELD_SSE},
        {{"x-amz-server-side-encryption-customer-algorithm", 47}, FIELD_SSE_CUSTOMER},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && known[i].name.len <= name.len; i++)
        if (stg_str_is(name, known[i].name))
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
    case FIELD_MTIME:
        return &head->mtime;
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
    case FIELD_SSE:
        return &head->sse;
    case FIELD_SSE_CUSTOMER:
        return &head->sse_customer;
    default:
        return NULL;
    }
}

int stg_http_field_take(struct stg_http_fields *fields, struct stg_str name, struct stg_str value)
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
        fields->head->encoded |= value.len && !stg_str_is(value, STG_STR("identity"));
        return 0;
    case FIELD_CONTENT_LENGTH:
        return length_parse(fields->head, value);
    case FIELD_CONTENT_RANGE:
        return content_range_take(fields, value);
    case FIELD_ETAG:
        return etag_take(fields, value);
    case FIELD_PARTS:
        if (fields->head->parts < 0)
            fields->head->parts = stg_decimal_parse(value);
        return 0;
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

int stg_http_is_interim(const struct stg_http_head *head)
{
    return head->status < 200;
}

int stg_http_fields_conclude(struct stg_http_fields *fields)
{
    struct stg_http_head *head = fields->head;
    int bodiless = stg_http_is_interim(head) || head->status == 204;

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
