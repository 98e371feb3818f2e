/* What the bench clients fetch: objects by origin.c's formula or from a list, in parts, each into its file.
 *
 * Shared by ceiling.c and multi.c and nothing else. System calls are counted in `calls`, by hand at each.
 */
#ifndef BENCH_OBJECTS_H
#define BENCH_OBJECTS_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_ROOM 1100
#define PATH_ROOM 4400 /* of an encoded one */

struct file {
    const char *name; /* without the prefix; NULL: by formula */
    uint64_t size, parts_left;
    int fd;
};

struct objects {
    uint64_t count, size, part, all_parts, calls;
    uint64_t next_object, next_offset; /* what the next part is of */
    const char *prefix;
    int out;
    struct file *files;
};

/* Bytes [first, end) of an object. */
struct part {
    uint64_t object, first, end;
};

static _Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}

/* Lines "SIZE NAME". */
static void objects_read(struct objects *o, const char *path) {
    FILE *list = fopen(path, "r");
    char *line = NULL, *name;
    size_t line_room = 0, room = 0;
    if (list == NULL) die(path);
    for (ssize_t n; (n = getline(&line, &line_room, list)) > 0;) {
        if (line[n - 1] == '\n') line[n - 1] = 0;
        uint64_t size = strtoull(line, &name, 10);
        if (*name != ' ' || strlen(name + 1) >= NAME_ROOM) errno = EINVAL, die(path);
        if (o->count == room) {
            room = room == 0 ? 1024 : 2 * room;
            o->files = realloc(o->files, room * sizeof *o->files);
            if (o->files == NULL) die("realloc");
        }
        o->files[o->count++] = (struct file){.name = strdup(name + 1), .size = size};
    }
    free(line);
    fclose(list);
}

/* count and size, or a list; part; prefix. */
static void objects_start(struct objects *o, const char *list, const char *out) {
    if (list != NULL) {
        o->count = 0;
        objects_read(o, list);
    } else {
        o->files = calloc(o->count, sizeof *o->files);
        if (o->files == NULL) die("calloc");
        for (uint64_t i = 0; i < o->count; i++) o->files[i].size = o->size;
    }
    for (uint64_t i = 0; i < o->count; i++) {
        struct file *file = &o->files[i];
        file->parts_left = file->size == 0 ? 1 : (file->size + o->part - 1) / o->part;
        o->all_parts += file->parts_left;
    }
    o->out = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (o->out < 0) die(out);
}

static const char *object_name(const struct objects *o, uint64_t i, char room[NAME_ROOM]) {
    if (o->files[i].name != NULL) return o->files[i].name;
    snprintf(room, NAME_ROOM, "%04" PRIu64 "/%08" PRIu64, i / 1000, i);
    return room;
}

/* "/bench/" and the key, percent-encoded. */
static void object_path(const struct objects *o, const char *name, char path[PATH_ROOM]) {
    static const char kept[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    int n = snprintf(path, PATH_ROOM, "/bench/%s", o->prefix);
    for (; *name != 0 && n < PATH_ROOM - 4; name++) {
        if (strchr(kept, *name) != NULL) path[n++] = *name;
        else n += snprintf(path + n, 4, "%%%02X", (unsigned char)*name);
    }
    path[n] = 0;
}

static void make_parents(struct objects *o, const char *name) {
    char parent[NAME_ROOM];
    for (const char *slash = name; (slash = strchr(slash, '/')) != NULL; slash++) {
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - name), name);
        o->calls++;
        if (mkdirat(o->out, parent, 0777) != 0 && errno != EEXIST) die(parent);
    }
}

static int object_open(struct objects *o, const char *name) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    o->calls++;
    int fd = openat(o->out, name, flags, 0666);
    if (fd < 0 && errno == ENOENT) {
        make_parents(o, name);
        o->calls++;
        fd = openat(o->out, name, flags, 0666);
    }
    if (fd < 0) die(name);
    return fd;
}

/* Whether there is a further part; a file is opened with its first. `path` is the object's. */
static int next_part(struct objects *o, struct part *part, char path[PATH_ROOM]) {
    char room[NAME_ROOM];
    if (o->next_object == o->count) return 0;
    struct file *file = &o->files[o->next_object];
    const char *name = object_name(o, o->next_object, room);
    object_path(o, name, path);
    *part = (struct part){o->next_object, o->next_offset, file->size};
    if (file->size - part->first > o->part) part->end = part->first + o->part;
    if (part->first == 0) file->fd = object_open(o, name);
    o->next_offset = part->end;
    if (part->end == file->size) o->next_object++, o->next_offset = 0;
    return 1;
}

/* "" for a whole object. */
static void part_range(const struct objects *o, const struct part *part, char range[64]) {
    range[0] = 0;
    if (o->files[part->object].size > o->part)
        snprintf(range, 64, "bytes=%" PRIu64 "-%" PRIu64, part->first, part->end - 1);
}

/* Closes the file after its last part. */
static void part_done(struct objects *o, const struct part *part) {
    struct file *file = &o->files[part->object];
    if (--file->parts_left > 0) return;
    o->calls++;
    if (close(file->fd) != 0) die("close");
}

static uint64_t objects_bytes(const struct objects *o) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < o->count; i++) sum += o->files[i].size;
    return sum;
}

#endif
