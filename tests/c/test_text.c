#include "text.h"

#include <time.h>

#include "check.h"

static void test_texts_compare_by_bytes_a_prefix_first(void)
{
    CHECK(stg_str_compare(STG_STR("a"), STG_STR("b")) < 0);
    CHECK(stg_str_compare(STG_STR("a"), STG_STR("ab")) < 0);
    CHECK(stg_str_compare(STG_STR("a-b"), STG_STR("a/b")) < 0);
    CHECK(stg_str_compare(STG_STR("\xff"), STG_STR("a")) > 0);
    CHECK(stg_str_compare(STG_STR("a\0b"), STG_STR("a\0c")) < 0);
    CHECK_EQ(stg_str_compare(STG_STR(""), STG_STR("")), 0);
    CHECK_EQ(stg_str_compare((struct stg_str){NULL, 0}, STG_STR("")), 0);
}

static void test_decimals_are_digits_up_to_the_largest_int64(void)
{
    CHECK_EQ(stg_decimal_parse(STG_STR("0")), 0);
    CHECK_EQ(stg_decimal_parse(STG_STR("9223372036854775807")), INT64_MAX);
    CHECK_EQ(stg_decimal_parse(STG_STR("9223372036854775808")), -1);
    CHECK_EQ(stg_decimal_parse(STG_STR("")), -1);
    CHECK_EQ(stg_decimal_parse(STG_STR("-0")), -1);
    CHECK_EQ(stg_decimal_parse(STG_STR("1 ")), -1);
    CHECK_EQ(stg_decimal_parse(STG_STR("1\0")), -1);
}

static void test_tokens_are_what_rfc_9110_says(void)
{
    for (int c = 0; c < 256; c++) {
        int wanted = stg_is_alnum((char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));

        CHECK_EQ(stg_is_token((char)c), wanted);
    }
}

static void test_time_goes_there_and_back_as_in_the_c_library(void)
{
    for (int64_t unix_s = 0; unix_s < INT64_C(253402300800); unix_s += 86400 * 13 + 3671) {
        struct stg_time got = stg_time_of_unix(unix_s);
        struct tm wanted;
        time_t moment = (time_t)unix_s;

        gmtime_r(&moment, &wanted);
        CHECK(got.year == wanted.tm_year + 1900 && got.month == wanted.tm_mon + 1 && got.day == wanted.tm_mday &&
              got.hour == wanted.tm_hour && got.minute == wanted.tm_min && got.second == wanted.tm_sec);
        CHECK_EQ(stg_time_to_unix(got), unix_s);
    }
}

static void test_dates_that_do_not_exist_are_refused(void)
{
    CHECK_EQ(stg_time_to_unix((struct stg_time){2023, 2, 29, 0, 0, 0}), -1);
    CHECK(stg_time_to_unix((struct stg_time){2024, 2, 29, 0, 0, 0}) > 0);
    CHECK_EQ(stg_time_to_unix((struct stg_time){2100, 2, 29, 0, 0, 0}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){2024, 4, 31, 0, 0, 0}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){2024, 13, 1, 0, 0, 0}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){2024, 0, 1, 0, 0, 0}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){2024, 1, 0, 0, 0, 0}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){1969, 12, 31, 23, 59, 59}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){2024, 1, 1, 24, 0, 0}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){2024, 1, 1, 0, 60, 0}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){2024, 1, 1, 0, 0, 61}), -1);
    CHECK_EQ(stg_time_to_unix((struct stg_time){10000, 1, 1, 0, 0, 0}), -1);
}

static void test_seconds_with_a_fraction_are_nanoseconds_or_refused(void)
{
    CHECK_EQ(stg_seconds_parse(STG_STR("1700000000")), INT64_C(1700000000000000000));
    CHECK_EQ(stg_seconds_parse(STG_STR("1700000000.123456789")), INT64_C(1700000000123456789));
    CHECK_EQ(stg_seconds_parse(STG_STR("1700000000.5")), INT64_C(1700000000500000000));
    CHECK_EQ(stg_seconds_parse(STG_STR("1.0000000019")), INT64_C(1000000001));
    CHECK_EQ(stg_seconds_parse(STG_STR("0")), 0);
    CHECK_EQ(stg_seconds_parse(STG_STR("9223372035.999999999")), INT64_C(9223372035999999999));
    const char *wrong[] = {"", ".5", "1.", "-1", "+1", " 1", "1 ", "1e9", "1.5.5", "9223372036", "99999999999999999999",
                           "2024-05-01T00:00:00Z"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_EQ(stg_seconds_parse((struct stg_str){wrong[i], strlen(wrong[i])}), -1);
}

static void test_decimals_are_written_as_the_c_library_does(void)
{
    const int64_t values[] = {0, 1, 9, 10, 1234567, INT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char out[20] = "", wanted[24];
        out[stg_decimal_put(out, values[i])] = 0;
        snprintf(wanted, sizeof wanted, "%lld", (long long)values[i]);
        CHECK(!strcmp(out, wanted));
    }
}

int main(void)
{
    RUN(test_decimals_are_written_as_the_c_library_does);
    RUN(test_texts_compare_by_bytes_a_prefix_first);
    RUN(test_decimals_are_digits_up_to_the_largest_int64);
    RUN(test_tokens_are_what_rfc_9110_says);
    RUN(test_time_goes_there_and_back_as_in_the_c_library);
    RUN(test_dates_that_do_not_exist_are_refused);
    RUN(test_seconds_with_a_fraction_are_nanoseconds_or_refused);
    END();
}
