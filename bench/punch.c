/* Follows a file that grows on a disk smaller than it: every block that holds what it should is punched out.
 *
 *     punch DIRECTORY SIZE
 *
 * Looks below DIRECTORY for the first regular file of SIZE bytes (it may be renamed later: the descriptor stays), and goes
 * over it until each of its 8 MiB blocks has once been equal, word for word, to what `origin --formula` serves for one
 * object: little-endian splitmix64. A block that is not yet complete is looked at again later, from where it stopped
 * being equal. So every byte is compared, and at no time does the disk hold more than what is on its way. Prints the
 * bytes compared; status 1 on SIGTERM before the end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK ((int64_t)8 << 20)
#define STEP ((size_t)256 << 10)
#define SEED UINT64_C(0x73746167657221) /* origin_content.c's */

static int64_t wanted;
static char found[4096];
static volatile sig_atomic_t told_to_end;

static void end_soon(int number) { told_to_end = number; }

static int is_it(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)ftw;
    if (kind != FTW_F || st->st_size != wanted || strlen(path) >= sizeof found) return 0;
    strcpy(found, path);
    return 1;
}

static uint64_t word(uint64_t k) {
    uint64_t z = SEED + (k + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* How many bytes from `at` on are right, at most up to `end`; a whole number of words unless that reaches the end. */
static int64_t equal_from(int fd, int64_t at, int64_t end) {
    static uint64_t read_here[STEP / 8];
    int64_t start = at;
    while (at < end) {
        size_t want = end - at < (int64_t)STEP ? (size_t)(end - at) : STEP;
        ssize_t n = pread(fd, read_here, want, at);
        if (n != (ssize_t)want) return perror("pread"), exit(1), 0;
        for (size_t k = 0; k * 8 < want; k++) {
            uint64_t expected = word((uint64_t)at / 8 + k);
            size_t bytes = want - k * 8 < 8 ? want - k * 8 : 8;
            if (memcmp(&read_here[k], &expected, bytes) != 0) return at - start + (int64_t)k * 8;
        }
        at += (int64_t)want;
    }
    return at - start;
}

static int open_when_there(const char *directory) {
    const struct timespec pause = {0, 20000000};
    while (!told_to_end) {
        if (nftw(directory, is_it, 16, FTW_PHYS) == 1) {
            int fd = open(found, O_RDWR | O_CLOEXEC);
            if (fd >= 0 || errno != ENOENT) return fd;
        }
        nanosleep(&pause, NULL);
    }
    errno = EINTR;
    return -1;
}

/* Goes once over the data that the file has; returns how many bytes were newly found right. */
static int64_t pass(int fd, int64_t *right) {
    int64_t news = 0, at = 0;
    while (!told_to_end && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
        int64_t block = at / BLOCK, start = block * BLOCK, end = start + BLOCK < wanted ? start + BLOCK : wanted;
        if (start + right[block] < end) {
            int64_t more = equal_from(fd, start + right[block], end);
            right[block] += more;
            news += more;
        }
        if (start + right[block] == end &&
            fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start) != 0)
            perror("fallocate"), exit(1);
        at = end;
    }
    return news;
}

int main(int argc, char **argv) {
    if (argc != 3 || (wanted = strtoll(argv[2], NULL, 10)) <= 0) return fprintf(stderr, "usage: punch DIRECTORY SIZE\n"), 2;
    const struct sigaction action = {.sa_handler = end_soon};
    sigaction(SIGTERM, &action, NULL);
    int fd = open_when_there(argv[1]);
    if (fd < 0) return perror(argv[1]), 1;
    int64_t *right = calloc((size_t)(wanted / BLOCK + 1), sizeof *right), all = 0;
    const struct timespec pause = {0, 5000000};
    while (all < wanted && !told_to_end) {
        int64_t news = pass(fd, right);
        all += news;
        if (news == 0) nanosleep(&pause, NULL);
    }
    free(right);
    printf("%" PRId64 "\n", all);
    return all == wanted ? 0 : 1;
}
