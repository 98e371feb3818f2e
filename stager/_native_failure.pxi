# Why a request failed.

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
    cdef readonly str location

    def __init__(self):
        raise TypeError("a Failure comes from Engine.drain")

    @property
    def errno(self):
        return self.number

    def __repr__(self):
        return (f"Failure(index={self.index}, kind={self.kind!r}, errno={self.errno}, where={self.where!r}, "
                f"status={self.status}, code={self.code!r}, message={self.message!r})")


cdef Failure make_failure(uint32_t index, stg_failure *failure):
    cdef Failure made = Failure.__new__(Failure)
    made.index = index
    made.kind = "cancelled"
    made.where = made.code = made.message = made.request_id = made.region = made.date = made.location = ""
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
        if failure.location is not NULL:
            made.location = as_text(failure.location)
        stg_failure_free(failure)
    return made
