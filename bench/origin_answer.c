/* The head of an answer, and S3's errors (API reference, "Error responses"). */
#define _GNU_SOURCE
#include "origin.h"

void answer_head(struct worker *w, struct connection *c, const struct answer *a) {
    struct text *t = &c->out;
    t->len = c->out_sent = 0;
    text_add(t, LITERAL("HTTP/1.1 "));
    text_add(t, span_of(a->status));
    text_add(t, LITERAL("\r\nx-amz-request-id: "));
    text_hex(t, w->number);
    text_add(t, LITERAL("\r\nDate: "));
    text_add(t, span_of(http_date(&w->clock)));
    text_add(t, LITERAL("\r\nServer: origin\r\n"));
    text_add(t, a->extra);
    if (a->content_type != NULL) {
        text_add(t, LITERAL("Content-Type: "));
        text_add(t, span_of(a->content_type));
        text_add(t, LITERAL("\r\n"));
    }
    if (!a->no_length) {
        text_add(t, LITERAL("Content-Length: "));
        text_number(t, a->length);
        text_add(t, LITERAL("\r\n"));
    }
    if (c->closing) text_add(t, LITERAL("Connection: close\r\n"));
    text_add(t, LITERAL("\r\n"));
}

void answer_xml(struct worker *w, struct connection *c, struct span xml, int head_only) {
    answer_head(w, c, &(struct answer){.status = "200 OK", .content_type = "application/xml", .length = xml.len});
    if (!head_only) text_add(&c->out, xml);
}

void answer_error(struct worker *w, struct connection *c, const struct s3_error *e, int head_only) {
    struct text *t = &w->listing;
    t->len = 0;
    text_add(t, LITERAL("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>"));
    text_add(t, span_of(e->code));
    text_add(t, LITERAL("</Code><Message>"));
    text_xml(t, span_of(e->message));
    text_add(t, LITERAL("</Message>"));
    text_add(t, e->detail);
    text_add(t, LITERAL("<Resource>"));
    text_xml(t, e->resource);
    text_add(t, LITERAL("</Resource><RequestId>"));
    text_hex(t, w->number);
    text_add(t, LITERAL("</RequestId></Error>"));
    answer_head(w, c,
                &(struct answer){
                    .status = e->status, .content_type = "application/xml", .extra = e->extra, .length = t->len});
    if (!head_only) text_add(&c->out, text_span(t));
}

void answer_broken(struct worker *w, struct connection *c, const char *code, const char *message) {
    c->closing = 1;
    c->have = 0;
    c->due_ns = 0;
    answer_error(w, c, &(struct s3_error){.status = "400 Bad Request", .code = code, .message = message}, 0);
}
