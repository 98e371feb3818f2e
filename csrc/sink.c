#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
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
    char prefix[STG_NAME_BYTES - 20];
    size_t prefix_len;
    atomic_uint_fast64_t counter;

    pthread_mutex_t lock; /* of everything below, and of each file's shared part */
    pthread_cond_t work;
    struct stg_buffer *free;
    struct stg_file *first_ready, **last_ready;
    uint32_t wanting; /* workers that found no buffer, a bit each */
    int stopping;
};

static size_t put_hex(char *out, uint64_t value)
{
    char digits[16];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

static int make_prefix(struct stg_sink *sink)
{
    uint64_t token;
    if (getrandom(&token, sizeof token, 0) != sizeof token)
        return -EIO;
    char *at = sink->prefix;
    memcpy(at, STG_NAME_PREFIX, sizeof STG_NAME_PREFIX - 1);
    at += sizeof STG_NAME_PREFIX - 1;
    at += put_hex(at, (uint64_t)getpid());
    *at++ = '-';
    at += put_hex(at, token);
    *at++ = '-';
    sink->prefix_len = (size_t)(at - sink->prefix);
    return 0;
}

void stg_sink_name(struct stg_sink *sink, char out[STG_NAME_BYTES])
{
    uint64_t number = atomic_fetch_add_explicit(&sink->counter, 1, memory_order_relaxed);
    memcpy(out, sink->prefix, sink->prefix_len);
    out[sink->prefix_len + put_hex(out + sink->prefix_len, number)] = 0;
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

/* ---- file operations ---- */

static int write_fully(int fd, const char *data, size_t len, int64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        data += n;
        len -= (size_t)n;
        offset += n;
    }
    return 0;
}

static int create_temporary(int tmp_fd, const char *name, uint32_t mode)
{
    mode_t bits = mode & 0777 ? mode & 0777 : 0666;
    int fd = openat(tmp_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, bits);
    return fd < 0 ? -errno : fd;
}

static int publish(struct stg_landing *landing, unsigned thread, int fd, const char *name, struct stg_str key,
                   struct stg_stored *out, const char **where)
{
    *where = "rename";
    int status = stg_parents_publish(&landing->parents[thread], landing->tmp_fd, name, key);
    if (status < 0)
        return status;
    *where = "stat";
    return stg_stored_from_fd(fd, out);
}

int stg_landing_store(struct stg_sink *sink, struct stg_landing *landing, unsigned thread, struct stg_str key,
                      uint32_t mode, const char *data, size_t len, int64_t offset, struct stg_stored *out,
                      const char **where)
{
    char name[STG_NAME_BYTES];
    *where = "write";
    if (landing->fd >= 0)
        return write_fully(landing->fd, data, len, offset);
    stg_sink_name(sink, name);
    *where = "create";
    int fd = create_temporary(landing->tmp_fd, name, mode);
    if (fd < 0)
        return fd;
    *where = "write";
    int status = write_fully(fd, data, len, 0);
    if (status == 0)
        status = publish(landing, thread, fd, name, key, out, where);
    if (close(fd) < 0 && status == 0 && errno != EINTR) {
        *where = "close";
        status = -errno;
    }
    if (status < 0)
        unlinkat(landing->tmp_fd, name, 0);
    return status;
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
    stg_sink_name(file->sink, file->name);
    file->where = "create";
    file->fd = create_temporary(file->landing->tmp_fd, file->name, file->mode);
    return file->fd < 0 ? file->fd : 0;
}

static int write_piece(struct stg_file *file, const struct stg_buffer *buffer)
{
    int status = open_file(file);
    if (status < 0)
        return status;
    file->where = "write";
    int fd = file->landing->fd >= 0 ? file->landing->fd : file->fd;
    return write_fully(fd, buffer->data + buffer->start, buffer->len, buffer->offset);
}

/* Nobody else knows the file any more. */
static void finish_file(struct stg_file *file, unsigned thread)
{
    struct stg_landing *landing = file->landing;
    struct stg_stored stored = {0};
    int status = file->error;
    if (status == 0 && file->ending == KEEP && landing->fd < 0) {
        status = open_file(file);
        if (status == 0)
            status = publish(landing, thread, file->fd, file->name, file->key, &stored, &file->where);
    }
    if (file->fd >= 0) {
        if (close(file->fd) < 0 && errno != EINTR && status == 0) {
            file->where = "close";
            status = -errno;
        }
        if (status < 0 || file->ending == DROP)
            unlinkat(landing->tmp_fd, file->name, 0);
    }
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
        status = make_prefix(sink);
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
