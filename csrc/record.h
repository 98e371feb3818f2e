/* What is kept of a finished file, as a line of the manifest (JSON) and as a record of the journal (binary).
 *
 * Both are hostile input: whoever may write to the state directory may write them. A line is read exactly as it is
 * written here, nothing laxer:
 *
 *     ["path",size,"identity","digest",mtime_ns,ctime_ns,mode,"grade"]
 *
 * with the path as UTF-8, or {"base64":"..."} when it is none; the identity's bytes as Latin-1 characters; the digest as
 * 32 hexadecimal digits; integers in decimal. Within strings \" \\ \b \f \n \r \t and \u00XX below U+0020 stand for
 * what JSON (RFC 8259) has to escape.
 *
 * A journal record is 56 bytes, little-endian, and the two texts: the first 8 bytes of the xxh3-128t of all that
 * follows; size, mtime_ns, ctime_ns (64 bits each); digest (16 bytes); length of the path, length of the identity, mode
 * (16 bits each); grade; a zero byte.
 */
#ifndef STG_RECORD_H
#define STG_RECORD_H

#include "entries.h"
#include "stg.h"

#define STG_RECORD_TEXT_BYTES ((size_t)72 << 10) /* for the texts of any line */
#define STG_LINE_MAX_BYTES ((size_t)512 << 10)   /* no line that is written is longer */
#define STG_JOURNAL_HEAD_BYTES ((size_t)56)

/* 0; -EBADMSG: a size below 0, a grade that is none, an identity that no table holds, a path that is none (names.h). */
int stg_record_check(const struct stg_record *record);

/* Room that a record's line may take. */
size_t stg_line_room(const struct stg_record *record);
/* Writes the line with its line feed; out has stg_line_room bytes. Returns its length. */
size_t stg_line_encode(const struct stg_record *record, char *out);
/* line: without its line feed. texts: STG_RECORD_TEXT_BYTES bytes; the record's path and identity point there or into
 * the line. 0; -EBADMSG: not such a line, a mode above 16 bits, or what stg_record_check refuses. */
int stg_line_decode(struct stg_str line, char *texts, struct stg_record *out);

size_t stg_journal_length(const struct stg_record *record);
/* out has stg_journal_length bytes. */
void stg_journal_encode(const struct stg_record *record, char *out);
/* The record at the start of data; path and identity point into it. Returns its length; 0: not whole yet; -EBADMSG:
 * damaged, or refused by stg_record_check. */
int64_t stg_journal_decode(struct stg_str data, struct stg_record *out);

#endif
