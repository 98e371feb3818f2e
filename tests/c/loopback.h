/* An HTTP server on loopback whose answers are scripted by the path: /b/BEHAVIOUR/NUMBER/SIZE.
 * Byte i of object NUMBER is (i * 7 + NUMBER) & 255; its ETag is "e". One thread a connection.
 * sum-crc32, sum-crc32c and sum-crc64nvme announce that checksum of the whole object, with a range too; sum-wrong a
 * CRC32 that it does not have. A HEAD has the head alone; refused and busy are a 403 and a 503 to it. */
#ifndef LOOPBACK_H
#define LOOPBACK_H

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crc.h"

struct loopback {
    int fd;
    uint16_t port;
    pthread_t thread;
    atomic_int connections, most; /* now; at any time */
    atomic_int requests;
};

struct loopback_peer {
    struct loopback *server;
    int fd;
};

static int loopback_send(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0)
            return -1;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int loopback_body(int fd, unsigned number, int64_t first, int64_t len)
{
    uint8_t piece[4096];
    while (len > 0) {
        size_t n = len < (int64_t)sizeof piece ? (size_t)len : sizeof piece;
        for (size_t i = 0; i < n; i++)
            piece[i] = (uint8_t)((uint64_t)(first + (int64_t)i) * 7 + number);
        if (loopback_send(fd, piece, n) < 0)
            return -1;
        first += (int64_t)n;
        len -= (int64_t)n;
    }
    return 0;
}

static int loopback_chunked(int fd, unsigned number, int64_t size)
{
    char line[32];
    for (int64_t at = 0; at < size; at += 1000) {
        int64_t n = size - at < 1000 ? size - at : 1000;
        snprintf(line, sizeof line, "%llx\r\n", (unsigned long long)n);
        if (loopback_send(fd, line, strlen(line)) < 0 || loopback_body(fd, number, at, n) < 0 ||
            loopback_send(fd, "\r\n", 2) < 0)
            return -1;
    }
    return loopback_send(fd, "0\r\n\r\n", 5);
}

/* A short answer and one byte too many, so that both arrive together. */
static int loopback_overlong(int fd, const char *head, size_t head_len, unsigned number, size_t len)
{
    char whole[2048];
    if (head_len + len + 1 > sizeof whole)
        abort();
    memcpy(whole, head, head_len);
    for (size_t i = 0; i < len; i++)
        whole[head_len + i] = (char)(i * 7 + number);
    whole[head_len + len] = 'x';
    return loopback_send(fd, whole, head_len + len + 1);
}

static uint64_t loopback_crc(enum stg_crc_kind kind, unsigned number, int64_t size)
{
    uint8_t piece[4096];
    uint64_t value = 0;
    for (int64_t at = 0; at < size; at += (int64_t)sizeof piece) {
        size_t n = size - at < (int64_t)sizeof piece ? (size_t)(size - at) : sizeof piece;
        for (size_t i = 0; i < n; i++)
            piece[i] = (uint8_t)((uint64_t)(at + (int64_t)i) * 7 + number);
        value = stg_crc_update(kind, value, piece, n);
    }
    return value;
}

/* The field that announces value, of 4 or 8 bytes: base64 of them, big-endian, padded. */
static int loopback_announce(char *out, size_t cap, const char *name, uint64_t value, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[13] = "";
    value <<= 64 - 8 * bytes;
    for (size_t i = 0; i < (bytes + 2) / 3 * 4; i++, value <<= 6)
        text[i] = i < (8 * bytes + 5) / 6 ? digits[value >> 58] : '=';
    return snprintf(out, cap, "x-amz-checksum-%s: %s\r\nx-amz-checksum-type: FULL_OBJECT\r\n", name, text);
}

static int loopback_sum(char *out, size_t cap, const char *how, unsigned number, int64_t size)
{
    static const char *const names[] = {"", "crc32", "crc32c", "crc64nvme"};
    for (enum stg_crc_kind kind = STG_CRC32; kind <= STG_CRC64NVME; kind++)
        if (strcmp(how, names[kind]) == 0)
            return loopback_announce(out, cap, how, loopback_crc(kind, number, size), stg_crc_bytes(kind));
    return loopback_announce(out, cap, "crc32", loopback_crc(STG_CRC32, number, size) ^ 1, 4);
}

/* 0: the connection goes on. */
static int loopback_answer(int fd, const char *request)
{
    char how[32] = "", head[512];
    unsigned number = 0;
    long long size = 0, first = 0, last = -1;
    const char *range = strstr(request, "range: bytes=");
    int is_head = strncmp(request, "HEAD ", 5) == 0;
    if (strncmp(request, "GET /b?", 7) == 0) {
        const char *body = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key>"
                           "<LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>5</Size>"
                           "<StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>";
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\ncontent-length: %zu\r\n\r\n", strlen(body));
        return loopback_send(fd, head, strlen(head)) || loopback_send(fd, body, strlen(body));
    }
    if (sscanf(request, is_head ? "HEAD /b/%31[^/]/%u/%lld " : "GET /b/%31[^/]/%u/%lld ", how, &number, &size) != 3)
        return -1;
    if (range)
        sscanf(range, "range: bytes=%lld-%lld", &first, &last);
    else
        last = size - 1;
    long long len = last - first + 1;
    int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\netag: \"%s\"\r\n", range ? "206 Partial Content" : "200 OK",
                     strcmp(how, "etag") ? "e" : "other");
    if (range)
        n += snprintf(head + n, sizeof head - (size_t)n, "content-range: bytes %lld-%lld/%lld\r\n", first, last,
                      strcmp(how, "total") ? size : size + 1);
    if (strncmp(how, "sum-", 4) == 0)
        n += loopback_sum(head + n, sizeof head - (size_t)n, how + 4, number, size);
    if (is_head && (strcmp(how, "refused") == 0 || strcmp(how, "busy") == 0)) {
        n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\ncontent-length: 243\r\n\r\n",
                     strcmp(how, "busy") ? "403 Forbidden" : "503 Slow Down");
        return loopback_send(fd, head, (size_t)n);
    }
    if (is_head && strcmp(how, "parted") == 0) { /* of two parts, the first of 600 bytes */
        const char *asked = strstr(request, "?partNumber=");
        int is_second = asked && asked[12] == '2';
        n += snprintf(head + n, sizeof head - (size_t)n, "content-range: bytes %s/%lld\r\nx-amz-mp-parts-count: 2\r\n",
                      is_second ? "600-999" : "0-599", size);
        len = is_second ? 400 : 600;
    }
    if (is_head) {
        n += snprintf(head + n, sizeof head - (size_t)n, "content-length: %lld\r\n\r\n", len);
        return loopback_send(fd, head, (size_t)n);
    }
    if (strcmp(how, "missing") == 0) {
        const char *answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 57\r\n\r\n"
                             "<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>";
        return loopback_send(fd, answer, strlen(answer) - 3);
    }
    if (strcmp(how, "garbage") == 0)
        return loopback_send(fd, "SPDY 1\r\n\r\n", 10);
    if (strcmp(how, "stall") == 0) {
        char byte;
        loopback_send(fd, head, (size_t)n);
        while (recv(fd, &byte, 1, 0) > 0)
            continue;
        return -1;
    }
    if (strcmp(how, "chunked") == 0) {
        n += snprintf(head + n, sizeof head - (size_t)n, "transfer-encoding: chunked\r\n\r\n");
        return loopback_send(fd, head, (size_t)n) || loopback_chunked(fd, number, size);
    }
    n += snprintf(head + n, sizeof head - (size_t)n, "content-length: %lld\r\n\r\n", len);
    if (strcmp(how, "extra") == 0)
        return loopback_overlong(fd, head, (size_t)n, number, (size_t)len);
    if (loopback_send(fd, head, (size_t)n) < 0)
        return -1;
    if (strcmp(how, "cut") == 0) {
        loopback_body(fd, number, first, len / 2);
        return -1;
    }
    if (loopback_body(fd, number, first, len) < 0)
        return -1;
    if (strcmp(how, "late") == 0) /* the byte too many may be met with this answer, before the next, or in it */
        return loopback_send(fd, "x", 1);
    return strcmp(how, "stale") == 0 ? -1 : 0;
}

static void *loopback_serve(void *argument)
{
    struct loopback_peer *peer = argument;
    char request[8192];
    size_t have = 0;
    int going = 1;
    while (going) {
        ssize_t n = recv(peer->fd, request + have, sizeof request - 1 - have, 0);
        if (n <= 0)
            break;
        have += (size_t)n;
        request[have] = 0;
        if (!strstr(request, "\r\n\r\n"))
            continue;
        atomic_fetch_add(&peer->server->requests, 1);
        going = loopback_answer(peer->fd, request) == 0;
        have = 0;
    }
    close(peer->fd);
    atomic_fetch_sub(&peer->server->connections, 1);
    free(peer);
    return NULL;
}

static void *loopback_accept(void *argument)
{
    struct loopback *server = argument;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept(server->fd, NULL, NULL);
        if (fd < 0)
            break;
        struct loopback_peer *peer = malloc(sizeof *peer);
        pthread_t id;
        *peer = (struct loopback_peer){server, fd};
        int now = atomic_fetch_add(&server->connections, 1) + 1;
        if (now > server->most)
            server->most = now;
        if (pthread_create(&id, &attributes, loopback_serve, peer) != 0)
            abort();
    }
    pthread_attr_destroy(&attributes);
    return NULL;
}

static void loopback_start(struct loopback *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    server->connections = server->most = server->requests = 0;
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server->fd, (struct sockaddr *)&address, len) < 0 || listen(server->fd, 128) < 0 ||
        getsockname(server->fd, (struct sockaddr *)&address, &len) < 0 ||
        pthread_create(&server->thread, NULL, loopback_accept, server) != 0)
        abort();
    server->port = ntohs(address.sin_port);
}

static void loopback_stop(struct loopback *server)
{
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->fd);
    while (atomic_load(&server->connections) > 0)
        usleep(1000);
}

#endif
