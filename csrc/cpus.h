/* How many CPUs this process may use. */
#ifndef STG_CPUS_H
#define STG_CPUS_H

/* The affinity mask's count, or the cgroup v2 quota of this process and its ancestors rounded up when that is less;
 * at least 1. What cannot be read does not limit. */
unsigned stg_cpus_usable(void);

#endif
