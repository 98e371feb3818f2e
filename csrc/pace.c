#include "pace.h"

#include <limits.h>

#define NS_A_SECOND 1e9
#define LATE_MS 300
#define LATE_TIMES 8
#define TIMED_ENOUGH 10 /* answers before it is known what is usual */
#define AGAIN_SHARE 0.02F
#define AGAIN_FIRST 2.0F
#define AGAIN_MOST 8.0F

static double tokens_at(const struct stg_bucket *bucket, int64_t now_ns)
{
    double tokens = bucket->tokens + (double)(now_ns - bucket->at_ns) * bucket->rate / NS_A_SECOND;
    return tokens < bucket->burst ? tokens : bucket->burst;
}

void stg_bucket_set(struct stg_bucket *bucket, double rate, double burst, int64_t now_ns)
{
    double tokens = bucket->rate > 0 ? tokens_at(bucket, now_ns) : burst;
    *bucket = (struct stg_bucket){.rate = rate, .burst = burst, .tokens = tokens < burst ? tokens : burst, .at_ns = now_ns};
}

size_t stg_bucket_take(struct stg_bucket *bucket, size_t want, int64_t now_ns)
{
    if (bucket->rate <= 0)
        return want;
    if (now_ns > bucket->at_ns) { /* threads may read the clock in one order and come here in another */
        bucket->tokens = tokens_at(bucket, now_ns);
        bucket->at_ns = now_ns;
    }
    size_t got = bucket->tokens >= (double)want ? want : bucket->tokens > 0 ? (size_t)bucket->tokens : 0;
    bucket->tokens -= (double)got;
    return got;
}

void stg_bucket_give(struct stg_bucket *bucket, size_t unused)
{
    if (bucket->rate > 0)
        bucket->tokens += (double)unused;
}

int64_t stg_bucket_wait_ns(const struct stg_bucket *bucket, size_t want, int64_t now_ns)
{
    if (bucket->rate <= 0)
        return 0;
    double wanted = (double)want < bucket->burst ? (double)want : bucket->burst;
    double missing = wanted - (now_ns > bucket->at_ns ? tokens_at(bucket, now_ns) : bucket->tokens);
    return missing <= 0 ? 0 : (int64_t)(missing / bucket->rate * NS_A_SECOND) + 1;
}

double stg_burst_requests(double per_second)
{
    return per_second / 50 > 1 ? per_second / 50 : 1;
}

double stg_burst_bytes(double per_second)
{
    return per_second / 20 > 1024 ? per_second / 20 : 1024;
}

unsigned stg_pace_share(unsigned connections, unsigned number, unsigned workers)
{
    return (connections + workers - 1 - number) / workers;
}

unsigned stg_pace_allowed(const struct stg_pace *pace, unsigned number, unsigned workers)
{
    unsigned connections = atomic_load_explicit(&pace->connections, memory_order_relaxed);
    return connections ? stg_pace_share(connections, number, workers) : UINT_MAX;
}

void stg_pace_note_first_byte(struct stg_pace_part *part, int64_t ms)
{
    float weight = part->timed < TIMED_ENOUGH ? 1.0F / (float)(part->timed + 1) : 1.0F / 32;
    part->first_byte_ms += ((float)ms - part->first_byte_ms) * weight;
    part->again = part->again + AGAIN_SHARE < AGAIN_MOST ? part->again + AGAIN_SHARE : AGAIN_MOST;
    if (part->timed < TIMED_ENOUGH && ++part->timed == TIMED_ENOUGH)
        part->again += AGAIN_FIRST;
}

int stg_pace_is_late(const struct stg_pace_part *part, int64_t ms)
{
    return part->timed >= TIMED_ENOUGH && ms >= LATE_MS && (float)ms >= LATE_TIMES * part->first_byte_ms &&
           part->again >= 1;
}

void stg_pace_note_again(struct stg_pace_part *part)
{
    part->again -= 1;
}

struct stg_pace_sum stg_pace_sum(const struct stg_pace *pace)
{
    struct stg_pace_sum sum = {0};
    for (unsigned i = 0; i < STG_MAX_WORKERS; i++) {
        const struct stg_pace_part *part = &pace->parts[i];
        sum.sent += atomic_load_explicit(&part->sent, memory_order_relaxed);
        sum.received += atomic_load_explicit(&part->received, memory_order_relaxed);
        sum.busy += atomic_load_explicit(&part->busy, memory_order_relaxed);
        sum.open += atomic_load_explicit(&part->open, memory_order_relaxed);
    }
    return sum;
}
