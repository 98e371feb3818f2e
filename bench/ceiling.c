/* The ceiling: what a plain C loop needs for the work every client does, and nothing else.
 *
 *     ceiling PORT COUNT SIZE PREFIX OUT [--connections N] [--part BYTES]
 *
 * One thread, epoll, keep-alive, every request SigV4-signed, recv of 256 KiB into one buffer, XXH3-128 of what came
 * while it is in the cache, pwrite at its offset. Whole objects without Range; objects above BYTES in ranges of BYTES.
 * No listing (the names follow origin.c's formula), no retries, no temporary names, no checks beyond status and length.
 * Shares no code with the product. Prints one JSON line, with its system calls counted by hand at each call.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "sign.h"

#define RECV_BYTES (256 << 10)
#define HEAD_MAX 4096

struct file {
    int fd;
    uint64_t parts_left;
};

struct connection {
    int fd;
    uint64_t object, at, end; /* the next byte of the body belongs at `at` of the object */
    uint64_t carried;         /* bytes of an incomplete head kept in `head` */
    int in_body;
    XXH3_state_t *hash;
    char head[HEAD_MAX];
};

static struct {
    uint64_t count, size, part, next_object, next_offset, done_parts, all_parts, calls, digest;
    const char *prefix;
    char host[32];
    int out, epoll;
    struct file *files;
    struct signer signer;
    char *buffer;
} run;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static long called(long result) {
    run.calls++;
    return result;
}

static int open_object(uint64_t object) {
    char name[64];
    if (object % 1000 == 0) {
        snprintf(name, sizeof name, "%04" PRIu64, object / 1000);
        if (called(mkdirat(run.out, name, 0777)) != 0) die("mkdir");
    }
    snprintf(name, sizeof name, "%04" PRIu64 "/%08" PRIu64, object / 1000, object);
    int fd = (int)called(openat(run.out, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (fd < 0) die(name);
    return fd;
}

/* Sends the next request of the run on this connection; 0 when there is none left. */
static int ask(struct connection *c) {
    if (run.next_object == run.count) return 0;
    uint64_t object = run.next_object, first = run.next_offset;
    uint64_t end = run.size - first > run.part ? first + run.part : run.size;
    if (first == 0) run.files[object] = (struct file){open_object(object), (run.size + run.part - 1) / run.part};
    if (end == run.size) run.next_object++, run.next_offset = 0;
    else run.next_offset = end;

    char path[600], range[64] = "", request[2048];
    snprintf(path, sizeof path, "/bench/%s%04" PRIu64 "/%08" PRIu64, run.prefix, object / 1000, object);
    if (run.size > run.part) snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, first, end - 1);
    struct signature signature;
    sign_get(&run.signer, run.host, path, range, &signature);
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nhost: %s\r\n%s%s%sx-amz-content-sha256: " EMPTY_SHA256
                     "\r\nx-amz-date: %s\r\nauthorization: %s\r\n\r\n",
                     path, run.host, range[0] ? "range: " : "", range, range[0] ? "\r\n" : "", signature.date_time,
                     signature.authorization);
    if (called(send(c->fd, request, (size_t)n, MSG_NOSIGNAL)) != n) die("send");
    c->object = object;
    c->at = first;
    c->end = end;
    c->in_body = 0;
    c->carried = 0;
    return 1;
}

/* Reads the head at the start of data; returns its length, 0 when it is not complete. */
static size_t read_head(const struct connection *c, char *data, size_t len) {
    char *end = memmem(data, len, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    end[2] = 0;
    const char *length = strcasestr(data, "\ncontent-length:");
    int status = len > 12 ? atoi(data + 9) : 0;
    if ((status != 200 && status != 206) || length == NULL || strtoull(length + 16, NULL, 10) != c->end - c->at) {
        fprintf(stderr, "ceiling: unexpected answer: %.200s\n", data);
        exit(1);
    }
    return (size_t)(end + 4 - data);
}

static void part_done(struct connection *c, XXH128_hash_t digest) {
    run.digest ^= digest.low64 ^ digest.high64;
    run.done_parts++;
    struct file *file = &run.files[c->object];
    if (--file->parts_left == 0 && called(close(file->fd)) != 0) die("close");
}

static void store(struct connection *c, const char *data, size_t len) {
    if (len > c->end - c->at) {
        fprintf(stderr, "ceiling: more bytes than promised\n");
        exit(1);
    }
    int whole = !c->in_body && len == c->end - c->at; /* the first bytes are all of it */
    if (len > 0) {
        if (!whole) {
            if (!c->in_body) XXH3_128bits_reset(c->hash);
            XXH3_128bits_update(c->hash, data, len);
        }
        if (called(pwrite(run.files[c->object].fd, data, len, (off_t)c->at)) != (ssize_t)len) die("pwrite");
    } else if (!c->in_body) {
        XXH3_128bits_reset(c->hash);
    }
    c->in_body = 1;
    c->at += len;
    if (c->at == c->end) part_done(c, whole ? XXH3_128bits(data, len) : XXH3_128bits_digest(c->hash));
}

static void take(struct connection *c) {
    size_t have = c->in_body ? 0 : c->carried;
    memcpy(run.buffer, c->head, have);
    ssize_t n = called(recv(c->fd, run.buffer + have, RECV_BYTES - have, 0));
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) die("recv");
    size_t len = have + (size_t)n, head = 0;
    if (!c->in_body) {
        head = read_head(c, run.buffer, len);
        if (head == 0) {
            if (len > HEAD_MAX) die("head too long");
            memcpy(c->head, run.buffer, len);
            c->carried = len;
            return;
        }
    }
    store(c, run.buffer + head, len - head);
    if (c->at == c->end) ask(c);
}

static int connect_to(uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = (int)called(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd < 0 || called(connect(fd, (struct sockaddr *)&at, sizeof at)) != 0) die("connect");
    called(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    if (called(fcntl(fd, F_SETFL, O_NONBLOCK)) != 0) die("fcntl");
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 6) return fprintf(stderr, "usage: ceiling PORT COUNT SIZE PREFIX OUT [--connections N] [--part BYTES]\n"), 2;
    uint16_t port = (uint16_t)atoi(argv[1]);
    uint64_t connections = 8;
    run.count = strtoull(argv[2], NULL, 10);
    run.size = strtoull(argv[3], NULL, 10);
    run.prefix = argv[4];
    run.part = 16 << 20;
    for (int i = 6; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--connections") == 0) connections = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--part") == 0) run.part = strtoull(argv[i + 1], NULL, 10);
        else return fprintf(stderr, "ceiling: unknown argument %s\n", argv[i]), 2;
    }
    if (run.size == 0 || run.part == 0 || connections == 0) return fprintf(stderr, "ceiling: zero is not a size\n"), 2;
    snprintf(run.host, sizeof run.host, "127.0.0.1:%u", port);
    run.all_parts = run.count * ((run.size + run.part - 1) / run.part);
    run.out = open(argv[5], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.files = calloc(run.count, sizeof *run.files);
    run.buffer = malloc(RECV_BYTES);
    struct connection *all = calloc(connections, sizeof *all);
    if (run.out < 0 || run.epoll < 0 || run.files == NULL || run.buffer == NULL || all == NULL) die("start");
    for (uint64_t i = 0; i < connections; i++) {
        all[i].fd = connect_to(port);
        all[i].hash = XXH3_createState();
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (called(epoll_ctl(run.epoll, EPOLL_CTL_ADD, all[i].fd, &e)) != 0) die("epoll_ctl");
        if (!ask(&all[i])) break;
    }
    struct epoll_event events[64];
    while (run.done_parts < run.all_parts) {
        long n = called(epoll_wait(run.epoll, events, 64, -1));
        for (long i = 0; i < n; i++) take(events[i].data.ptr);
    }
    printf("{\"objects\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"syscalls\": %" PRIu64 ", \"digest\": \"%016" PRIx64 "\"}\n",
           run.count, run.count * run.size, run.calls, run.digest);
    return 0;
}
