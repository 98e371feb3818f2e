/* Names and bytes: by formula, with or without a data file, or of a folder.
 *
 * By formula, object i is named PREFIX + "%04u/%08u" of (i / 1000, i), and its bytes are [i * SIZE, (i + 1) * SIZE) of
 * an endless file whose 64-bit little-endian word k is splitmix64's k-th output for seed SEED: independent of COUNT
 * and SIZE, so several origins may share one data file, and with and without one the bytes are the same.
 */
#define _GNU_SOURCE
#include "origin_content.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEED UINT64_C(0x73746167657221)
#define GOLDEN UINT64_C(0x9E3779B97F4A7C15)
#define NAME_BYTES 13 /* of "%04u/%08u" */
#define MODIFIED 1704067200 /* 2024-01-01, of everything by formula */

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint64_t word(uint64_t k) { return mix(SEED + (k + 1) * GOLDEN); }

static void fill(uint64_t at, unsigned char *to, size_t len) {
    uint64_t k = at / 8;
    size_t skip = at % 8;
    if (skip != 0 && len > 0) {
        uint64_t first = word(k++);
        size_t n = 8 - skip < len ? 8 - skip : len;
        memcpy(to, (unsigned char *)&first + skip, n);
        to += n;
        len -= n;
    }
    for (; len >= 8; len -= 8, to += 8) {
        uint64_t next = word(k++);
        memcpy(to, &next, 8);
    }
    uint64_t last = word(k);
    memcpy(to, &last, len);
}

void content_open_data(struct content *c, const char *path) {
    enum { STEP = 1 << 20 };
    uint64_t bytes = c->count * c->size;
    struct stat st;
    c->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (c->fd < 0 || fstat(c->fd, &st) != 0) die(path);
    unsigned char *step = malloc(STEP);
    if (step == NULL) die("malloc");
    for (uint64_t at = (uint64_t)st.st_size / STEP * STEP; at < bytes; at += STEP) {
        fill(at, step, STEP);
        if (pwrite(c->fd, step, STEP, (off_t)at) != STEP) die("write of the data file");
    }
    free(step);
    if (bytes == 0) return;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, c->fd, 0);
    if (map == MAP_FAILED) die("mmap");
    c->map = map;
}

static int file_order(const void *a, const void *b) {
    return span_order(((const struct file *)a)->key, ((const struct file *)b)->key);
}

void content_open_folder(struct content *c, const char *path) {
    char *roots[] = {(char *)path, NULL};
    size_t root_len = strlen(path), room = 0;
    while (root_len > 1 && path[root_len - 1] == '/') root_len--;
    c->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    FTS *walk = c->fd < 0 ? NULL : fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (walk == NULL) die(path);
    for (FTSENT *entry; (entry = fts_read(walk)) != NULL;) {
        if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            errno = entry->fts_errno;
            die(entry->fts_path);
        }
        if (entry->fts_info != FTS_F) continue;
        const char *key = entry->fts_path + root_len;
        key += strspn(key, "/");
        if (strlen(key) > KEY_MAX) errno = ENAMETOOLONG, die(entry->fts_path);
        if (c->count == room) {
            room = room == 0 ? 1024 : 2 * room;
            c->files = realloc(c->files, room * sizeof *c->files);
            if (c->files == NULL) die("realloc");
        }
        char *kept = strdup(key);
        if (kept == NULL) die("strdup");
        c->files[c->count++] = (struct file){span_of(kept), (uint64_t)entry->fts_statp->st_size,
                                             entry->fts_statp->st_mtim};
    }
    if (errno != 0) die(path);
    fts_close(walk);
    if (c->count > 0) qsort(c->files, c->count, sizeof *c->files, file_order);
}

void content_close(struct content *c) {
    for (uint64_t i = 0; c->files != NULL && i < c->count; i++) free((char *)c->files[i].key.ptr);
    free(c->files);
    free(c->checksums);
    free(c->md5s);
    if (c->map != NULL) munmap((void *)c->map, c->count * c->size);
    if (c->fd >= 0) close(c->fd);
}

uint64_t content_size(const struct content *c, uint64_t i) { return c->files != NULL ? c->files[i].size : c->size; }

time_t content_modified(const struct content *c, uint64_t i) {
    return c->files != NULL ? c->files[i].modified.tv_sec : MODIFIED;
}

static void put_digits(char *to, uint64_t n, int digits) {
    for (int i = digits - 1; i >= 0; i--, n /= 10) to[i] = (char)('0' + n % 10);
}

struct span content_key(const struct content *c, uint64_t i, char room[KEY_MAX]) {
    if (c->files != NULL) return c->files[i].key;
    size_t n = c->prefix.len;
    memcpy(room, c->prefix.ptr, n);
    put_digits(room + n, i / 1000, 4);
    room[n + 4] = '/';
    put_digits(room + n + 5, i, 8);
    return (struct span){room, n + NAME_BYTES};
}

struct span content_etag(const struct content *c, uint64_t i, char room[ETAG_ROOM]) {
    struct text t = {room, 0, ETAG_ROOM};
    if (c->md5s != NULL) {
        for (int half = 0; half < 16; half += 8) {
            uint64_t big_endian = 0;
            for (int k = 0; k < 8; k++) big_endian = big_endian << 8 | c->md5s[i][half + k];
            text_hex(&t, big_endian);
        }
        return text_span(&t);
    }
    uint64_t high = word(i ^ GOLDEN), low = word(~i);
    if (c->files != NULL) {
        const struct file *file = &c->files[i];
        high = mix(file->size + GOLDEN);
        for (size_t k = 0; k < file->key.len; k++) high = mix(high ^ (unsigned char)file->key.ptr[k]);
        low = mix(high ^ mix((uint64_t)file->modified.tv_sec * 1000000000 + (uint64_t)file->modified.tv_nsec));
    }
    text_hex(&t, high);
    text_hex(&t, low);
    text_add(&t, LITERAL("-1"));
    return text_span(&t);
}

uint64_t content_bound(const struct content *c, struct span bound, enum bound kind) {
    uint64_t low = 0, high = c->count;
    char room[KEY_MAX];
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct span key = content_key(c, middle, room);
        if (kind == PAST_PREFIX && key.len > bound.len) key.len = bound.len;
        int order = span_order(key, bound);
        if (order < 0 || (order == 0 && kind != AT_LEAST)) low = middle + 1;
        else high = middle;
    }
    return low;
}

int64_t content_find(const struct content *c, struct span key) {
    char room[KEY_MAX];
    uint64_t i = content_bound(c, key, AT_LEAST);
    if (i == c->count || span_order(content_key(c, i, room), key) != 0) return -1;
    return (int64_t)i;
}

int body_open(const struct content *c, uint64_t i, uint64_t first, uint64_t end, struct body *out) {
    *out = (struct body){.fd = -1};
    if (c->kind == CONTENT_FOLDER) {
        int fd = openat(c->fd, c->files[i].key.ptr, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) return -errno;
        *out = (struct body){.fd = fd, .owned = 1, .at = first, .end = end};
    } else {
        uint64_t start = i * c->size;
        *out = (struct body){.fd = c->kind == CONTENT_DATA ? c->fd : -1, .at = start + first, .end = start + end};
    }
    return 0;
}

void body_close(struct body *b) {
    if (b->owned) close(b->fd);
    *b = (struct body){.fd = -1};
}

ssize_t body_peek(const struct content *c, const struct body *b, unsigned char *room, size_t want,
                  const unsigned char **out) {
    if (want > b->end - b->at) want = (size_t)(b->end - b->at);
    *out = room;
    if (c->kind == CONTENT_FOLDER) return pread(b->fd, room, want, (off_t)b->at);
    if (c->map != NULL) *out = c->map + b->at;
    else fill(b->at, room, want);
    return (ssize_t)want;
}
