/* A test program: CHECK and CHECK_EQ inside of `static void test_...(void)` functions, RUN each from main, END. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "stg.h"

static int check_failures;
static const char *check_test;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            check_failures++;                                                                                \
            printf("%s:%d: %s: not so: %s\n", __FILE__, __LINE__, check_test, #condition);                   \
        }                                                                                                    \
    } while (0)

#define CHECK_EQ(got, wanted)                                                                                \
    do {                                                                                                     \
        intmax_t check_got = (intmax_t)(got), check_wanted = (intmax_t)(wanted);                             \
        if (check_got != check_wanted) {                                                                     \
            check_failures++;                                                                                \
            printf("%s:%d: %s: %s is %" PRIdMAX ", not %" PRIdMAX "\n", __FILE__, __LINE__, check_test,      \
                   #got, check_got, check_wanted);                                                           \
        }                                                                                                    \
    } while (0)

#define CHECK_STR(got, wanted)                                                                               \
    check_str(__FILE__, __LINE__, #got, (got), (struct stg_str){(wanted), sizeof(wanted) - 1})

__attribute__((unused)) static void check_str(const char *file, int line, const char *what, struct stg_str got,
                                              struct stg_str wanted)
{
    if (got.len == wanted.len && (!got.len || !memcmp(got.ptr, wanted.ptr, got.len)))
        return;
    check_failures++;
    printf("%s:%d: %s: %s is \"%.*s\" (%zu bytes), not \"%.*s\"\n", file, line, check_test, what,
           (int)got.len, got.ptr ? got.ptr : "", got.len, (int)wanted.len, wanted.ptr);
}

#define RUN(test)                                                                                            \
    do {                                                                                                     \
        check_test = #test;                                                                                  \
        test();                                                                                              \
    } while (0)

#define END()                                                                                                \
    do {                                                                                                     \
        printf("%s: %s\n", __FILE__, check_failures ? "FAILED" : "ok");                                      \
        return check_failures != 0;                                                                          \
    } while (0)

#endif
