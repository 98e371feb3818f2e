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

    def move(self, KeyTable source not None):
        check(stg_table_move(self.table, source.table))

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

    def lines(self, size_t row):
        cdef char *out = <char *>malloc(PIECE_BYTES)
        cdef ssize_t length
        if out is NULL:
            raise MemoryError
        try:
            with nogil:
                length = stg_table_lines(self.table, &row, out, PIECE_BYTES)
            check(length)
            return out[:length], row
        finally:
            free(out)

    def sum_sizes(self, rows):
        cdef array_t numbers = as_rows(rows, stg_table_count(self.table))
        cdef int64_t total = 0
        cdef Py_ssize_t i
        for i in range(len(numbers)):
            total += stg_table_row(self.table, numbers.data.as_uints[i]).size
        return total

    def part_rows(self, rows, int64_t part_bytes):
        cdef array_t numbers = as_rows(rows, stg_table_count(self.table))
        cdef array_t small = array.clone(NO_ROWS, len(numbers), False), large = array_t("I")
        cdef Py_ssize_t count = 0, i
        cdef stg_row row
        for i in range(len(numbers)):
            row = stg_table_row(self.table, numbers.data.as_uints[i])
            if row.size > part_bytes and row.identity.len:
                large.append(numbers.data.as_uints[i])
            else:
                small.data.as_uints[count] = numbers.data.as_uints[i]
                count += 1
        if not large:
            return numbers, large
        array.resize(small, count)
        return small, large

    def multipart_rows(self, rows, int64_t least_part_bytes):
        cdef array_t numbers = as_rows(rows, stg_table_count(self.table))
        cdef array_t plain = array.clone(NO_ROWS, len(numbers), False), several = array_t("I")
        cdef Py_ssize_t count = 0, i
        cdef stg_row row
        cdef int64_t parts
        for i in range(len(numbers)):
            row = stg_table_row(self.table, numbers.data.as_uints[i])
            parts = stg_etag_parts(stg_identity_split(row.identity).etag)
            if parts > 1 and row.size > (parts - 1) * least_part_bytes:
                several.append(numbers.data.as_uints[i])
            else:
                plain.data.as_uints[count] = numbers.data.as_uints[i]
                count += 1
        if not several:
            return numbers, several
        array.resize(plain, count)
        return plain, several

    def marked_rows(self, rows, bytes mark not None):
        cdef array_t numbers = as_rows(rows, stg_table_count(self.table))
        cdef array_t plain = array.clone(NO_ROWS, len(numbers), False), marked = array_t("I")
        cdef Py_ssize_t count = 0, i
        cdef stg_str identity, wanted = as_str(mark)
        for i in range(len(numbers)):
            identity = stg_table_row(self.table, numbers.data.as_uints[i]).identity
            if memmem(identity.ptr, identity.len, wanted.ptr, wanted.len) is not NULL:
                marked.append(numbers.data.as_uints[i])
            else:
                plain.data.as_uints[count] = numbers.data.as_uints[i]
                count += 1
        if not marked:
            return numbers, marked
        array.resize(plain, count)
        return plain, marked

    def archived_rows(self):
        cdef array_t found = array_t("I")
        cdef size_t row
        for row in range(stg_table_count(self.table)):
            if stg_table_row(self.table, row).mode & STG_ROW_ARCHIVED:
                found.append(row)
        return found
    def keys(self, rows):
        cdef array_t numbers = as_rows(rows, stg_table_count(self.table))
        cdef Py_ssize_t i
        return [from_str(stg_table_row(self.table, numbers.data.as_uints[i]).key) for i in range(len(numbers))]

    def files(self, int64_t least, int64_t most, int64_t since_ns):
        cdef size_t count = stg_table_count(self.table), index
        cdef array_t rows = array.clone(NO_ROWS, count, False)
        cdef Py_ssize_t found = 0, markers = 0
        cdef stg_row row
        for index in range(count):
            row = stg_table_row(self.table, index)
            if not row.size and (not row.key.len or row.key.ptr[row.key.len - 1] == 47):
                markers += 1
            elif least <= row.size <= most and row.mtime_ns >= since_ns:
                rows.data.as_uints[found] = <uint32_t>index
                found += 1
        array.resize(rows, found)
        return rows, markers

    def select(self, rows):
        cdef array_t numbers = as_rows(rows, stg_table_count(self.table))
        cdef KeyTable chosen = KeyTable()
        cdef stg_row row
        cdef Py_ssize_t i
        for i in range(len(numbers)):
            row = stg_table_row(self.table, numbers.data.as_uints[i])
            check(stg_table_append(chosen.table, &row))
        return chosen

    @property
    def total_bytes(self):
        return stg_table_total_bytes(self.table)


cdef array_t NO_ROWS = array_t("I")


cdef array_t as_rows(object rows, size_t known):
    """Row numbers, each below known, as array("I"). IndexError."""
    cdef array_t numbers
    cdef Py_ssize_t i
    if isinstance(rows, array_t) and rows.typecode == "I":
        numbers = rows
    else:
        try:
            numbers = array_t("I", rows)
        except OverflowError as error:
            raise IndexError("no such row") from error
    for i in range(len(numbers)):
        if numbers.data.as_uints[i] >= known:
            raise IndexError(numbers.data.as_uints[i])
    return numbers


@cython.final
cdef class KeyOrder:
    cdef stg_order *order
    cdef KeyTable table

    def __cinit__(self, KeyTable table not None, checkpoint=None):
        cdef int status
        self.table = table
        with nogil:
            status = stg_order_new(table.table, &self.order)
        check(status)
        while True:
            if checkpoint is not None:
                checkpoint()
            with nogil:
                status = stg_order_step(self.order)
            if not status:
                break

    def __dealloc__(self):
        stg_order_free(self.order)

    def find(self, bytes key not None):
        return stg_order_find(self.order, as_str(key), 0)


NAME_DOUBTFUL = STG_NAME_DOUBTFUL
NAME_GOOD = STG_NAME_GOOD
NAME_DIRECTORY = STG_NAME_DIRECTORY
NAME_TWICE = STG_NAME_TWICE


def judge_keys(KeyTable table not None, bytearray verdicts not None, size_t start, size_t count, size_t limit):
    cdef uint8_t *out = <uint8_t *><char *>verdicts
    if len(verdicts) > <Py_ssize_t>stg_table_count(table.table) or start + count > <size_t>len(verdicts):
        raise ValueError("a verdict for each row")
    with nogil:
        stg_names_judge(table.table, start, count, limit, out)


def clash_keys(KeyOrder order not None, bytearray verdicts not None):
    cdef uint8_t *out = <uint8_t *><char *>verdicts
    cdef int64_t marked
    if <size_t>len(verdicts) != order.order.count:
        raise ValueError("a verdict for each row")
    with nogil:
        marked = stg_names_clash(order.order, out)
    check(marked)
    return marked


def rows_judged(bytearray verdicts not None, uint8_t verdict):
    cdef const uint8_t *given = <const uint8_t *><char *>verdicts
    cdef size_t count = len(verdicts), found = 0, i
    cdef array_t rows
    for i in range(count):
        found += given[i] == verdict
    rows = array.clone(NO_ROWS, found, False)
    found = 0
    for i in range(count):
        if given[i] == verdict:
            rows.data.as_uints[found] = <uint32_t>i
            found += 1
    return rows


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
