# The engine: batches in, completions out.

cdef array_t as_int64(object numbers):
    if isinstance(numbers, array_t) and numbers.typecode == "q":
        return numbers
    return array_t("q", numbers)


cdef int take_targets(stg_batch *batch, Targets targets) except -1:
    """Frees the batch when it raises."""
    cdef int status = 0 if targets is None else stg_batch_take_targets(batch, targets.targets)
    if status < 0:
        stg_batch_unref(batch)
    return check_arguments(status, "a target for each object; of ranges, one")


# The caller frees it.
@cython.final
cdef class Engine:
    cdef stg_engine *engine
    cdef stg_completion *drained
    cdef set running

    def __cinit__(self, *, unsigned workers=0, unsigned disk_threads=2, unsigned connections=32,
                  size_t memory_bytes=64 << 20, size_t buffer_bytes=256 << 10, unsigned ring_slots=8192,
                  int connect_timeout_ms=10_000, int stall_timeout_ms=60_000, int64_t keep_cached_bytes=0,
                  double requests_per_second=0, uint64_t bytes_per_second=0):
        cdef stg_engine_config config
        config.workers = workers
        config.disk_threads = disk_threads
        config.connections = connections
        config.requests_per_second = requests_per_second
        config.bytes_per_second = bytes_per_second
        config.memory_bytes = memory_bytes
        config.buffer_bytes = buffer_bytes
        config.ring_slots = ring_slots
        config.connect_timeout_ms = connect_timeout_ms
        config.stall_timeout_ms = stall_timeout_ms
        config.keep_cached_bytes = keep_cached_bytes
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

    def fetch_objects(self, Template template not None, KeyTable table not None, rows, int root_fd, int tmp_fd, *,
                      bint preserve=False, Targets targets=None):
        cdef array_t numbers
        cdef stg_batch *batch = NULL
        check(stg_engine_state(self.engine))
        numbers = as_rows(rows, stg_table_count(table.table))
        check_arguments(stg_batch_objects(template.template_, table.table, numbers.data.as_uints, len(numbers), root_fd,
                                          tmp_fd, &batch), "an empty batch")
        batch.preserve = preserve
        take_targets(batch, targets)
        return self.start(batch, template)

    def fetch_heads(self, Template template not None, KeyTable table not None, rows):
        cdef array_t numbers
        cdef stg_batch *batch = NULL
        check(stg_engine_state(self.engine))
        numbers = as_rows(rows, stg_table_count(table.table))
        check_arguments(stg_batch_heads(template.template_, table.table, numbers.data.as_uints, len(numbers), &batch),
                        "an empty batch")
        return self.start(batch, template)

    def fetch_parts(self, Template template not None, KeyTable table not None, rows, numbers):
        cdef array_t of, which = array_t("I", numbers)
        cdef stg_batch *batch = NULL
        check(stg_engine_state(self.engine))
        of = as_rows(rows, stg_table_count(table.table))
        if len(of) != len(which):
            raise ValueError("a number for each row")
        check_arguments(stg_batch_parts(template.template_, table.table, of.data.as_uints, which.data.as_uints,
                                        len(of), &batch), "an empty batch, or a number that no part has")
        return self.start(batch, template)

    def look_up(self, Template template not None, KeyTable table not None, rows):
        cdef array_t numbers
        cdef stg_batch *batch = NULL
        check(stg_engine_state(self.engine))
        numbers = as_rows(rows, stg_table_count(table.table))
        check_arguments(stg_batch_look_up(template.template_, table.table, numbers.data.as_uints, len(numbers), &batch),
                        "an empty batch")
        return self.start(batch, template)

    def fetch_ranges(self, Template template not None, KeyTable table not None, Py_ssize_t row, ranges, int fd,
                     str crc=None, Targets targets=None):
        cdef stg_crc_kind kind = STG_CRC_NONE if crc is None else crc_kind(crc)
        cdef array_t flat = array_t("q", [number for pair in ranges for number in pair])
        cdef stg_batch *batch = NULL
        check(stg_engine_state(self.engine))
        table.row(row)
        check_arguments(stg_batch_ranges(template.template_, table.table, <uint32_t>row,
                                         <int64_t *>flat.data.as_longlongs,
                                         len(flat) // 2, fd, &batch),
                        "no range, or one that is empty, outside of the object or not on the block grid")
        batch.crc = kind
        take_targets(batch, targets)
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

    def limit(self, *, double requests_per_second, uint64_t bytes_per_second):
        check_arguments(stg_engine_limit(self.engine, requests_per_second, bytes_per_second), "a rate out of range")

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
