# The record of a tree, and what fills it without the network: Git blobs, kept trees, earlier records; part of _csrc.pxd.

cdef extern from "entries.h" nogil:
    enum stg_standing:
        STG_UNKNOWN
        STG_STALE
        STG_DOUBTFUL
        STG_TRUSTED
        STG_WANTED
        STG_STANDS
    struct stg_entry:
        uint8_t *digest
        int64_t mtime_ns
        int64_t ctime_ns
        uint16_t mode
        char grade
        uint8_t standing
        uint8_t why
    struct stg_entries:
        stg_table *table
        size_t capacity
        stg_entry *rows
    stg_entries *stg_entries_new(stg_table *table, size_t capacity)
    void stg_entries_free(stg_entries *entries)
    void stg_entries_count_grades(const stg_entries *entries, int64_t *counts)
    void stg_entries_count_whys(const stg_entries *entries, int64_t *counts)
    size_t stg_entries_below(const stg_entries *entries, char required, uint32_t *rows, size_t most)
    size_t stg_entries_agree(const stg_entries *entries, const stg_entries *recorded, uint32_t *rows)


cdef extern from "blobs.h" nogil:
    struct stg_blobs:
        pass
    stg_blobs *stg_blobs_new(int from_, int tmp_fd, int root_fd)
    void stg_blobs_free(stg_blobs *blobs)
    size_t stg_blobs_land(stg_blobs *blobs, stg_entries *entries, const uint32_t *rows, size_t count, int *status)


cdef extern from "lend.h" nogil:
    struct stg_lend:
        pass
    stg_lend *stg_lend_new(const stg_entries *kept, int kept_fd, int tmp_fd, int root_fd, int keep_mtime, unsigned threads, int64_t keep_cached_bytes)
    void stg_lend_free(stg_lend *lend)
    void stg_lend_stop(stg_lend *lend)
    size_t stg_lend_give(stg_lend *lend, stg_entries *entries, const uint32_t *rows, size_t count, uint32_t *given, int64_t *shared, int *status)


cdef extern from "recall.h" nogil:
    struct stg_recall:
        int64_t count
        int64_t passed
    int stg_recall_new(stg_entries *entries, const stg_order *order, stg_standing standing, stg_recall **out)
    void stg_recall_free(stg_recall *recall)
    int stg_recall_lines(stg_recall *recall, stg_str lines)
    int64_t stg_recall_journal(stg_recall *recall, stg_str data)
    ssize_t stg_entries_lines(const stg_entries *entries, size_t *row, char *out, size_t room, int64_t *count)
    size_t stg_entries_journal_length(const stg_entries *entries, const uint32_t *rows, size_t count)
    void stg_entries_journal(const stg_entries *entries, const uint32_t *rows, size_t count, char *out)
