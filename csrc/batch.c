#include "batch.h"

#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LIST_BODY_MAX ((size_t)32 << 20)

static struct stg_batch *batch_new(enum stg_batch_kind kind, struct stg_template *template_, struct stg_table *table,
                                   size_t count)
{
    struct stg_batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return NULL;
    batch->refs = 1;
    batch->kind = kind;
    batch->template_ = stg_template_ref(template_);
    batch->table = table ? stg_table_ref(table) : NULL;
    batch->count = count;
    batch->landing.fd = batch->landing.root_fd = batch->landing.tmp_fd = -1;
    batch->unfinished = count;
    batch->undrained = count;
    batch->results = calloc(count, sizeof *batch->results);
    if (!batch->results) {
        stg_batch_unref(batch);
        return NULL;
    }
    return batch;
}

struct stg_batch *stg_batch_ref(struct stg_batch *batch)
{
    atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
    return batch;
}

void stg_batch_unref(struct stg_batch *batch)
{
    if (!batch || atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) != 1)
        return;
    stg_batch_close_landing(batch);
    free(batch->landing.parents);
    free(batch->rows);
    free(batch->ranges);
    free(batch->blocks);
    stg_targets_unref(batch->targets);
    free(batch->announced);
    free(batch->parts);
    free(batch->told);
    free((char *)(uintptr_t)batch->query.ptr);
    free(batch->body);
    free(batch->results);
    if (batch->table)
        stg_table_unref(batch->table);
    stg_template_unref(batch->template_);
    free(batch);
}

static int duplicate(int fd, int *out)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return -errno;
    *out = copy;
    return 0;
}

static int finish_new(struct stg_batch *batch, int status, struct stg_batch **out)
{
    if (status < 0) {
        stg_batch_unref(batch);
        return status;
    }
    *out = batch;
    return 0;
}

static int set_up_rows(struct stg_batch *batch, const uint32_t *rows)
{
    size_t known = stg_table_count(batch->table);
    batch->rows = malloc(batch->count * sizeof *rows);
    if (!batch->rows)
        return -ENOMEM;
    memcpy(batch->rows, rows, batch->count * sizeof *rows);
    for (size_t i = 0; i < batch->count; i++)
        if (rows[i] >= known)
            return -EINVAL;
    return 0;
}

/* A write there is a copy into this machine's memory, until the disk cannot follow. */
static int is_local(const struct statfs *fs)
{
    static const long kinds[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC,
                                 TMPFS_MAGIC, RAMFS_MAGIC, OVERLAYFS_SUPER_MAGIC};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (fs->f_type == kinds[i])
            return 1;
    return 0;
}

static int look_at_disk(int fd, struct stg_landing *landing)
{
    struct stat st;
    struct statfs fs;
    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
        return -errno;
    landing->device = st.st_dev;
    landing->is_local = is_local(&fs);
    return 0;
}

static int set_up_objects(struct stg_batch *batch, const uint32_t *rows, int root_fd, int tmp_fd)
{
    int status = set_up_rows(batch, rows);
    if (status == 0)
        status = look_at_disk(tmp_fd, &batch->landing);
    if (status == 0)
        status = duplicate(root_fd, &batch->landing.root_fd);
    return status < 0 ? status : duplicate(tmp_fd, &batch->landing.tmp_fd);
}

int stg_batch_objects(struct stg_template *template_, struct stg_table *table, const uint32_t *rows, size_t count,
                      int root_fd, int tmp_fd, struct stg_batch **out)
{
    if (count == 0 || count > UINT32_MAX)
        return -EINVAL;
    struct stg_batch *batch = batch_new(STG_BATCH_OBJECTS, template_, table, count);
    return batch ? finish_new(batch, set_up_objects(batch, rows, root_fd, tmp_fd), out) : -ENOMEM;
}

static size_t blocks_of(int64_t length)
{
    return ((size_t)length + STG_BLOCK_BYTES - 1) / STG_BLOCK_BYTES;
}

static int check_range(int64_t offset, int64_t length, int64_t size)
{
    if (offset < 0 || length <= 0 || offset > size || length > size - offset)
        return -EINVAL;
    if (offset % (int64_t)STG_BLOCK_BYTES)
        return -EINVAL;
    return length % (int64_t)STG_BLOCK_BYTES && offset + length != size ? -EINVAL : 0;
}

static int set_up_ranges(struct stg_batch *batch, const int64_t *offsets_lengths, int fd)
{
    if (batch->row >= stg_table_count(batch->table))
        return -EINVAL;
    int64_t size = stg_table_row(batch->table, batch->row).size;
    size_t total = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (check_range(offsets_lengths[2 * i], offsets_lengths[2 * i + 1], size) < 0)
            return -EINVAL;
        total += blocks_of(offsets_lengths[2 * i + 1]);
    }
    batch->ranges = calloc(batch->count, sizeof *batch->ranges);
    batch->blocks = calloc(total, STG_DIGEST_BYTES);
    if (!batch->ranges || !batch->blocks)
        return -ENOMEM;
    uint8_t *next = batch->blocks;
    for (size_t i = 0; i < batch->count; i++) {
        batch->ranges[i] = (struct stg_range){offsets_lengths[2 * i], offsets_lengths[2 * i + 1], next, 0};
        next += blocks_of(batch->ranges[i].length) * STG_DIGEST_BYTES;
    }
    int status = look_at_disk(fd, &batch->landing);
    return status < 0 ? status : duplicate(fd, &batch->landing.fd);
}

int stg_batch_ranges(struct stg_template *template_, struct stg_table *table, uint32_t row,
                     const int64_t *offsets_lengths, size_t count, int fd, struct stg_batch **out)
{
    if (count == 0 || count > UINT32_MAX)
        return -EINVAL;
    struct stg_batch *batch = batch_new(STG_BATCH_RANGES, template_, table, count);
    if (!batch)
        return -ENOMEM;
    batch->row = row;
    return finish_new(batch, set_up_ranges(batch, offsets_lengths, fd), out);
}

int stg_batch_heads(struct stg_template *template_, struct stg_table *table, const uint32_t *rows, size_t count,
                    struct stg_batch **out)
{
    if (count == 0 || count > UINT32_MAX)
        return -EINVAL;
    struct stg_batch *batch = batch_new(STG_BATCH_HEADS, template_, table, count);
    if (!batch)
        return -ENOMEM;
    batch->announced = calloc(count, sizeof *batch->announced);
    for (size_t i = 0; batch->announced && i < count; i++)
        batch->announced[i].why = STG_WHY_UNTOLD;
    return finish_new(batch, batch->announced ? set_up_rows(batch, rows) : -ENOMEM, out);
}

static int set_up_parts(struct stg_batch *batch, const uint32_t *rows, const uint32_t *numbers)
{
    batch->parts = calloc(batch->count, sizeof *batch->parts);
    if (!batch->parts)
        return -ENOMEM;
    for (size_t i = 0; i < batch->count; i++) {
        if (numbers[i] < 1 || numbers[i] > STG_PARTS_MAX)
            return -EINVAL;
        batch->parts[i] = (struct stg_part){.offset = -1, .length = -1, .count = -1};
        snprintf(batch->parts[i].query, sizeof batch->parts[i].query, "partNumber=%u", (unsigned)numbers[i]);
    }
    return set_up_rows(batch, rows);
}

int stg_batch_parts(struct stg_template *template_, struct stg_table *table, const uint32_t *rows,
                    const uint32_t *numbers, size_t count, struct stg_batch **out)
{
    if (count == 0 || count > UINT32_MAX)
        return -EINVAL;
    struct stg_batch *batch = batch_new(STG_BATCH_HEADS, template_, table, count);
    return batch ? finish_new(batch, set_up_parts(batch, rows, numbers), out) : -ENOMEM;
}

int stg_batch_look_up(struct stg_template *template_, struct stg_table *table, const uint32_t *rows, size_t count,
                      struct stg_batch **out)
{
    int status = stg_batch_heads(template_, table, rows, count, out);
    if (status < 0)
        return status;
    (*out)->told = calloc(count, sizeof *(*out)->told);
    return finish_new(*out, (*out)->told ? 0 : -ENOMEM, out);
}

int stg_batch_list(struct stg_template *template_, struct stg_str query, struct stg_batch **out)
{
    struct stg_batch *batch = batch_new(STG_BATCH_LIST, template_, NULL, 1);
    if (!batch)
        return -ENOMEM;
    char *copy = malloc(query.len + 1);
    if (copy) {
        memcpy(copy, query.ptr, query.len);
        batch->query = (struct stg_str){copy, query.len};
    }
    return finish_new(batch, copy ? 0 : -ENOMEM, out);
}

int stg_batch_prepare(struct stg_batch *batch, unsigned threads, atomic_int *open_directories)
{
    if (batch->kind != STG_BATCH_OBJECTS)
        return 0;
    batch->landing.parents = calloc(threads, sizeof *batch->landing.parents);
    if (!batch->landing.parents)
        return -ENOMEM;
    batch->landing.threads = threads;
    for (unsigned i = 0; i < threads; i++) {
        stg_parents_init(&batch->landing.parents[i], batch->landing.root_fd);
        batch->landing.parents[i].shared_open = open_directories;
    }
    return 0;
}

static int close_fd(int *fd)
{
    int status = *fd >= 0 && close(*fd) < 0 && errno != EINTR ? -errno : 0;
    *fd = -1;
    return status;
}

int stg_batch_close_landing(struct stg_batch *batch)
{
    for (unsigned i = 0; i < batch->landing.threads; i++)
        stg_parents_clear(&batch->landing.parents[i]);
    close_fd(&batch->landing.root_fd);
    close_fd(&batch->landing.tmp_fd);
    return close_fd(&batch->landing.fd);
}

struct stg_row stg_batch_row(const struct stg_batch *batch, uint32_t index)
{
    return stg_table_row(batch->table, batch->rows ? batch->rows[index] : batch->row);
}

struct stg_made stg_batch_made(const struct stg_batch *batch, uint32_t index)
{
    int64_t mtime_ns = batch->results[index].mtime_ns;
    return (struct stg_made){stg_batch_row(batch, index).mode, batch->preserve && mtime_ns, mtime_ns};
}

void stg_batch_take_mtime(struct stg_batch *batch, uint32_t index, const struct stg_http_head *head)
{
    int64_t said = stg_seconds_parse(head->mtime);
    batch->results[index].mtime_ns = said > 0 ? said : stg_batch_row(batch, index).mtime_ns;
}

struct stg_request stg_batch_request(const struct stg_batch *batch, uint32_t index)
{
    if (batch->kind == STG_BATCH_LIST)
        return (struct stg_request){.is_list = 1, .query = batch->query, .length = -1};
    struct stg_row row = stg_batch_row(batch, index);
    struct stg_request request = {
        .key = row.key, .identity = row.identity, .offset = 0, .length = row.size, .size = row.size};
    request.is_head = batch->kind == STG_BATCH_HEADS;
    stg_batch_aim(batch, index, &request);
    if (batch->parts) {
        const char *query = batch->parts[index].query;
        request.is_part = 1;
        request.query = (struct stg_str){query, strlen(query)};
    }
    if (batch->kind == STG_BATCH_RANGES) {
        request.offset = batch->ranges[index].offset;
        request.length = batch->ranges[index].length;
        request.ranged = request.length != row.size; /* a whole object goes without Range */
    }
    return request;
}

static void take_part(struct stg_part *part, const struct stg_http_head *head)
{
    part->count = head->parts;
    part->length = head->content_length;
    if (!head->has_range)
        return;
    part->offset = head->range_first;
    if (part->length != head->range_last - head->range_first + 1)
        part->length = -1; /* it contradicts itself */
}

static int take_told(struct stg_told *told, const struct stg_http_head *head)
{
    if (head->status != 200 || head->content_length < 0 || head->encoded || head->etag_weak ||
        head->etag.len > sizeof told->etag || head->version_id.len > sizeof told->version)
        return -EAGAIN;
    told->size = head->content_length;
    told->etag_len = head->etag.len;
    told->version_len = head->version_id.len;
    if (head->etag.len)
        memcpy(told->etag, head->etag.ptr, head->etag.len);
    if (head->version_id.len)
        memcpy(told->version, head->version_id.ptr, head->version_id.len);
    return 0;
}

int stg_batch_take_head(struct stg_batch *batch, uint32_t index, const struct stg_http_head *head)
{
    if (batch->told)
        return take_told(&batch->told[index], head);
    struct stg_request request = stg_batch_request(batch, index);
    if ((head->status >= 500 && head->status != 501) || head->status == 429 || head->status == 408)
        return -EAGAIN;
    if (head->status > 299)
        return 0;
    if (batch->parts) {
        if (stg_request_fits(&request, head))
            take_part(&batch->parts[index], head);
        return 0;
    }
    if (stg_request_fits(&request, head))
        batch->announced[index] = stg_checksum_announced(head, stg_template_etags(batch->template_));
    if (head->status == 200)
        stg_batch_take_mtime(batch, index, head);
    return 0;
}

void stg_batch_keep(struct stg_batch *batch, uint32_t index, const struct stg_stored *stored)
{
    struct stg_result *result = &batch->results[index];
    result->mtime_ns = stored->mtime_ns;
    result->ctime_ns = stored->ctime_ns;
    result->mode = (uint16_t)(stored->mode & 07777);
}

int stg_batch_may_write_inline(struct stg_batch *batch)
{
    return batch->landing.is_local && !atomic_load_explicit(&batch->slow, memory_order_relaxed);
}

int stg_batch_append_body(struct stg_batch *batch, const char *data, size_t len)
{
    if (len > LIST_BODY_MAX - batch->body_len)
        return -EFBIG;
    if (batch->body_len + len > batch->body_cap) {
        size_t cap = batch->body_cap ? batch->body_cap : (size_t)256 << 10;
        while (cap < batch->body_len + len)
            cap *= 2;
        char *grown = realloc(batch->body, cap);
        if (!grown)
            return -ENOMEM;
        batch->body = grown;
        batch->body_cap = cap;
    }
    if (len)
        memcpy(batch->body + batch->body_len, data, len);
    batch->body_len += len;
    return 0;
}
