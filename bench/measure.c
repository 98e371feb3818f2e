/* Runs a command and says what its whole process tree cost.
 *
 *     measure [--count-syscalls] [--sample-ms N] REPORT CPUS COMMAND [ARGUMENT...]
 *
 * CPUS is a list of core numbers to pin to ("1,2,3"), or "any". Writes one JSON object to the file REPORT:
 *
 *   status                  the command's exit status, 128 + n for signal n
 *   wall_s                  from its start to the end of the last process of the tree; orphans are adopted
 *   user_s, system_s        of all of them, and so voluntary_switches, involuntary_switches
 *   max_rss_kib             largest ru_maxrss of a single process, file-backed pages included
 *   peak_rss_anon_kib       largest sum of RssAnon over the tree in one sample
 *   samples                 how many there were, one every N ms (5), taken on a core not in CPUS where there is one
 *   syscalls                of the tree from its exec on; null without --count-syscalls, and where the kernel refuses
 *
 * A program of its own and not a Python subprocess: ru_maxrss starts at the size of the parent's memory at exec, which
 * here is under 2 MB. Counted system calls cost a client some percent more CPU, so take the two from different runs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"

struct arguments {
    int count_syscalls;
    long sample_ms;
    const char *report, *cpus;
    char **command;
};

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The cores of "1,2,3"; none of "any". */
static cpu_set_t read_cpus(const char *cpus) {
    cpu_set_t set;
    char *rest;
    CPU_ZERO(&set);
    for (const char *at = cpus; *at != 0; at = *rest == ',' ? rest + 1 : rest) {
        unsigned long core = strtoul(at, &rest, 10);
        if (rest == at) break;
        CPU_SET(core, &set);
    }
    return set;
}

static int read_arguments(int argc, char **argv, struct arguments *a) {
    *a = (struct arguments){.sample_ms = 5};
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--count-syscalls") == 0) a->count_syscalls = 1;
        else if (strcmp(argv[at], "--sample-ms") == 0 && at + 1 < argc) a->sample_ms = atol(argv[++at]);
        else return -1;
    }
    if (argc - at < 3 || a->sample_ms < 1) return -1;
    a->report = argv[at];
    a->cpus = argv[at + 1];
    a->command = argv + at + 2;
    return 0;
}

/* In the child: waits for a byte, or for the end of the pipe, and becomes the command. */
static _Noreturn void become(const struct arguments *a, int go) {
    char byte;
    cpu_set_t set = read_cpus(a->cpus);
    if (CPU_COUNT(&set) > 0 && sched_setaffinity(0, sizeof set, &set) != 0) perror("sched_setaffinity"), _exit(126);
    if (read(go, &byte, 1) < 0) _exit(126);
    execvp(a->command[0], a->command);
    perror(a->command[0]);
    _exit(127);
}

static int wait_for_all(pid_t command) {
    int status = 0, of_command = -1;
    for (pid_t pid; (pid = wait(&status)) > 0 || errno == EINTR;)
        if (pid == command) of_command = status;
    return WIFEXITED(of_command) ? WEXITSTATUS(of_command) : 128 + WTERMSIG(of_command);
}

int main(int argc, char **argv) {
    struct arguments a;
    int go[2];
    if (read_arguments(argc, argv, &a) != 0) {
        fprintf(stderr, "usage: measure [--count-syscalls] [--sample-ms N] REPORT CPUS COMMAND [ARGUMENT...]\n");
        return 2;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (pipe2(go, O_CLOEXEC) != 0) return perror("pipe2"), 2;
    pid_t command = fork();
    if (command < 0) return perror("fork"), 2;
    if (command == 0) {
        close(go[1]);
        become(&a, go[0]);
    }
    int counter = a.count_syscalls ? syscalls_start(command) : -1;
    struct sampler sampler = {.period_ms = a.sample_ms, .busy = read_cpus(a.cpus)};
    double start = now();
    if (write(go[1], "", 1) != 1 || sampler_start(&sampler) != 0) return perror("measure"), 2;
    int status = wait_for_all(command);
    double wall = now() - start;
    sampler_stop(&sampler);
    struct rusage tree;
    getrusage(RUSAGE_CHILDREN, &tree);
    FILE *report = fopen(a.report, "w");
    if (report == NULL) return perror(a.report), 2;
    fprintf(report,
            "{\"status\": %d, \"wall_s\": %.6f, \"user_s\": %.6f, \"system_s\": %.6f, \"max_rss_kib\": %ld, "
            "\"peak_rss_anon_kib\": %llu, \"samples\": %llu, "
            "\"voluntary_switches\": %ld, \"involuntary_switches\": %ld, ",
            status, wall, seconds(tree.ru_utime), seconds(tree.ru_stime), tree.ru_maxrss,
            (unsigned long long)sampler.peak_kib, (unsigned long long)sampler.samples, tree.ru_nvcsw, tree.ru_nivcsw);
    uint64_t calls;
    if (counter >= 0 && read(counter, &calls, sizeof calls) == sizeof calls)
        fprintf(report, "\"syscalls\": %llu}\n", (unsigned long long)calls);
    else fprintf(report, "\"syscalls\": null}\n");
    return fclose(report) == 0 ? 0 : 2;
}
