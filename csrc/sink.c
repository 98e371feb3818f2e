#include "sink.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum ending { OPEN, KEEP, DROP };

struct stg_file {
    struct stg_file *next_ready; /* in the sink's queue of files with work */
    struct stg_sink *sink;
    struct stg_landing *landing;
    unsigned worker;
    struct stg_str key;
    uint32_t mode;
    void *owner, *note;
    uint32_t index;
    /* under the sink's lock */
    struct stg_buffer *first, **last;
    unsigned unwritten;
    int scheduled, waiting, error;
    enum ending ending;
    /* of the disk thread that has it */
    int fd;
    const char *where;
    char name[STG_NAME_BYTES];
};

struct disk_thread {
    struct stg_sink *sink;
    unsigned number;
    pthread_t id;
};

struct stg_sink {
    struct stg_sink_config config;
    char *memory;
    struct stg_buffer *buffers;
    struct disk_thread *threads;
    unsigned started;
    struct stg_names names;

    pthread_mutex_t lock; /* of everything below, and of each file's shared part */
    pthread_cond_t work;
    struct stg_buffer *free;
    struct stg_file *first_ready, **last_ready;
    uint32_t wanting; /* workers that found no buffer, a bit each */
    int stopping;
};

struct stg_names *stg_sink_names(struct stg_sink *sink)
{
    return &sink->names;
}

/* ---- buffers ---- */

size_t stg_sink_buffer_bytes(const struct stg_sink *sink)
{
    return sink->config.buffer_bytes;
}

struct stg_buffer *stg_sink_take(struct stg_sink *sink, unsigned worker)
{
    pthread_mutex_lock(&sink->lock);
    struct stg_buffer *buffer = sink->free;
    if (buffer)
        sink->free = buffer->next;
    else
        sink->wanting |= 1U << worker;
    pthread_mutex_unlock(&sink->lock);
    return buffer;
}

/* Returns the workers to wake once the lock is released. */
static uint32_t put_back(struct stg_sink *sink, struct stg_buffer *buffer)
{
    uint32_t wake = sink->wanting;
    buffer->next = sink->free;
    sink->free = buffer;
    sink->wanting = 0;
    return wake;
}

static void wake_workers(struct stg_sink *sink, uint32_t workers)
{
    for (unsigned i = 0; workers; i++, workers >>= 1)
        if (workers & 1)
            sink->config.hooks.wake(sink->config.hooks.context, i);
}

void stg_sink_give(struct stg_sink *sink, struct stg_buffer *buffer)
{
    pthread_mutex_lock(&sink->lock);
    uint32_t wake = put_back(sink, buffer);
    pthread_mutex_unlock(&sink->lock);
    wake_workers(sink, wake);
}

/* ---- files handed to the disk threads ---- */

struct stg_file *stg_file_new(struct stg_sink *sink, struct stg_landing *landing, unsigned worker, struct stg_str key,
                              uint32_t mode, void *owner, uint32_t index)
{
    struct stg_file *file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    file->sink = sink;
    file->landing = landing;
    file->worker = worker;
    file->key = key;
    file->mode = mode;
    file->owner = owner;
    file->index = index;
    file->last = &file->first;
    file->fd = -1;
    file->where = "write";
    return file;
}

static void schedule(struct stg_file *file)
{
    struct stg_sink *sink = file->sink;
    if (file->scheduled)
        return;
    file->scheduled = 1;
    file->next_ready = NULL;
    *sink->last_ready = file;
    sink->last_ready = &file->next_ready;
    pthread_cond_signal(&sink->work);
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
        status = file->waiting = file->unwritten >= sink->config.file_buffers;
    } else {
        wake = put_back(sink, buffer);
    }
    pthread_mutex_unlock(&sink->lock);
    wake_workers(sink, wake);
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
    pthread_mutex_unlock(&sink->lock);
}

static int open_file(struct stg_file *file)
{
    if (file->landing->fd >= 0 || file->fd >= 0)
        return 0;
    stg_names_next(&file->sink->names, file->name);
    file->where = "create";
    file->fd = stg_landing_create(file->landing, file->name, file->mode);
    return file->fd < 0 ? file->fd : 0;
}

static int write_piece(struct stg_file *file, const struct stg_buffer *buffer)
{
    int status = open_file(file);
    if (status < 0)
        return status;
    file->where = "write";
    int fd = file->landing->fd >= 0 ? file->landing->fd : file->fd;
    return stg_landing_write(fd, buffer->data + buffer->start, buffer->len, buffer->offset);
}

/* Nobody else knows the file any more. */
static void finish_file(struct stg_file *file, unsigned thread)
{
    struct stg_landing *landing = file->landing;
    struct stg_stored stored = {0};
    int status = file->error;
    int whole = file->ending == KEEP && landing->fd < 0;
    if (status == 0 && whole)
        status = open_file(file);
    if (file->fd >= 0 && close(file->fd) < 0 && errno != EINTR && status == 0) {
        file->where = "close";
        status = -errno;
    }
    if (status == 0 && whole)
        status = stg_landing_publish(landing, thread, file->name, file->key, &stored, &file->where);
    if (file->fd >= 0 && (status < 0 || file->ending == DROP))
        unlinkat(landing->tmp_fd, file->name, 0);
    const struct stg_sink_hooks *hooks = &file->sink->config.hooks;
    hooks->done(hooks->context, file->owner, file->index, file->note, status, file->where,
                file->ending == KEEP && status == 0 ? &stored : NULL);
    free(file);
}

/* Works on one file until nothing is queued; called and returns with the lock held. */
static void work_on(struct stg_sink *sink, struct stg_file *file, unsigned thread)
{
    while (file->first) {
        struct stg_buffer *buffer = file->first;
        int drop = file->error < 0 || file->ending == DROP;
        file->first = buffer->next;
        if (!file->first)
            file->last = &file->first;
        pthread_mutex_unlock(&sink->lock);
        int status = drop ? 0 : write_piece(file, buffer);
        pthread_mutex_lock(&sink->lock);
        if (status < 0)
            file->error = status;
        file->unwritten--;
        uint32_t wake = put_back(sink, buffer) | (uint32_t)file->waiting << file->worker;
        file->waiting = 0;
        if (wake) {
            pthread_mutex_unlock(&sink->lock);
            wake_workers(sink, wake);
            pthread_mutex_lock(&sink->lock);
        }
    }
    file->scheduled = 0;
    if (file->ending == OPEN)
        return;
    pthread_mutex_unlock(&sink->lock);
    finish_file(file, thread);
    pthread_mutex_lock(&sink->lock);
}

static void *run_disk_thread(void *argument)
{
    struct disk_thread *thread = argument;
    struct stg_sink *sink = thread->sink;
    pthread_mutex_lock(&sink->lock);
    for (;;) {
        struct stg_file *file = sink->first_ready;
        if (file) {
            sink->first_ready = file->next_ready;
            if (!sink->first_ready)
                sink->last_ready = &sink->first_ready;
            work_on(sink, file, sink->config.workers + thread->number);
        } else if (sink->stopping) {
            break;
        } else {
            pthread_cond_wait(&sink->work, &sink->lock);
        }
    }
    pthread_mutex_unlock(&sink->lock);
    return NULL;
}

/* ---- life ---- */

static int start_threads(struct stg_sink *sink)
{
    sigset_t all, before;
    int status = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < sink->config.disk_threads && status == 0; i++) {
        sink->threads[i] = (struct disk_thread){.sink = sink, .number = i};
        status = -pthread_create(&sink->threads[i].id, NULL, run_disk_thread, &sink->threads[i]);
        if (status == 0)
            sink->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

static int take_memory(struct stg_sink *sink)
{
    const struct stg_sink_config *config = &sink->config;
    sink->buffers = calloc(config->buffer_count, sizeof *sink->buffers);
    sink->threads = calloc(config->disk_threads, sizeof *sink->threads);
    if (!sink->buffers || !sink->threads)
        return -ENOMEM;
    char *memory = mmap(NULL, config->buffer_count * config->buffer_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    sink->memory = memory;
    for (size_t i = config->buffer_count; i-- > 0;) {
        sink->buffers[i].data = memory + i * config->buffer_bytes;
        sink->buffers[i].next = sink->free;
        sink->free = &sink->buffers[i];
    }
    return 0;
}

int stg_sink_new(const struct stg_sink_config *config, struct stg_sink **out)
{
    if (!config->buffer_bytes || !config->buffer_count || !config->workers || config->workers > 32 ||
        !config->disk_threads || !config->file_buffers)
        return -EINVAL;
    struct stg_sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return -ENOMEM;
    sink->config = *config;
    sink->last_ready = &sink->first_ready;
    pthread_mutex_init(&sink->lock, NULL);
    pthread_cond_init(&sink->work, NULL);
    int status = take_memory(sink);
    if (status == 0)
        status = stg_names_init(&sink->names);
    if (status == 0)
        status = start_threads(sink);
    if (status < 0) {
        stg_sink_free(sink);
        return status;
    }
    *out = sink;
    return 0;
}

void stg_sink_free(struct stg_sink *sink)
{
    if (!sink)
        return;
    pthread_mutex_lock(&sink->lock);
    sink->stopping = 1;
    pthread_cond_broadcast(&sink->work);
    pthread_mutex_unlock(&sink->lock);
    for (unsigned i = 0; i < sink->started; i++)
        pthread_join(sink->threads[i].id, NULL);
    if (sink->memory)
        munmap(sink->memory, sink->config.buffer_count * sink->config.buffer_bytes);
    pthread_cond_destroy(&sink->work);
    pthread_mutex_destroy(&sink->lock);
    free(sink->threads);
    free(sink->buffers);
    free(sink);
}
