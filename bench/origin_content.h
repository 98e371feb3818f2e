/* What the origin serves: names, sizes, identities and bytes of objects, numbered from 0 in byte order of keys. */
#ifndef BENCH_ORIGIN_CONTENT_H
#define BENCH_ORIGIN_CONTENT_H

#include <stdint.h>
#include <sys/types.h>

#include "origin_text.h"

#define KEY_MAX 1024             /* S3's limit */
#define MOST_NAMED 10000000      /* with more, "%04u/%08u" would no longer be in byte order */
#define ETAG_ROOM 40

enum content_kind { CONTENT_NONE, CONTENT_DATA, CONTENT_FORMULA, CONTENT_FOLDER };
enum checksum_kind { CHECKSUM_NONE, CHECKSUM_CRC32, CHECKSUM_CRC32C, CHECKSUM_CRC64NVME };

struct content {
    enum content_kind kind;
    uint64_t count, size;       /* size: of each, unless a folder */
    struct span prefix;
    int fd;                     /* the data file, or the folder */
    const unsigned char *map;   /* the data file, NULL when it is empty */
    struct file *files;         /* the folder's, sorted */
    enum checksum_kind checksum;
    uint64_t *checksums;
    int md5;                    /* is the ETag */
    unsigned char (*md5s)[16];
};

struct file {
    struct span key;
    uint64_t size;
    struct timespec modified;
};

/* Bytes of an object still to be sent. */
struct body {
    int fd;           /* to sendfile from at `at`; -1: by formula */
    int owned;        /* fd is closed at the end */
    uint64_t at, end; /* in fd, or in the formula's endless file */
};

/* All exit with a message when they fail. */
void content_open_data(struct content *c, const char *path);
void content_open_folder(struct content *c, const char *path);
void content_compute_digests(struct content *c, long threads); /* checksums and MD5s, where they are wanted */
void content_close(struct content *c);

uint64_t content_size(const struct content *c, uint64_t i);
time_t content_modified(const struct content *c, uint64_t i);
struct span content_key(const struct content *c, uint64_t i, char room[KEY_MAX]);
struct span content_etag(const struct content *c, uint64_t i, char room[ETAG_ROOM]);
/* The object's number, or -1. */
int64_t content_find(const struct content *c, struct span key);
/* The first object whose key is: at least the bound; above it; above all keys that start with it. */
enum bound { AT_LEAST, ABOVE, PAST_PREFIX };
uint64_t content_bound(const struct content *c, struct span bound, enum bound kind);

/* 0 or -errno. body_close may follow either way. */
int body_open(const struct content *c, uint64_t i, uint64_t first, uint64_t end, struct body *out);
void body_close(struct body *b);
/* At most `want` of the next bytes, in place or copied into room. Their number, 0: the file was cut, -1 with errno. */
ssize_t body_peek(const struct content *c, const struct body *b, unsigned char *room, size_t want,
                  const unsigned char **out);

/* "crc64nvme" ... of --checksum. 0 or -1. */
int checksum_named(const char *name, enum checksum_kind *out);
const char *checksum_option(enum checksum_kind kind); /* the same; it also ends the header's name */
const char *checksum_name(enum checksum_kind kind); /* as in S3's XML: "CRC64NVME" */
void checksum_base64(const struct content *c, uint64_t i, struct text *out);

/* Whether `directory` holds just what is served, byte for byte; 0, or 1 after one line to stderr. */
int content_verify(const struct content *c, const char *directory);

#endif
