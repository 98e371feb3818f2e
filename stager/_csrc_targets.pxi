# Objects with targets of their own; part of _csrc.pxd.

cdef extern from "targets.h" nogil:
    enum:
        STG_SHA_BYTES
        STG_TARGET_FIELDS_MAX
    struct stg_targets:
        pass
    stg_targets *stg_targets_new(size_t count)
    void stg_targets_unref(stg_targets *targets)
    size_t stg_targets_count(const stg_targets *targets)
    int stg_targets_set(stg_targets *targets, size_t index, stg_str path, const stg_header *headers, size_t header_count,
                        const uint8_t *sha256)
