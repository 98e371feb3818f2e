# Checksums: those that combine over parts, and those that are taken of a file in order.

cdef list SUM_NAMES = ["", "crc32", "crc32c", "crc64nvme", "sha1", "sha256", "md5"]
cdef dict SUM_KINDS = {name: kind for kind, name in enumerate(SUM_NAMES) if name}

cdef dict CRC_KINDS = {"crc32": STG_CRC32, "crc32c": STG_CRC32C, "crc64nvme": STG_CRC64NVME}


cdef stg_crc_kind crc_kind(str kind) except? STG_CRC_NONE:
    if kind not in CRC_KINDS:
        raise ValueError(f"not a kind of CRC: {kind!r}")
    return CRC_KINDS[kind]


cdef uint64_t checked_crc(stg_crc_kind kind, uint64_t value) except? 0:
    if stg_crc_bytes(kind) == 4 and value >> 32:
        raise OverflowError(f"not a value of 32 bits: {value}")
    return value


def crc_update(str kind not None, uint64_t value, bytes data not None):
    cdef stg_crc_kind which = crc_kind(kind)
    return stg_crc_update(which, checked_crc(which, value), <const char *>data, len(data))


def crc_combine(str kind not None, uint64_t a, uint64_t b, int64_t len_b):
    cdef stg_crc_kind which = crc_kind(kind)
    if len_b < 0:
        raise ValueError("a negative length")
    return stg_crc_combine(which, checked_crc(which, a), checked_crc(which, b), len_b)


@cython.final
cdef class Frontier:
    cdef stg_frontier *frontier
    cdef stg_sum_kind kind

    def __cinit__(self, str kind not None, ends=()):
        cdef array_t places = as_int64(ends)
        cdef int status
        if kind not in SUM_KINDS:
            raise ValueError(f"not a kind of checksum: {kind!r}")
        self.kind = SUM_KINDS[kind]
        status = stg_frontier_new(self.kind, <int64_t *>places.data.as_longlongs, len(places), &self.frontier)
        check_arguments(status, "the ends of parts do not ascend")

    def __dealloc__(self):
        stg_frontier_free(self.frontier)

    def advance(self, int fd, int64_t upto):
        cdef int status
        with nogil:
            status = stg_frontier_advance(self.frontier, fd, upto)
        check_arguments(status, "behind the last part")

    @property
    def at(self):
        return stg_frontier_at(self.frontier)

    def finish(self):
        cdef uint8_t value[STG_SUM_MAX_BYTES]
        check_arguments(stg_frontier_finish(self.frontier, value), "a part is not at its end")
        return (<const char *>value)[:stg_sum_bytes(self.kind)]
