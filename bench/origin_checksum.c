/* CRCs and MD5s of whole objects, computed once at start. CRCs by slicing by 8, with the width's polynomial reflected.
 *
 * A reflected CRC of 32 bits fits the low half of a 64-bit register, so one loop does all three. Parameters: CRC RevEng
 * catalogue, CRC-32/ISO-HDLC, CRC-32/ISCSI, CRC-64/NVME.
 */
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <strings.h>

#include "origin_content.h"

#define STEP_BYTES (256 << 10)

struct algorithm {
    const char *option, *name;
    uint64_t polynomial, ones;
    size_t bytes;
};

static const struct algorithm ALGORITHMS[] = {
    [CHECKSUM_NONE] = {"none", "", 0, 0, 0},
    [CHECKSUM_CRC32] = {"crc32", "CRC32", 0xEDB88320, 0xFFFFFFFF, 4},
    [CHECKSUM_CRC32C] = {"crc32c", "CRC32C", 0x82F63B78, 0xFFFFFFFF, 4},
    [CHECKSUM_CRC64NVME] = {"crc64nvme", "CRC64NVME", UINT64_C(0x9A6C9329AC4BC9B5), UINT64_MAX, 8},
};

typedef uint64_t tables[8][256];

struct work {
    struct content *content;
    tables crc;
    _Atomic uint64_t next;
};

static void make_tables(uint64_t polynomial, tables crc) {
    for (unsigned i = 0; i < 256; i++) {
        uint64_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? polynomial : 0);
        crc[0][i] = value;
    }
    for (int k = 1; k < 8; k++)
        for (unsigned i = 0; i < 256; i++) crc[k][i] = crc[k - 1][i] >> 8 ^ crc[0][crc[k - 1][i] & 255];
}

static uint64_t update(tables crc, uint64_t value, const unsigned char *bytes, size_t len) {
    for (; len >= 8; len -= 8, bytes += 8) {
        uint64_t next;
        memcpy(&next, bytes, 8); /* little-endian, as all machines this runs on are */
        value ^= next;
        value = crc[7][value & 255] ^ crc[6][value >> 8 & 255] ^ crc[5][value >> 16 & 255] ^ crc[4][value >> 24 & 255] ^
                crc[3][value >> 32 & 255] ^ crc[2][value >> 40 & 255] ^ crc[1][value >> 48 & 255] ^ crc[0][value >> 56];
    }
    for (; len > 0; len--) value = value >> 8 ^ crc[0][(value ^ *bytes++) & 255];
    return value;
}

static void digest_object(struct work *work, uint64_t i, unsigned char *room, EVP_MD_CTX *md5) {
    struct content *c = work->content;
    uint64_t ones = ALGORITHMS[c->checksum].ones, value = ones;
    const unsigned char *bytes;
    struct body body;
    if (body_open(c, i, 0, content_size(c, i), &body) != 0) die("digests");
    if (c->md5s != NULL) EVP_DigestInit_ex(md5, EVP_md5(), NULL);
    while (body.at < body.end) {
        ssize_t n = body_peek(c, &body, room, STEP_BYTES, &bytes);
        if (n <= 0) die("digests");
        if (c->checksums != NULL) value = update(work->crc, value, bytes, (size_t)n);
        if (c->md5s != NULL) EVP_DigestUpdate(md5, bytes, (size_t)n);
        body.at += (uint64_t)n;
    }
    body_close(&body);
    if (c->checksums != NULL) c->checksums[i] = value ^ ones;
    if (c->md5s != NULL && EVP_DigestFinal_ex(md5, c->md5s[i], NULL) != 1) die("MD5");
}

static void *compute(void *argument) {
    struct work *work = argument;
    unsigned char *room = malloc(STEP_BYTES);
    EVP_MD_CTX *md5 = EVP_MD_CTX_new();
    if (room == NULL || md5 == NULL) die("malloc");
    for (uint64_t i; (i = atomic_fetch_add(&work->next, 1)) < work->content->count;) digest_object(work, i, room, md5);
    EVP_MD_CTX_free(md5);
    free(room);
    return NULL;
}

void content_compute_digests(struct content *c, long threads) {
    if ((c->checksum == CHECKSUM_NONE && !c->md5) || c->count == 0) return;
    struct work *work = malloc(sizeof *work);
    pthread_t *others = calloc((size_t)threads, sizeof *others);
    if (c->checksum != CHECKSUM_NONE) c->checksums = calloc(c->count, sizeof *c->checksums);
    unsigned char (*md5s)[16] = c->md5 ? calloc(c->count, sizeof *md5s) : NULL;
    if (work == NULL || others == NULL || (c->checksums == NULL && md5s == NULL)) die("calloc");
    c->md5s = md5s;
    work->content = c;
    work->next = 0;
    make_tables(ALGORITHMS[c->checksum].polynomial, work->crc);
    for (long i = 1; i < threads; i++)
        if (pthread_create(&others[i], NULL, compute, work) != 0) die("pthread_create");
    compute(work);
    for (long i = 1; i < threads; i++) pthread_join(others[i], NULL);
    free(others);
    free(work);
}

int checksum_named(const char *name, enum checksum_kind *out) {
    for (unsigned i = 0; i < sizeof ALGORITHMS / sizeof *ALGORITHMS; i++) {
        if (strcmp(name, ALGORITHMS[i].option) != 0) continue;
        *out = (enum checksum_kind)i;
        return 0;
    }
    return -1;
}

const char *checksum_option(enum checksum_kind kind) { return ALGORITHMS[kind].option; }

const char *checksum_name(enum checksum_kind kind) { return ALGORITHMS[kind].name; }

void checksum_base64(const struct content *c, uint64_t i, struct text *out) {
    unsigned char bytes[8];
    size_t n = ALGORITHMS[c->checksum].bytes;
    for (size_t k = 0; k < n; k++) bytes[k] = (unsigned char)(c->checksums[i] >> 8 * (n - 1 - k));
    text_base64(out, bytes, n);
}
