/*
 * `penstock chaos`: kills the servers of a node that works, and compares each reply with its
 * undisturbed twin. chaos.c has the command line, the order and the report, chaos_load.c the
 * requests, chaos_kill.c the deaths, chaos_look.c what a node has and where it stands. Used by
 * these only.
 */
#ifndef RUNTIME_CLI_CHAOS_H
#define RUNTIME_CLI_CHAOS_H

#include "runtime/cli/bench.h"

#include <pthread.h>

enum {
	CHAOS_STREAMS = 64,      /* at once, at most */
	CHAOS_REPLIES = 1 << 17, /* of one run, at most: the workload ends there */
	CHAOS_STUCK_S = 60,      /* a stream that has not moved for so long is stuck */
	CHAOS_ROLES = ROLE_EXPERTS - ROLE_CLIENT + 1 /* that are killed */
};

/* Draws from the seed: splitmix64. */
uint64_t chaos_draw(uint64_t *state);
/* Evenly from [0, n). */
uint64_t chaos_below(uint64_t *state, uint64_t n);

/* A list of numbers that grows; what does not fit in memory is not kept. */
struct chaos_list {
	uint64_t *v;
	size_t n, room;
};
void chaos_add(struct chaos_list *l, uint64_t v);
/* Sorts the list; the value below which `percent` of it lie, 0 of an empty one. */
uint64_t chaos_percentile(struct chaos_list *l, double percent);

/* ---- Requests ---- */

/* What came back for a request: all that must not depend on deaths. */
struct chaos_reply {
	char *content; /* NULL: none; error says why */
	char finish[32];
	uint64_t prompt_tokens, tokens;
	char error[160];
};

struct chaos_load {
	const struct index *ix;
	uint64_t seed, prompt, tokens; /* of the workload: request n is drawn from seed and n */
	unsigned streams;
	uint64_t pool; /* request n is number n % pool; 0: all are different */
	/* of one run */
	const char *socket;
	uint64_t limit;        /* requests at most */
	_Atomic uint64_t next; /* the next request's number */
	_Atomic bool stop;     /* no new ones */
	volatile sig_atomic_t interrupted;
	struct chaos_reply *reply; /* [CHAOS_REPLIES] */
	struct chaos_stream {
		struct chaos_load *load;
		pthread_t thread;
		bool started;
		_Atomic uint64_t moved_ns;    /* its last token or request; 0: it has ended */
		struct chaos_list begin, end; /* pauses between two tokens of a reply */
	} stream[CHAOS_STREAMS];
};

/* Starts the streams; each sends one request after the other. */
MUST_CHECK int chaos_load_start(struct chaos_load *l, const char *socket, uint64_t limit,
				struct err *e);
/* Whether all streams have ended. */
bool chaos_load_over(const struct chaos_load *l);
/* The stream that has not moved since CHAOS_STUCK_S, -1: none. */
int chaos_load_stuck(const struct chaos_load *l);
/* No new requests; breaks off those that run if `now`. Then joins: returns the requests sent. */
uint64_t chaos_load_end(struct chaos_load *l, bool now);
/* Frees the replies and pauses of a run. */
void chaos_load_free(struct chaos_load *l);

/* ---- Deaths ---- */

struct chaos_kill {
	pid_t init;
	const struct watch *watch;
	uint64_t seed;
	bool publish;  /* right behind a commit, counted from the death before it */
	uint64_t turn; /* publish: how many deaths there were */
	uint64_t kills[CHAOS_ROLES], spares, sets; /* processes killed, and how often together */
	struct chaos_list at;                      /* when */
	struct chaos_list
		begun; /* ns from a kill in a step until its successor has begun it again */
};

/* The process that listens on `socket`: init. */
MUST_CHECK int chaos_find_init(const char *socket, pid_t *pid, struct err *e);

/* Waits, chooses and kills. Returns how many processes were killed. */
unsigned chaos_kill(struct chaos_kill *k);

/* ---- Looking ---- */

enum {
	CHAOS_FOUND = 4 * ROLE_COUNT
};

/* A child of init. */
struct chaos_found {
	pid_t pid;
	enum role role;
	uint64_t generation; /* of a role, the lowest serves and the others are spares */
};

/* The servers that live, and how many have ended without being waited for. */
unsigned chaos_find(const struct chaos_kill *k, struct chaos_found out[CHAOS_FOUND],
		    uint64_t *zombies);
/* Parent and state of a process; false if it is gone. */
bool chaos_read_stat(pid_t pid, pid_t *parent, char *state);
/* What the process is called by init: role and generation. False: no server. */
bool chaos_describe(pid_t pid, struct chaos_found *f);

/* The node's own objects, read-only, through init's descriptors: for its user and root. */
struct chaos_view {
	const void *object[OBJ_COUNT]; /* NULL: not mapped */
	uint64_t bytes[OBJ_COUNT];
	const struct node *node;
	struct layout layout;
};
MUST_CHECK int chaos_view_open(struct chaos_view *v, pid_t init, struct err *e);
void chaos_view_close(struct chaos_view *v);

/* What a node must not lose. */
struct chaos_state {
	uint64_t descriptors, maps; /* init's */
	uint64_t zombies, pages_free, busy;
	/* slots that still wait for a read although nothing is computed, and those still pinned */
	uint64_t slots, pins;
};
void chaos_look(const struct chaos_kill *k, const struct chaos_view *v, struct chaos_state *s);

/*
 * Where a node stands, to stderr, for a request that is stuck: generations, steps, rings, bells,
 * passes, sequences, connections, slots, the last log records, and where every thread waits.
 */
void chaos_print_node(const struct chaos_kill *k, const struct chaos_view *v);

#endif
