# What is known of a table's rows, row by row: recalled, compared, fetched, recorded.

cdef list WHY_NAMES = ["earlier-run", "no-checksum", "parts-unknown", "etag-of-parts", "encrypted-etag", "no-etag"]
cdef dict NO_REASON = {"A": "earlier-run", "B": "no-checksum", "C": "no-etag"}

@cython.final
cdef class Entries:
    cdef stg_entries *entries
    cdef readonly KeyTable table

    def __cinit__(self, KeyTable table not None, capacity=None):
        self.table = table
        self.entries = stg_entries_new(table.table, stg_table_count(table.table) if capacity is None else capacity)
        if self.entries is NULL:
            raise MemoryError

    def __dealloc__(self):
        stg_entries_free(self.entries)

    cdef size_t known(self):
        return min(self.entries.capacity, stg_table_count(self.table.table))

    cdef stg_entry *at(self, Py_ssize_t row) except NULL:
        if row < 0 or <size_t>row >= self.known():
            raise IndexError(row)
        return &self.entries.rows[row]

    cdef int rows_standing(self, size_t row):
        return self.entries.rows[row].standing

    def recorded(self, Py_ssize_t row):
        cdef stg_entry *entry = self.at(row)
        cdef stg_row found = stg_table_row(self.table.table, row)
        if entry.standing not in (STG_DOUBTFUL, STG_TRUSTED, STG_STANDS):
            return None
        return (from_str(found.key), found.size, from_str(found.identity), (<const char *>entry.digest)[:STG_DIGEST_BYTES],
                entry.mtime_ns, entry.ctime_ns, entry.mode, chr(entry.grade))

    def stands(self):
        cdef size_t known = self.known(), count = 0, row
        cdef array_t rows = array.clone(NO_ROWS, known, False)
        for row in range(known):
            if self.entries.rows[row].standing == STG_STANDS:
                rows.data.as_uints[count] = <uint32_t>row
                count += 1
        array.resize(rows, count)
        return rows

    def put(self, Py_ssize_t row, bytes digest not None, int64_t mtime_ns, int64_t ctime_ns, uint16_t mode, grade, why=None):
        cdef stg_entry *entry = self.at(row)
        if len(digest) != STG_DIGEST_BYTES or grade not in ("A", "B", "C"):
            raise ValueError("a digest has 16 bytes, a grade is A, B or C")
        memcpy(entry.digest, <const char *>digest, STG_DIGEST_BYTES)
        entry.mtime_ns = mtime_ns
        entry.ctime_ns = ctime_ns
        entry.mode = mode
        entry.grade = ord(grade)
        entry.why = WHY_NAMES.index(why or NO_REASON[grade])
        entry.standing = STG_STANDS

    def take(self, Batch batch not None, indices, *, verified, pinned, unpinned):
        cdef array_t numbers = as_int64(indices), rows
        cdef stg_entry *entry
        cdef stg_result *result
        cdef char compared = ord(verified), with_identity = ord(pinned), without = ord(unpinned)
        cdef Py_ssize_t i
        cdef size_t index, row
        if batch.batch.kind != STG_BATCH_OBJECTS or batch.batch.table != self.table.table:
            raise ValueError("not objects of this table")
        rows = array.clone(NO_ROWS, len(numbers), False)
        for i in range(len(numbers)):
            index = batch.checked(numbers.data.as_longlongs[i])
            result = &batch.batch.results[index]
            row = batch.batch.rows[index]
            entry = self.at(row)
            memcpy(entry.digest, result.digest, STG_DIGEST_BYTES)
            entry.mtime_ns = result.mtime_ns
            entry.ctime_ns = result.ctime_ns
            entry.mode = result.mode
            entry.grade = with_identity if stg_table_row(self.table.table, row).identity.len else without
            entry.why = result.why
            if result.verified:
                entry.grade = compared
                entry.why = STG_WHY_NONE
            entry.standing = STG_STANDS
            rows.data.as_uints[i] = <uint32_t>row
        return rows

    def vouch(self, Py_ssize_t row, bint same):
        cdef stg_entry *entry = self.at(row)
        if entry.standing != STG_DOUBTFUL:
            raise ValueError("not in doubt")
        entry.standing = STG_TRUSTED if same else STG_STALE

    def settle(self):
        cdef size_t row
        for row in range(self.known()):
            if self.entries.rows[row].standing in (STG_DOUBTFUL, STG_TRUSTED):
                self.entries.rows[row].standing = STG_STANDS

    def forget(self):
        memset(self.entries.rows, 0, self.entries.capacity * sizeof(stg_entry))

    def grades(self):
        cdef int64_t counts[3]
        with nogil:
            stg_entries_count_grades(self.entries, counts)
        return {grade: counts[i] for i, grade in enumerate("ABC") if counts[i]}

    def whys(self):
        cdef int64_t counts[STG_WHYS]
        with nogil:
            stg_entries_count_whys(self.entries, counts)
        return {why: counts[i] for i, why in enumerate(WHY_NAMES) if counts[i]}

    def below(self, str grade not None, size_t most):
        cdef array_t rows = array.clone(NO_ROWS, most, False)
        cdef char required = ord(grade)
        cdef size_t count
        with nogil:
            count = stg_entries_below(self.entries, required, rows.data.as_uints, most)
        array.resize(rows, min(count, most))
        return count, rows

    def lines(self, size_t row):
        cdef char *out = <char *>malloc(PIECE_BYTES)
        cdef int64_t count = 0
        cdef ssize_t length
        if out is NULL:
            raise MemoryError
        try:
            with nogil:
                length = stg_entries_lines(self.entries, &row, out, PIECE_BYTES, &count)
            check(length)
            return out[:length], row, count
        finally:
            free(out)

    def journal(self, rows):
        cdef array_t numbers = as_rows(rows, self.known())
        cdef size_t count = len(numbers)
        cdef bytes made = PyBytes_FromStringAndSize(
            NULL, stg_entries_journal_length(self.entries, numbers.data.as_uints, count))
        stg_entries_journal(self.entries, numbers.data.as_uints, count, <char *>made)
        return made

    def agreeing(self, Entries recorded not None):
        cdef array_t rows
        if recorded.table is not self.table:
            raise ValueError("of another table")
        rows = array.clone(NO_ROWS, stg_entries_agree(self.entries, recorded.entries, NULL), False)
        stg_entries_agree(self.entries, recorded.entries, rows.data.as_uints)
        return rows


@cython.final
cdef class Recall:
    cdef stg_recall *recall
    cdef Entries entries
    cdef KeyOrder order

    def __cinit__(self, Entries entries not None, KeyOrder order, *, bint trusted):
        if order is not None and order.table is not entries.table:
            raise ValueError("of another table")
        self.entries = entries
        self.order = order
        check(stg_recall_new(entries.entries, NULL if order is None else order.order,
                             STG_TRUSTED if trusted else STG_DOUBTFUL, &self.recall))

    def __dealloc__(self):
        stg_recall_free(self.recall)

    def __len__(self):
        return self.recall.count

    @property
    def passed(self):
        return self.recall.passed

    def lines(self, bytes lines not None):
        cdef stg_str text = as_str(lines)
        cdef int status
        with nogil:
            status = stg_recall_lines(self.recall, text)
        if status == -errno.EBADMSG:
            raise ValueError(f"entry {self.recall.count + 1} is not as it is written")
        check(status)

    def journal(self, bytes data not None):
        cdef stg_str text = as_str(data)
        cdef int64_t taken
        with nogil:
            taken = stg_recall_journal(self.recall, text)
        check(taken)
        return taken


OUTCOME_HASH = STG_HASH
OUTCOME_BLOCKED = STG_BLOCKED


@cython.final
cdef class Comparison:
    cdef stg_comparison comparison
    cdef Entries entries

    def __cinit__(self, Entries entries not None, *, int root_fd, int64_t block_bytes, str required=None):
        if block_bytes <= 0:
            raise ValueError("block_bytes is above 0")
        self.entries = entries
        stg_comparison_init(&self.comparison, entries.entries, root_fd, block_bytes)
        self.comparison.required = ord(required) if required else 0

    def __dealloc__(self):
        stg_comparison_clear(&self.comparison)

    def compare(self, rows):
        cdef array_t numbers = as_rows(rows, self.entries.known())
        cdef Py_ssize_t count = len(numbers), size = 0, i
        cdef array_t fetch = array.clone(NO_ROWS, count, False)
        cdef const uint32_t *given = numbers.data.as_uints
        cdef uint8_t *outcomes = <uint8_t *>malloc(max(count, 1))
        cdef int64_t status
        cdef uint32_t failed = 0
        cdef list odd = []
        if outcomes is NULL:
            raise MemoryError
        try:
            with nogil:
                status = stg_compare(&self.comparison, given, count, outcomes, &failed)
            if status < 0:
                check(status, self.entries.table.key(failed))
            for i in range(count):
                if outcomes[i] == STG_FETCH:
                    fetch.data.as_uints[size] = given[i]
                    size += 1
                elif outcomes[i] != STG_KEEP:
                    odd.append((given[i], outcomes[i]))
            array.resize(fetch, size)
        finally:
            free(outcomes)
        return fetch, odd

    def directories(self, KeyOrder order not None):
        cdef int64_t found
        if order.table is not self.entries.table:
            raise ValueError("of another table")
        with nogil:
            found = stg_wanted_directories(order.order, self.entries.entries)
        return found

    def unknown_directories(self, KeyOrder order not None):
        cdef stg_directory *found
        cdef size_t count, i
        if order.table is not self.entries.table:
            raise ValueError("of another table")
        with nogil:
            count = stg_unknown_directories(order.order, self.entries.entries, NULL)
        found = <stg_directory *>malloc((count + 1) * sizeof(stg_directory))
        if found is NULL:
            raise MemoryError
        try:
            with nogil:
                stg_unknown_directories(order.order, self.entries.entries, found)
            return [self.entries.table.key(found[i].row)[:found[i].len] for i in range(count)]
        finally:
            free(found)

    @property
    def total_bytes(self):
        return self.comparison.total_bytes

    @property
    def kept(self):
        return self.comparison.kept

    @property
    def fetched(self):
        return self.comparison.fetched

    @property
    def fetched_bytes(self):
        return self.comparison.fetched_bytes

    @property
    def disk_bytes(self):
        return self.comparison.disk_bytes


FOUND_SAME = STG_FOUND_SAME
FOUND_MISSING = STG_FOUND_MISSING
FOUND_KIND = STG_FOUND_KIND
FOUND_SIZE = STG_FOUND_SIZE
FOUND_CONTENT = STG_FOUND_CONTENT
FOUND_EXECUTABLE = STG_FOUND_EXECUTABLE
FOUND_UNREADABLE = STG_FOUND_UNREADABLE


def recheck(Entries entries not None, rows, int root_fd, *, bint stands, bint from_disk=False):
    cdef array_t numbers = as_rows(rows, entries.known())
    cdef size_t count = len(numbers), i
    cdef const uint32_t *given = numbers.data.as_uints
    cdef stg_recheck_t how
    cdef uint8_t *found = NULL
    cdef int32_t *errors = NULL
    cdef int status
    cdef list odd = []
    for i in range(count):
        if entries.rows_standing(given[i]) not in (STG_DOUBTFUL, STG_TRUSTED, STG_STANDS):
            raise ValueError("nothing is recorded of a row")
    how.entries = entries.entries
    how.root_fd = root_fd
    how.from_disk = from_disk
    how.believed = STG_STANDS if stands else STG_TRUSTED
    found = <uint8_t *>malloc(count + 1)
    errors = <int32_t *>malloc((count + 1) * sizeof(int32_t))
    try:
        if found is NULL or errors is NULL:
            raise MemoryError
        with nogil:
            status = stg_recheck_rows(&how, given, count, found, errors)
        check(status)
        for i in range(count):
            if found[i] != STG_FOUND_SAME:
                odd.append((given[i], found[i], errors[i]))
    finally:
        free(found)
        free(errors)
    return odd
