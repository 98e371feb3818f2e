/* The texts of an error body end within their room and hold nothing that a terminal obeys. */
#include <string.h>

#include "fuzz.h"
#include "listxml.h"
#include "xml.h"

static void check_text(const char *text, size_t room)
{
    size_t len = strnlen(text, room);

    FUZZ_ASSERT(len < room);
    FUZZ_ASSERT(stg_is_utf8((struct stg_str){text, len}));
    for (size_t i = 0; i < len; i++) {
        FUZZ_ASSERT((uint8_t)text[i] >= ' ' && text[i] != 0x7f);
        FUZZ_ASSERT((uint8_t)text[i] != 0xc2 || (uint8_t)text[i + 1] >= 0xa0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stg_s3_error error;

    stg_s3_error_scan((const char *)data, size, &error);
    check_text(error.code, sizeof(error.code));
    check_text(error.message, sizeof(error.message));
    check_text(error.region, sizeof(error.region));
    check_text(error.request_id, sizeof(error.request_id));
    return 0;
}
