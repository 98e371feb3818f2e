#include "http_fields.h"
#include "text.h"

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

void stg_http_body_start(struct stg_http_body *body, const struct stg_http_head *head, int method_head)
{
    *body = (struct stg_http_body){.state = CHUNK_SIZE};
    if (method_head || stg_http_is_interim(head) || head->status == 204 || head->status == 304) {
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

static int chunk_size_byte(struct stg_http_body *body, char c)
{
    int digit = stg_hex_value(c);

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
    body->counter = body->extensions = 0;
    return expect(body, c, '\n', body->remaining ? CHUNK_DATA : TRAILER_START);
}

static int extension_byte(struct stg_http_body *body, char c)
{
    if (c == '\r')
        return expect(body, c, '\r', CHUNK_SIZE_LF);
    if (!stg_is_value(c))
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
        return stg_is_value(c) ? 0 : -STG_HTTP_BAD_FIELD;
    }
    if (body->state == TRAILER_START && c == '\r')
        return expect(body, c, '\r', TRAILERS_END_LF);
    if (body->state == TRAILER_NAME && c == ':')
        return expect(body, c, ':', TRAILER_VALUE);
    body->state = TRAILER_NAME;
    return stg_is_token(c) ? 0 : -STG_HTTP_BAD_FIELD;
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
