# Checksums and digests of sources, and what they say of a file; part of _csrc.pxd.

cdef extern from "crc.h" nogil:
    enum stg_crc_kind:
        STG_CRC_NONE
        STG_CRC32
        STG_CRC32C
        STG_CRC64NVME
    uint64_t stg_crc_update(stg_crc_kind kind, uint64_t value, const void *data, size_t len)
    uint64_t stg_crc_combine(stg_crc_kind kind, uint64_t a, uint64_t b, int64_t len_b)
    size_t stg_crc_bytes(stg_crc_kind kind)


cdef extern from "grade.h" nogil:
    enum stg_why:
        STG_WHY_NONE
        STG_WHY_UNTOLD
        STG_WHY_PARTS
        STG_WHY_ETAG_OF_PARTS
        STG_WHY_ENCRYPTED
        STG_WHY_UNPINNED
        STG_WHYS


cdef extern from "identity.h" nogil:
    struct stg_identity:
        stg_str etag
        stg_str version
    stg_identity stg_identity_split(stg_str text)


cdef extern from "sum.h" nogil:
    enum:
        STG_SUM_MAX_BYTES
    enum stg_sum_kind:
        STG_SUM_NONE
        STG_SUM_CRC32
        STG_SUM_CRC32C
        STG_SUM_CRC64NVME
        STG_SUM_SHA1
        STG_SUM_SHA256
        STG_SUM_MD5
    size_t stg_sum_bytes(stg_sum_kind kind)
    const char *stg_sum_name(stg_sum_kind kind)


cdef extern from "frontier.h" nogil:
    struct stg_frontier:
        pass
    int stg_frontier_new(stg_sum_kind kind, const int64_t *ends, size_t count, stg_frontier **out)
    void stg_frontier_free(stg_frontier *frontier)
    int stg_frontier_advance(stg_frontier *frontier, int fd, int64_t upto)
    int64_t stg_frontier_at(const stg_frontier *frontier)
    int stg_frontier_finish(stg_frontier *frontier, uint8_t *out)


cdef extern from "checksum.h" nogil:
    enum:
        STG_PARTS_MAX
    struct stg_announced:
        stg_sum_kind kind
        stg_why why
        uint32_t parts
        uint8_t *value
    enum stg_etags:
        STG_ETAGS_NONE
        STG_ETAGS_PLAIN
        STG_ETAGS_PARTS
    int64_t stg_etag_parts(stg_str etag)
