# Checksums that combine over parts.

cdef dict CRC_KINDS = {"crc32": STG_CRC32, "crc32c": STG_CRC32C, "crc64nvme": STG_CRC64NVME}


cdef stg_crc_kind crc_kind(str kind) except? STG_CRC_NONE:
    if kind not in CRC_KINDS:
        raise ValueError(f"not a kind of CRC: {kind!r}")
    return CRC_KINDS[kind]


cdef str crc_name(stg_crc_kind kind):
    return next(name for name, known in CRC_KINDS.items() if known == kind)


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
