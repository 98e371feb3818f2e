/* One thread, one epoll loop, its own connections. */
#ifndef STG_WORKER_H
#define STG_WORKER_H

#include "clock.h"
#include "engine_internal.h"
#include "spent.h"

struct stg_worker;

/* Starts the thread; -ENOMEM, -EMFILE, -EAGAIN. */
int stg_worker_new(struct stg_engine *engine, unsigned number, unsigned connections, struct stg_worker **out);
/* Something changed that it waits for: work, a credit, a buffer, a cancelled batch, the end. Any thread. */
void stg_worker_wake(struct stg_worker *worker);
void stg_worker_join(struct stg_worker *worker); /* returns when it saw engine->closing and ended */
void stg_worker_free(struct stg_worker *worker); /* after join */
void stg_worker_add_stats(struct stg_worker *worker, struct stg_engine_stats *sum);

#endif
