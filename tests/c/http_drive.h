/* Runs one response through the parser as a connection would: bytes arrive in pieces, then the peer may close. */
#ifndef HTTP_DRIVE_H
#define HTTP_DRIVE_H

#include <stdlib.h>
#include <string.h>

#include "http.h"

struct drive {
    ssize_t head; /* length of the head, 0: incomplete, or -enum stg_http_error */
    struct stg_http_head parsed;
    ssize_t body; /* bytes of body so far, or -enum stg_http_error */
    int complete; /* the body is */
    int eof;      /* what the end of the input meant */
    size_t rest;  /* bytes after the body */
    char *bytes;  /* the body */
};

static size_t drive_piece(size_t left, size_t piece)
{
    return piece && piece < left ? piece : left;
}

/* Every piece is copied to a block of its own, so that a sanitizer sees a read beyond it. */
static void drive_body(struct drive *drive, const char *data, size_t len, size_t piece, int method_head)
{
    struct stg_http_body body;
    size_t at = 0;

    stg_http_body_start(&body, &drive->parsed, method_head);
    while (at < len && !body.complete && drive->body >= 0) {
        size_t room = drive_piece(len - at, piece), used = 0;
        char *block = malloc(room);

        memcpy(block, data + at, room);
        while (used < room && !body.complete) {
            size_t skip;
            ssize_t run = stg_http_body_next(&body, block + used, room - used, &skip);

            if (run < 0) {
                drive->body = run;
                break;
            }
            if (skip + (size_t)run == 0 || skip + (size_t)run > room - used || (!run && !body.complete && skip < room - used))
                abort(); /* the contract: progress, within bounds, no early return */
            memcpy(drive->bytes + drive->body, block + used + skip, (size_t)run);
            drive->body += run;
            used += skip + (size_t)run;
        }
        free(block);
        at += used;
    }
    drive->rest = len - at;
    if (drive->body >= 0)
        drive->eof = stg_http_body_eof(&body);
    drive->complete = body.complete;
}

/* piece 0: all at once. The texts of drive->parsed point into data; drive->bytes is freed by the caller. */
static void drive_run(struct drive *drive, const char *data, size_t len, size_t piece, int method_head)
{
    size_t scanned = 0, have = 0;

    *drive = (struct drive){.head = 0};
    drive->bytes = malloc(len + 1);
    while (have < len && !drive->head) {
        have += drive_piece(len - have, piece);
        drive->head = stg_http_head_parse(data, have, &scanned, &drive->parsed);
    }
    if (drive->head > 0)
        drive_body(drive, data + drive->head, len - (size_t)drive->head, piece, method_head);
}

static int drive_str_same(struct stg_str a, struct stg_str b)
{
    return a.len == b.len && (a.len == 0 || a.ptr == b.ptr);
}

static int drive_heads_same(const struct stg_http_head *a, const struct stg_http_head *b)
{
    return a->status == b->status && a->minor == b->minor && a->keep_alive == b->keep_alive &&
           a->content_length == b->content_length && a->chunked == b->chunked && a->has_range == b->has_range &&
           a->range_first == b->range_first && a->range_last == b->range_last && a->range_total == b->range_total &&
           a->bad_range == b->bad_range && a->encoded == b->encoded && a->retry_after_s == b->retry_after_s &&
           a->etag_weak == b->etag_weak && drive_str_same(a->etag, b->etag) && drive_str_same(a->date, b->date) &&
           drive_str_same(a->region, b->region) && drive_str_same(a->request_id, b->request_id) &&
           drive_str_same(a->location, b->location) && drive_str_same(a->version_id, b->version_id) &&
           drive_str_same(a->checksum_crc32, b->checksum_crc32) &&
           drive_str_same(a->checksum_crc32c, b->checksum_crc32c) &&
           drive_str_same(a->checksum_crc64nvme, b->checksum_crc64nvme) &&
           drive_str_same(a->checksum_sha1, b->checksum_sha1) &&
           drive_str_same(a->checksum_sha256, b->checksum_sha256) &&
           drive_str_same(a->checksum_type, b->checksum_type) && drive_str_same(a->sse, b->sse) &&
           drive_str_same(a->sse_customer, b->sse_customer) && a->parts == b->parts;
}

static int drive_same(const struct drive *a, const struct drive *b)
{
    if (a->head != b->head)
        return 0;
    if (a->head <= 0)
        return 1;
    return drive_heads_same(&a->parsed, &b->parsed) && a->body == b->body && a->complete == b->complete &&
           a->eof == b->eof && (a->body < 0 || (a->rest == b->rest && !memcmp(a->bytes, b->bytes, (size_t)a->body)));
}

#endif
