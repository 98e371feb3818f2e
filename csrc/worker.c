#include "worker_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <openssl/crypto.h>

#define EVENTS_A_TURN 64
#define HELD_UP_MS 100      /* work of one turn beyond this is not the peers' time */
#define OTHER_TEMPLATE_EVERY 64
#define IDLE_MS 30000
#define FIRST_REACH 8           /* requests under way at first; with eight a core was seen busy on loopback */
#define REACH_WINDOW_NS 5000000 /* 20 ms to S3's first byte are four of them: 128 by then */

void stg_worker_wake(struct stg_worker *worker)
{
    uint64_t one = 1;
    if (atomic_exchange(&worker->woken, 1) == 0 && write(worker->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is readable */
}

void stg_worker_complete(struct stg_worker *worker, struct stg_item item, int failed, struct stg_failure *failure)
{
    stg_worker_announce_later(worker, stg_engine_complete(worker->engine, item, failed, failure));
}

void stg_worker_announce_later(struct stg_worker *worker, int is_needed)
{
    if (is_needed && !worker->unsignalled_ms)
        worker->unsignalled_ms = worker->now_ms;
}

/* ---- connections and requests ---- */

struct stg_pace_part *stg_worker_part(const struct stg_worker *worker, struct stg_endpoint *endpoint)
{
    return &stg_endpoint_pace(endpoint)->parts[worker->number];
}

static int is_surplus(const struct stg_worker *worker, struct stg_endpoint *endpoint)
{
    unsigned open = atomic_load_explicit(&stg_worker_part(worker, endpoint)->open, memory_order_relaxed);
    return open > stg_pace_allowed(stg_endpoint_pace(endpoint), worker->number, worker->engine->config.workers);
}

static void charge(struct stg_worker *worker, struct stg_conn *conn, struct stg_endpoint *endpoint)
{
    worker->busy++;
    conn->charged = stg_endpoint_ref(endpoint);
    conn->sent_again = 0;
    atomic_fetch_add_explicit(&stg_worker_part(worker, endpoint)->busy, 1, memory_order_relaxed);
}

void stg_worker_rest(struct stg_worker *worker, struct stg_conn *conn)
{
    worker->busy--;
    atomic_fetch_sub_explicit(&stg_worker_part(worker, conn->charged)->busy, 1, memory_order_relaxed);
    stg_endpoint_unref(conn->charged);
    conn->charged = NULL;
    if (conn->state != STG_CONN_IDLE)
        return;
    if (is_surplus(worker, conn->endpoint))
        stg_conn_close(conn);
    else
        worker->idle[worker->idle_count++] = conn;
}

void stg_worker_forget(struct stg_worker *worker, struct stg_conn *conn)
{
    for (unsigned i = 0; i < worker->idle_count; i++)
        if (worker->idle[i] == conn) {
            worker->idle_count--;
            for (; i < worker->idle_count; i++)
                worker->idle[i] = worker->idle[i + 1];
        }
}

/* An idle connection of the endpoint, a free place, or the place of an idle connection elsewhere. */
static struct stg_conn *find_conn(struct stg_worker *worker, const struct stg_endpoint *endpoint)
{
    struct stg_conn *conn = NULL;
    for (unsigned i = worker->idle_count; i-- > 0 && !conn;)
        if (worker->idle[i]->endpoint == endpoint)
            conn = worker->idle[i];
    if (conn) {
        stg_worker_forget(worker, conn);
        return conn;
    }
    for (unsigned i = 0; i < worker->conn_count; i++)
        if (worker->conns[i].state == STG_CONN_CLOSED && !worker->conns[i].item.batch) {
            worker->used = i < worker->used ? worker->used : i + 1;
            return &worker->conns[i];
        }
    conn = worker->idle[0];
    stg_worker_forget(worker, conn);
    stg_conn_close(conn);
    return conn;
}

static void note_time(int64_t *at_ms, int64_t now_ms, int64_t wait_ns)
{
    int64_t due_ms = now_ms + wait_ns / 1000000 + 1;
    if (!*at_ms || due_ms < *at_ms)
        *at_ms = due_ms;
}

void stg_worker_read_later(struct stg_worker *worker, int64_t wait_ns)
{
    note_time(&worker->read_at_ms, worker->now_ms, wait_ns);
}

void stg_worker_send_again_later(struct stg_worker *worker, int64_t wait_ns)
{
    worker->resend = 1;
    note_time(&worker->send_at_ms, worker->now_ms, wait_ns);
}

/* What has to be sent a second time and waited for the limit of requests. */
static void send_again(struct stg_worker *worker)
{
    worker->resend = 0;
    for (unsigned i = 0; i < worker->used; i++) {
        struct stg_conn *conn = &worker->conns[i];
        if (conn->paused != STG_PAUSE_REQUEST)
            continue;
        int64_t wait_ns = stg_engine_take_again(worker->engine, conn->item.batch);
        if (wait_ns > 0)
            stg_worker_send_again_later(worker, wait_ns);
        else
            stg_conn_start(conn, conn->item);
    }
}

void stg_worker_dispatch(struct stg_worker *worker)
{
    while (worker->busy < worker->reach && !atomic_load_explicit(&worker->engine->closing, memory_order_relaxed)) {
        struct stg_item item;
        int other = !worker->idle_count || ++worker->takes % OTHER_TEMPLATE_EVERY == 0;
        const struct stg_endpoint *prefer = other ? NULL : worker->idle[worker->idle_count - 1]->endpoint;
        int64_t wait_ns = stg_engine_take(worker->engine, worker->number, prefer, &item);
        if (wait_ns > 0) {
            if (wait_ns < INT64_MAX)
                note_time(&worker->send_at_ms, worker->now_ms, wait_ns);
            return;
        }
        struct stg_endpoint *endpoint = stg_template_endpoint(item.batch->template_);
        struct stg_conn *conn = find_conn(worker, endpoint);
        charge(worker, conn, endpoint);
        stg_conn_start(conn, item);
    }
}

static void close_surplus(struct stg_worker *worker)
{
    for (unsigned i = 0; i < worker->idle_count;) {
        struct stg_conn *conn = worker->idle[i]; /* the longest unused first */
        if (!is_surplus(worker, conn->endpoint)) {
            i++;
            continue;
        }
        stg_worker_forget(worker, conn);
        stg_conn_close(conn);
    }
}

/* ---- the loop ---- */

static void look_around(struct stg_worker *worker)
{
    int closing = atomic_load(&worker->engine->closing);
    for (unsigned i = 0; i < worker->used; i++) {
        struct stg_conn *conn = &worker->conns[i];
        if (conn->item.batch && (closing || atomic_load(&conn->item.batch->cancelled)))
            stg_conn_cancel(conn);
        else if (conn->paused == STG_PAUSE_STORE)
            stg_conn_resume(conn);
    }
    close_surplus(worker);
}

static void resume_reading(struct stg_worker *worker)
{
    worker->resume = 0;
    for (unsigned i = 0; i < worker->used; i++)
        if (worker->conns[i].again)
            stg_conn_resume(&worker->conns[i]);
}

/* Those that wait for the limit of bytes, each first in its turn, until it holds again. */
static void read_on(struct stg_worker *worker)
{
    unsigned start = worker->first_reader++;
    worker->read_at_ms = 0;
    for (unsigned i = 0; i < worker->used && !worker->read_at_ms; i++) {
        struct stg_conn *conn = &worker->conns[(start + i) % worker->used];
        if (conn->paused == STG_PAUSE_BYTES)
            stg_conn_resume(conn);
    }
}

static int check_interval_ms(const struct stg_worker *worker)
{
    int stall = worker->engine->config.stall_timeout_ms, connecting = worker->engine->config.connect_timeout_ms;
    int interval = (stall < connecting ? stall : connecting) / 4;
    return interval < 5 ? 5 : interval > 250 ? 250 : interval;
}

static void check_times(struct stg_worker *worker)
{
    if (worker->clock_ms - worker->checked_ms < check_interval_ms(worker))
        return;
    worker->checked_ms = worker->clock_ms;
    for (unsigned i = 0; i < worker->used; i++) {
        struct stg_conn *conn = &worker->conns[i];
        if (conn->item.batch) {
            stg_conn_check_time(conn);
        } else if (conn->state == STG_CONN_IDLE && worker->clock_ms - conn->progress_ms > IDLE_MS) {
            stg_worker_forget(worker, conn);
            stg_conn_close(conn);
        }
    }
}

/* In ms from now; at_ms 0: never. */
static int sooner(int wait, int64_t at_ms, int64_t now_ms)
{
    int64_t left = at_ms - now_ms;
    if (!at_ms || (wait >= 0 && left >= wait))
        return wait;
    return left < 0 ? 0 : (int)left;
}

static int wait_ms(const struct stg_worker *worker)
{
    if (worker->resume)
        return 0;
    int wait = worker->busy ? check_interval_ms(worker) : worker->idle_count ? IDLE_MS / 3 : -1;
    wait = sooner(wait, worker->unsignalled_ms ? worker->unsignalled_ms + STG_ANNOUNCE_MS : 0, worker->now_ms);
    wait = sooner(wait, worker->read_at_ms, worker->now_ms);
    return sooner(wait, worker->send_at_ms, worker->now_ms);
}

static void announce(struct stg_worker *worker)
{
    if (worker->unsignalled_ms && worker->now_ms - worker->unsignalled_ms >= STG_ANNOUNCE_MS) {
        worker->unsignalled_ms = 0;
        stg_engine_signal(worker->engine);
    }
}

/* A worker that has no time to wait gains nothing from more requests under way: their bytes only leave its cache before
 * it comes to them. So it begins with a few, and doubles them while it waits. */
static void adapt_reach(struct stg_worker *worker, int64_t waited_ns, int64_t now_ns)
{
    int64_t window_ns = now_ns - worker->reach_since_ns;
    worker->waited_ns += waited_ns;
    if (window_ns < REACH_WINDOW_NS)
        return;
    if (worker->waited_ns > window_ns / 8)
        worker->reach = worker->reach < worker->conn_count / 2 ? worker->reach * 2 : worker->conn_count;
    else if (worker->waited_ns < window_ns / 50 && worker->reach > FIRST_REACH)
        worker->reach -= (worker->reach - FIRST_REACH + 3) / 4;
    worker->waited_ns = 0;
    worker->reach_since_ns = now_ns;
}

static void turn(struct stg_worker *worker)
{
    struct epoll_event events[EVENTS_A_TURN];
    int64_t before_ns = stg_monotonic_ns(), before = before_ns / 1000000;
    int64_t held_up = before - worker->now_ms;
    worker->clock_ms += held_up < HELD_UP_MS ? held_up : HELD_UP_MS;
    int count = epoll_wait(worker->epoll_fd, events, EVENTS_A_TURN, wait_ms(worker));
    int64_t now_ns = stg_monotonic_ns();
    worker->now_ms = now_ns / 1000000;
    worker->clock_ms += worker->now_ms - before;
    adapt_reach(worker, now_ns - before_ns, now_ns);
    int woken = 0;
    for (int i = 0; i < count; i++) {
        uint32_t place = (uint32_t)events[i].data.u64; /* 0: wake_fd, else a connection's number + 1 */
        if (place)
            stg_conn_event(&worker->conns[place - 1], (uint32_t)(events[i].data.u64 >> 32), events[i].events);
        else
            woken = 1;
    }
    if (woken) {
        uint64_t ignored;
        if (read(worker->wake_fd, &ignored, sizeof ignored) < 0)
            ignored = 0;
        atomic_store(&worker->woken, 0);
        look_around(worker);
        if (worker->read_at_ms) /* the limit may be another now */
            worker->read_at_ms = worker->now_ms;
    }
    if (worker->resume)
        resume_reading(worker);
    if (worker->read_at_ms && worker->read_at_ms <= worker->now_ms)
        read_on(worker);
    check_times(worker);
    worker->send_at_ms = 0;
    if (worker->resend)
        send_again(worker);
    stg_worker_dispatch(worker);
    stg_sink_flush(worker->engine->sink);
    announce(worker);
}

static void *run(void *argument)
{
    struct stg_worker *worker = argument;
    worker->now_ms = stg_monotonic_ms();
    while (!atomic_load(&worker->engine->closing) || worker->busy)
        turn(worker);
    for (unsigned i = 0; i < worker->conn_count; i++)
        stg_conn_close(&worker->conns[i]);
    stg_worker_note_cpu(worker);
    return NULL;
}

/* ---- life ---- */

static int start(struct stg_worker *worker)
{
    struct epoll_event event = {.events = EPOLLIN};
    sigset_t all, before;
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->epoll_fd < 0 || worker->wake_fd < 0 ||
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &event) < 0)
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = -pthread_create(&worker->thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

int stg_worker_new(struct stg_engine *engine, unsigned number, unsigned connections, struct stg_worker **out)
{
    struct stg_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return -ENOMEM;
    worker->engine = engine;
    worker->number = number;
    worker->epoll_fd = worker->wake_fd = -1;
    worker->joined = 1;
    worker->conn_count = connections;
    worker->reach = connections < FIRST_REACH ? connections : FIRST_REACH;
    worker->conns = calloc(connections, sizeof *worker->conns);
    worker->idle = calloc(connections, sizeof(struct stg_conn *));
    int status = worker->conns && worker->idle ? stg_worker_make_hot(worker, engine->hot_bytes) : -ENOMEM;
    if (status == 0) {
        for (unsigned i = 0; i < connections; i++)
            stg_conn_init(&worker->conns[i], worker);
        status = start(worker);
    }
    if (status < 0) {
        stg_worker_free(worker);
        return status;
    }
    worker->joined = 0;
    *out = worker;
    return 0;
}

void stg_worker_join(struct stg_worker *worker)
{
    if (!worker->joined)
        pthread_join(worker->thread, NULL);
    worker->joined = 1;
}

void stg_worker_free(struct stg_worker *worker)
{
    for (unsigned i = 0; worker->conns && i < worker->conn_count; i++)
        stg_conn_destroy(&worker->conns[i]);
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
    if (worker->wake_fd >= 0)
        close(worker->wake_fd);
    stg_worker_free_hot(worker);
    stg_sum_clear(&worker->sum);
    free(worker->conns);
    free(worker->idle);
    OPENSSL_cleanse(worker->scratch, sizeof worker->scratch); /* the last request's token and key */
    free(worker);
}
