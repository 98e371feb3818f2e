"""The native engine's face: argument checks and buffers, no policy. Documented in _native.pyi."""

import errno
import os

cimport cython
from cpython cimport array
from cpython.array cimport array as array_t
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from stager._csrc cimport *

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t length, const void *needle, size_t needle_length)

BLOCK_BYTES = STG_BLOCK_BYTES
TMP_PREFIX = <bytes>STG_NAME_PREFIX

cdef enum:
    DRAIN_AT_ONCE = 1024
    SIGNATURE_BYTES = 32768
    PIECE_BYTES = 1 << 20


cdef stg_str as_str(bytes text):
    cdef stg_str out
    out.ptr = text
    out.len = len(text)
    return out


cdef bytes from_str(stg_str text):
    return text.ptr[:text.len]


cdef str as_text(const char *text):
    return (<bytes>text).decode("utf-8", "replace")


cdef int check(int64_t status, object filename=None) except -1:
    """Raise what a negative status means."""
    if status >= 0:
        return 0
    number = <int>-status
    if number == errno.ENOMEM:
        raise MemoryError
    if number == errno.ECHILD:
        raise RuntimeError("the engine does not work in a forked process")
    if number == errno.ESHUTDOWN:
        raise RuntimeError("the engine is closed")
    if filename is None:
        raise OSError(number, os.strerror(number))
    raise OSError(number, os.strerror(number), filename)


cdef int check_arguments(int64_t status, str what) except -1:
    if status == -errno.EINVAL:
        raise ValueError(what)
    return check(status)


include "_native_table.pxi"
include "_native_failure.pxi"
include "_native_remote.pxi"
include "_native_batch.pxi"
include "_native_engine.pxi"
include "_native_files.pxi"
include "_native_crc.pxi"
include "_native_entries.pxi"
include "_native_blobs.pxi"
include "_native_lend.pxi"
