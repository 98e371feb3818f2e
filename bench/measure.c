/* Runs a command and says what its whole process tree cost.
 *
 *     measure REPORT CPUS COMMAND [ARGUMENT...]
 *
 * CPUS is a list of core numbers to pin to ("1,2,3"), or "any". Writes one JSON object to the file REPORT: exit status, wall seconds from the
 * fork to the end of the last process of the tree, user and system seconds of all of them (orphans are adopted and
 * waited for), and the largest ru_maxrss of a single process in KiB. A program of its own and not a Python
 * subprocess: ru_maxrss starts at the size of the parent's memory at exec, which here is under 2 MB.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int pin(const char *cpus) {
    cpu_set_t set;
    char *rest;
    CPU_ZERO(&set);
    for (const char *at = cpus; *at != 0; at = *rest == ',' ? rest + 1 : rest) {
        CPU_SET(strtoul(at, &rest, 10), &set);
        if (rest == at) break;
    }
    return sched_setaffinity(0, sizeof set, &set);
}

int main(int argc, char **argv) {
    if (argc < 4) return fprintf(stderr, "usage: measure REPORT CPUS COMMAND [ARGUMENT...]\n"), 2;
    int status = 0, last, command_status = -1;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    double start = now();
    pid_t command = fork(), pid;
    if (command < 0) return perror("fork"), 2;
    if (command == 0) {
        if (strcmp(argv[2], "any") != 0 && pin(argv[2]) != 0) perror("sched_setaffinity"), _exit(126);
        execvp(argv[3], argv + 3);
        perror(argv[3]);
        _exit(127);
    }
    while ((pid = wait(&status)) > 0 || errno == EINTR)
        if (pid == command) command_status = status;
    double wall = now() - start;
    struct rusage tree;
    getrusage(RUSAGE_CHILDREN, &tree);
    last = WIFEXITED(command_status) ? WEXITSTATUS(command_status) : 128 + WTERMSIG(command_status);
    FILE *report = fopen(argv[1], "w");
    if (report == NULL) return perror(argv[1]), 2;
    fprintf(report, "{\"status\": %d, \"wall_s\": %.6f, \"user_s\": %.6f, \"system_s\": %.6f, \"max_rss_kib\": %ld}\n", last,
            wall, seconds(tree.ru_utime), seconds(tree.ru_stime), tree.ru_maxrss);
    return fclose(report) == 0 ? 0 : 2;
}
