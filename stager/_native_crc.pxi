# Checksums that combine over parts.

cdef stg_crc_kind crc_kind(str kind) except? STG_CRC_NONE:
    if kind == "crc32":
        return STG_CRC32
    if kind == "crc32c":
        return STG_CRC32C
    if kind == "crc64nvme":
        return STG_CRC64NVME
    raise ValueError(f"not a kind of CRC: {kind!r}")


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
