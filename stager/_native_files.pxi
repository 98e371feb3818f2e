# Single files: reserve, publish, stat, copy, digest; and this process's own memory.

cdef extern from "<sys/prctl.h>" nogil:
    enum:
        PR_SET_DUMPABLE
    int prctl(int option, ...)


def hide_memory():
    prctl(PR_SET_DUMPABLE, <unsigned long>0, <unsigned long>0, <unsigned long>0, <unsigned long>0)


def reserve(int fd, int64_t size):
    cdef int status
    with nogil:
        status = stg_reserve(fd, size)
    check(status)


def publish(int tmp_fd, bytes name not None, int root_fd, bytes path not None, *, mtime_ns=None):
    cdef stg_stored stored
    cdef stg_str target = as_str(path)
    cdef const char *source = name
    cdef int64_t when = 0 if mtime_ns is None else mtime_ns
    cdef bint is_given = mtime_ns is not None
    cdef int status = 0
    with nogil:
        if is_given:
            status = stg_landing_set_mtime(tmp_fd, source, when)
        if status == 0:
            status = stg_publish(tmp_fd, source, root_fd, target, &stored)
    check(status, path)
    return stored.mtime_ns, stored.ctime_ns


def stat_below(int root_fd, bytes path not None):
    cdef stg_stored stored
    cdef stg_str target = as_str(path)
    cdef int status
    with nogil:
        status = stg_stat_below(root_fd, target, &stored)
    check(status, path)
    return stored.mode, stored.size, stored.mtime_ns, stored.ctime_ns


def copy_file(int source_dir_fd, bytes source not None, int tmp_fd, int root_fd, bytes path not None, uint32_t mode,
              *, bint preserve=False, bytes sha256=None):
    cdef stg_stored stored
    cdef stg_str from_ = as_str(source), to = as_str(path)
    cdef uint8_t digest[STG_DIGEST_BYTES]
    cdef const uint8_t *wanted = NULL
    cdef int status
    if sha256 is not None:
        if len(sha256) != STG_SHA_BYTES:
            raise ValueError("a SHA-256 has 32 bytes")
        wanted = <const uint8_t *><const char *>sha256
    with nogil:
        status = stg_copy_file(source_dir_fd, from_, tmp_fd, root_fd, to, mode, preserve, wanted, digest, &stored)
    check(status, path)
    return stored.size, (<const char *>digest)[:STG_DIGEST_BYTES], stored.mtime_ns, stored.ctime_ns


def digest_fd(int fd):
    cdef uint8_t digest[STG_DIGEST_BYTES]
    cdef int64_t size = 0
    cdef int status
    with nogil:
        status = stg_digest_fd(fd, digest, &size)
    check(status)
    return size, (<const char *>digest)[:STG_DIGEST_BYTES]


def read_back(int fd, int64_t offset, int64_t length, str kind):
    cdef uint8_t digest[STG_DIGEST_BYTES]
    cdef uint64_t crc
    cdef stg_crc_kind which = STG_CRC_NONE if kind is None else crc_kind(kind)
    cdef int status
    with nogil:
        status = stg_read_back(fd, offset, length, which, digest, &crc)
    check_arguments(status, "at most one block, from an offset that is not negative")
    return (<const char *>digest)[:STG_DIGEST_BYTES], crc


def digest_bytes(bytes data not None):
    cdef uint8_t digest[STG_DIGEST_BYTES]
    stg_digest_bytes(<const char *>data, len(data), digest)
    return (<const char *>digest)[:STG_DIGEST_BYTES]


def combine_blocks(bytes blocks not None):
    cdef uint8_t digest[STG_DIGEST_BYTES]
    if not blocks or len(blocks) % STG_DIGEST_BYTES:
        raise ValueError("block digests are 16 bytes each, at least one")
    check(stg_digest_combine(<const uint8_t *><const char *>blocks, len(blocks) // STG_DIGEST_BYTES, digest))
    return (<const char *>digest)[:STG_DIGEST_BYTES]
