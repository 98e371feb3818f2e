/* See measure.h. Source of the /proc formats: proc(5); of the event: perf_event_open(2). */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"

#define MOST_PROCESSES 4096
#define TRACEFS "/sys/kernel/tracing"
#define EVENT_ID TRACEFS "/events/raw_syscalls/sys_enter/id"

struct tree {
    char newest[24]; /* the last process id the kernel gave away when the tree was walked */
    size_t len;
    pid_t pids[MOST_PROCESSES];
};

static ssize_t read_file(const char *path, char *to, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = read(fd, to, room - 1);
    close(fd);
    if (n >= 0) to[n] = 0;
    return n;
}

static void add_children(struct tree *tree, pid_t pid) {
    char path[80], text[8192];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) return; /* it has ended */
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        if (task->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", (int)pid, task->d_name);
        if (read_file(path, text, sizeof text) <= 0) continue;
        char *rest = text;
        for (long child; (child = strtol(rest, &rest, 10)) > 0 && tree->len < MOST_PROCESSES;) {
            tree->pids[tree->len++] = (pid_t)child;
            add_children(tree, (pid_t)child);
        }
    }
    closedir(tasks);
}

/* Walks again only when some process or thread was made anywhere since: the last field of /proc/loadavg. */
static void update(struct tree *tree) {
    char text[128];
    if (read_file("/proc/loadavg", text, sizeof text) <= 0) return;
    char *newest = strrchr(text, ' ');
    if (newest == NULL || strncmp(newest, tree->newest, sizeof tree->newest - 1) == 0) return;
    snprintf(tree->newest, sizeof tree->newest, "%.22s", newest);
    tree->len = 0;
    add_children(tree, getpid());
}

static uint64_t rss_anon_kib(pid_t pid) {
    char path[40], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (read_file(path, text, sizeof text) <= 0) return 0;
    const char *at = strstr(text, "\nRssAnon:");
    return at == NULL ? 0 : strtoull(at + strlen("\nRssAnon:"), NULL, 10); /* a zombie has none */
}

static void keep_away(const cpu_set_t *busy) {
    cpu_set_t all, others;
    if (sched_getaffinity(0, sizeof all, &all) != 0) return;
    CPU_XOR(&others, &all, busy);
    CPU_AND(&others, &others, &all);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(0, sizeof others, &others);
}

static void *sample(void *argument) {
    struct sampler *s = argument;
    struct tree *tree = calloc(1, sizeof *tree);
    struct timespec next;
    if (tree == NULL) return NULL;
    keep_away(&s->busy);
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (!atomic_load(&s->stop)) {
        uint64_t sum = 0;
        update(tree);
        for (size_t i = 0; i < tree->len; i++) sum += rss_anon_kib(tree->pids[i]);
        if (sum > s->peak_kib) s->peak_kib = sum;
        s->samples++;
        next.tv_nsec += s->period_ms % 1000 * 1000000;
        next.tv_sec += s->period_ms / 1000 + next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    free(tree);
    return NULL;
}

int sampler_start(struct sampler *s) {
    errno = pthread_create(&s->thread, NULL, sample, s);
    return errno == 0 ? 0 : -1;
}

void sampler_stop(struct sampler *s) {
    atomic_store(&s->stop, 1);
    pthread_join(s->thread, NULL);
}

/* Where tracefs is not mounted, a child that ends at once mounts it for itself alone. */
static ssize_t read_event_id(char *to, size_t room) {
    int result[2];
    ssize_t n = read_file(EVENT_ID, to, room);
    if (n > 0 || pipe(result) != 0) return n;
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
            mount("tracefs", TRACEFS, "tracefs", 0, NULL) == 0 && (n = read_file(EVENT_ID, to, room)) > 0 &&
            write(result[1], to, (size_t)n) != n)
            _exit(1);
        _exit(0);
    }
    close(result[1]);
    n = read(result[0], to, room - 1);
    close(result[0]);
    if (child > 0) waitpid(child, NULL, 0);
    if (n > 0) to[n] = 0;
    return n;
}

int syscalls_start(pid_t pid) {
    char id[32];
    if (read_event_id(id, sizeof id) <= 0) return fprintf(stderr, "measure: no raw_syscalls:sys_enter here\n"), -1;
    struct perf_event_attr event = {
        .type = PERF_TYPE_TRACEPOINT,
        .size = sizeof event,
        .config = strtoull(id, NULL, 10),
        .disabled = 1,
        .enable_on_exec = 1,
        .inherit = 1,
    };
    long fd = syscall(SYS_perf_event_open, &event, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0) perror("measure: perf_event_open");
    return (int)fd;
}
