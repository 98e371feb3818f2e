#include "record.h"

#include "digest.h"
#include "names.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define CHECK_BYTES 8

struct head {
    uint8_t check[CHECK_BYTES];
    uint64_t size, mtime_ns, ctime_ns;
    uint8_t digest[STG_DIGEST_BYTES];
    uint16_t path_len, identity_len, mode;
    char grade;
    uint8_t zero;
};

_Static_assert(sizeof(struct head) == STG_JOURNAL_HEAD_BYTES, "the record's layout");

int stg_record_check(const struct stg_record *record)
{
    if (record->size < 0 || record->entry.grade < 'A' || record->entry.grade > 'C')
        return -EBADMSG;
    if (record->identity.len > STG_TABLE_MAX_TEXT || !stg_path_is_usable(record->path, STG_PATH_BYTES))
        return -EBADMSG;
    return 0;
}

size_t stg_journal_length(const struct stg_record *record)
{
    return sizeof(struct head) + record->path.len + record->identity.len;
}

static void text_put(char *to, struct stg_str text)
{
    if (text.len)
        memcpy(to, text.ptr, text.len);
}

void stg_journal_encode(const struct stg_record *record, char *out)
{
    struct head head = {
        .size = htole64((uint64_t)record->size),
        .mtime_ns = htole64((uint64_t)record->entry.mtime_ns),
        .ctime_ns = htole64((uint64_t)record->entry.ctime_ns),
        .path_len = htole16((uint16_t)record->path.len),
        .identity_len = htole16((uint16_t)record->identity.len),
        .mode = htole16(record->entry.mode),
        .grade = record->entry.grade,
    };
    uint8_t check[STG_DIGEST_BYTES];

    memcpy(head.digest, record->entry.digest, sizeof(head.digest));
    memcpy(out, &head, sizeof(head));
    text_put(out + sizeof(head), record->path);
    text_put(out + sizeof(head) + record->path.len, record->identity);
    stg_digest_bytes(out + CHECK_BYTES, stg_journal_length(record) - CHECK_BYTES, check);
    memcpy(out, check, CHECK_BYTES);
}

int64_t stg_journal_decode(struct stg_str data, struct stg_record *out)
{
    uint8_t check[STG_DIGEST_BYTES];
    struct head head;
    size_t path_len, identity_len, length;

    if (data.len < sizeof(head))
        return 0;
    memcpy(&head, data.ptr, sizeof(head));
    path_len = le16toh(head.path_len);
    identity_len = le16toh(head.identity_len);
    length = sizeof(head) + path_len + identity_len;
    if (data.len < length)
        return 0;
    stg_digest_bytes(data.ptr + CHECK_BYTES, length - CHECK_BYTES, check);
    if (memcmp(check, head.check, CHECK_BYTES) || head.zero)
        return -EBADMSG;
    *out = (struct stg_record){
        .path = {data.ptr + sizeof(head), path_len},
        .identity = {data.ptr + sizeof(head) + path_len, identity_len},
        .size = (int64_t)le64toh(head.size),
        .entry = {.mtime_ns = (int64_t)le64toh(head.mtime_ns),
                  .ctime_ns = (int64_t)le64toh(head.ctime_ns),
                  .mode = le16toh(head.mode),
                  .grade = head.grade},
    };
    memcpy(out->entry.digest, head.digest, sizeof(head.digest));
    return stg_record_check(out) < 0 ? -EBADMSG : (int64_t)length;
}
