"""The native engine's face: argument checks and buffers, no policy. Documented in _native.pyi."""

import errno
import os

cimport cython
from cpython cimport array
from cpython.array cimport array as array_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from stager._csrc cimport *

BLOCK_BYTES = STG_BLOCK_BYTES
TMP_PREFIX = <bytes>STG_NAME_PREFIX

cdef enum:
    DRAIN_AT_ONCE = 1024
    SIGNATURE_BYTES = 32768


cdef stg_str as_str(bytes text):
    cdef stg_str out
    out.ptr = text
    out.len = len(text)
    return out


cdef bytes from_str(stg_str text):
    return text.ptr[:text.len]


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


@cython.final
cdef class KeyTable:
    cdef stg_table *table

    def __cinit__(self):
        self.table = stg_table_new()
        if self.table is NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.table is not NULL:
            stg_table_unref(self.table)

    def append(self, bytes key not None, int64_t size, bytes identity not None, int64_t mtime_ns=0,
               uint32_t mode=0):
        cdef stg_row row
        row.key = as_str(key)
        row.identity = as_str(identity)
        row.size = size
        row.mtime_ns = mtime_ns
        row.mode = mode
        cdef int64_t index = stg_table_append(self.table, &row)
        check_arguments(index, "a size below 0 or a text over 65,535 bytes")
        return index

    def __len__(self):
        return stg_table_count(self.table)

    cdef stg_row row(self, Py_ssize_t index) except *:
        if index < 0 or <size_t>index >= stg_table_count(self.table):
            raise IndexError(index)
        return stg_table_row(self.table, <size_t>index)

    def key(self, Py_ssize_t row):
        return from_str(self.row(row).key)

    def size(self, Py_ssize_t row):
        return self.row(row).size

    def identity(self, Py_ssize_t row):
        return from_str(self.row(row).identity)

    def mtime_ns(self, Py_ssize_t row):
        return self.row(row).mtime_ns

    def mode(self, Py_ssize_t row):
        return self.row(row).mode

    def rows(self):
        cdef stg_row row
        cdef size_t index = 0
        while index < stg_table_count(self.table):
            row = stg_table_row(self.table, index)
            index += 1
            yield from_str(row.key), row.size, from_str(row.identity), row.mtime_ns, row.mode

    @property
    def total_bytes(self):
        return stg_table_total_bytes(self.table)


@cython.final
cdef class ListPage:
    cdef readonly int64_t count
    cdef readonly bint truncated
    cdef readonly bytes token
    cdef readonly bint in_order
    cdef readonly bint encoded
    cdef readonly int64_t archived

    def __init__(self):
        raise TypeError("a ListPage comes from Batch.scan_list")


@cython.final
cdef class Failure:
    cdef readonly Py_ssize_t index
    cdef readonly str kind
    cdef int number  # not "errno": that is a macro in C
    cdef readonly str where
    cdef readonly int status
    cdef readonly str code
    cdef readonly str message
    cdef readonly str request_id
    cdef readonly str region
    cdef readonly int64_t retry_after_s
    cdef readonly str date

    def __init__(self):
        raise TypeError("a Failure comes from Engine.drain")

    @property
    def errno(self):
        return self.number

    def __repr__(self):
        return (f"Failure(index={self.index}, kind={self.kind!r}, errno={self.errno}, where={self.where!r}, "
                f"status={self.status}, code={self.code!r}, message={self.message!r})")


cdef str as_text(const char *text):
    return (<bytes>text).decode("utf-8", "replace")


cdef Failure make_failure(uint32_t index, stg_failure *failure):
    cdef Failure made = Failure.__new__(Failure)
    made.index = index
    made.kind = "cancelled"
    made.where = made.code = made.message = made.request_id = made.region = made.date = ""
    made.retry_after_s = -1
    if failure is not NULL:
        made.kind = as_text(stg_fail_kind_name(failure.kind))
        made.number = failure.error
        made.where = as_text(failure.where)
        made.status = failure.status
        made.code = as_text(failure.s3.code)
        made.message = as_text(failure.s3.message)
        made.request_id = as_text(failure.s3.request_id)
        made.region = as_text(failure.s3.region)
        made.retry_after_s = failure.retry_after_s
        made.date = as_text(failure.date)
        stg_failure_free(failure)
    return made


cdef size_t fill_addresses(stg_address *out, object addresses, uint16_t port) except 0:
    cdef size_t count = 0
    cdef bytes packed
    for family, packed in addresses:
        if count == STG_ENDPOINT_MAX_ADDRESSES:
            break
        if stg_address_set(&out[count], family, <const char *>packed, len(packed), port) < 0:
            raise ValueError(f"not an address of family {family}: {packed!r}")
        count += 1
    if count == 0:
        raise ValueError("no address")
    return count


@cython.final
cdef class Endpoint:
    cdef stg_endpoint *endpoint
    cdef uint16_t port

    def __cinit__(self, Engine engine not None, *, str host not None, uint16_t port, bint tls, addresses,
                  str ca_file=None, bint verify=True):
        cdef stg_address fresh[STG_ENDPOINT_MAX_ADDRESSES]
        cdef size_t count = fill_addresses(fresh, addresses, port)
        cdef stg_tls *context = NULL
        cdef bytes host_text = host.encode("idna" if not host.isascii() else "ascii")
        cdef bytes ca_text = b"" if ca_file is None else os.fsencode(ca_file)
        self.port = port
        if tls:
            if verify and ca_file is None:
                raise ValueError("ca_file must be given to verify the server")
            check(stg_tls_new(host_text, <const char *>ca_text if ca_file is not None else NULL, verify, &context),
                  ca_file)
        self.endpoint = stg_endpoint_new(context, fresh, count)
        if self.endpoint is NULL:
            raise MemoryError

    def __dealloc__(self):
        stg_endpoint_unref(self.endpoint)

    def update(self, addresses):
        cdef stg_address fresh[STG_ENDPOINT_MAX_ADDRESSES]
        check(stg_endpoint_update(self.endpoint, fresh, fill_addresses(fresh, addresses, self.port)))


cdef list header_pairs(object headers):
    return [(name.lower().encode("ascii"), value.strip().encode()) for name, value in headers]


cdef size_t fill_headers(stg_header *out, list pairs) except? 999:
    cdef size_t count = 0
    cdef bytes name, value
    if len(pairs) > STG_SIGV4_MAX_HEADERS - 4:
        raise ValueError("too many headers")
    for name, value in pairs:
        for text in (name, value):
            if b"\r" in text or b"\n" in text or b"\0" in text:
                raise ValueError("a header holds a line break")
        out[count].name = as_str(name)
        out[count].value = as_str(value)
        count += 1
    return count


@cython.final
cdef class Signer:
    cdef stg_signer *signer

    def __cinit__(self, *, str access_key not None, str secret_key not None, str token, str region not None,
                  str service="s3"):
        cdef bytes access = access_key.encode(), secret = secret_key.encode(), session = (token or "").encode()
        cdef bytes where = region.encode(), what = service.encode()
        self.signer = stg_signer_new(as_str(access), as_str(secret), as_str(session), as_str(where), as_str(what))
        if self.signer is NULL:
            raise MemoryError

    def __dealloc__(self):
        stg_signer_unref(self.signer)

    def update(self, *, str access_key not None, str secret_key not None, str token):
        cdef bytes access = access_key.encode(), secret = secret_key.encode(), session = (token or "").encode()
        check(stg_signer_update(self.signer, as_str(access), as_str(secret), as_str(session)))

    def set_clock_skew(self, int64_t seconds):
        stg_signer_set_skew(self.signer, seconds)

    def sign(self, str method not None, bytes path not None, bytes query not None, headers, int64_t unix_s):
        cdef stg_header given[STG_SIGV4_MAX_HEADERS]
        cdef list pairs = header_pairs(headers)
        cdef size_t count = fill_headers(given, pairs)
        cdef bytes verb = method.encode()
        cdef char *out = <char *>malloc(SIGNATURE_BYTES)
        cdef stg_credentials *credentials
        cdef ssize_t size
        if out is NULL:
            raise MemoryError
        try:
            credentials = stg_signer_credentials(self.signer)
            size = stg_sigv4_sign(credentials, unix_s, as_str(verb), as_str(path), as_str(query), given, count, out,
                                  SIGNATURE_BYTES)
            stg_credentials_unref(credentials)
            check_arguments(size, "a value holds a character that cannot be signed")
            lines = out[:size].decode().splitlines()
        finally:
            free(out)
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


@cython.final
cdef class Template:
    cdef stg_template *template_
    cdef Endpoint endpoint
    cdef Signer signer

    def __cinit__(self, Endpoint endpoint not None, Signer signer, *, str host_header not None,
                  bytes path_prefix not None, headers=(), bytes key_prefix not None=b""):
        cdef stg_header extra[STG_SIGV4_MAX_HEADERS]
        cdef list pairs = header_pairs(headers)
        cdef size_t count = fill_headers(extra, pairs)
        cdef bytes host = host_header.encode("ascii")
        if any(c in host + path_prefix for c in b"\r\n\0 "):
            raise ValueError("a blank or line break in host_header or path_prefix")
        self.endpoint = endpoint
        self.signer = signer
        self.template_ = stg_template_new(endpoint.endpoint, NULL if signer is None else signer.signer, as_str(host),
                                          as_str(path_prefix), as_str(key_prefix), extra, count)
        if self.template_ is NULL:
            raise MemoryError

    def __dealloc__(self):
        stg_template_unref(self.template_)


@cython.final
cdef class Batch:
    cdef stg_batch *batch
    cdef Engine engine
    cdef Template template_
    cdef Py_ssize_t undrained

    def __init__(self):
        raise TypeError("a Batch comes from an Engine")

    def __dealloc__(self):
        stg_batch_unref(self.batch)

    def __len__(self):
        return self.batch.count

    cdef size_t checked(self, Py_ssize_t index) except? 0:
        if index < 0 or <size_t>index >= self.batch.count:
            raise IndexError(index)
        return <size_t>index

    def cancel(self):
        stg_engine_cancel(self.engine.engine, self.batch)

    def result(self, Py_ssize_t index):
        cdef size_t at = self.checked(index)
        cdef stg_result *result = &self.batch.results[at]
        if self.batch.kind == STG_BATCH_OBJECTS:
            return (self.batch.rows[at], (<const char *>result.digest)[:STG_DIGEST_BYTES], result.mtime_ns,
                    result.ctime_ns, result.mode)
        return index, b"", 0, 0, 0

    def blocks(self, Py_ssize_t index):
        cdef size_t at = self.checked(index)
        if self.batch.kind != STG_BATCH_RANGES:
            raise ValueError("only ranges have blocks")
        return (<const char *>self.batch.ranges[at].blocks)[:self.batch.results[at].block_count * STG_DIGEST_BYTES]

    def scan_list(self, KeyTable table not None, size_t key_skip):
        cdef stg_list_page page
        cdef int status
        cdef stg_str prefix = stg_template_key_prefix(self.template_.template_)
        if self.batch.kind != STG_BATCH_LIST or self.undrained:
            raise ValueError("not a finished listing")
        memset(&page, 0, sizeof(page))
        with nogil:
            status = stg_list_scan(self.batch.body, self.batch.body_len, prefix, key_skip, table.table, &page)
        if status == -errno.EBADMSG:
            raise ValueError(as_text(page.problem))
        check(status)
        cdef ListPage made = ListPage.__new__(ListPage)
        made.count = page.count
        made.truncated = page.truncated
        made.token = (<const char *>page.token)[:page.token_len]
        made.in_order = page.in_order
        made.encoded = page.encoded
        made.archived = page.archived
        return made


cdef array_t as_int64(object numbers):
    if isinstance(numbers, array_t) and numbers.typecode == "q":
        return numbers
    return array_t("q", numbers)


@cython.final
cdef class Engine:
    cdef stg_engine *engine
    cdef stg_completion *drained
    cdef set running

    def __cinit__(self, *, unsigned workers=0, unsigned disk_threads=2, unsigned connections=32,
                  size_t memory_bytes=64 << 20, size_t buffer_bytes=256 << 10, unsigned ring_slots=8192,
                  int connect_timeout_ms=10_000, int stall_timeout_ms=60_000):
        cdef stg_engine_config config
        config.workers = workers
        config.disk_threads = disk_threads
        config.connections = connections
        config.memory_bytes = memory_bytes
        config.buffer_bytes = buffer_bytes
        config.ring_slots = ring_slots
        config.connect_timeout_ms = connect_timeout_ms
        config.stall_timeout_ms = stall_timeout_ms
        self.running = set()
        self.drained = <stg_completion *>calloc(DRAIN_AT_ONCE, sizeof(stg_completion))
        if self.drained is NULL:
            raise MemoryError
        check_arguments(stg_engine_new(&config, &self.engine), "a limit is out of range or does not fit the others")

    def __dealloc__(self):
        with nogil:
            stg_engine_free(self.engine)
        free(self.drained)

    cdef Batch start(self, stg_batch *batch, Template template_):
        cdef Batch made = Batch.__new__(Batch)
        made.batch = batch
        made.engine = self
        made.template_ = template_
        made.undrained = batch.count
        batch.user = <void *>made
        check(stg_engine_submit(self.engine, batch))
        self.running.add(made)
        return made

    def fileno(self):
        return stg_engine_fileno(self.engine)

    def fetch_objects(self, Template template not None, KeyTable table not None, rows, int root_fd, int tmp_fd):
        cdef array_t numbers = as_int64(rows)
        cdef Py_ssize_t count = len(numbers)
        cdef size_t known = stg_table_count(table.table)
        cdef uint32_t *packed = <uint32_t *>malloc(max(count, 1) * sizeof(uint32_t))
        cdef stg_batch *batch = NULL
        cdef Py_ssize_t i
        if packed is NULL:
            raise MemoryError
        try:
            check(stg_engine_state(self.engine))
            for i in range(count):
                if <size_t>numbers.data.as_longlongs[i] >= known:
                    raise IndexError(numbers.data.as_longlongs[i])
                packed[i] = <uint32_t>numbers.data.as_longlongs[i]
            check_arguments(stg_batch_objects(template.template_, table.table, packed, count, root_fd, tmp_fd, &batch),
                            "an empty batch")
        finally:
            free(packed)
        return self.start(batch, template)

    def fetch_ranges(self, Template template not None, KeyTable table not None, Py_ssize_t row, ranges, int fd):
        cdef array_t flat = array_t("q", [number for pair in ranges for number in pair])
        cdef stg_batch *batch = NULL
        check(stg_engine_state(self.engine))
        table.row(row)
        check_arguments(stg_batch_ranges(template.template_, table.table, <uint32_t>row,
                                         <int64_t *>flat.data.as_longlongs,
                                         len(flat) // 2, fd, &batch),
                        "no range, or one that is empty, outside of the object or not on the block grid")
        return self.start(batch, template)

    def list_page(self, Template template not None, bytes query not None):
        cdef stg_batch *batch = NULL
        check(stg_engine_state(self.engine))
        check(stg_batch_list(template.template_, as_str(query), &batch))
        return self.start(batch, template)

    def drain(self):
        cdef dict by_batch = {}
        cdef size_t count = DRAIN_AT_ONCE
        cdef size_t i
        if stg_engine_state(self.engine) == -errno.ECHILD:
            check(-errno.ECHILD)
        while count == DRAIN_AT_ONCE:
            count = stg_engine_drain(self.engine, self.drained, DRAIN_AT_ONCE)
            for i in range(count):
                note_completion(by_batch, &self.drained[i])
        for batch in by_batch:
            if not (<Batch>batch).undrained:
                self.running.discard(batch)
        return [(batch, done, failures) for batch, (done, failures) in by_batch.items()]

    def stats(self):
        cdef stg_engine_stats_t counters
        stg_engine_stats(self.engine, &counters)
        return counters

    def close(self):
        with nogil:
            stg_engine_close(self.engine)


cdef int note_completion(dict by_batch, stg_completion *completion) except -1:
    cdef Batch batch = <Batch>completion.batch.user
    cdef array_t done
    cdef list failures
    cdef Py_ssize_t size
    entry = by_batch.get(batch)
    if entry is None:
        entry = by_batch[batch] = (array_t("q"), [])
    done, failures = entry
    batch.undrained -= 1
    if completion.failed:
        failures.append(make_failure(completion.index, completion.failure))
        return 0
    size = len(done)
    array.resize_smart(done, size + 1)
    done.data.as_longlongs[size] = completion.index
    return 0


def publish(int tmp_fd, bytes name not None, int root_fd, bytes path not None):
    cdef stg_stored stored
    cdef stg_str target = as_str(path)
    cdef const char *source = name
    cdef int status
    with nogil:
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


def copy_file(int source_dir_fd, bytes source not None, int tmp_fd, int root_fd, bytes path not None, uint32_t mode):
    cdef stg_stored stored
    cdef stg_str from_ = as_str(source), to = as_str(path)
    cdef uint8_t digest[STG_DIGEST_BYTES]
    cdef int status
    with nogil:
        status = stg_copy_file(source_dir_fd, from_, tmp_fd, root_fd, to, mode, digest, &stored)
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
