/*
 * Counters and log records of a server, in an object that only it writes (machinery 25). A server
 * never formats text: a record holds a kind and five numbers, and scribe prints it by the format of
 * this list. Counters are read by /metrics, `penstock top` and the tests. Every stretch of time
 * that is counted is also kept as a span, for the time line of `penstock bench`.
 */
#ifndef IPC_LOG_H
#define IPC_LOG_H

#include "ipc/graph.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * X(KIND, level, format with up to five %llu). Levels: 0 error, 1 warning, 2 notice, 3 detail (only
 * with --verbose).
 */
#define LOG_LIST(X)                                                                                \
	X(DIED, 1,                                                                                 \
	  "role %llu died: pid %llu, %llu (0 exit, 1 signal) %llu; starting generation %llu")      \
	X(BAD_MESSAGE, 1, "a message of role %llu, batch %llu, seq %llu was refused (field %llu)") \
	X(READ_ERROR, 0,                                                                           \
	  "layer %llu expert %llu part %llu: read at byte %llu failed with error %llu")            \
	X(BAD_PIECE, 0,                                                                            \
	  "layer %llu expert %llu: the piece at byte %llu of file %llu is damaged: its hash "      \
	  "is another")                                                                            \
	X(OTHER_COPY, 1,                                                                           \
	  "layer %llu expert %llu: file %llu at byte %llu is damaged or silent (error %llu); "     \
	  "another "                                                                               \
	  "copy is read")                                                                          \
	X(BAD_EXPERT, 0,                                                                           \
	  "layer %llu expert %llu part %llu: a number that is not finite at byte %llu")            \
	X(REQUEST, 3,                                                                              \
	  "connection %llu request %llu: prompt %llu tokens, %llu cached, up to %llu new")         \
	X(NOT_DIRECT, 1,                                                                           \
	  "file %llu: the file system refuses O_DIRECT; reads go through the page cache")          \
	X(STAGE, 3, "stage %llu")                                                                  \
	X(DRAINED, 3, "io_uring of generation %llu is empty")                                      \
	X(NO_RING, 1,                                                                              \
	  "experts waits for an io_uring, which cannot be made (error %llu): tried again")         \
	X(BAD_RECORD, 1, "the record of connection %llu was damaged: its client is let go")        \
	X(CLIENT_LIMIT, 1, "all %llu connections are taken: newcomers wait")                       \
	X(HUNG, 1, "role %llu has not moved for %llu ms (step %llu): it is killed")                \
	X(POISON, 1,                                                                               \
	  "role %llu has died %llu times in step %llu: its rows are done one by one (last %llu)")  \
	X(NO_GPU, 1,                                                                               \
	  "cuda ended with status %llu and is not started again: the node runs on the CPU")        \
	X(UNCONFINED, 1, "the servers are not confined by all means (%llu): this kernel lacks some")

#define LOG_ENUM(kind, level, format) LOG_##kind,
enum log_kind {
	LOG_LIST(LOG_ENUM) LOG_KINDS
};
#undef LOG_ENUM

/*
 * X(COUNTER, the roles that fill it, metric name, help). One array for all roles. Times are
 * nanoseconds of the leader's clock.
 */
#define COUNTER_LIST(X)                                                                            \
	X(STEPS, BY(CLIENT) | BY(ROUTER) | BY(MLA) | BY(EXPERTS), "steps", "steps committed")      \
	X(ROWS, BY(ROUTER) | BY(MLA) | BY(EXPERTS), "rows", "rows computed")                       \
	X(STEP_NS, BY(EXPERTS), "step_ns", "time inside steps")                                    \
	X(REQUESTS, BY(CLIENT) | BY(ROUTER), "requests", "requests taken")                         \
	X(REJECTED, BY(ROUTER), "rejected", "requests refused with 429")                           \
	X(PROMPT_TOKENS, BY(ROUTER), "prompt_tokens", "prompt tokens computed")                    \
	X(CACHED_TOKENS, BY(ROUTER), "cached_tokens", "prompt tokens taken from kept pages")       \
	X(TOKENS, BY(ROUTER), "tokens", "tokens sampled")                                          \
	X(PASSES, BY(ROUTER), "passes", "forward passes")                                          \
	X(MTP_PASSES, BY(ROUTER), "mtp_passes", "passes of the MTP module")                        \
	X(GPU_PASSES, BY(ROUTER), "gpu_passes", "passes given to the GPU")                         \
	X(GPU_LOST, BY(ROUTER), "gpu_lost_passes", "of them, run again because it had died")       \
	X(GPU_LOADS, BY(EXPERTS), "gpu_loads", "experts copied to the GPU's memory")               \
	X(GPU_INSTEAD, BY(EXPERTS), "gpu_instead", "experts that it lacked computed on the CPU")   \
	X(DRAFTED, BY(ROUTER), "drafted_tokens", "drafts that a pass verified")                    \
	X(ACCEPTED_DRAFTS, BY(ROUTER), "accepted_tokens", "drafts that were the next token")       \
	X(MTP_GAIN, BY(ROUTER), "mtp_gain_permille",                                               \
	  "measured rate with drafts beside that without, of 1000")                                \
	X(SECOND_ROWS, BY(ROUTER), "second_rows",                                                  \
	  "decode rows in the second batch, in opposite phase to the first")                       \
	X(HALVES_GAIN, BY(ROUTER), "halves_gain_permille",                                         \
	  "measured rate of decode rows in two batches beside that in one, of 1000")               \
	X(PREEMPTED, BY(ROUTER), "preempted", "sequences set back for want of pages")              \
	X(PAGES_FREE, BY(ROUTER), "pages_free", "KV pages that hold nothing needed")               \
	X(RUNNING, BY(ROUTER), "running", "sequences running")                                     \
	X(QUEUED, BY(ROUTER), "queued", "sequences waiting for a place")                           \
	X(SLOTS, BY(EXPERTS), "slots", "routed experts that memory can hold")                      \
	X(SLOTS_PINNED, BY(EXPERTS), "slots_pinned", "slots held between two steps: none")         \
	X(HITS, BY(EXPERTS), "expert_hits", "experts found in slots")                              \
	X(MISSES, BY(EXPERTS), "expert_misses", "experts read on demand")                          \
	X(READ_BYTES, BY(EXPERTS), "read_bytes", "bytes read from the drive")                      \
	X(READS, BY(EXPERTS), "reads", "reads completed")                                          \
	X(DRIVE_BUSY_NS, BY(EXPERTS), "drive_busy_ns",                                             \
	  "time in which a read was in flight, mean of the drives")                                \
	X(HINT_BYTES, BY(EXPERTS), "hint_bytes", "bytes read before anybody demanded them")        \
	X(HINT_WASTE, BY(EXPERTS), "hint_waste_bytes", "bytes asked for on a wrong guess")         \
	X(HINTS_RIGHT, BY(EXPERTS), "hints_right", "missing experts guessed and then needed")      \
	X(HINTS_WRONG, BY(EXPERTS), "hints_wrong", "missing experts guessed and not needed")       \
	X(READ_ERRORS, BY(EXPERTS), "read_errors", "experts that could not be read or used")       \
	X(DRIVE_ERRORS, BY(EXPERTS), "drive_errors", "reads that failed, also if tried again")     \
	X(DRIVE_NS, BY(EXPERTS), "drive_wait_ns", "time in which arithmetic waited for the drive") \
	X(EXPERT_NS, BY(EXPERTS), "expert_ns", "time in routed experts")                           \
	X(SHARED_NS, BY(EXPERTS), "shared_ns", "time in dense and shared feed-forward blocks")     \
	X(GATE_NS, BY(ROUTER), "gate_ns", "time in gates")                                         \
	X(HEAD_NS, BY(ROUTER), "head_ns", "time in final norm and head")                           \
	X(SAMPLE_NS, BY(ROUTER), "sample_ns", "time in the sampler")                               \
	X(ATTENTION_NS, BY(MLA), "attention_ns", "time in attention blocks")                       \
	X(REPLAYS, BY(ROUTER) | BY(MLA) | BY(EXPERTS), "replays",                                  \
	  "steps done again after a death")                                                        \
	X(REPLAY_NS, BY(ROUTER) | BY(MLA) | BY(EXPERTS), "replay_ns",                              \
	  "time in steps that were done again")                                                    \
	X(RESTARTS, BY(INIT), "deaths", "servers started again after a death, whatever the cause") \
	X(CONNECTIONS, BY(INIT), "connections", "connections open")                                \
	X(ACCEPTED, BY(INIT), "accepted", "connections ever accepted")                             \
	X(HTTP_ERRORS, BY(CLIENT), "http_errors", "replies with a status of 400 or more")          \
	X(BYTES_IN, BY(INIT), "bytes_in", "bytes from clients")                                    \
	X(BYTES_OUT, BY(INIT), "bytes_out", "bytes to clients")

#define COUNTER_ENUM(counter, roles, name, help) COUNT_##counter,
enum counter {
	COUNTER_LIST(COUNTER_ENUM) COUNTERS
};
#undef COUNTER_ENUM

/* X(CAUSE, name): why a server was started again. */
#define RESTART_LIST(X)                                                                            \
	X(KILLED, "killed")   /* by a signal from outside */                                       \
	X(CRASHED, "crashed") /* by a fault of its own */                                          \
	X(EXITED, "exited")                                                                        \
	X(HUNG, "hung")       /* it did not move: killed by init */                                \
	X(REFUSED, "refused") /* a neighbour refused what it sent: killed by init */

#define RESTART_ENUM(cause, name) RESTART_##cause,
enum restart_cause {
	RESTART_LIST(RESTART_ENUM) RESTART_CAUSES
};
#undef RESTART_ENUM

struct log_record {
	/* 1 + its position in the endless list, stored last with release; 0: never written */
	_Atomic uint64_t number;
	uint64_t time_ns; /* CLOCK_REALTIME */
	uint32_t kind;    /* enum log_kind */
	uint32_t generation;
	uint64_t arg[5];
};
_Static_assert(sizeof(struct log_record) == 64, "a log record is one cache line");

/* A stretch of time: one stage of one step, or one expert on its way from the drive. */
struct span {
	/* 1 + its position in the endless list, stored last with release; 0: being written */
	_Atomic uint64_t number;
	uint64_t begin_ns, end_ns; /* CLOCK_MONOTONIC */
	uint16_t counter;          /* enum counter: the stage; COUNT_READS: an expert's read */
	uint16_t batch;            /* of a read: 0 on demand, else a hint */
	uint16_t layer;            /* SPAN_NO_LAYER: behind the last */
	uint16_t expert;           /* of a read */
};
_Static_assert(sizeof(struct span) == 32, "two spans to a cache line");

enum {
	SPAN_NO_LAYER = UINT16_MAX,
	LOG_SPANS = 4096, /* some tokens of a model of 61 layers: its reader comes every few ms */
	LOG_RECORDS = 1024
};

/*
 * What the leader of a server is doing (machinery 11, 12; all stages wait for their workers, so a
 * worker that hangs makes its leader late). Only init believes it, and no more than that whoever
 * lies is killed or not.
 */
struct progress {
	alignas(64) _Atomic uint64_t
		/*
		 * seq * 2 + batch of the step it is in, gateway: the connection it serves;
		 * UINT64_MAX: none
		 */
		step;
	/* the row, where rows are done one by one (machinery 11); UINT64_MAX: none */
	_Atomic uint64_t row;
	_Atomic uint64_t since_ns; /* monotonic time at which it began */
	_Atomic uint64_t drive;    /* 1: it waits for the drive */
	/* raised with every turn of its loop, and inside long steps: it moves */
	_Atomic uint64_t turns;
};

/* A LOG object after its header. */
struct log_object {
	_Atomic uint64_t counter[64]; /* enum counter; relaxed: monitoring only */
	_Atomic uint64_t head;        /* records ever written */
	struct progress progress;
	_Atomic uint64_t restarts[ROLE_COUNT][RESTART_CAUSES]; /* init's; relaxed as counters */
	/* number n lies at n % LOG_RECORDS; scribe skips what was overwritten */
	struct log_record record[LOG_RECORDS];
	_Atomic uint64_t spans;      /* ever written */
	struct span span[LOG_SPANS]; /* the same, number n at n % LOG_SPANS */
};
_Static_assert(COUNTERS <= 64, "the counters fit");

void log_write(struct log_object *log, uint32_t generation, enum log_kind kind,
	       const uint64_t arg[5]);

/*
 * Adds end - begin to the counter of a stage and keeps it as a span; the leader's, as all counting.
 */
void count_time(struct log_object *log, enum counter c, uint64_t begin_ns, uint64_t end_ns,
		uint32_t batch, uint32_t layer);

/*
 * Copies span number n (from 0) of another process's log. False if it is not there (any more), or
 * torn.
 */
bool span_read(const struct log_object *log, uint64_t n, struct span *out);

/* Keeps a span that no counter counts. */
void span_write(struct log_object *log, const struct span *s);

static inline void count_add(struct log_object *log, enum counter c, uint64_t n)
{
	/* relaxed, and no read-modify-write: one writer */
	atomic_store_explicit(&log->counter[c],
			      atomic_load_explicit(&log->counter[c], memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline void count_set(struct log_object *log, enum counter c, uint64_t n)
{
	atomic_store_explicit(&log->counter[c], n, memory_order_relaxed);
}

#endif
