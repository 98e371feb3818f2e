/* The parts of measure.c: the tree's memory, sampled; its system calls, counted by the kernel. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

/* Samples RssAnon of all descendants of this process. */
struct sampler {
    long period_ms;
    cpu_set_t busy; /* cores to stay away from, where there are others */
    uint64_t peak_kib, samples; /* read after sampler_stop */
    atomic_int stop;
    pthread_t thread;
};

int sampler_start(struct sampler *s); /* 0, or -1 with errno */
void sampler_stop(struct sampler *s);

/* A descriptor that reads as the number (64 bits) of system calls of `pid` and all it starts, from its exec on; to be
 * called before that. -1 after a line to stderr: the kernel refuses. */
int syscalls_start(pid_t pid);

#endif
