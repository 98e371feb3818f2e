from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "stg.h" nogil:
    const size_t STG_BLOCK_BYTES
    enum:
        STG_DIGEST_BYTES
    struct stg_str:
        const char *ptr
        size_t len


cdef extern from "table.h" nogil:
    struct stg_table:
        pass
    struct stg_row:
        stg_str key
        stg_str identity
        int64_t size
        int64_t mtime_ns
        uint32_t mode
    stg_table *stg_table_new()
    void stg_table_unref(stg_table *table)
    int64_t stg_table_append(stg_table *table, const stg_row *row)
    int stg_table_move(stg_table *table, stg_table *source)
    size_t stg_table_count(const stg_table *table)
    int64_t stg_table_total_bytes(const stg_table *table)
    stg_row stg_table_row(const stg_table *table, size_t index)
    ssize_t stg_table_lines(const stg_table *table, size_t *row, char *out, size_t room)


cdef extern from "order.h" nogil:
    struct stg_order:
        stg_table *table
        size_t count
    int stg_order_new(stg_table *table, stg_order **out)
    int stg_order_step(stg_order *order)
    void stg_order_free(stg_order *order)
    int64_t stg_order_find(const stg_order *order, stg_str key, size_t near)


cdef extern from "names.h" nogil:
    enum stg_verdict:
        STG_NAME_DOUBTFUL
        STG_NAME_GOOD
        STG_NAME_DIRECTORY
        STG_NAME_TWICE
    void stg_names_judge(const stg_table *table, size_t start, size_t count, size_t limit, uint8_t *verdicts)
    int64_t stg_names_clash(const stg_order *order, uint8_t *verdicts)


include "_csrc_entries.pxi"


cdef extern from "recheck.h" nogil:
    enum stg_found:
        STG_FOUND_SAME
        STG_FOUND_MISSING
        STG_FOUND_KIND
        STG_FOUND_SIZE
        STG_FOUND_CONTENT
        STG_FOUND_EXECUTABLE
        STG_FOUND_UNREADABLE
    struct stg_recheck_t "stg_recheck":
        stg_entries *entries
        int root_fd
        int from_disk
        stg_standing believed
    int stg_recheck_rows "stg_recheck"(const stg_recheck_t *recheck, const uint32_t *rows, size_t count, uint8_t *found,
                                       int32_t *errors)


cdef extern from "compare.h" nogil:
    enum stg_outcome:
        STG_KEEP
        STG_FETCH
        STG_HASH
        STG_BLOCKED
    struct stg_comparison:
        char required
        int64_t total_bytes
        int64_t kept
        int64_t fetched
        int64_t fetched_bytes
        int64_t disk_bytes
    void stg_comparison_init(stg_comparison *comparison, stg_entries *entries, int root_fd, int64_t block_bytes)
    void stg_comparison_clear(stg_comparison *comparison)
    int64_t stg_compare(stg_comparison *comparison, const uint32_t *rows, size_t count, uint8_t *outcomes,
                        uint32_t *failed)
    struct stg_directory:
        uint32_t row
        uint32_t len
    size_t stg_unknown_directories(const stg_order *order, const stg_entries *entries, stg_directory *out)
    int64_t stg_wanted_directories(const stg_order *order, const stg_entries *entries)


cdef extern from "digest.h" nogil:
    int stg_digest_combine(const uint8_t *blocks, size_t count, uint8_t *out)
    void stg_digest_bytes(const void *data, size_t len, uint8_t *out)
    int stg_digest_fd(int fd, uint8_t *out, int64_t *size)


include "_csrc_checks.pxi"


cdef extern from "readback.h" nogil:
    int stg_read_back(int fd, int64_t offset, int64_t len, stg_crc_kind kind, uint8_t *digest, uint64_t *crc)


cdef extern from "sigv4.h" nogil:
    enum:
        STG_SIGV4_MAX_HEADERS
    struct stg_header:
        stg_str name
        stg_str value
    struct stg_credentials:
        pass
    void stg_credentials_unref(stg_credentials *credentials)
    ssize_t stg_sigv4_sign(stg_credentials *credentials, int64_t unix_s, stg_str method, stg_str path,
                           stg_str query, const stg_header *headers, size_t header_count, char *out, size_t cap)


cdef extern from "listxml.h" nogil:
    enum:
        STG_ROW_ARCHIVED
    struct stg_list_page:
        int64_t count
        int64_t key_count
        int truncated
        int encoded
        int in_order
        int64_t archived
        char *token
        size_t token_len
        char *problem
    struct stg_list_span:
        stg_str after
        stg_str upto
        stg_table *rest
    int stg_list_scan(const char *data, size_t len, stg_str prefix, size_t key_skip, stg_table *table,
                      const stg_list_span *span, stg_list_page *page)
    struct stg_s3_error:
        char *code
        char *message
        char *region
        char *request_id


cdef extern from "net.h" nogil:
    struct stg_address:
        pass
    int stg_address_set(stg_address *out, int family, const void *packed, size_t len, uint16_t port)


cdef extern from "tls.h" nogil:
    struct stg_tls:
        pass
    int stg_tls_new(const char *host, const char *ca_file, int verify, stg_tls **out)
    int stg_tls_show(stg_tls *tls, const char *certificate_file, const char *key_file)
    void stg_tls_free(stg_tls *tls)


cdef extern from "pace.h" nogil:
    struct stg_pace:
        pass
    struct stg_pace_sum_t "stg_pace_sum":
        uint64_t sent
        uint64_t received
        unsigned busy
        unsigned open

    stg_pace_sum_t stg_pace_sum(const stg_pace *pace)


cdef extern from "proxy.h" nogil:
    struct stg_proxy:
        pass
    int stg_proxy_new(stg_tls *tls, stg_str authority, stg_str authorization, stg_proxy **out)
    void stg_proxy_free(stg_proxy *proxy)


cdef extern from "endpoint.h" nogil:
    enum:
        STG_ENDPOINT_MAX_ADDRESSES
    struct stg_endpoint:
        pass
    stg_endpoint *stg_endpoint_new(stg_tls *tls, stg_proxy *proxy, const stg_address *addresses, size_t count)
    void stg_endpoint_unref(stg_endpoint *endpoint)
    stg_pace *stg_endpoint_pace(stg_endpoint *endpoint)
    int stg_endpoint_update(stg_endpoint *endpoint, const stg_address *addresses, size_t count)


cdef extern from "failure.h" nogil:
    enum stg_fail_kind:
        STG_FAIL_CANCELLED
    struct stg_failure:
        stg_fail_kind kind
        int error
        const char *where
        int status
        int64_t retry_after_s
        char *date
        const char *location
        stg_s3_error s3
    void stg_failure_free(stg_failure *failure)
    const char *stg_fail_kind_name(stg_fail_kind kind)


cdef extern from "request.h" nogil:
    struct stg_signer:
        pass
    stg_signer *stg_signer_new(stg_str access_key, stg_str secret_key, stg_str token, stg_str region,
                               stg_str service)
    void stg_signer_unref(stg_signer *signer)
    int stg_signer_update(stg_signer *signer, stg_str access_key, stg_str secret_key, stg_str token)
    void stg_signer_set_skew(stg_signer *signer, int64_t seconds)
    stg_credentials *stg_signer_credentials(stg_signer *signer)
    struct stg_template:
        pass
    stg_template *stg_template_new(stg_endpoint *endpoint, stg_signer *signer, stg_str host, stg_str path_prefix,
                                   stg_str key_prefix, const stg_header *headers, size_t header_count)
    void stg_template_unref(stg_template *template_)
    stg_str stg_template_key_prefix(const stg_template *template_)
    void stg_template_set_checks(stg_template *template_, stg_etags etags, char grade, int refuses_parts)


cdef extern from "parents.h" nogil:
    struct stg_stored:
        int64_t size
        int64_t mtime_ns
        int64_t ctime_ns
        uint32_t mode


cdef extern from "landing.h" nogil:
    const char *STG_NAME_PREFIX


include "_csrc_targets.pxi"


cdef extern from "batch.h" nogil:
    enum stg_batch_kind:
        STG_BATCH_OBJECTS
        STG_BATCH_RANGES
        STG_BATCH_HEADS
        STG_BATCH_LIST
    struct stg_result:
        uint8_t *digest
        int64_t mtime_ns
        int64_t ctime_ns
        uint16_t mode
        uint8_t verified
        uint8_t why
        uint32_t block_count
    struct stg_range:
        int64_t offset
        int64_t length
        uint8_t *blocks
        uint64_t crc
    struct stg_part:
        int64_t offset
        int64_t length
        int64_t count
    struct stg_told:
        int64_t size
        size_t etag_len
        size_t version_len
        char *etag
        char *version
    struct stg_batch:
        stg_batch_kind kind
        size_t count
        stg_table *table
        uint32_t *rows
        stg_range *ranges
        int preserve
        stg_crc_kind crc
        stg_announced *announced
        stg_part *parts
        stg_told *told
        stg_result *results
        const char *body
        size_t body_len
        void *user
    int stg_batch_objects(stg_template *template_, stg_table *table, const uint32_t *rows, size_t count,
                          int root_fd, int tmp_fd, stg_batch **out)
    int stg_batch_ranges(stg_template *template_, stg_table *table, uint32_t row, const int64_t *offsets_lengths,
                         size_t count, int fd, stg_batch **out)
    int stg_batch_heads(stg_template *template_, stg_table *table, const uint32_t *rows, size_t count,
                        stg_batch **out)
    int stg_batch_parts(stg_template *template_, stg_table *table, const uint32_t *rows, const uint32_t *numbers,
                        size_t count, stg_batch **out)
    int stg_batch_look_up(stg_template *template_, stg_table *table, const uint32_t *rows, size_t count,
                          stg_batch **out)
    int stg_batch_take_targets(stg_batch *batch, stg_targets *targets)
    int stg_batch_list(stg_template *template_, stg_str query, stg_batch **out)
    void stg_batch_unref(stg_batch *batch)
    stg_row stg_batch_row(const stg_batch *batch, uint32_t index)


cdef extern from "engine.h" nogil:
    struct stg_engine:
        pass
    struct stg_engine_config:
        unsigned workers
        unsigned disk_threads
        unsigned connections
        double requests_per_second
        uint64_t bytes_per_second
        size_t memory_bytes
        size_t buffer_bytes
        unsigned ring_slots
        int connect_timeout_ms
        int stall_timeout_ms
        int64_t keep_cached_bytes
    struct stg_completion:
        stg_batch *batch
        uint32_t index
        uint8_t failed
        stg_failure *failure
    struct stg_engine_stats_t "stg_engine_stats":
        uint64_t requests
        uint64_t connections
        uint64_t bytes_received
        uint64_t stale_retries
        uint64_t late_retries
        uint64_t workers
        uint64_t disk_threads
        uint64_t worker_cpu_ns
        uint64_t tls_ns
        uint64_t digest_ns
        uint64_t store_ns
        uint64_t disk_ns
        uint64_t answers
        uint64_t answer_wait_ms
        uint64_t body_ms
        uint64_t paused_ms
        uint64_t throttled_ms
        uint64_t held_ns
        uint64_t bytes_per_second
        uint64_t requests_per_1000_s
    int stg_engine_new(const stg_engine_config *config, stg_engine **out)
    int stg_engine_state(const stg_engine *engine)
    int stg_engine_fileno(const stg_engine *engine)
    int stg_engine_submit(stg_engine *engine, stg_batch *batch)
    void stg_engine_cancel(stg_engine *engine, stg_batch *batch)
    int stg_engine_pace(stg_engine *engine, stg_endpoint *endpoint, unsigned connections, double requests_per_second)
    int stg_engine_limit(stg_engine *engine, double requests_per_second, uint64_t bytes_per_second)
    size_t stg_engine_drain(stg_engine *engine, stg_completion *out, size_t max)
    void stg_engine_stats(stg_engine *engine, stg_engine_stats_t *out)
    void stg_engine_close(stg_engine *engine)
    void stg_engine_free(stg_engine *engine)


cdef extern from "landing.h" nogil:
    int stg_landing_set_mtime(int tmp_fd, const char *name, int64_t mtime_ns)


cdef extern from "copy.h" nogil:
    int stg_reserve(int fd, int64_t size)
    int stg_publish(int tmp_fd, const char *name, int root_fd, stg_str path, stg_stored *out)
    int stg_stat_below(int root_fd, stg_str path, stg_stored *out)
    int stg_copy_file(int source_dir_fd, stg_str source, int tmp_fd, int root_fd, stg_str path, uint32_t mode,
                      int preserve, const uint8_t *sha256, uint8_t *digest, stg_stored *out)
