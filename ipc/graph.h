/*
 * Who owns what and who talks to whom: every process role, every shared object and every message
 * ring of a node, once. `init` makes descriptors from these tables, ipc/attach.c maps by them, the
 * tests check /proc against them and the README's drawing is printed from them. Nothing is shared
 * between two processes that does not stand here.
 */
#ifndef IPC_GRAPH_H
#define IPC_GRAPH_H

#include <stdint.h>

/*
 * X(ROLE, program, what it does). ROLE_CLIENT is the gateway of a node, or `score` in its place.
 * Bells and logs have one entry per role, so the order is part of the format.
 */
#define ROLE_LIST(X)                                                                               \
	X(INIT, "init", "owns every object, ring and connection; starts the others")               \
	X(SURVEY, "loader", "parses a checkpoint once and writes the index")                       \
	X(LOADER, "loader", "fills the resident weights and is gone")                              \
	X(CLIENT, "gateway", "HTTP in byte rings, text in and out (`score` takes its place)")      \
	X(ROUTER, "router", "sequences and schedule, embedding, gates, head, sampler")             \
	X(MLA, "mla", "attention and the latent KV pages")                                         \
	X(EXPERTS, "experts", "slots, the drive, feed-forward blocks")                             \
	X(SCRIBE, "scribe", "turns log records, traces and recorder into text and files")          \
	X(CUDA, "cuda", "executes command lists, on a GPU or in place of one")

#define ROLE_ENUM(role, program, what) ROLE_##role,
enum role {
	ROLE_LIST(ROLE_ENUM) ROLE_COUNT
};
#undef ROLE_ENUM

#define ROLE_NOBODY ROLE_COUNT /* as an object's writer: only the drive writes it */
#define BY(role)    (1u << ROLE_##role)

/*
 * X(OBJECT, writer, readers, what it holds). A writer may read its own. `init` keeps a descriptor
 * of each; what else it may do stands in its own line of readers. BELLS alone is written by all
 * (machinery 1).
 */
#define OBJECT_LIST(X)                                                                             \
	X(NODE, INIT,                                                                              \
	  BY(SURVEY) | BY(LOADER) | BY(CLIENT) | BY(ROUTER) | BY(MLA) | BY(EXPERTS) | BY(SCRIBE) | \
		  BY(CUDA),                                                                        \
	  "plan, file table, generations, stage of the node")                                      \
	X(BELLS, NOBODY, 0, "futex words and init_idle: written by all, believed by none")         \
	X(INDEX, SURVEY,                                                                           \
	  BY(INIT) | BY(LOADER) | BY(CLIENT) | BY(ROUTER) | BY(MLA) | BY(EXPERTS) | BY(CUDA),      \
	  "config, tensors, extents, tokenizer; sealed once surveyed")                             \
	X(RESIDENT, LOADER, BY(INIT) | BY(ROUTER) | BY(MLA) | BY(EXPERTS) | BY(CUDA),              \
	  "resident weights; sealed once loaded")                                                  \
	X(SLOTS, NOBODY, BY(EXPERTS) | BY(CUDA),                                                   \
	  "routed experts, written by the drive through init's io_uring")                          \
	X(KV, MLA, BY(CUDA), "latent KV pages")                                                    \
	X(ROUTER, ROUTER, BY(INIT) | BY(CLIENT) | BY(MLA) | BY(EXPERTS) | BY(SCRIBE) | BY(CUDA),   \
	  "sequences, page tables, pass areas, embedding rows, routes, token logs")                \
	X(MLA, MLA, BY(INIT) | BY(ROUTER) | BY(EXPERTS) | BY(CUDA), "rows after attention")        \
	X(EXPERTS, EXPERTS, BY(INIT) | BY(ROUTER) | BY(MLA) | BY(CUDA),                            \
	  "rows after the feed-forward block, slot table")                                         \
	X(CUDA, CUDA, BY(INIT) | BY(ROUTER) | BY(MLA) | BY(EXPERTS),                               \
	  "results of passes on the GPU, and which experts it lacks")                              \
	X(CLIENT, CLIENT, BY(INIT) | BY(ROUTER),                                                   \
	  "connection records, requests, outgoing byte rings")                                     \
	X(CONNS, INIT, BY(CLIENT), "incoming byte rings and what init did with the outgoing ones") \
	X(LOGITS, ROUTER, BY(CLIENT), "logit rows of a `score` run")                               \
	X(TRACE, ROUTER, BY(SCRIBE), "routes of a traced run")                                     \
	X(RECORDER, INIT, BY(SCRIBE), "what servers were doing when they died")                    \
	X(LOG_INIT, INIT, BY(SCRIBE) | BY(CLIENT), "init's counters and log records")              \
	X(LOG_CLIENT, CLIENT, BY(SCRIBE) | BY(INIT), "the client role's counters and log records") \
	X(LOG_ROUTER, ROUTER, BY(SCRIBE) | BY(INIT) | BY(CLIENT),                                  \
	  "router's counters and log records")                                                     \
	X(LOG_MLA, MLA, BY(SCRIBE) | BY(INIT) | BY(CLIENT), "mla's counters and log records")      \
	X(LOG_EXPERTS, EXPERTS, BY(SCRIBE) | BY(INIT) | BY(CLIENT),                                \
	  "experts' counters and log records")

#define OBJECT_ENUM(object, writer, readers, what) OBJ_##object,
enum object {
	OBJECT_LIST(OBJECT_ENUM) OBJ_COUNT
};
#undef OBJECT_ENUM

/*
 * X(RING, producer, consumer, per batch?, what it carries). Entries lie in the producer's object.
 */
#define RING_LIST(X)                                                                               \
	X(ATTEND0, ROUTER, MLA, 1, "a pass begins: embedding rows await attention")                \
	X(ROUTE, MLA, ROUTER, 1, "rows await their experts")                                       \
	X(FEED, ROUTER, EXPERTS, 1, "rows, and the experts they need")                             \
	X(ATTEND, EXPERTS, MLA, 1, "rows await the next layer's attention")                        \
	X(FINISH, EXPERTS, ROUTER, 1, "rows await the head")                                       \
	X(ANNOUNCE, CLIENT, ROUTER, 0, "a connection's request has changed")                       \
	X(LIST, ROUTER, CUDA, 1, "a whole pass for the GPU")                                       \
	X(DONE, CUDA, ROUTER, 1, "that pass has ended")                                            \
	X(STORE, CUDA, MLA, 1, "its cached rows await their pages")                                \
	X(MISSING, CUDA, EXPERTS, 1, "a list waits for experts")                                   \
	X(LOAD, EXPERTS, CUDA, 1, "experts for it")

#define RING_ENUM(ring, producer, consumer, batched, what) RING_##ring,
enum ring_name {
	RING_LIST(RING_ENUM) RING_COUNT
};
#undef RING_ENUM

struct graph_role {
	const char *name, *program, *what;
};

struct graph_object {
	const char *name, *what;
	uint32_t writer;  /* enum role, or ROLE_NOBODY */
	uint32_t readers; /* bits BY(role) */
};

struct graph_ring {
	const char *name, *what;
	uint32_t producer, consumer, batched;
};

extern const struct graph_role graph_roles[ROLE_COUNT];
extern const struct graph_object graph_objects[OBJ_COUNT];
extern const struct graph_ring graph_rings[RING_COUNT];

/* What a role may do with an object. */
enum access {
	ACCESS_NONE,
	ACCESS_READ,
	ACCESS_WRITE
};
enum access graph_access(enum role role, enum object object);

/*
 * Descriptors that a server finds open, and no others. 0 and 1 are /dev/null, 2 is stderr for
 * scribe, survey and loader and /dev/null else.
 */
enum graph_fd {
	FD_BELL = 3,     /* client role: eventfd that wakes init */
	FD_URING = 4,    /* experts: the io_uring init made */
	FD_TRACE = 5,    /* scribe: trace file */
	FD_RECORDER = 6, /* and the recorder's */
	FD_PROMPTS =
		5, /* score: the prompts; then its outputs, /dev/null where one is not wanted */
	FD_LOGITS = 6,
	FD_ROUTES = 7,
	FD_MTP = 8,
	FD_REPORT = 9, /* score: a line of JSON per prompt, for the command that started the node */
	FD_OBJECT = 16, /* object k is descriptor FD_OBJECT + k */
	FD_FILE = 64    /* survey and loader: file i of the model is FD_FILE + i */
};

#endif
