/* A plain mutating driver for LLVMFuzzerTestOneInput, where there is no libFuzzer: not guided by coverage, but always
 * there, and the same for the same seed. Every input is written to a file first, so that one that crashes is kept.
 *
 * usage: PROGRAM SECONDS SEED KEEP_FILE SEED_FILE...   |   PROGRAM INPUT_FILE (runs that one only) */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define MAX_INPUT ((size_t)1 << 17)

struct input {
    uint8_t *bytes;
    size_t len;
};

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t random_below(size_t limit)
{
    return limit ? (size_t)(random_next() % limit) : 0;
}

static struct input input_read(const char *path)
{
    struct input input = {malloc(MAX_INPUT), 0};
    FILE *file = fopen(path, "rb");

    if (!file) {
        perror(path);
        exit(2);
    }
    input.len = fread(input.bytes, 1, MAX_INPUT, file);
    fclose(file);
    return input;
}

/* Makes len bytes room at, or as many as fit. */
static size_t gap_open(struct input *input, size_t at, size_t len)
{
    if (len > MAX_INPUT - input->len)
        len = MAX_INPUT - input->len;
    memmove(input->bytes + at + len, input->bytes + at, input->len - at);
    input->len += len;
    return len;
}

static void range_erase(struct input *input)
{
    size_t at = random_below(input->len), len = random_below(input->len - at + 1);

    memmove(input->bytes + at, input->bytes + at + len, input->len - at - len);
    input->len -= len;
}

static void range_insert(struct input *input, const uint8_t *from, size_t from_len)
{
    size_t start = random_below(from_len), len = random_below(from_len - start + 1), at = random_below(input->len + 1);
    uint8_t *copy = malloc(len + 1);

    memcpy(copy, from + start, len);
    len = gap_open(input, at, len);
    memcpy(input->bytes + at, copy, len);
    free(copy);
}

static void word_insert(struct input *input)
{
    static const char *const words[] = {
        "\r\n", "\n", "\r", "\r\n\r\n", ":", " ", "\t", ";", ",", "0", "-1", "+1", "9223372036854775807",
        "9223372036854775808", "18446744073709551616", "7fffffffffffffff", "ffffffffffffffff", "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n",
        "0\r\n\r\n", "ETag: \"a\"\r\n", "Content-Range: bytes 0-4/5\r\n", "<", ">", "</", "/>", "&amp;", "&#x41;", "&#0;",
        "%41", "%", "+", "<a>", "</a>", "<Key>", "</Key>", "<Size>1</Size>", "<Contents>", "</Contents>",
        "<EncodingType>url</EncodingType>", "<IsTruncated>true</IsTruncated>", "<!--", "<![CDATA[", "<!DOCTYPE", "<?",
        "\xff", "\xc3\xa9", "\"", "'", "=", "..", "//",
    };
    const char *word = words[random_below(sizeof(words) / sizeof(words[0]))];
    size_t at = random_below(input->len + 1), len = gap_open(input, at, strlen(word));

    memcpy(input->bytes + at, word, len);
}

static void input_mutate(struct input *input, const struct input *other)
{
    uint8_t *byte = input->len ? input->bytes + random_below(input->len) : NULL;

    switch (random_below(8)) {
    case 0:
        if (byte)
            *byte ^= (uint8_t)(1 << random_below(8));
        break;
    case 1:
        if (byte)
            *byte = (uint8_t)random_next();
        break;
    case 2:
        range_erase(input);
        break;
    case 3:
        range_insert(input, other->bytes, other->len);
        break;
    case 4:
        range_insert(input, input->bytes, input->len);
        break;
    case 5:
        if (random_below(8) == 0)
            input->len = random_below(input->len + 1);
        break;
    default:
        word_insert(input);
    }
}

/* The copy is exactly as long as the input: a read beyond it is seen. */
static void input_run(const struct input *input)
{
    uint8_t *exact = malloc(input->len + !input->len);

    memcpy(exact, input->bytes, input->len);
    LLVMFuzzerTestOneInput(exact, input->len);
    free(exact);
}

/* Memory shared with a file: it survives a crash without a system call for each input. */
static uint8_t *keep_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    void *kept;

    if (fd < 0 || ftruncate(fd, MAX_INPUT) < 0) {
        perror(path);
        exit(2);
    }
    kept = mmap(NULL, MAX_INPUT, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (kept == MAP_FAILED) {
        perror(path);
        exit(2);
    }
    return kept;
}

static uint64_t fuzz(const struct input *seeds, size_t count, time_t until, uint8_t *kept)
{
    struct input input = {malloc(MAX_INPUT), 0};
    uint64_t runs = 0;

    for (; runs % 64 || time(NULL) < until; runs++) {
        const struct input *seed = &seeds[random_below(count)];

        memcpy(input.bytes, seed->bytes, seed->len);
        input.len = seed->len;
        for (size_t steps = 1 + random_below(6); steps; steps--)
            input_mutate(&input, &seeds[random_below(count)]);
        memcpy(kept, input.bytes, input.len);
        input_run(&input);
    }
    free(input.bytes);
    return runs;
}

int main(int argc, char **argv)
{
    struct input *seeds = calloc((size_t)argc, sizeof(*seeds));
    size_t count = 0;
    uint64_t runs;

    if (argc == 2)
        seeds[count++] = input_read(argv[1]);
    for (int i = 4; i < argc; i++)
        seeds[count++] = input_read(argv[i]);
    if (!count) {
        printf("usage: %s SECONDS SEED KEEP_FILE SEED_FILE... | INPUT_FILE\n", argv[0]);
        return 2;
    }
    for (size_t i = 0; i < count; i++)
        input_run(&seeds[i]);
    if (argc > 2) {
        random_state = strtoull(argv[2], NULL, 10) * UINT64_C(0x9e3779b97f4a7c15) + 1;
        runs = fuzz(seeds, count, time(NULL) + atoi(argv[1]), keep_open(argv[3]));
        printf("%s: %" PRIu64 " inputs from %zu seeds in %s s, seed %s: no complaint\n", argv[0], runs, count, argv[1],
               argv[2]);
        unlink(argv[3]);
    }
    for (size_t i = 0; i < count; i++)
        free(seeds[i].bytes);
    free(seeds);
    return 0;
}
