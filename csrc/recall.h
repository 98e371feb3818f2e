/* Entries from manifest lines and journal records, and back.
 *
 * A recall with an order: records of files that the table does not have are passed over. Without: the table is a new one, and every
 * record becomes a row of it, its mode too.
 */
#ifndef STG_RECALL_H
#define STG_RECALL_H

#include "entries.h"
#include "order.h"
#include "record.h"

struct stg_recall {
    struct stg_entries *entries;
    const struct stg_order *order; /* may be NULL */
    enum stg_standing standing;    /* of what is believed: STG_TRUSTED or STG_DOUBTFUL */
    size_t next;                   /* the row that is likely to be recorded next */
    int64_t count;                 /* records so far */
    int64_t passed;                /* of them, those of files that the table does not have */
    char *texts;                   /* STG_RECORD_TEXT_BYTES */
};

/* -ENOMEM. The entries and the order are the caller's. */
int stg_recall_new(struct stg_entries *entries, const struct stg_order *order, enum stg_standing standing,
                   struct stg_recall **out);
void stg_recall_free(struct stg_recall *recall);
/* Whole lines. 0; -EBADMSG: one that is none, or is there twice, or more than the entries have room for; -ENOMEM. */
int stg_recall_lines(struct stg_recall *recall, struct stg_str lines);
/* Records as far as they are whole and right, a later one in place of an earlier one. How many bytes they are; -ENOMEM. */
int64_t stg_recall_journal(struct stg_recall *recall, struct stg_str data);

/* Lines of the files that stand, from *row on, as many as fit; *row becomes the first that was not looked at, and *count
 * grows by the lines. Returns their bytes; 0: there is none any more; -ENOBUFS: not even one fits. */
ssize_t stg_entries_lines(const struct stg_entries *entries, size_t *row, char *out, size_t room, int64_t *count);
/* Bytes of the journal records of these rows, which are known. */
size_t stg_entries_journal_length(const struct stg_entries *entries, const uint32_t *rows, size_t count);
/* Writes them; out has that many bytes. */
void stg_entries_journal(const struct stg_entries *entries, const uint32_t *rows, size_t count, char *out);

#endif
