/* A response fed whole, byte by byte and in pieces gives the same; so does one to a HEAD. */
#include "checksum.h"
#include "fuzz.h"
#include "http_drive.h"

static void check_same(const struct drive *whole, const char *data, size_t size, size_t piece, int method_head)
{
    struct drive other;

    drive_run(&other, data, size, piece, method_head);
    FUZZ_ASSERT(drive_same(whole, &other));
    free(other.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    for (int method_head = 0; method_head < 2; method_head++) {
        struct drive whole;

        drive_run(&whole, text, size, 0, method_head);
        if (whole.head > 0) {
            FUZZ_ASSERT((size_t)whole.head <= size && whole.head <= STG_HTTP_MAX_HEAD);
            FUZZ_ASSERT(whole.parsed.status >= 200 && whole.parsed.status < 600);
            FUZZ_ASSERT(!whole.parsed.chunked || whole.parsed.content_length < 0);
            FUZZ_ASSERT(!whole.parsed.has_range || whole.parsed.range_first <= whole.parsed.range_last);
            FUZZ_ASSERT(whole.parsed.parts >= -1);
            for (enum stg_etags etags = STG_ETAGS_NONE; etags <= STG_ETAGS_PARTS; etags++) {
                struct stg_announced announced = stg_checksum_announced(&whole.parsed, etags);
                FUZZ_ASSERT((announced.kind == STG_SUM_NONE) == (announced.why != STG_WHY_NONE));
                FUZZ_ASSERT(announced.kind <= STG_SUM_MD5 && announced.parts <= STG_PARTS_MAX);
                FUZZ_ASSERT(etags != STG_ETAGS_NONE || announced.kind != STG_SUM_MD5);
            }
            FUZZ_ASSERT(whole.body < 0 || whole.complete || whole.rest == 0);
        }
        check_same(&whole, text, size, 1, method_head);
        check_same(&whole, text, size, 7, method_head);
        free(whole.bytes);
    }
    return 0;
}
