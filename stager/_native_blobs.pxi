# Files of Git blobs, put in place as git writes them.

@cython.final
cdef class Blobs:
    cdef stg_blobs *blobs

    def __cinit__(self, int fd, *, int tmp_fd, int root_fd):
        self.blobs = stg_blobs_new(fd, tmp_fd, root_fd)
        if self.blobs is NULL:
            raise MemoryError

    def __dealloc__(self):
        stg_blobs_free(self.blobs)

    def land(self, Entries entries not None, rows):
        cdef array_t numbers = as_rows(rows, entries.known())
        cdef size_t count = len(numbers), landed
        cdef const uint32_t *wanted = numbers.data.as_uints
        cdef int status = 0
        with nogil:
            landed = stg_blobs_land(self.blobs, entries.entries, wanted, count, &status)
        return landed, -status
