# Packed tables of objects.

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
