#include "check.h"
#include "targets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t DIGEST[STG_SHA_BYTES] = {1, 2, 3, [31] = 255};

static int set(struct stg_targets *targets, size_t index, struct stg_str path, struct stg_str name, struct stg_str value)
{
    struct stg_header header = {name, value};
    return stg_targets_set(targets, index, path, &header, 1, DIGEST);
}

static void test_target_is_kept_as_it_was_given(void)
{
    struct stg_targets *targets = stg_targets_new(3);
    struct stg_header headers[] = {{STG_STR("A-b"), STG_STR("c d")}, {STG_STR("e"), STG_STR("")}};
    CHECK_EQ(stg_targets_count(targets), 3);
    CHECK_EQ(stg_targets_set(targets, 2, STG_STR("/x?y=%20&z"), headers, 2, DIGEST), 0);
    CHECK(!stg_targets_are_set(targets));
    CHECK_EQ(stg_targets_set(targets, 0, STG_STR("/"), NULL, 0, DIGEST), 0);
    CHECK_EQ(stg_targets_set(targets, 1, STG_STR("/"), NULL, 0, DIGEST), 0);
    CHECK(stg_targets_are_set(targets));
    struct stg_target target = stg_targets_at(stg_targets_ref(targets), 2);
    stg_targets_unref(targets);
    CHECK_STR(target.path, "/x?y=%20&z");
    CHECK_STR(target.fields, "A-b: c d\r\ne: \r\n");
    CHECK(!memcmp(target.sha256, DIGEST, sizeof DIGEST));
    CHECK_EQ(stg_targets_at(targets, 0).fields.len, 0);
    stg_targets_unref(targets);
}

static void test_what_cannot_be_sent_changes_nothing(void)
{
    struct stg_targets *targets = stg_targets_new(1);
    char *lengthy = calloc(1, STG_TARGET_MAX + 2);
    memset(lengthy, '/', STG_TARGET_MAX + 1);
    static const struct stg_str paths[] = {{"", 0}, {"x", 1}, {"/ ", 2}, {"/\n", 2}, {"/\0", 2}, {"/#", 2}, {"/\x80", 2}};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        CHECK_EQ(set(targets, 0, paths[i], STG_STR("a"), STG_STR("b")), -EINVAL);
    static const struct stg_str names[] = {{"", 0}, {"a b", 3}, {"a:", 2}, {"a\r", 2}, {"Host", 4}, {"rAnGe", 5}, {"TE", 2},
                                           {"Content-Length", 14}, {"Transfer-Encoding", 17}, {"If-Match", 8}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_EQ(set(targets, 0, STG_STR("/"), names[i], STG_STR("b")), -EINVAL);
    static const struct stg_str values[] = {{"\r", 1}, {"a\nb", 3}, {"\0", 1}, {"\x7f", 1}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        CHECK_EQ(set(targets, 0, STG_STR("/"), STG_STR("a"), values[i]), -EINVAL);
    CHECK_EQ(set(targets, 1, STG_STR("/"), STG_STR("a"), STG_STR("b")), -EINVAL);
    CHECK_EQ(set(targets, 0, (struct stg_str){lengthy, STG_TARGET_MAX + 1}, STG_STR("a"), STG_STR("b")), -EMSGSIZE);
    CHECK_EQ(set(targets, 0, STG_STR("/"), STG_STR("a"), (struct stg_str){lengthy, STG_TARGET_FIELDS_MAX - 4}), -EMSGSIZE);
    CHECK(!stg_targets_are_set(targets));
    CHECK_EQ(set(targets, 0, (struct stg_str){lengthy, STG_TARGET_MAX}, STG_STR("a"),
                 (struct stg_str){lengthy, STG_TARGET_FIELDS_MAX - 5}), 0);
    CHECK_EQ(set(targets, 0, STG_STR("/"), STG_STR("a"), STG_STR("b")), -EINVAL); /* each once */
    stg_targets_unref(targets);
    free(lengthy);
}

int main(void)
{
    RUN(test_target_is_kept_as_it_was_given);
    RUN(test_what_cannot_be_sent_changes_nothing);
    END();
}
