/* Scans a text or a file of the corpus as a list answer, into one page and one table. */
#ifndef LIST_DRIVE_H
#define LIST_DRIVE_H

#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "corpus.h"
#include "listxml.h"

static struct stg_list_page page;
static struct stg_table *table;

static void table_renew(void)
{
    stg_table_unref(table);
    table = stg_table_new();
}

static int scan_span(struct stg_str text, struct stg_str prefix, size_t key_skip, const struct stg_list_span *span)
{
    char *exact = malloc(text.len + !text.len); /* so that a sanitizer sees a read beyond it */
    int error;

    if (text.len)
        memcpy(exact, text.ptr, text.len);
    error = stg_list_scan(exact, text.len, prefix, key_skip, table, span, &page);
    free(exact);
    CHECK((error == -EBADMSG) == (page.problem[0] != 0));
    return error;
}

static int scan(struct stg_str text, struct stg_str prefix, size_t key_skip)
{
    return scan_span(text, prefix, key_skip, NULL);
}

static int scan_fresh(struct stg_str text)
{
    table_renew();
    return scan(text, STG_STR(""), 0);
}

static int scan_file(const char *name, struct stg_str prefix)
{
    struct stg_str text = corpus_read(name);
    int error;

    table_renew();
    error = scan(text, prefix, prefix.len);
    corpus_free(text);
    return error;
}

#define ROOT(inside) "<ListBucketResult><IsTruncated>false</IsTruncated>" inside "</ListBucketResult>"
#define OBJECT(key) "<Contents><Key>" key "</Key><Size>1</Size></Contents>"
#define SCAN(text) scan_fresh(STG_STR(text))
#define ROW(i) stg_table_row(table, i)
#define CHECK_REFUSED(text) CHECK_EQ(SCAN(text), -EBADMSG)
#define CHECK_KEY(text, wanted)                                                                              \
    CHECK_EQ(SCAN(text), 0);                                                                                 \
    CHECK_STR(ROW(0).key, wanted)

#endif
