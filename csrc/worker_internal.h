/* What a worker and its connections share; nobody else includes it. */
#ifndef STG_WORKER_INTERNAL_H
#define STG_WORKER_INTERNAL_H

#include "worker.h"

#define STG_WORKER_SCRATCH_BYTES ((size_t)32 << 10)

enum stg_conn_state { STG_CONN_CLOSED, STG_CONN_IDLE, STG_CONN_CONNECTING, STG_CONN_PROXY_HANDSHAKE,
                      STG_CONN_TUNNEL, STG_CONN_HANDSHAKE, STG_CONN_HEAD, STG_CONN_BODY };

/* Why a connection stands still by our own doing; none of it is the peer's time. */
enum stg_conn_pause { STG_PAUSE_NONE, STG_PAUSE_STORE /* a buffer, a disk */, STG_PAUSE_BYTES, STG_PAUSE_REQUEST };

/* What becomes of a body. */
enum stg_conn_use { STG_USE_WHOLE, STG_USE_STREAM, STG_USE_LIST, STG_USE_HEAD, STG_USE_ERROR };

struct stg_conn {
    struct stg_worker *worker;
    enum stg_conn_state state;
    int fd;
    uint32_t generation; /* of the socket: an event of an earlier one is ignored */
    uint32_t watched; /* epoll events asked for */
    struct stg_endpoint *endpoint; /* referenced while the socket stands */
    struct stg_tls_stream *tls;
    struct stg_tls_stream *proxy_tls; /* around it, where the proxy is reached over TLS */
    struct stg_address address;
    size_t addresses_left;
    struct stg_tunnel *tunnel; /* what was said to the proxy and came back, while it is asked for one */
    int tunneled;              /* the proxy has opened it: what answers now is the server */
    int64_t progress_ms; /* on the worker's stall clock */
    int64_t trickled;    /* bytes received since then */
    enum stg_phase phase; /* what its time goes to, and since when on the worker's now_ms */
    int64_t phase_since_ms;
    int reused; /* the request went out on a connection that had served another */
    int sent_again; /* the request, because its answer was late */
    enum stg_conn_pause paused;
    int again;  /* stopped reading for fairness, not because there was no more */

    struct stg_item item; /* batch NULL: none */
    struct stg_endpoint *charged; /* with the request under way; referenced */
    struct stg_request request;
    char *unsent; /* what the socket did not take of the request */
    size_t unsent_at, unsent_len;

    struct stg_buffer *buffer;
    size_t fill, body_start, scanned;
    enum stg_conn_use use;
    int keep_alive;
    struct stg_http_body body;
    int64_t received;
    int64_t file_offset; /* where the body in the buffer goes */
    struct stg_hasher *hasher;
    struct stg_announced announced; /* of the body */
    struct stg_sum sum; /* of a body that is stored while it comes */
    uint8_t *blocks; /* of an object that is streamed */
    struct stg_file *file;
    int writes_inline; /* the worker writes the file itself */
    struct stg_failure *failure; /* waits for its error body */
};

struct stg_worker {
    struct stg_engine *engine;
    unsigned number;
    pthread_t thread;
    int joined;
    int epoll_fd, wake_fd;
    atomic_int woken;
    struct stg_conn *conns;
    struct stg_conn **idle; /* the last used on top */
    unsigned conn_count, idle_count, busy;
    unsigned reach; /* at most so many requests under way */
    int64_t reach_since_ns, waited_ns; /* this window began, and how much of it was spent waiting */
    unsigned used; /* connections from here on were never needed */
    unsigned takes;
    unsigned first_reader; /* of those that wait for bytes: they take turns */
    int64_t read_at_ms, send_at_ms; /* when a limit may let go on; 0: nobody waits for it */
    unsigned slow_stores; /* in a row */
    int resume; /* some connection is marked `again` */
    int resend; /* some connection waits to send again */
    int64_t now_ms;   /* monotonic, as of this turn */
    int64_t clock_ms; /* the stall clock: stands still while the worker itself is held up */
    int64_t checked_ms, unsignalled_ms;
    char scratch[STG_WORKER_SCRATCH_BYTES];
    struct stg_sum sum; /* of bodies that are at hand */
    struct stg_buffer hot; /* see conn_buffer.c */
    size_t hot_bytes;
    int is_hot_free;
    _Atomic uint64_t requests, connections, bytes_received, stale_retries, late_retries;
    struct stg_spent spent;
};

/* conn.c */
void stg_conn_init(struct stg_conn *conn, struct stg_worker *worker);
/* Sends the item's request, over the standing connection or a new one. */
void stg_conn_start(struct stg_conn *conn, struct stg_item item);
void stg_conn_event(struct stg_conn *conn, uint32_t generation, uint32_t events);
void stg_conn_resume(struct stg_conn *conn); /* a pause may be over, of STG_PAUSE_STORE or STG_PAUSE_BYTES */
void stg_conn_check_time(struct stg_conn *conn);
void stg_conn_cancel(struct stg_conn *conn); /* ends its request as cancelled */
void stg_conn_close(struct stg_conn *conn);  /* without a request */
void stg_conn_destroy(struct stg_conn *conn);

void stg_conn_enter(struct stg_conn *conn, enum stg_phase phase); /* from now on its time goes there */
int stg_conn_watch(struct stg_conn *conn, uint32_t events); /* 0: not at all; -errno of epoll_ctl */
void stg_conn_pause(struct stg_conn *conn, enum stg_conn_pause why); /* until stg_conn_resume; its time is not counted */
void stg_conn_fail(struct stg_conn *conn, struct stg_failure *failure); /* ends the request and the socket */
void stg_conn_release(struct stg_conn *conn); /* the answer is complete: the socket may serve another, or not */
void stg_conn_ended(struct stg_conn *conn, ssize_t error); /* the peer ended the connection (0), or it broke */

/* Signs and sends it over the connection that stands. */
void stg_conn_send_request(struct stg_conn *conn);

/* conn_connect.c: until the request can be sent */
void stg_conn_connect(struct stg_conn *conn);       /* to the next address of the item's endpoint */
void stg_conn_connect_go_on(struct stg_conn *conn); /* the socket is ready for the next step */
void stg_conn_connect_check_time(struct stg_conn *conn, int64_t quiet_ms); /* since this step began */

/* conn_read.c */
void stg_conn_read(struct stg_conn *conn); /* takes what has arrived, as far as there is room and it is allowed */

/* conn_buffer.c: what is received into. A worker has one hot buffer, large and always in its cache, for whoever reads;
 * what is not stored when a connection's turn ends moves to a buffer of the sink, and the next one has the hot one. */
int stg_conn_take_buffer(struct stg_conn *conn); /* -1: none is free */
size_t stg_conn_capacity(const struct stg_conn *conn); /* how far the buffer may be filled */
int stg_conn_settle(struct stg_conn *conn); /* at the end of a turn; -1: storing failed, the request is over */
void stg_conn_give_buffer(struct stg_conn *conn);
void stg_worker_give_buffer(struct stg_worker *worker, struct stg_buffer *buffer);
int stg_worker_make_hot(struct stg_worker *worker, size_t bytes); /* 0: none; -ENOMEM */
void stg_worker_free_hot(struct stg_worker *worker);

/* conn_store.c: 0: go on; else the request is over, or paused (spill) */
int stg_conn_start_stream(struct stg_conn *conn, struct stg_failure **failure); /* < 0 */
int stg_conn_spill(struct stg_conn *conn); /* the buffer is full */
int stg_conn_write_inline(struct stg_conn *conn);
void stg_conn_finish_stream(struct stg_conn *conn);
void stg_conn_finish_whole(struct stg_conn *conn);

/* conn_body.c */
int stg_conn_take(struct stg_conn *conn, size_t n); /* n fresh bytes are in the buffer. 0: go on reading */
void stg_conn_finish(struct stg_conn *conn);
void stg_conn_finish_error(struct stg_conn *conn); /* an answer that is no success, with what came of its body */

/* worker.c */
void stg_worker_dispatch(struct stg_worker *worker);
/* Resumes who waits for bytes (STG_PAUSE_BYTES), starts who waits to send again (STG_PAUSE_REQUEST). */
void stg_worker_read_later(struct stg_worker *worker, int64_t wait_ns);
void stg_worker_send_again_later(struct stg_worker *worker, int64_t wait_ns);
struct stg_pace_part *stg_worker_part(const struct stg_worker *worker, struct stg_endpoint *endpoint);
void stg_worker_rest(struct stg_worker *worker, struct stg_conn *conn);   /* the request is done, the socket stands */
void stg_worker_forget(struct stg_worker *worker, struct stg_conn *conn); /* an idle connection ended */
void stg_worker_complete(struct stg_worker *worker, struct stg_item item, int failed, struct stg_failure *failure);
/* By the worker itself, as its last act: its thread's clock ends with it. */
void stg_worker_note_cpu(struct stg_worker *worker);
void stg_worker_announce_later(struct stg_worker *worker, int is_needed);

#endif
