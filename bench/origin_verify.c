/* A client's output against what it was to fetch: the same names, no others, the same bytes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "origin_content.h"

#define STEP_BYTES (1 << 20)
static const char *const STATE_FOLDERS[] = {".stager", ".git"}; /* a client's own, at the top of what it fills */

static int is_state(const FTSENT *entry) {
    int found = 0;
    for (size_t i = 0; i < sizeof STATE_FOLDERS / sizeof *STATE_FOLDERS; i++)
        found |= strcmp(entry->fts_name, STATE_FOLDERS[i]) == 0;
    return found && entry->fts_level == 1;
}

/* Every file below the directory has to be an object. 0, or -1 after a line to stderr. */
static int only_objects(const struct content *c, const char *directory) {
    char *roots[] = {(char *)directory, NULL}, key[2 * KEY_MAX + 1];
    size_t root_len = strlen(directory);
    while (root_len > 1 && directory[root_len - 1] == '/') root_len--;
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_NOSTAT, NULL);
    if (walk == NULL) die(directory);
    int strange = 0;
    for (FTSENT *entry; !strange && (entry = fts_read(walk)) != NULL;) {
        if (is_state(entry)) fts_set(walk, entry, FTS_SKIP);
        if (entry->fts_info == FTS_D || entry->fts_info == FTS_DP) continue;
        const char *name = entry->fts_path + root_len;
        name += strspn(name, "/");
        size_t name_len = strlen(name);
        if (name_len > KEY_MAX) name_len = KEY_MAX;
        if (c->prefix.len > 0) memcpy(key, c->prefix.ptr, c->prefix.len);
        memcpy(key + c->prefix.len, name, name_len);
        strange = content_find(c, (struct span){key, c->prefix.len + name_len}) < 0;
        if (strange) fprintf(stderr, "origin: %s is not among the objects\n", entry->fts_path);
    }
    fts_close(walk);
    return strange ? -1 : 0;
}

/* What is wrong with an object's file, or NULL. */
static const char *compare(const struct content *c, uint64_t i, int fd, unsigned char *served, unsigned char *found) {
    struct stat st;
    struct body body;
    const unsigned char *bytes;
    const char *wrong = NULL;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return "is not a regular file";
    if ((uint64_t)st.st_size != content_size(c, i)) return "has another size";
    if (body_open(c, i, 0, content_size(c, i), &body) != 0) return "could not be compared: the source does not open";
    for (off_t at = 0; wrong == NULL && body.at < body.end;) {
        ssize_t n = body_peek(c, &body, served, STEP_BYTES, &bytes);
        if (n <= 0) wrong = "could not be compared: the source cannot be read";
        else if (pread(fd, found, (size_t)n, at) != n) wrong = "cannot be read";
        else if (memcmp(bytes, found, (size_t)n) != 0) wrong = "has other bytes";
        at += n;
        body.at += (uint64_t)n;
    }
    body_close(&body);
    return wrong;
}

int content_verify(const struct content *c, const char *directory) {
    unsigned char *served = malloc(STEP_BYTES), *found = malloc(STEP_BYTES);
    int top = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (served == NULL || found == NULL || top < 0) die(directory);
    int wrong = only_objects(c, directory) != 0;
    for (uint64_t i = 0; !wrong && i < c->count; i++) {
        char room[KEY_MAX], name[KEY_MAX + 1];
        struct span key = content_key(c, i, room);
        size_t len = key.len - c->prefix.len;
        memcpy(name, key.ptr + c->prefix.len, len);
        name[len] = 0;
        int fd = openat(top, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        const char *what = fd < 0 ? strerror(errno) : compare(c, i, fd, served, found);
        if (fd >= 0) close(fd);
        wrong = what != NULL;
        if (wrong) fprintf(stderr, "origin: %s/%s %s\n", directory, name, what);
    }
    close(top);
    free(served);
    free(found);
    return wrong;
}
