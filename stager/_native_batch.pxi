# Requests handed over together, and what became of them.

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

    def blocks(self, Py_ssize_t index):
        cdef size_t at = self.checked(index)
        if self.batch.kind != STG_BATCH_RANGES:
            raise ValueError("only ranges have blocks")
        return (<const char *>self.batch.ranges[at].blocks)[:self.batch.results[at].block_count * STG_DIGEST_BYTES]

    def crc(self, Py_ssize_t index):
        cdef size_t at = self.checked(index)
        if self.batch.kind != STG_BATCH_RANGES or self.batch.crc == STG_CRC_NONE:
            raise ValueError("only ranges have a CRC, and only where one was asked for")
        return self.batch.ranges[at].crc

    def announced(self, Py_ssize_t index):
        cdef size_t at = self.checked(index)
        cdef stg_announced *told
        if self.batch.announced is NULL:
            raise ValueError("only the answers to a HEAD of objects have this")
        told = &self.batch.announced[at]
        return (SUM_NAMES[told.kind], (<const char *>told.value)[:stg_sum_bytes(told.kind)], told.parts,
                WHY_NAMES[told.why])

    def part(self, Py_ssize_t index):
        cdef size_t at = self.checked(index)
        if self.batch.parts is NULL:
            raise ValueError("only the answers to a HEAD of parts have this")
        return self.batch.parts[at].offset, self.batch.parts[at].length, self.batch.parts[at].count

    def mtime_ns(self, Py_ssize_t index):
        cdef size_t at = self.checked(index)
        if self.batch.kind != STG_BATCH_HEADS:
            raise ValueError("only the answers to a HEAD have this")
        return self.batch.results[at].mtime_ns or None

    def told(self, Py_ssize_t index):
        cdef size_t at = self.checked(index)
        cdef stg_told *told
        if self.batch.told is NULL:
            raise ValueError("not a look-up")
        told = &self.batch.told[at]
        return told.size, (<const char *>told.etag)[:told.etag_len], (<const char *>told.version)[:told.version_len]

    def scan_list(self, KeyTable table not None, size_t key_skip, *, bytes after=None, bytes upto=None,
                  KeyTable rest=None):
        cdef stg_list_page page
        cdef stg_list_span span
        cdef int status
        cdef stg_str prefix = stg_template_key_prefix(self.template_.template_)
        if self.batch.kind != STG_BATCH_LIST or self.undrained:
            raise ValueError("not a finished listing")
        memset(&page, 0, sizeof(page))
        memset(&span, 0, sizeof(span))
        if after is not None:
            span.after = as_str(after)
        if upto is not None:
            if rest is None:
                raise ValueError("no table for the rest")
            span.upto = as_str(upto)
            span.rest = rest.table
        with nogil:
            status = stg_list_scan(self.batch.body, self.batch.body_len, prefix, key_skip, table.table, &span,
                                   &page)
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
