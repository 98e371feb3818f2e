#include "sink_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define BUFFERS_A_TURN 16 /* written of one file before others have their turn */
#define FEWEST_BUFFERS 2   /* unwritten, and a file asks its worker to pause: all files have half of the buffers together */
#define MOST_BUFFERS 16
#define WAKE_AFTER 8       /* buffers; waking a thread for each costs two context switches for each */

enum ending { OPEN, KEEP, DROP };

struct stg_file {
    struct stg_file *next_ready; /* in the sink's queue of files with work */
    struct stg_sink *sink;
    struct stg_landing *landing;
    unsigned worker;
    struct stg_str key;
    struct stg_made made;
    void *owner, *note;
    uint32_t index;
    /* under the sink's lock */
    struct stg_buffer *first, **last;
    unsigned unwritten;
    int scheduled, waiting, error;
    enum ending ending;
    /* of the disk thread that has it */
    int fd;
    int64_t from, upto; /* written, and not told to stg_behind yet */
    const char *where;
    char name[STG_NAME_BYTES];
};

struct stg_file *stg_file_new(struct stg_sink *sink, struct stg_landing *landing, unsigned worker, struct stg_str key,
                              struct stg_made made, void *owner, uint32_t index)
{
    struct stg_file *file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    file->sink = sink;
    file->landing = landing;
    file->worker = worker;
    file->key = key;
    file->made = made;
    file->owner = owner;
    file->index = index;
    file->last = &file->first;
    file->fd = -1;
    file->where = "write";
    pthread_mutex_lock(&sink->lock);
    sink->files++;
    pthread_mutex_unlock(&sink->lock);
    return file;
}

static void queue_up(struct stg_sink *sink, struct stg_file *file)
{
    file->next_ready = NULL;
    *sink->last_ready = file;
    sink->last_ready = &file->next_ready;
}

static void schedule(struct stg_file *file)
{
    if (file->scheduled)
        return;
    file->scheduled = 1;
    queue_up(file->sink, file);
}

/* ---- with the lock held ---- */

static int may_be_worked_on(const struct stg_sink *sink, const struct stg_file *file)
{
    unsigned busy = 0;
    for (unsigned i = 0; i < sink->thread_count; i++)
        busy += sink->threads[i].working && sink->threads[i].device == file->landing->device;
    return busy < sink->config.disk_threads;
}

/* Where the first file that a thread may take hangs in the queue, or NULL. */
static struct stg_file **find_ready(struct stg_sink *sink)
{
    for (struct stg_file **at = &sink->first_ready; *at; at = &(*at)->next_ready)
        if (may_be_worked_on(sink, *at))
            return at;
    return NULL;
}

/* One thread; it wakes the next when there is work for two. */
static void wake_thread(struct stg_sink *sink)
{
    sink->unwoken = 0;
    if (find_ready(sink))
        pthread_cond_signal(&sink->work);
}

static struct stg_file *take_ready(struct stg_sink *sink, struct stg_disk_thread *self)
{
    struct stg_file **at = find_ready(sink), *file = at ? *at : NULL;
    if (!file)
        return NULL;
    *at = file->next_ready;
    if (sink->last_ready == &file->next_ready)
        sink->last_ready = at;
    self->working = 1;
    self->device = file->landing->device;
    wake_thread(sink);
    return file;
}

/* ---- for the workers ---- */

void stg_sink_flush(struct stg_sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    if (sink->unwoken)
        wake_thread(sink);
    pthread_mutex_unlock(&sink->lock);
}

static unsigned most_unwritten(const struct stg_sink *sink)
{
    size_t share = sink->config.buffer_count / (2 * (size_t)sink->files);
    return share < FEWEST_BUFFERS ? FEWEST_BUFFERS : share > MOST_BUFFERS ? MOST_BUFFERS : (unsigned)share;
}

int stg_file_write(struct stg_file *file, struct stg_buffer *buffer)
{
    struct stg_sink *sink = file->sink;
    uint32_t wake = 0;
    pthread_mutex_lock(&sink->lock);
    int status = file->error;
    if (status == 0) {
        buffer->next = NULL;
        *file->last = buffer;
        file->last = &buffer->next;
        file->unwritten++;
        schedule(file);
        if (++sink->unwoken >= WAKE_AFTER)
            wake_thread(sink);
        status = file->waiting = file->unwritten >= most_unwritten(sink);
    } else {
        wake = stg_sink_put_back(sink, buffer);
    }
    pthread_mutex_unlock(&sink->lock);
    stg_sink_wake(sink, wake);
    return status;
}

int stg_file_ready(struct stg_file *file)
{
    pthread_mutex_lock(&file->sink->lock);
    int ready = !file->waiting;
    pthread_mutex_unlock(&file->sink->lock);
    return ready;
}

void stg_file_end(struct stg_file *file, int keep, void *note)
{
    struct stg_sink *sink = file->sink;
    pthread_mutex_lock(&sink->lock);
    file->note = note;
    file->ending = keep ? KEEP : DROP;
    schedule(file);
    sink->unwoken++;
    pthread_mutex_unlock(&sink->lock);
}

static int open_file(struct stg_file *file)
{
    if (file->landing->fd >= 0 || file->fd >= 0)
        return 0;
    stg_names_next(&file->sink->names, file->name);
    file->where = "create";
    file->fd = stg_landing_create(file->landing, file->name, file->made);
    return file->fd < 0 ? file->fd : 0;
}

static int target_fd(const struct stg_file *file)
{
    return file->landing->fd >= 0 ? file->landing->fd : file->fd;
}

static void tell_behind(struct stg_file *file, unsigned thread)
{
    stg_behind_wrote(&file->sink->behind[thread], target_fd(file), file->from, file->upto - file->from);
    file->from = file->upto;
}

static int write_piece(struct stg_file *file, const struct stg_buffer *buffer, unsigned thread)
{
    int status = open_file(file);
    if (status < 0)
        return status;
    file->where = "write";
    status = stg_landing_write(target_fd(file), buffer->data + buffer->start, buffer->len, buffer->offset);
    if (status < 0)
        return status;
    if (file->from == file->upto)
        file->from = buffer->offset;
    file->upto = buffer->offset + (int64_t)buffer->len;
    if (file->upto - file->from >= (int64_t)STG_BEHIND_WINDOW)
        tell_behind(file, thread);
    return 0;
}

/* Nobody else knows the file any more. Returns what `done` returned. */
static int finish_file(struct stg_file *file, unsigned thread)
{
    struct stg_landing *landing = file->landing;
    struct stg_stored stored = {0};
    int status = file->error;
    int whole = file->ending == KEEP && landing->fd < 0;
    if (status == 0 && whole)
        status = open_file(file);
    if (status == 0 && file->upto > file->from)
        tell_behind(file, thread);
    if (file->fd >= 0 && close(file->fd) < 0 && errno != EINTR && status == 0) {
        file->where = "close";
        status = -errno;
    }
    if (status == 0 && whole)
        status = stg_landing_publish(landing, thread, file->name, file->key, file->made, &stored,
                                     &file->where);
    if (file->fd >= 0 && (status < 0 || file->ending == DROP))
        unlinkat(landing->tmp_fd, file->name, 0);
    const struct stg_sink_hooks *hooks = &file->sink->config.hooks;
    int announce_ms = hooks->done(hooks->context, file->owner, file->index, file->note, status, file->where,
                                  file->ending == KEEP && status == 0 ? &stored : NULL);
    free(file);
    return announce_ms;
}

int stg_file_write_inline(struct stg_file *file, const struct stg_buffer *buffer, unsigned thread)
{
    file->error = write_piece(file, buffer, thread);
    return file->error;
}

int stg_file_end_inline(struct stg_file *file, int keep, void *note, unsigned thread)
{
    struct stg_sink *sink = file->sink;
    file->note = note;
    file->ending = keep ? KEEP : DROP;
    int announce_ms = finish_file(file, thread);
    pthread_mutex_lock(&sink->lock);
    sink->files--;
    pthread_mutex_unlock(&sink->lock);
    return announce_ms;
}

/* ---- disk threads: all with the lock held, on entry and on return ---- */

static void owe_announcement(struct stg_sink *sink, int in_ms)
{
    if (sink->owing)
        return;
    sink->owing = 1;
    clock_gettime(CLOCK_MONOTONIC, &sink->announce_at);
    sink->announce_at.tv_nsec += (long)in_ms * 1000000;
    sink->announce_at.tv_sec += sink->announce_at.tv_nsec / 1000000000;
    sink->announce_at.tv_nsec %= 1000000000;
}

static int is_announcement_due(const struct stg_sink *sink)
{
    struct timespec now;
    if (!sink->owing || sink->stopping)
        return sink->owing;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec != sink->announce_at.tv_sec ? now.tv_sec > sink->announce_at.tv_sec
                                                  : now.tv_nsec >= sink->announce_at.tv_nsec;
}

static void announce(struct stg_sink *sink)
{
    sink->owing = 0;
    pthread_mutex_unlock(&sink->lock);
    sink->config.hooks.announce(sink->config.hooks.context);
    pthread_mutex_lock(&sink->lock);
}

/* Until nothing of it is queued, or others have waited long enough. */
static void work_on(struct stg_sink *sink, struct stg_disk_thread *self, struct stg_file *file)
{
    unsigned thread = sink->config.workers + self->number;
    for (int turn = 0; file->first; turn++) {
        if (turn >= BUFFERS_A_TURN && sink->first_ready) {
            queue_up(sink, file);
            return;
        }
        struct stg_buffer *buffer = file->first;
        int drop = file->error < 0 || file->ending == DROP;
        file->first = buffer->next;
        if (!file->first)
            file->last = &file->first;
        pthread_mutex_unlock(&sink->lock);
        int64_t start = stg_monotonic_ns();
        int status = drop ? 0 : write_piece(file, buffer, thread);
        stg_spent_since(&self->busy_ns, start);
        pthread_mutex_lock(&sink->lock);
        if (status < 0)
            file->error = status;
        file->unwritten--;
        uint32_t wake = stg_sink_put_back(sink, buffer) | (uint32_t)file->waiting << file->worker;
        file->waiting = 0;
        if (wake) {
            pthread_mutex_unlock(&sink->lock);
            stg_sink_wake(sink, wake);
            pthread_mutex_lock(&sink->lock);
        }
    }
    file->scheduled = 0;
    if (file->ending == OPEN)
        return;
    pthread_mutex_unlock(&sink->lock);
    int64_t start = stg_monotonic_ns();
    int announce_ms = finish_file(file, thread);
    stg_spent_since(&self->busy_ns, start);
    pthread_mutex_lock(&sink->lock);
    sink->files--;
    if (announce_ms)
        owe_announcement(sink, announce_ms);
}

static void *run(void *argument)
{
    struct stg_disk_thread *self = argument;
    struct stg_sink *sink = self->sink;
    struct stg_file *file;
    pthread_mutex_lock(&sink->lock);
    for (;;) {
        self->working = 0;
        if (is_announcement_due(sink))
            announce(sink);
        else if ((file = take_ready(sink, self)) != NULL)
            work_on(sink, self, file);
        else if (sink->stopping) /* what is queued yet is for those that work on its disk */
            break;
        else if (sink->owing)
            pthread_cond_timedwait(&sink->work, &sink->lock, &sink->announce_at);
        else
            pthread_cond_wait(&sink->work, &sink->lock);
    }
    pthread_mutex_unlock(&sink->lock);
    return NULL;
}

int stg_disk_thread_start(struct stg_disk_thread *thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = -pthread_create(&thread->id, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}
