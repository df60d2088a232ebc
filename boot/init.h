/*
 * The one context of init: everything it owns. Static memory, filled at start; the first thread
 * allocates nothing afterwards (machinery 13). Who changes what: main.c and start.c once;
 * supervise.c `server`, `drain`; stage.c `stage` and its times; pump.c the pump.
 */
#ifndef BOOT_INIT_H
#define BOOT_INIT_H

#include "boot/gpu.h"
#include "boot/hang.h"
#include "boot/listen.h"
#include "boot/machine.h"
#include "boot/notify.h"
#include "boot/objects.h"
#include "boot/options.h"
#include "boot/plan.h"
#include "boot/progress.h"
#include "boot/pump.h"
#include "boot/rings.h"
#include "boot/spawn.h"
#include "model/index.h"
#include "model/store/files.h"

/* What epoll tells of. */
enum {
	TAG_SIGNAL = 1,
	TAG_BELL,  /* a server wants a look at the rings */
	TAG_RINGS, /* an io_uring is ready */
	TAG_LISTEN,
	TAG_COUNTERS,        /* somebody asks for the counters */
	TAG_BUTTON,          /* the machine's power button */
	TAG_PORT,            /* the machine's port to its host */
	TAG_PROOF,           /* the known answer, asked by init itself */
	TAG_SERVER = 0x1000, /* + role: its process has ended */
	TAG_SPARE = 0x2000,  /* + role: its spare has ended */
	TAG_CONN = 0x10000   /* + connection */
};

enum server_state {
	SERVER_OFF,     /* not wanted */
	SERVER_WAITING, /* wanted: experts waits for an io_uring */
	SERVER_RUNNING,
	SERVER_STATES
};

struct process {
	pid_t pid; /* 0: none */
	int pidfd;
	uint64_t generation;  /* that it has, or will have */
	struct io_uring ring; /* experts: its own */
};

struct server {
	enum server_state state;
	struct process live;  /* serves */
	struct process spare; /* stands by: mapped, confined, waiting for its generation to come */
	int program;          /* its executable, open */
	uint64_t started_ns;  /* when the living one began to serve; 0: none ever did */
	uint64_t spare_ns;    /* not before this is the next spare made */
	uint64_t try_ns;      /* nor before this tried again what the machine was too short for */
	unsigned bad_starts;  /* in a row, without a step ever done */
	/* init has killed it: the cause + 1; 0: it has not */
	unsigned killed_for;
	uint64_t died_ns; /* the last time */
	unsigned deaths;  /* of late: each less than DYING_S behind the one before */
};

enum {
	DRAINS = 4, /* io_urings alive at once (machinery 9); as many as struct node has places */
	CLIENT_FDS = 5 /* descriptors of `score`: FD_PROMPTS .. FD_REPORT */
};

/* The io_uring of a dead generation of experts, until its last read has completed. */
struct drain {
	bool used;
	uint32_t generation;
	struct io_uring ring;
};

struct init {
	struct boot_options options;
	struct store_files files;
	struct objects objects;
	struct layout layout;
	struct plan_table table;
	struct node *node;
	struct bells *bells;
	struct log_object *log;
	const struct index *index;
	struct server server[ROLE_COUNT];
	struct drain drain[DRAINS];
	struct hang hang[ROLE_COUNT];
	uint64_t hang_ns; /* the last look */
	bool hang_busy;   /* somebody had something to do then */
	bool working;     /* a request is on its way: a lost wake-up would matter */
	struct rings rings;
	int ring_error; /* the maker's, as last logged */
	struct pump pump;
	struct machine machine;
	struct listen_socket listen, counters;
	struct progress_line progress;
	struct spawn spawn;   /* scratch of the next start */
	struct gpu_files gpu; /* of the role `cuda` */
	int client_fd[CLIENT_FDS];
	uint64_t refusals[REFUSERS]; /* how many were acted on */
	int trace_fd, recorder_fd;   /* scribe's; -1: none is wanted */
	unsigned sandbox_lacks;
	int epoll, signals, bell;
	struct notify notify;
	cpu_set_t cpus; /* what init was given; its own and the client role's are one of them */
	cpu_set_t client_cpu;
	enum node_stage stage;
	uint64_t stage_ns; /* when it began */
	uint64_t stop_ns;  /* STAGE_STOPPING: when the next ones are killed */
	unsigned stopping; /* how many of the groups of the end have been told */
	int exit_status;   /* -1: go on */
	struct err error;  /* why it ends, if it is not as wished */
};

/* The folder that init and all programs lie in; opens the program of each role. */
MUST_CHECK int start_programs(struct init *in, struct err *e);
/* Files, socket, first objects, signals: everything up to the survey. */
MUST_CHECK int start_node(struct init *in, struct err *e);
/* The survey is done: plan, objects, io_urings; all servers are wanted. */
MUST_CHECK int start_servers(struct init *in, struct err *e);

/* Runs until exit_status is set; returns it. */
int loop_run(struct init *in);

#endif
