# Git blobs; part of _csrc.pxd.

cdef extern from "blobs.h" nogil:
    struct stg_blobs:
        pass
    stg_blobs *stg_blobs_new(int from_, int tmp_fd, int root_fd)
    void stg_blobs_free(stg_blobs *blobs)
    size_t stg_blobs_land(stg_blobs *blobs, stg_entries *entries, const uint32_t *rows, size_t count, int *status)
