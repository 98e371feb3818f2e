# Files of a kept tree, given to another.

@cython.final
cdef class Lend:
    cdef stg_lend *lend
    cdef readonly Entries kept

    def __cinit__(self, Entries kept not None, int kept_fd, *, int tmp_fd, int root_fd, bint keep_mtime,
                  unsigned threads=1, int64_t keep_cached_bytes=0):
        self.kept = kept
        self.lend = stg_lend_new(kept.entries, kept_fd, tmp_fd, root_fd, keep_mtime, threads, keep_cached_bytes)
        if self.lend is NULL:
            raise MemoryError

    def __dealloc__(self):
        stg_lend_free(self.lend)

    def stop(self):
        stg_lend_stop(self.lend)

    def give(self, Entries entries not None, rows):
        if entries.table is not self.kept.table:
            raise ValueError("entries of another table")
        cdef array_t numbers = as_rows(rows, min(entries.known(), self.kept.known()))
        cdef size_t count = len(numbers), given
        cdef array_t landed = array.clone(NO_ROWS, count, False)
        cdef const uint32_t *wanted = numbers.data.as_uints
        cdef uint32_t *found = landed.data.as_uints
        cdef int64_t shared = 0
        cdef int status = 0
        with nogil:
            given = stg_lend_give(self.lend, entries.entries, wanted, count, found, &shared, &status)
        array.resize(landed, given)
        return landed, -status, shared
