/*
 * What router, mla and experts have in common: their objects, the model's view, the worker team,
 * waiting for messages and for layers that still load, and the checked reading of a pass area. Each
 * server's main attaches, enters the sandbox and loops.
 */
#ifndef RUNTIME_SERVER_SERVER_H
#define RUNTIME_SERVER_SERVER_H

#include "drivers/cpu/kernels.h"
#include "ipc/attach.h"
#include "model/model.h"
#include "runtime/team.h"

/* A ring end as its consumer sees it: where the producer's tail and entries are. */
struct ring_end {
	enum object object; /* producer's */
	uint64_t
		record; /* offset of the producer's record, its size, and the tail's offset in it */
	size_t record_size;
	size_t tail;
	uint64_t entries; /* offset of the entries */
	uint32_t capacity;
	uint64_t refused; /* version of the producer's record that was refused, + 1; 0: none */
};

struct server {
	struct attach at;
	struct cpu_kernels kernels;
	struct model model;
	struct team *team;
	const struct resident_header *resident;
	struct bell *bell; /* the leader's own */
	uint64_t replay;   /* progress.step that its predecessor died in; UINT64_MAX: none */
	bool careful;      /* the kernels are the scalar ones for this step */
};

/*
 * Attaches, checks index and model, starts the team. `generation` is argv[1]; a spare also makes
 * its maps of the weights whole, as long as it is not needed.
 */
MUST_CHECK int server_open(struct server *s, enum role role, const char *generation, struct err *e);

/*
 * Behind server_confine: waits until its predecessor is gone. What it finds in its own object from
 * here on is committed.
 */
void server_take_over(struct server *s);

/*
 * Scratch memory at start: n elements on whole cache lines, contents of no interest; NULL if there
 * is none.
 */
void *server_array(size_t n, size_t size);

/* Waits until everything that `layer` needs is resident (UINT32_MAX: the whole load list). */
void server_wait_layer(const struct server *s, uint32_t layer);

/* Whether everything that `layer` needs is resident. */
bool server_has_layer(const struct server *s, uint32_t layer);

/* The ring `name` of `batch` as its consumer sees it; lengths and offsets from the layout. */
struct ring_end server_ring(const struct server *s, enum ring_name name, uint32_t batch);

/* Whether server_take would return anything but 0. */
bool server_pending(const struct server *s, const struct ring_end *ring, uint64_t head);

/*
 * Copies the next message of the ring out and checks it. 1; 0 if the ring is empty; -EBADMSG if the
 * message is bad: pop it and refuse its sender; -EPROTO if the producer's tail is impossible or
 * never stands still: refuse the producer, nothing is popped. Its successor repairs the tail, so
 * the same version of a record is complained about once.
 */
MUST_CHECK int server_take(const struct server *s, struct ring_end *ring, uint64_t head,
			   enum msg_kind kind, uint32_t batch, struct msg *out, struct err *e);

/*
 * For a successor: makes a count of its own record agree with what the other end has committed.
 * Whether it had to: then a message is lost, and the pass it belonged to has to be run again.
 */
bool server_repair_tail(const struct server *s, enum ring_name name, uint32_t batch,
			uint64_t *tail);
bool server_repair_head(const struct server *s, const struct ring_end *ring, uint64_t *head);

/* A pass's description, copied and checked: the reader's own. */
struct pass {
	struct pass_area area;
	const struct pass_row *row; /* in the area: copy a row before use, check with pass_row_ok */
	const struct pass_copy *copy;
	const uint32_t *pages;
};

/* Reads the area of m's pass. -EBADMSG where it does not agree with m or with the plan. */
MUST_CHECK int server_pass(const struct server *s, const struct msg *m, struct pass *p,
			   struct err *e);

/*
 * Sleeps until rung, UINT64_MAX or so many nanoseconds at most: returns then, after a ring or a
 * spurious wake. `more` looks at the records again and says whether there is work.
 */
void server_sleep(const struct server *s, bool (*more)(void *), void *context, uint64_t ns);

/* The lowest pass of `batch` that still counts (machinery 5). */
uint64_t server_floor(const struct server *s, uint32_t batch);

/*
 * Notes in the draft of the caller's record that a message or area of `batch`, which `sender`
 * wrote, was bad; the caller commits it with the pop. Logs it and rings router.
 */
void server_refuse(const struct server *s, struct refusal *r, const struct msg *m, uint32_t batch,
		   enum role sender);
/* The same of a producer's record (-EPROTO): no pass is lost by it. */
void server_refuse_record(const struct server *s, struct refusal *r, enum role producer);
/* Notes in the draft that the running pass of `batch` has lost a message of the caller's own. */
void server_lost(const struct server *s, struct refusal *r, uint32_t batch);

/* The generation of `cuda` that takes passes now; 0: none. */
uint64_t server_gpu(const struct server *s);
/* Whether that generation still lives. */
bool server_gpu_alive(const struct server *s, uint64_t generation);

/* How far the consumer of one of the caller's rings has come. */
uint64_t server_peer_head(const struct server *s, enum ring_name name, uint32_t batch);

/* Where the workers of another server sleep: for team_run_last. */
void *server_twins(const struct server *s, enum role role);

/*
 * Marks what the leader is doing, for hang detection and for who inherits the step; UINT64_MAX:
 * nothing. A step that its predecessor died in is counted as a replay.
 */
void server_progress(struct server *s, uint64_t seq, uint32_t batch);
/* Back in an outer step, as progress had it before the inner one. */
void server_resume(const struct server *s, uint64_t step, uint64_t since_ns);
/* It moves: once in every turn of the loop, and in steps that may be long. */
void server_turn(const struct server *s);
/* It waits for the drive, whose reads have their own deadlines; returns whether it did before. */
bool server_waits(const struct server *s, bool drive);

/*
 * Whether the step just begun has ended its server so often that its rows are done one by one, by
 * the scalar reference (machinery 11): that is set then, until server_progress(UINT64_MAX).
 */
bool server_careful(struct server *s);
/* Marks the row that is done alone, UINT64_MAX: none. False: it killed a predecessor, leave it. */
bool server_row(const struct server *s, uint32_t row);
/* The error word of such a row. */
uint64_t server_poison_error(const struct server *s, uint32_t layer);

/*
 * The last act before the loop: from here on the few system calls of `who`, a role or another of
 * ipc/sandbox.h.
 */
MUST_CHECK int server_confine(const struct server *s, unsigned who, struct err *e);

/* Prints the error as "penstock: PROGRAM: text" on stderr and returns the exit status. */
int server_die(enum role role, const struct err *e);

#endif
