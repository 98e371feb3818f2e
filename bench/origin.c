/* An S3-like server for benches: the bucket "bench", over http or https, faster than any client.
 *
 *     origin PORT OBJECTS OBJECT_BYTES PREFIX --data FILE|--formula [OPTION...]
 *     origin PORT --folder DIR [OPTION...]
 *
 * PORT 0 takes a free one; the port is printed on the first line once connections are accepted. GetObject (Range,
 * conditions, checksums), HeadObject and ListObjectsV2 as the "Amazon S3 API Reference" has them, in path style or
 * virtual-hosted style. It verifies no signature and takes no writes: strictness is the tests' servers' business.
 *
 *   --data FILE      objects by formula (origin_content.c), their bytes in FILE, which is made longer when it is too
 *                    short; put it on tmpfs. Bodies leave by sendfile
 *   --formula        the same bytes, made while they are sent; nothing is stored
 *   --folder DIR     the regular files below DIR as they are at start
 *   --verify DIR     does not serve: says whether DIR holds just these objects, names without PREFIX, .stager and .git apart
 *   --checksum A     crc64nvme, crc32c, crc32 or none: a FULL_OBJECT checksum of every object, computed at start
 *   --etag E         part: ETags of the form a multipart object has, so that no client spends time on MD5; or md5: the
 *                    MD5 of each object, computed at start
 *   --threads N      epoll threads
 *   --tls CERT KEY   https, from PEM files
 *   --profile P      loop: as fast as it goes; s3like: 20 ms +- 10 ms to the first byte, 1% of answers 2 s, 85 MB/s a
 *                    connection, 5,500 requests a second, above which they get 503 SlowDown
 *   --first-byte-ms, --jitter-ms, --tail-share, --tail-ms, --connection-bytes-per-s, --gets-per-s: one figure of it
 *   --line-bytes-per-s N  what all connections share; no profile has one
 *
 * POST /-/gets-per-s/N changes the limit (0: none); GET /-/stats says what was done so far. Neither is delayed or
 * counted.
 */
#define _GNU_SOURCE
#include "origin.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define MS_NS 1e6

struct options {
    uint16_t port;
    const char *data, *folder, *verify, *certificate, *key;
    double first_byte_ms, jitter_ms, tail_share, tail_ms, connection_bytes_per_s, gets_per_s,
        line_bytes_per_s; /* < 0: as the profile has it */
    int s3like, formula;
    long threads;
};

static _Noreturn void refuse(const char *what, const char *value) {
    fprintf(stderr, "origin: %s%s%s\n", what, value == NULL ? "" : ": ", value == NULL ? "" : value);
    exit(2);
}

static uint64_t whole_number(const char *text, uint64_t most) {
    char *rest;
    errno = 0;
    uint64_t n = strtoull(text, &rest, 10);
    if (text[0] < '0' || text[0] > '9' || *rest != 0 || errno != 0 || n > most)
        refuse("not a number, or too large", text);
    return n;
}

static double figure(const char *text) {
    char *rest;
    double n = strtod(text, &rest);
    if (rest == text || *rest != 0 || !(n >= 0 && n < 1e15)) refuse("not a figure of at least 0", text);
    return n;
}

/* Options with one value. Whether it was one. */
static int take_option(struct options *o, struct content *c, const char *name, const char *value) {
    const struct {
        const char *name;
        double *to;
    } figures[] = {{"--first-byte-ms", &o->first_byte_ms}, {"--jitter-ms", &o->jitter_ms},
                   {"--tail-share", &o->tail_share},       {"--tail-ms", &o->tail_ms},
                   {"--gets-per-s", &o->gets_per_s},       {"--connection-bytes-per-s", &o->connection_bytes_per_s},
                   {"--line-bytes-per-s", &o->line_bytes_per_s}};
    const struct {
        const char *name, **to;
    } texts[] = {{"--data", &o->data}, {"--folder", &o->folder}, {"--verify", &o->verify}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        if (strcmp(name, figures[i].name) == 0) return *figures[i].to = figure(value), 1;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(name, texts[i].name) == 0) return *texts[i].to = value, 1;
    if (strcmp(name, "--threads") == 0) {
        o->threads = (long)whole_number(value, 1024);
    } else if (strcmp(name, "--checksum") == 0) {
        if (checksum_named(value, &c->checksum) != 0) refuse("no such checksum", value);
    } else if (strcmp(name, "--etag") == 0) {
        c->md5 = strcmp(value, "md5") == 0;
        if (!c->md5 && strcmp(value, "part") != 0) refuse("no such form of ETags", value);
    } else if (strcmp(name, "--profile") == 0) {
        o->s3like = strcmp(value, "s3like") == 0;
        if (!o->s3like && strcmp(value, "loop") != 0) refuse("no such profile", value);
    } else {
        return 0;
    }
    return 1;
}

static void read_options(int argc, char **argv, struct options *o, struct content *c) {
    *o = (struct options){.first_byte_ms = -1, .jitter_ms = -1, .tail_share = -1, .tail_ms = -1,
                          .connection_bytes_per_s = -1, .gets_per_s = -1, .line_bytes_per_s = -1, .threads = 1};
    if (argc < 2)
        refuse("usage: origin PORT [OBJECTS OBJECT_BYTES PREFIX] --data FILE|--formula|--folder DIR [OPTION...]", NULL);
    o->port = (uint16_t)whole_number(argv[1], UINT16_MAX);
    int at = 2;
    if (argc >= 5 && argv[2][0] != '-') {
        c->count = whole_number(argv[2], MOST_NAMED);
        c->size = whole_number(argv[3], INT64_MAX);
        c->prefix = span_of(argv[4]);
        at = 5;
    }
    for (; at < argc; at++) {
        if (strcmp(argv[at], "--formula") == 0) {
            o->formula = 1;
        } else if (strcmp(argv[at], "--tls") == 0 && at + 2 < argc) {
            o->certificate = argv[at + 1];
            o->key = argv[at + 2];
            at += 2;
        } else if (at + 1 < argc && take_option(o, c, argv[at], argv[at + 1])) {
            at++;
        } else {
            refuse("unknown argument, or one without its value", argv[at]);
        }
    }
    if ((o->data != NULL) + (o->folder != NULL) + o->formula != 1)
        refuse("one of --data, --formula and --folder is needed", NULL);
    if ((o->folder != NULL) == (c->prefix.ptr != NULL))
        refuse("OBJECTS OBJECT_BYTES PREFIX go with --data and --formula", NULL);
    if (c->prefix.len > KEY_MAX / 2) refuse("PREFIX is too long", argv[4]);
    if (c->count > 0 && c->size > INT64_MAX / c->count) refuse("OBJECTS * OBJECT_BYTES is too large", NULL);
    if (o->threads < 1) refuse("--threads starts at 1", NULL);
    if (o->tail_share > 1) refuse("--tail-share is at most 1", NULL);
}

static void open_content(const struct options *o, struct content *c) {
    c->kind = o->formula ? CONTENT_FORMULA : o->folder != NULL ? CONTENT_FOLDER : CONTENT_DATA;
    c->fd = -1;
    if (o->data != NULL) content_open_data(c, o->data);
    if (o->folder != NULL) content_open_folder(c, o->folder);
}

static double choose(double given, int s3like, double of_s3like) { return given >= 0 ? given : s3like ? of_s3like : 0; }

static void set_profile(const struct options *o, struct origin *to) {
    to->profile = (struct profile){
        .first_byte_ns = (uint64_t)(choose(o->first_byte_ms, o->s3like, 20) * MS_NS),
        .jitter_ns = (uint64_t)(choose(o->jitter_ms, o->s3like, 10) * MS_NS),
        .tail_share = choose(o->tail_share, o->s3like, 0.01),
        .tail_ns = (uint64_t)(choose(o->tail_ms, o->s3like, 2000) * MS_NS),
        .connection_bytes_per_s = (uint64_t)choose(o->connection_bytes_per_s, o->s3like, 85e6),
        .line_bytes_per_s = (uint64_t)choose(o->line_bytes_per_s, o->s3like, 0),
    };
    limiter_set(&to->limiter, choose(o->gets_per_s, o->s3like, 5500));
}

static void use_all_descriptors(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* The first worker is told to stop by SIGTERM or SIGINT, and tells the others by SIGUSR1. Each listens only while it
 * waits for events, so that no signal falls between a look at what it says and the wait. */
static void prepare_stop(struct origin *o) {
    sigset_t blocked;
    struct sigaction action = {.sa_handler = worker_stop};
    const int signals[] = {SIGTERM, SIGINT, SIGUSR1};
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&blocked);
    for (int i = 0; i < 3; i++) {
        sigaddset(&blocked, signals[i]);
        sigaction(signals[i], &action, NULL);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    for (long i = 0; i < o->threads; i++) {
        o->workers[i].wait_mask = blocked;
        for (int k = 0; k < 3; k++)
            if ((signals[k] == SIGUSR1) == (i > 0)) sigdelset(&o->workers[i].wait_mask, signals[k]);
    }
}

static void serve_all(struct origin *o, uint16_t port) {
    pthread_t *others = calloc((size_t)o->threads, sizeof *others);
    o->workers = calloc((size_t)o->threads, sizeof *o->workers);
    if (others == NULL || o->workers == NULL) die("calloc");
    prepare_stop(o);
    for (long i = 0; i < o->threads; i++) {
        o->workers[i].origin = o;
        port = worker_listen(&o->workers[i], port);
    }
    for (long i = 1; i < o->threads; i++)
        if (pthread_create(&others[i], NULL, worker_run, &o->workers[i]) != 0) die("pthread_create");
    printf("%u\n", port);
    fflush(stdout);
    worker_run(&o->workers[0]);
    for (long i = 1; i < o->threads; i++) pthread_kill(others[i], SIGUSR1);
    for (long i = 1; i < o->threads; i++) pthread_join(others[i], NULL);
    free(others);
    free(o->workers);
}

int main(int argc, char **argv) {
    struct options options;
    struct origin *o = calloc(1, sizeof *o);
    if (o == NULL) die("calloc");
    read_options(argc, argv, &options, &o->content);
    open_content(&options, &o->content);
    int status = 0;
    if (options.verify != NULL) {
        status = content_verify(&o->content, options.verify);
    } else {
        use_all_descriptors();
        content_compute_digests(&o->content, sysconf(_SC_NPROCESSORS_ONLN));
        set_profile(&options, o);
        o->threads = options.threads;
        if (options.certificate != NULL) tls_start(o, options.certificate, options.key);
        serve_all(o, options.port);
    }
    content_close(&o->content);
    SSL_CTX_free(o->tls);
    BIO_meth_free(o->wire_method);
    free(o);
    return status;
}
