/* What the fields of a response head mean; part of the parser in http.h. */
#ifndef STG_HTTP_FIELDS_H
#define STG_HTTP_FIELDS_H

#include "http.h"

/* What the fields of one head said beyond struct stg_http_head. */
struct stg_http_fields {
    struct stg_http_head *head;
    struct stg_str retry_after;
    struct stg_str content_range;
    int connection_close;
    int connection_keep_alive;
    int has_etag;
};

/* One field, its value without blanks around it. 0 or -enum stg_http_error. */
int stg_http_field_take(struct stg_http_fields *fields, struct stg_str name, struct stg_str value);
/* After the last one: what only all fields and the status together decide. 0 or -enum stg_http_error. */
int stg_http_fields_conclude(struct stg_http_fields *fields);
/* A 1xx response: another head follows. */
int stg_http_is_interim(const struct stg_http_head *head);

#endif
