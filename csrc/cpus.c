#include "cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define CGROUPS "/sys/fs/cgroup"

static unsigned in_affinity_mask(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : (unsigned)count;
}

/* The path of our cgroup below CGROUPS, from the line "0::/path"; "" when there is none. */
static void read_own_cgroup(char *out, size_t cap)
{
    char line[PATH_MAX];
    FILE *file = fopen("/proc/self/cgroup", "re");
    out[0] = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, cap, "%s", line + 3);
    }
    if (file)
        fclose(file);
}

static unsigned quota_of(const char *cgroup)
{
    char path[PATH_MAX + sizeof CGROUPS + 16];
    unsigned long quota = 0, period = 0;
    snprintf(path, sizeof path, CGROUPS "%s/cpu.max", cgroup);
    FILE *file = fopen(path, "re");
    if (!file)
        return UINT_MAX;
    int fields = fscanf(file, "%lu %lu", &quota, &period); /* "max 100000" has no quota */
    fclose(file);
    if (fields != 2 || !quota || !period)
        return UINT_MAX;
    unsigned long whole = (quota + period - 1) / period;
    return whole > UINT_MAX ? UINT_MAX : (unsigned)whole;
}

unsigned stg_cpus_usable(void)
{
    char cgroup[PATH_MAX];
    unsigned usable = in_affinity_mask();
    read_own_cgroup(cgroup, sizeof cgroup);
    for (;;) {
        unsigned quota = quota_of(cgroup);
        if (quota < usable)
            usable = quota;
        char *last = strrchr(cgroup, '/');
        if (!last)
            return usable;
        *last = 0;
    }
}
