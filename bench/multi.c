/* A libcurl multi loop that does the ceiling's work: the check that the ceiling is one.
 *
 *     multi PORT COUNT SIZE PREFIX OUT [--connections N] [--part BYTES] [--tls CAFILE] [--list FILE]
 *
 * One thread, curl_multi_socket_action on epoll, keep-alive, requests signed by sign.h, XXH3-128 and pwrite in the
 * write callback, the largest receive buffer that every libcurl takes. A run in which ceiling.c needs more CPU is void.
 */
#define _GNU_SOURCE
#include <curl/curl.h>
#include <sys/epoll.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "objects.h"
#include "sign.h"

struct transfer {
    CURL *easy;
    struct curl_slist *headers;
    struct part part;
    uint64_t at;
    XXH3_state_t *hash;
};

static struct {
    struct objects objects;
    uint64_t digest;
    char host[32];
    const char *ca_file; /* NULL over http */
    int epoll, active;
    long timeout_ms;
    struct signer signer;
    CURLM *multi;
} run;

static size_t store(char *data, size_t one, size_t len, void *argument) {
    struct transfer *t = argument;
    (void)one;
    if (len > t->part.end - t->at) return 0;
    XXH3_128bits_update(t->hash, data, len);
    if (pwrite(run.objects.files[t->part.object].fd, data, len, (off_t)t->at) != (ssize_t)len) return 0;
    t->at += len;
    return len;
}

static int on_socket(CURL *easy, curl_socket_t s, int what, void *argument, void *known) {
    (void)easy;
    (void)argument;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(run.epoll, EPOLL_CTL_DEL, s, NULL);
        return 0;
    }
    struct epoll_event e = {.data.fd = s};
    if (what & CURL_POLL_IN) e.events |= EPOLLIN;
    if (what & CURL_POLL_OUT) e.events |= EPOLLOUT;
    if (epoll_ctl(run.epoll, known == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, s, &e) != 0) die("epoll_ctl");
    curl_multi_assign(run.multi, s, &run);
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *argument) {
    (void)multi;
    (void)argument;
    run.timeout_ms = timeout_ms;
    return 0;
}

static void add_header(struct transfer *t, const char *format, const char *value) {
    char line[400];
    snprintf(line, sizeof line, format, value);
    t->headers = curl_slist_append(t->headers, line);
}

static void ask(struct transfer *t) {
    char path[PATH_ROOM], url[PATH_ROOM + 64], range[64];
    if (!next_part(&run.objects, &t->part, path)) return;
    part_range(&run.objects, &t->part, range);
    snprintf(url, sizeof url, "%s://%s%s", run.ca_file != NULL ? "https" : "http", run.host, path);
    struct signature signature;
    sign_get(&run.signer, run.host, path, range, &signature);
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    add_header(t, "x-amz-content-sha256: %s", EMPTY_SHA256);
    add_header(t, "x-amz-date: %s", signature.date_time);
    add_header(t, "authorization: %s", signature.authorization);
    if (range[0]) add_header(t, "range: %s", range);
    t->at = t->part.first;
    XXH3_128bits_reset(t->hash);
    curl_easy_setopt(t->easy, CURLOPT_URL, url);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    curl_multi_add_handle(run.multi, t->easy);
    run.active++;
}

static void finish_messages(void) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(run.multi, &left)) != NULL) {
        struct transfer *t;
        long status = 0;
        CURLcode result = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        if (result != CURLE_OK || t->at != t->part.end || (status != 200 && status != 206)) {
            fprintf(stderr, "multi: status %ld: %s\n", status, curl_easy_strerror(result));
            exit(1);
        }
        XXH128_hash_t digest = XXH3_128bits_digest(t->hash);
        run.digest ^= digest.low64 ^ digest.high64;
        part_done(&run.objects, &t->part);
        curl_multi_remove_handle(run.multi, t->easy);
        run.active--;
        ask(t);
    }
}

static void start_transfer(struct transfer *t) {
    t->easy = curl_easy_init();
    t->hash = XXH3_createState();
    if (t->easy == NULL || t->hash == NULL) die("curl_easy_init");
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, store);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(t->easy, CURLOPT_BUFFERSIZE, 512L << 10);
    curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(t->easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->easy, CURLOPT_PROXY, "");
    if (run.ca_file != NULL) curl_easy_setopt(t->easy, CURLOPT_CAINFO, run.ca_file);
    ask(t);
}

int main(int argc, char **argv) {
    struct objects *o = &run.objects;
    const char *list = NULL;
    uint64_t connections = 8;
    if (argc < 6) {
        fprintf(stderr, "usage: multi PORT COUNT SIZE PREFIX OUT "
                        "[--connections N] [--part BYTES] [--tls CAFILE] [--list FILE]\n");
        return 2;
    }
    o->count = strtoull(argv[2], NULL, 10);
    o->size = strtoull(argv[3], NULL, 10);
    o->prefix = argv[4];
    o->part = 16 << 20;
    run.timeout_ms = -1;
    for (int i = 6; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connections") == 0) connections = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--part") == 0) o->part = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--tls") == 0) run.ca_file = argv[i + 1];
        else if (strcmp(argv[i], "--list") == 0) list = argv[i + 1];
        else return fprintf(stderr, "multi: unknown argument %s\n", argv[i]), 2;
    }
    if (o->part == 0 || connections == 0) return fprintf(stderr, "multi: zero is not a size\n"), 2;
    snprintf(run.host, sizeof run.host, "127.0.0.1:%d", atoi(argv[1]));
    objects_start(o, list, argv[5]);
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct transfer *all = calloc(connections, sizeof *all);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    run.multi = curl_multi_init();
    if (run.epoll < 0 || all == NULL || run.multi == NULL) die("start");
    curl_multi_setopt(run.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(run.multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(run.multi, CURLMOPT_MAXCONNECTS, (long)connections);
    for (uint64_t i = 0; i < connections; i++) start_transfer(&all[i]);
    struct epoll_event events[64];
    int running;
    while (run.active > 0) {
        int n = epoll_wait(run.epoll, events, 64, run.timeout_ms > 1000 ? 1000 : (int)run.timeout_ms);
        if (n == 0) {
            run.timeout_ms = -1;
            curl_multi_socket_action(run.multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        for (int i = 0; i < n; i++) {
            int what = (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                       (events[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
                       (events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0);
            curl_multi_socket_action(run.multi, events[i].data.fd, what, &running);
        }
        finish_messages();
    }
    printf("{\"objects\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"curl\": \"%s\", \"digest\": \"%016" PRIx64 "\"}\n",
           o->count, objects_bytes(o), curl_version_info(CURLVERSION_NOW)->version, run.digest);
    return 0;
}
