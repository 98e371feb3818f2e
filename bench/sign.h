/* SigV4 for a GET of the bench clients: the shortest code that makes a right signature, key derived once.
 *
 * Source: AWS, "Authenticating Requests: Using the Authorization Header". Shared by ceiling.c and multi.c and nothing
 * else: the ceiling must not share code with what it measures. Uses OpenSSL's plain SHA-256 functions, deprecated but
 * still the ones with the least overhead, with the two key-dependent HMAC states kept.
 */
#ifndef BENCH_SIGN_H
#define BENCH_SIGN_H

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ACCESS_KEY "BENCHACCESSKEY"
#define SECRET_KEY "benchsecretkey"
#define REGION "us-east-1"
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SCOPE_TAIL "/" REGION "/s3/aws4_request"

struct signer {
    SHA256_CTX inner, outer; /* HMAC states after the key's block */
    time_t second;           /* of date_time */
    char date_time[20], day[12];
};

struct signature {
    char date_time[20];
    char authorization[320];
};

static void sign_hex(const unsigned char digest[32], char out[65]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[64] = 0;
}

static void sign_start_day(struct signer *s, const char *day) {
    unsigned char key[32], block[64];
    unsigned int n;
    const char *steps[] = {day, REGION, "s3", "aws4_request"};
    HMAC(EVP_sha256(), "AWS4" SECRET_KEY, (int)strlen("AWS4" SECRET_KEY), (const unsigned char *)day, strlen(day), key, &n);
    for (int i = 1; i < 4; i++) HMAC(EVP_sha256(), key, 32, (const unsigned char *)steps[i], strlen(steps[i]), key, &n);
    for (int pad = 0; pad < 2; pad++) {
        SHA256_CTX *state = pad == 0 ? &s->inner : &s->outer;
        memset(block, pad == 0 ? 0x36 : 0x5c, sizeof block);
        for (int i = 0; i < 32; i++) block[i] ^= key[i];
        SHA256_Init(state);
        SHA256_Update(state, block, sizeof block);
    }
    memcpy(s->day, day, strlen(day) + 1);
}

/* range is "" or a value such as "bytes=0-9", which then must be sent as it is. */
static void sign_get(struct signer *s, const char *host, const char *path, const char *range, struct signature *out) {
    char text[1024], digest_hex[65], day[12];
    unsigned char digest[32];
    time_t now = time(NULL);
    if (now != s->second) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(s->date_time, sizeof s->date_time, "%Y%m%dT%H%M%SZ", &tm);
        strftime(day, sizeof day, "%Y%m%d", &tm);
        if (strcmp(day, s->day) != 0) sign_start_day(s, day);
        s->second = now;
    }
    int n = snprintf(text, sizeof text,
                     "GET\n%s\n\nhost:%s\n%s%s%sx-amz-content-sha256:" EMPTY_SHA256 "\nx-amz-date:%s\n\nhost;%s"
                     "x-amz-content-sha256;x-amz-date\n" EMPTY_SHA256,
                     path, host, range[0] ? "range:" : "", range, range[0] ? "\n" : "", s->date_time,
                     range[0] ? "range;" : "");
    SHA256((const unsigned char *)text, (size_t)n, digest);
    sign_hex(digest, digest_hex);
    n = snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s" SCOPE_TAIL "\n%s", s->date_time, s->day, digest_hex);
    SHA256_CTX state = s->inner;
    SHA256_Update(&state, text, (size_t)n);
    SHA256_Final(digest, &state);
    state = s->outer;
    SHA256_Update(&state, digest, 32);
    SHA256_Final(digest, &state);
    sign_hex(digest, digest_hex);
    memcpy(out->date_time, s->date_time, sizeof out->date_time);
    snprintf(out->authorization, sizeof out->authorization,
             "AWS4-HMAC-SHA256 Credential=" ACCESS_KEY "/%s" SCOPE_TAIL
             ", SignedHeaders=host;%sx-amz-content-sha256;x-amz-date, Signature=%s",
             s->day, range[0] ? "range;" : "", digest_hex);
}

#endif
