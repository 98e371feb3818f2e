#include "check.h"
#include "endpoint.h"

#include <arpa/inet.h>
#include <errno.h>

static struct stg_address address(const char *text)
{
    struct stg_address out;
    unsigned char packed[16];
    int family = strchr(text, ':') ? AF_INET6 : AF_INET;
    CHECK_EQ(inet_pton(family, text, packed), 1);
    CHECK_EQ(stg_address_set(&out, family, packed, family == AF_INET ? 4 : 16, 443), 0);
    return out;
}

static int is(const struct stg_address *a, const char *text)
{
    struct stg_address b = address(text);
    return a->len == b.len && memcmp(&a->storage, &b.storage, b.len) == 0;
}

static struct stg_endpoint *endpoint_of(const char *const *texts, size_t count)
{
    struct stg_address addresses[8];
    for (size_t i = 0; i < count; i++)
        addresses[i] = address(texts[i]);
    struct stg_endpoint *endpoint = stg_endpoint_new(NULL, NULL, addresses, count);
    CHECK(endpoint);
    return endpoint;
}

static const char *const THREE[] = {"10.0.0.1", "10.0.0.2", "2001:db8::3"};

/* How many of count connections begun at now_ms go to the address. */
static int share(struct stg_endpoint *endpoint, const char *text, int count, int64_t now_ms)
{
    int there = 0;
    for (int i = 0; i < count; i++) {
        struct stg_address next = stg_endpoint_next(endpoint, now_ms);
        there += is(&next, text);
    }
    return there;
}

static void test_addresses_take_turns(void)
{
    struct stg_endpoint *endpoint = endpoint_of(THREE, 3);
    for (int i = 0; i < 9; i++) {
        struct stg_address next = stg_endpoint_next(endpoint, 1000);
        CHECK(is(&next, THREE[i % 3]));
    }
    stg_endpoint_unref(endpoint);
}

static void test_failed_address_is_left_alone_then_tried_by_one_connection(void)
{
    struct stg_endpoint *endpoint = endpoint_of(THREE, 3);
    struct stg_address bad = address("10.0.0.2");
    int64_t later = 1000 + STG_ENDPOINT_AVOID_MS;
    stg_endpoint_failed(endpoint, &bad, 1000);
    CHECK_EQ(share(endpoint, "10.0.0.2", 30, later - 1), 0);
    CHECK_EQ(share(endpoint, "10.0.0.2", 30, later), 1);
    CHECK_EQ(share(endpoint, "10.0.0.2", 30, later + STG_ENDPOINT_AVOID_MS - 1), 0);
    stg_endpoint_reached(endpoint, &bad);
    CHECK_EQ(share(endpoint, "10.0.0.2", 30, later), 10);
    stg_endpoint_unref(endpoint);
}

static void test_all_failed_take_turns_again(void)
{
    struct stg_endpoint *endpoint = endpoint_of(THREE, 3);
    for (size_t i = 0; i < 3; i++) {
        struct stg_address bad = address(THREE[i]);
        stg_endpoint_failed(endpoint, &bad, 1000);
    }
    CHECK_EQ(share(endpoint, "10.0.0.1", 30, 2000), 10);
    stg_endpoint_unref(endpoint);
}

static void test_another_address_is_better_once_it_was_reached(void)
{
    struct stg_endpoint *endpoint = endpoint_of(THREE, 3);
    struct stg_address slow = address("10.0.0.1"), good = address("10.0.0.2");
    CHECK(!stg_endpoint_has_better(endpoint, &slow, 1000));
    stg_endpoint_reached(endpoint, &slow);
    CHECK(!stg_endpoint_has_better(endpoint, &slow, 1000));
    stg_endpoint_reached(endpoint, &good);
    CHECK(stg_endpoint_has_better(endpoint, &slow, 1000));
    stg_endpoint_failed(endpoint, &good, 1000);
    CHECK(!stg_endpoint_has_better(endpoint, &slow, 1000));
    stg_endpoint_unref(endpoint);
}

static void test_update_keeps_what_is_known_and_forgets_what_is_gone(void)
{
    struct stg_endpoint *endpoint = endpoint_of(THREE, 3);
    struct stg_address bad = address("10.0.0.2"), gone = address("10.0.0.1");
    struct stg_address fresh[] = {address("10.0.0.2"), address("10.0.0.9")};
    stg_endpoint_failed(endpoint, &bad, 1000);
    CHECK_EQ(stg_endpoint_update(endpoint, fresh, 2), 0);
    CHECK_EQ(share(endpoint, "10.0.0.9", 10, 2000), 10);
    stg_endpoint_failed(endpoint, &gone, 2000); /* a connection from before: nothing to note */
    stg_endpoint_reached(endpoint, &gone);
    CHECK_EQ(stg_endpoint_count(endpoint), 2);
    CHECK_EQ(stg_endpoint_update(endpoint, fresh, 0), -EINVAL);
    CHECK_EQ(stg_endpoint_update(endpoint, fresh, STG_ENDPOINT_MAX_ADDRESSES + 1), -EINVAL);
    stg_endpoint_unref(endpoint);
}

static void test_proxy_is_asked_for_a_tunnel_in_one_request(void)
{
    struct stg_proxy *proxy;
    CHECK_EQ(stg_proxy_new(NULL, STG_STR("[::1]:9"), STG_STR("Basic eDp5"), &proxy), 0);
    struct stg_str request = stg_proxy_connect_request(proxy), line = stg_proxy_authorization_line(proxy);
    struct stg_str wanted =
        STG_STR("CONNECT [::1]:9 HTTP/1.1\r\nhost: [::1]:9\r\nproxy-authorization: Basic eDp5\r\n\r\n");
    CHECK(request.len == wanted.len && memcmp(request.ptr, wanted.ptr, wanted.len) == 0);
    CHECK(line.len == 33 && memcmp(line.ptr, "proxy-authorization: Basic eDp5\r\n", 33) == 0);
    stg_proxy_free(proxy);
    CHECK_EQ(stg_proxy_new(NULL, STG_STR("a:1"), STG_STR(""), &proxy), 0);
    CHECK_EQ(stg_proxy_authorization_line(proxy).len, 0);
    CHECK_EQ(stg_proxy_connect_request(proxy).len, strlen("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"));
    stg_proxy_free(proxy);
    CHECK_EQ(stg_proxy_new(NULL, STG_STR("a b:1"), STG_STR(""), &proxy), -EINVAL);
    CHECK_EQ(stg_proxy_new(NULL, STG_STR(":1"), STG_STR(""), &proxy), -EINVAL);
    CHECK_EQ(stg_proxy_new(NULL, STG_STR("a:1"), STG_STR("x\r\ny: z"), &proxy), -EINVAL);
}

int main(void)
{
    RUN(test_addresses_take_turns);
    RUN(test_failed_address_is_left_alone_then_tried_by_one_connection);
    RUN(test_all_failed_take_turns_again);
    RUN(test_another_address_is_better_once_it_was_reached);
    RUN(test_update_keeps_what_is_known_and_forgets_what_is_gone);
    RUN(test_proxy_is_asked_for_a_tunnel_in_one_request);
    END();
}
