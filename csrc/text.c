#include "text.h"

#define LAST_SECOND (INT64_MAX / 1000000000 - 1) /* that still has all of its nanoseconds */

int stg_str_compare(struct stg_str a, struct stg_str b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

int stg_str_is(struct stg_str text, struct stg_str lower)
{
    if (text.len != lower.len)
        return 0;
    for (size_t i = 0; i < text.len; i++)
        if (stg_to_lower(text.ptr[i]) != lower.ptr[i])
            return 0;
    return 1;
}

struct stg_str stg_str_trimmed(struct stg_str text)
{
    while (text.len && stg_is_blank(text.ptr[0]))
        text = stg_str_from(text, 1);
    while (text.len && stg_is_blank(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

int64_t stg_decimal_parse(struct stg_str text)
{
    int64_t value = 0;

    if (!text.len)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (!stg_is_digit(text.ptr[i]) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text.ptr[i] - '0', &value))
            return -1;
    }
    return value;
}

int64_t stg_decimal_at(struct stg_str text, size_t start, size_t len)
{
    return stg_decimal_parse((struct stg_str){text.ptr + start, len});
}

static int is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const int64_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && is_leap(year));
}

static int64_t leap_days_before(int64_t year)
{
    return (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
}

static int64_t days_before(int64_t year)
{
    return 365 * (year - 1970) + leap_days_before(year) - leap_days_before(1970);
}

int64_t stg_time_to_unix(struct stg_time time)
{
    int64_t days;

    if (time.year < 1970 || time.year > 9999 || time.month < 1 || time.month > 12 || time.day < 1 ||
        time.day > days_in_month(time.year, time.month) || time.hour < 0 || time.hour > 23 || time.minute < 0 ||
        time.minute > 59 || time.second < 0 || time.second > 60)
        return -1;
    days = days_before(time.year) + time.day - 1;
    for (int64_t month = 1; month < time.month; month++)
        days += days_in_month(time.year, month);
    return days * STG_DAY_S + time.hour * 3600 + time.minute * 60 + time.second;
}

struct stg_time stg_time_of_unix(int64_t unix_s)
{
    int64_t days = unix_s / STG_DAY_S, second = unix_s % STG_DAY_S;
    int64_t year = 1970 + days / 366, month = 1; /* never too late */

    while (days_before(year + 1) <= days)
        year++;
    days -= days_before(year);
    while (days >= days_in_month(year, month))
        days -= days_in_month(year, month++);
    return (struct stg_time){year, month, days + 1, second / 3600, second / 60 % 60, second % 60};
}

/* ".5" of up to nine digits and what follows it; -1: not one. */
static int64_t fraction_ns(struct stg_str *rest)
{
    int64_t ns = 0, unit = 100000000;
    size_t digits = 0;

    if (!rest->len || rest->ptr[0] != '.')
        return 0;
    for (*rest = stg_str_from(*rest, 1); digits < 9 && digits < rest->len && stg_is_digit(rest->ptr[digits]); digits++) {
        ns += (rest->ptr[digits] - '0') * unit;
        unit /= 10;
    }
    *rest = stg_str_from(*rest, digits);
    return digits ? ns : -1;
}

int64_t stg_seconds_parse(struct stg_str text)
{
    size_t whole = 0;
    struct stg_str rest;
    int64_t seconds, ns;

    while (whole < text.len && stg_is_digit(text.ptr[whole]))
        whole++;
    seconds = stg_decimal_at(text, 0, whole);
    rest = stg_str_from(text, whole);
    ns = fraction_ns(&rest);
    while (rest.len && stg_is_digit(rest.ptr[0]))
        rest = stg_str_from(rest, 1);
    if (!whole || ns < 0 || rest.len || seconds < 0 || seconds > LAST_SECOND)
        return -1;
    return seconds * 1000000000 + ns;
}

int64_t stg_rfc3339_parse(struct stg_str text)
{
    static const char shape[] = "0000-00-00T00:00:00";
    struct stg_time time;
    struct stg_str rest;
    int64_t ns, unix_s;

    if (text.len < sizeof(shape))
        return -1;
    for (size_t i = 0; i < sizeof(shape) - 1; i++)
        if (shape[i] != '0' && shape[i] != text.ptr[i])
            return -1;
    rest = stg_str_from(text, sizeof(shape) - 1);
    ns = fraction_ns(&rest);
    time = (struct stg_time){
        .year = stg_decimal_at(text, 0, 4),
        .month = stg_decimal_at(text, 5, 2),
        .day = stg_decimal_at(text, 8, 2),
        .hour = stg_decimal_at(text, 11, 2),
        .minute = stg_decimal_at(text, 14, 2),
        .second = stg_decimal_at(text, 17, 2),
    };
    unix_s = stg_time_to_unix(time);
    if (ns < 0 || unix_s < 0 || time.year > 2261 || !stg_str_same(rest, STG_STR("Z")))
        return -1;
    return unix_s * 1000000000 + ns;
}

size_t stg_decimal_put(char *out, int64_t value)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}
