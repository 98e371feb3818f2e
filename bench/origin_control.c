/* The origin's own two resources: what it did so far, and its limit. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "origin.h"

static uint64_t total(const struct origin *o, size_t counter) {
    uint64_t sum = 0;
    for (long i = 0; i < o->threads; i++) {
        const char *counters = (const char *)&o->workers[i].counters;
        sum += atomic_load_explicit((const _Atomic uint64_t *)(counters + counter), memory_order_relaxed);
    }
    return sum;
}

static void answer_stats(struct worker *w, struct connection *c) {
    struct origin *o = w->origin;
    struct text *t = &w->listing;
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    t->len = 0;
#define TOTAL(name) (unsigned long long)total(o, offsetof(struct counters, name))
    text_format(t,
                "{\"requests\": %llu, \"gets\": %llu, \"heads\": %llu, \"lists\": %llu, "
                "\"slow_down\": %llu, \"tail\": %llu, \"bytes_sent\": %llu, "
                "\"connections\": {\"accepted\": %llu, \"open\": %llu, \"most_open\": %llu}, "
                "\"cpu_s\": %lld.%06ld}\n",
                TOTAL(requests), TOTAL(gets), TOTAL(heads), TOTAL(lists),
                TOTAL(slow_down), TOTAL(tail), TOTAL(bytes_sent),
                (unsigned long long)atomic_load(&o->accepted), (unsigned long long)atomic_load(&o->open),
                (unsigned long long)atomic_load(&o->most_open), (long long)cpu.tv_sec, cpu.tv_nsec / 1000);
#undef TOTAL
    answer_head(w, c, &(struct answer){.status = "200 OK", .content_type = "application/json", .length = t->len});
    text_add(&c->out, text_span(t));
}

/* A decimal number of at most 30 characters. */
static int set_limit(struct origin *o, struct span digits) {
    char number[32], *rest;
    if (digits.len == 0 || digits.len >= sizeof number) return -1;
    memcpy(number, digits.ptr, digits.len);
    number[digits.len] = 0;
    if (number[strspn(number, "0123456789.")] != 0) return -1;
    double per_s = strtod(number, &rest);
    if (*rest != 0) return -1;
    limiter_set(&o->limiter, per_s);
    return 0;
}

void answer_control(struct worker *w, struct connection *c, const struct request *r) {
    const struct span limit = LITERAL("/-/gets-per-s/");
    if (span_is(r->path, "/-/stats") && span_is(r->method, "GET")) {
        answer_stats(w, c);
        return;
    }
    struct span digits = {r->path.ptr + limit.len, r->path.len - limit.len};
    if (span_starts(r->path, limit) && span_is(r->method, "POST") && set_limit(w->origin, digits) == 0) {
        answer_head(w, c, &(struct answer){.status = "204 No Content", .no_length = 1});
        return;
    }
    c->closing = 1;
    answer_head(w, c, &(struct answer){.status = "400 Bad Request"});
}
