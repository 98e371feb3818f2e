#include "compare.h"

#include "names.h"

#include <errno.h>
#include <sys/stat.h>

#define MODE_BITS 0177777U /* above them a table keeps flags of its own */
#define EXECUTABLE 0100U

void stg_comparison_init(struct stg_comparison *comparison, struct stg_entries *entries, int root_fd, int64_t block_bytes)
{
    *comparison = (struct stg_comparison){.entries = entries, .empty = root_fd < 0, .block_bytes = block_bytes};
    stg_parents_init(&comparison->parents, root_fd);
}

void stg_comparison_clear(struct stg_comparison *comparison)
{
    stg_parents_clear(&comparison->parents);
}

/* Whether symlink-or-file agrees everywhere, and the executable bit with the source where it has modes. */
static int is_same_kind(uint32_t wanted, uint32_t recorded, uint32_t local)
{
    wanted &= MODE_BITS;
    if ((!S_ISREG(local) && !S_ISLNK(local)) || S_ISLNK(recorded) != S_ISLNK(local))
        return 0;
    if (!wanted)
        return !S_ISLNK(local);
    return S_ISLNK(wanted) == S_ISLNK(local) && (wanted & EXECUTABLE) == (recorded & EXECUTABLE);
}

static int is_as_recorded(const struct stg_comparison *comparison, const struct stg_row *row,
                          const struct stg_entry *entry, const struct stg_stored *local)
{
    if (entry->standing < STG_DOUBTFUL || entry->standing == STG_WANTED)
        return 0;
    if (!stg_grade_reaches(entry->grade, comparison->required))
        return 0;
    if (!row->identity.len) /* nothing says that the source still has the same */
        return 0;
    return local->size == row->size && local->mtime_ns == entry->mtime_ns && local->ctime_ns == entry->ctime_ns &&
           is_same_kind(row->mode, entry->mode, local->mode);
}

static int64_t add(int64_t sum, int64_t more)
{
    return __builtin_add_overflow(sum, more, &sum) ? INT64_MAX : sum;
}

static void want_row(struct stg_comparison *comparison, struct stg_entry *entry, int64_t size, int64_t replaced)
{
    int64_t block = comparison->block_bytes, blocks = size / block + (size % block != 0) - replaced / block, bytes;

    entry->standing = STG_WANTED;
    comparison->fetched++;
    comparison->fetched_bytes += size;
    comparison->disk_bytes = add(comparison->disk_bytes, __builtin_mul_overflow(blocks, block, &bytes) ? INT64_MAX : bytes);
}

/* 0: there is nothing; 1: there is; -errno. */
static int look(struct stg_comparison *comparison, struct stg_str path, struct stg_stored *local)
{
    int status;

    if (comparison->empty)
        return 0;
    status = stg_parents_stat(&comparison->parents, path, local);
    return status == -ENOENT ? 0 : status < 0 ? status : 1;
}

static int compare_row(struct stg_comparison *comparison, uint32_t row)
{
    struct stg_row wanted = stg_table_row(comparison->entries->table, row);
    struct stg_entry *entry = &comparison->entries->rows[row];
    struct stg_stored local = {0};
    int found = look(comparison, wanted.key, &local);

    if (found < 0 && found != -ENOTDIR && found != -ELOOP && found != -EXDEV)
        return found;
    if (found > 0 && entry->standing == STG_DOUBTFUL && is_as_recorded(comparison, &wanted, entry, &local))
        return STG_HASH;
    comparison->total_bytes += wanted.size;
    if (found <= 0 || !is_as_recorded(comparison, &wanted, entry, &local)) {
        want_row(comparison, entry, wanted.size, found > 0 && S_ISREG(local.mode) ? local.size : 0);
        return found < 0 || (found && S_ISDIR(local.mode)) ? STG_BLOCKED : STG_FETCH;
    }
    entry->standing = STG_STANDS;
    comparison->kept++;
    return STG_KEEP;
}

int64_t stg_compare(struct stg_comparison *comparison, const uint32_t *rows, size_t count, uint8_t *outcomes,
                    uint32_t *failed)
{
    for (size_t i = 0; i < count; i++) {
        int outcome = compare_row(comparison, rows[i]);

        if (outcome < 0) {
            *failed = rows[i];
            return outcome;
        }
        outcomes[i] = (uint8_t)outcome;
    }
    return (int64_t)count;
}

int64_t stg_wanted_directories(const struct stg_order *order, const struct stg_entries *entries)
{
    struct stg_str before = {0};
    int64_t directories = 0;

    for (size_t place = 0; place < order->count; place++) {
        size_t row = stg_order_row(order, place), common = 0;
        struct stg_str key = stg_table_row(order->table, row).key;

        if (row >= entries->capacity || entries->rows[row].standing != STG_WANTED)
            continue;
        while (common < key.len && common < before.len && key.ptr[common] == before.ptr[common])
            common++;
        for (size_t i = common; i < key.len; i++)
            directories += key.ptr[i] == '/';
        before = key;
    }
    return directories;
}

#define DEPTH_MAX (STG_PATH_BYTES / 2 + 1)

/* The directories above the last key, from the top. */
struct open_directories {
    size_t depth;
    struct {
        uint16_t len;
        uint8_t wanted, recorded;
    } at[DEPTH_MAX];
};

/* Closes those that are not above a key that has `common` bytes in common with the last one. Returns how many are told. */
static size_t close_directories(struct open_directories *open, size_t common, size_t row, struct stg_directory *out)
{
    size_t told = 0;

    while (open->depth && open->at[open->depth - 1].len >= common) {
        size_t i = --open->depth;

        if (open->at[i].wanted && !open->at[i].recorded) {
            if (out)
                out[told] = (struct stg_directory){(uint32_t)row, open->at[i].len};
            told++;
        }
        if (i) {
            open->at[i - 1].wanted |= open->at[i].wanted;
            open->at[i - 1].recorded |= open->at[i].recorded;
        }
    }
    return told;
}

size_t stg_unknown_directories(const struct stg_order *order, const struct stg_entries *entries,
                               struct stg_directory *out)
{
    struct open_directories open = {0};
    struct stg_str before = {0};
    size_t told = 0, last = 0;

    for (size_t place = 0; place < order->count; place++) {
        size_t row = stg_order_row(order, place), common = 0;
        struct stg_str key = stg_table_row(order->table, row).key;
        const struct stg_entry *entry = row < entries->capacity ? &entries->rows[row] : NULL;

        if (!entry || key.len > STG_PATH_BYTES || (entry->standing != STG_WANTED && !entry->grade))
            continue;
        while (common < key.len && common < before.len && key.ptr[common] == before.ptr[common])
            common++;
        told += close_directories(&open, common, last, out ? out + told : NULL);
        for (size_t i = open.depth ? open.at[open.depth - 1].len + 1U : 0; i < key.len; i++)
            if (key.ptr[i] == '/' && open.depth < DEPTH_MAX) {
                open.at[open.depth].len = (uint16_t)i;
                open.at[open.depth].wanted = open.at[open.depth].recorded = 0;
                open.depth++;
            }
        if (open.depth) {
            open.at[open.depth - 1].wanted |= entry->standing == STG_WANTED;
            open.at[open.depth - 1].recorded |= entry->grade != 0;
        }
        before = key;
        last = row;
    }
    return told + close_directories(&open, 0, last, out ? out + told : NULL);
}
