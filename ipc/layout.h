/*
 * What lies where in every shared object. `init` publishes one `struct plan` in the node object;
 * `layout_make` turns it into offsets and sizes, the same in every process. Buffers are named by
 * role and batch. Nobody stores a pointer in shared memory.
 */
#ifndef IPC_LAYOUT_H
#define IPC_LAYOUT_H

#include "ipc/bell.h"
#include "ipc/conn.h"
#include "ipc/graph.h"
#include "ipc/log.h"
#include "ipc/msg.h"
#include "ipc/trace.h"
#include "runtime/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define OBJECT_MAGIC   0x4b434f54534e4550ull /* "PENSTOCK" shuffled: any object of a node */
#define OBJECT_VERSION 1u

/*
 * Every object begins with this; init writes it when it makes the object (machinery 26). INDEX and
 * RESIDENT have headers of their own behind it. SLOTS alone has none: its pieces are registered
 * with io_uring from its first byte, and nothing but the drive writes it.
 */
struct object_header {
	uint64_t magic;
	uint32_t version;
	uint32_t object; /* enum object */
	uint64_t bytes;
	uint8_t zero[40];
};
_Static_assert(sizeof(struct object_header) == 64, "the header is one cache line");

/* Whether the MTP module drafts tokens (--mtp). */
enum mtp_mode {
	MTP_AUTO, /* where it is measured to pay */
	MTP_ON,
	MTP_OFF
};

/* Who executes command lists (--gpu). */
enum gpu_mode {
	GPU_OFF,
	GPU_CPU, /* the executor of the CPU stands in for a GPU: for tests */
	GPU_CUDA
};

/*
 * The figures of a running node, from the index and the command line; made by boot/plan.c. Plain
 * numbers.
 */
struct plan {
	uint32_t layers; /* main and MTP */
	uint32_t main_layers;
	uint32_t hidden; /* hidden_size */
	uint32_t vocab;
	uint32_t top_k;   /* experts per row; at least 1 even for a dense model */
	uint32_t experts; /* routed experts per layer; 0: dense model */
	uint32_t rows
		[BATCHES]; /* capacity: decode rows (places, twice with drafts), prefill chunk */
	uint32_t places;  /* sequences running at once (--parallel), the health place not counted */
	uint32_t queue;   /* sequences waiting at most: four times the places */
	uint32_t context; /* positions of one sequence at most */
	uint32_t pages;   /* KV pages */
	uint32_t slots;
	/* slots in one registered piece of at most 1 GiB; none straddles two */
	uint32_t slots_per_piece;
	uint32_t workers; /* threads of each computing server */
	uint32_t isa;     /* enum cpu_isa */
	uint32_t mtp;     /* enum mtp_mode; MTP_OFF without a module or in a score run */
	uint32_t score;   /* 1: the client role is `score`; the logits object has rows */
	uint32_t verbose;
	uint32_t trace;           /* 1: router keeps a trace of routes */
	uint32_t recorder;        /* 1: init keeps what servers were doing when they died */
	uint32_t moe_layers;      /* main layers with routed experts */
	uint32_t first_moe_layer; /* the first of them; 0 if there is none */
	/*
	 * Command lists: whether passes may go to the role `cuda`, how many experts it keeps, and
	 * what a pass takes as a list and as results (model/list.h); all 0 without it.
	 */
	uint32_t gpu; /* enum gpu_mode */
	uint32_t gpu_slots;
	uint64_t list_bytes[BATCHES], out_bytes[BATCHES];
	uint64_t kv_page_bytes;
	uint64_t slot_bytes;  /* multiple of DRIVE_ALIGN */
	uint64_t piece_bytes; /* slots_per_piece * slot_bytes */
	uint64_t index_bytes; /* of the index itself, behind the header */
	uint64_t resident_bytes;
	/*
	 * Bodies of requests. The largest that this node takes (BODY_LEAST to BODY_MAX), and what
	 * all assembly areas together may hold of bodies and their framing, at least one of the
	 * largest.
	 */
	uint64_t body_bytes, body_pool;
	uint64_t memory;         /* the budget */
	uint64_t memory_planned; /* what the plan adds up to */
};

/*
 * Rows of expert outputs that experts keeps in a step of `batch`: all of a decode step, and of a
 * prefill step at least those of one expert. A step whose outputs all fit is computed as its
 * experts arrive, the others expert by expert in ascending order.
 */
static inline uint32_t plan_kept_rows(const struct plan *p, uint32_t batch)
{
	return p->rows[batch] * (batch == BATCH_DECODE ? p->top_k : 1);
}

/* Rows of all parts of such a step, the shared block's among them: ffn_mlp_set's scratch. */
static inline uint32_t plan_set_rows(const struct plan *p, uint32_t batch)
{
	return plan_kept_rows(p, batch) + plan_kept_rows(p, batch) / p->top_k;
}

/* Rows of a pass that may want logits. */
static inline uint32_t plan_logit_rows(const struct plan *p)
{
	uint32_t rows = p->rows[0] > p->rows[1] ? p->rows[0] : p->rows[1];

	/* decode rows and health's, or in a score run every row of a chunk */
	return p->score ? rows : p->rows[BATCH_DECODE] + 1;
}

enum {
	RING_ENTRIES = 16,
	RING_ENTRIES_ANNOUNCE = 1024
};

/* ---- router's object ---- */

/* Why a sequence ended with an error; the gateway makes the text. */
enum seq_cause {
	CAUSE_NONE,
	CAUSE_READ,       /* an expert could not be read: layer, expert, part, errno */
	CAUSE_NOT_FINITE, /* a NaN or infinity: layer (UINT32_MAX: logits) */
	CAUSE_BAD_EXPERT, /* an expert holds a number that is not finite: layer, expert, part */
	CAUSE_POISON,     /* a step that killed its server three times: layer, hop */
	/* the request or its prompt is not valid: our own bug or a hostile client role */
	CAUSE_BAD_REQUEST,
	CAUSE_TOO_LONG, /* cannot fit in the KV pages even alone */
	CAUSE_STOPPING  /* the node is going down */
};

/*
 * A row's error word: cause << 56 | part << 48 | layer << 32 | expert << 16 | errno; 0: the row is
 * well. Travels with the row (machinery 11).
 */
static inline uint64_t row_error(uint32_t cause, uint32_t layer, uint32_t expert, int code)
{
	return (uint64_t)cause << 56 | (uint64_t)(layer & 0xffff) << 32 |
	       (uint64_t)(expert & 0xffff) << 16 | (uint64_t)((unsigned)code & 0xffff);
}

/* The same for one matrix (enum expert_part) of a routed expert. */
static inline uint64_t row_error_part(uint32_t cause, uint32_t layer, uint32_t expert,
				      uint32_t part, int code)
{
	return row_error(cause, layer, expert, code) | (uint64_t)(part & 0xff) << 48;
}

enum seq_status {
	SEQ_NONE,
	SEQ_QUEUED, /* waits for a place or for pages */
	SEQ_RUNNING,
	SEQ_DONE,   /* an end token, the limit, or (score, health) all rows */
	SEQ_FAILED, /* error says why */
	SEQ_BUSY    /* refused: the queue is full */
};

/* A sequence, one per connection (the index is the connection's number). */
struct router_seq {
	uint64_t request;  /* the request's number; 0: none */
	uint32_t status;   /* enum seq_status */
	uint32_t place;    /* page table in use, UINT32_MAX: none */
	uint64_t error;    /* row_error */
	uint64_t order;    /* admission number: the youngest has the largest */
	uint32_t cached;   /* prompt positions taken from kept pages when first admitted */
	uint32_t computed; /* positions whose KV rows are committed */
	uint32_t count;    /* tokens in the log: release to the reader by the record's commit */
	uint32_t n_pages;  /* in its page table */
	uint32_t in_pass;  /* 1: rows of it are in a running pass */
	/* 1: gives its pages up when that pass has ended, to be computed again later */
	uint32_t set_back;
	/*
	 * page whose first copy_rows positions its last page begins with; copied in its first pass
	 */
	uint32_t copy_from;
	uint32_t copy_rows; /* 0: nothing to copy */
	uint32_t copy_to;   /* the page they are copied into */
	/*
	 * MTP. The pair (final hidden state of position i, token at i + 1) makes the MTP layer's
	 * row i + 1. Rows mtp_first .. mtp_next - 1 are committed (1, 1: none yet). Hidden states
	 * of hidden_rows positions from hidden_position on lie in router_final[hidden_batch], from
	 * row hidden_row0 on, until that batch's next main pass ends.
	 */
	uint32_t mtp; /* 1: the MTP layer follows this sequence */
	uint32_t mtp_first, mtp_next;
	uint32_t hidden_position, hidden_rows, hidden_row0, hidden_batch;
	uint32_t draft;          /* the token that MTP expects at draft_position */
	uint32_t draft_position; /* 0: no draft */
	uint64_t passes; /* score: passes whose rows lie in the logits object or have been taken */
	uint32_t out_row0, out_rows, out_position,
		out_mtp;    /* score: rows of that pass: batch rows, positions, MTP or main */
	struct request req; /* copied at admission */
};

/*
 * A KV page as the router sees it (machinery 17). A page's name is a number given once, when it
 * first holds committed positions, and a new one when it is cut; full pages with the same ids
 * behind the same predecessor share one. A page that follows says so by that number. Matching
 * compares the ids themselves (router_page_ids), page by page along the chain, so that nothing is
 * believed to be equal because a hash is. A page with a name that no running sequence uses is kept
 * until the space is needed.
 */
#define PAGE_FIRST UINT64_MAX /* `previous` of a sequence's first page */

struct router_page {
	uint64_t name;     /* 0: holds nothing that may be reused */
	uint64_t previous; /* name of the page before it, which is full, or PAGE_FIRST */
	uint64_t used;     /* admission clock of the last use */
	uint32_t count;    /* committed positions, 1 .. 256; 0 with name 0 */
	uint32_t mtp;      /* positions, from the first on, whose MTP rows are there too */
};

/*
 * What a server has found bad (machinery 5), in its record: init sees `count` move and restarts the
 * sender, router runs the rows of the pass again as a new one.
 */
struct refusal {
	uint64_t count; /* messages ever refused */
	uint64_t pass
		[BATCHES]; /* the pass that was running when the last one was refused, 0: none */
	uint32_t sender;   /* enum role of the last one */
	uint32_t pad;
};

enum {
	REFUSERS =
		5 /* roles whose record has a struct refusal: router, mla, experts, client, cuda */
};

/* What a batch is doing; committed by router with each hop. */
struct router_batch {
	uint64_t pass; /* running pass, 0: none */
	uint32_t kind; /* enum pass_kind */
	uint32_t rows;
};

enum pass_kind {
	PASS_MAIN,
	PASS_MTP,
	PASS_HEALTH
};

struct router_head {
	uint64_t ring_tail[2][BATCHES]; /* ATTEND0, FEED */
	uint64_t ring_head[3][BATCHES]; /* ROUTE, FINISH; ANNOUNCE in [2][0] */
	uint64_t floor[BATCHES];        /* steps of passes below are popped without work */
	struct refusal refused;
	uint64_t next_pass[BATCHES]; /* from 1; never used again */
	uint64_t clock;              /* admissions so far */
	uint64_t names;              /* page names given so far */
	struct router_batch batch[BATCHES];
	uint64_t list_tail[BATCHES], done_head[BATCHES];
	uint64_t on_gpu
		[BATCHES];    /* the generation of cuda that runs the batch's pass; 0: the circle */
	uint64_t health_hash; /* of the known-answer logits at start; 0: not yet */
	uint64_t health_ns; /* CLOCK_MONOTONIC of the last token or health pass that came through */
};

/*
 * The record of router: head, then CONN_PLACES sequences, then page tables [places +
 * 1][pages_per_seq], then pages.
 */

/* One row of a pass. */
struct pass_row {
	uint32_t token;
	uint32_t position;
	uint32_t conn;      /* whose row it is */
	uint32_t page_list; /* index of its sequence's first page in the area's page list */
	uint32_t flags;     /* enum row_flags */
	uint32_t first_key; /* MTP pass: the sequence's keys begin at this position; else 0 */
	/* MTP pass: row of the batch's last main pass whose final hidden state goes with token */
	uint32_t source;
};

enum row_flags {
	ROW_LOGITS = 1, /* the head is wanted for this row */
	ROW_DRAFT =
		2 /* the token is a draft: the row counts if the row before it draws that token */
};

struct pass_copy {
	uint32_t from, to; /* pages */
	uint32_t rows;     /* positions 0 .. rows - 1 of every layer */
	uint32_t pad;
};

/*
 * Written once by router before the pass's first commit, read by all until the pass has ended
 * (machinery 2).
 */
struct pass_area {
	uint64_t pass;
	uint32_t kind; /* enum pass_kind */
	uint32_t rows;
	uint32_t decode;      /* 1: its sequences decode; else these are rows of prompts */
	uint32_t first_layer; /* layers that run: first .. last */
	uint32_t last_layer;
	uint32_t n_pages;  /* entries of the page list */
	uint32_t n_copies; /* done by mla in the pass's first step */
	/* then pass_row[rows of the batch], pass_copy[places + 1], uint32_t pages[page_list_max] */
};

/* ---- mla's and experts' records ---- */

struct mla_record {
	uint64_t attend0_head[BATCHES], attend_head[BATCHES], route_tail[BATCHES];
	struct refusal refused;
	uint64_t pass[BATCHES]; /* the last pass of which a step was committed or dropped */
	uint64_t store_head[BATCHES];
};

struct experts_record {
	uint64_t feed_head[BATCHES], attend_tail[BATCHES], finish_tail[BATCHES];
	struct refusal refused;
	uint64_t pass[BATCHES];
	uint64_t part_seq[BATCHES]; /* the step that has committed parts, 0: none */
	uint32_t part_next
		[BATCHES]; /* experts below this id are in the accumulators of side part_side */
	uint32_t part_side[BATCHES];
	uint64_t missing_head[BATCHES], load_tail[BATCHES];
};

/* ---- cuda's record, and what lies in its object and in experts' for it ---- */

struct cuda_record {
	uint64_t list_head[BATCHES], load_head[BATCHES];
	uint64_t done_tail[BATCHES], store_tail[BATCHES], missing_tail[BATCHES];
	struct refusal refused;
	uint64_t ready;     /* the generation whose device is ready for passes; 0: none yet */
	uint64_t slots;     /* experts that it has room for: at most plan.gpu_slots */
	uint64_t copy_rate; /* bytes a second from the host's slots to its own, as measured */
};

enum {
	LOAD_EXPERTS = 64,  /* of one list of experts at most */
	LOAD_RESULTS = 512, /* and pairs that the CPU has computed */
	LOAD_COMMANDS = 6 * LOAD_EXPERTS + LOAD_RESULTS,
	LOAD_BYTES = 160 * LOAD_COMMANDS + 64 /* struct list_head, struct command [LOAD_COMMANDS] */
};

/* Outputs of experts for single rows that one list of experts brings at most. */
static inline uint32_t plan_results(const struct plan *p, uint32_t batch)
{
	uint32_t kept = plan_kept_rows(p, batch);

	return kept < LOAD_RESULTS ? kept : LOAD_RESULTS;
}

/*
 * Experts that a list waits for, and what the CPU needs to compute them instead: at cuda_missing,
 * struct gpu_missing, then its parts.
 */
struct gpu_missing {
	uint64_t seq; /* of the message */
	uint32_t n, pairs;
	uint64_t zero[6];
	/* uint16_t [experts], ascending; missing_pair [rows * top_k]; BF16 [rows][x_stride] */
};
struct missing_pair {
	uint32_t pair; /* row * top_k + choice */
	uint32_t expert;
};
/* Where the parts lie behind `struct gpu_missing`, for a batch of that many rows. */
static inline uint64_t missing_pairs(uint32_t experts)
{
	return sizeof(struct gpu_missing) + ((2ull * experts + 63) & ~63ull);
}
static inline uint64_t missing_rows(uint32_t experts, uint32_t rows, uint32_t top_k)
{
	return (missing_pairs(experts) + (uint64_t)rows * top_k * sizeof(struct missing_pair) +
		63) &
	       ~63ull;
}

/* How a pass's cached rows go to their pages: at cuda_store, struct store_head, then its parts. */
struct store_head {
	uint64_t seq;
	uint32_t rows, copies, first_layer, last_layer;
	/* then struct store_row [rows of the batch], struct pass_copy [places + 1] */
	uint64_t zero[5];
};
/* Where the copies lie behind the rows of a batch of that capacity. */
static inline uint64_t store_copies(uint32_t rows)
{
	return 64 + 16ull * rows;
}
struct store_row {
	uint32_t page, position;
	uint32_t clear; /* MTP's first row: positions below it are missing */
	uint32_t skip;  /* the row has failed */
};

/*
 * A slot's entry, one word: state << 60 | generation (20 bits) << 40 | layer (16) << 24 | expert
 * (16 bits) << 8. Written before a read is submitted.
 */
enum slot_state {
	SLOT_FREE,
	SLOT_LOADING,
	SLOT_READY
};

static inline uint64_t slot_word(enum slot_state state, uint64_t generation, uint32_t layer,
				 uint32_t expert)
{
	return (uint64_t)state << 60 | (generation & 0xfffff) << 40 |
	       (uint64_t)(layer & 0xffff) << 24 | (uint64_t)(expert & 0xffff) << 8;
}

/*
 * What the cache policy knows (runtime/experts/policy.h), in experts' object, so that a successor
 * decides as its predecessor would have. Behind the head: uint32_t visits[layers], then struct
 * policy_expert [layers][experts].
 */
enum {
	POLICY_AGES = 16,  /* classes of age: passes since the last use */
	POLICY_SHARES = 16 /* classes of share: of the passes of late, how many used it */
};

struct policy_odds {
	uint32_t seen, used; /* experts seen in a class, and those of them used by the next pass */
};

struct policy_head {
	uint64_t seq[BATCHES]; /* the step counted last: if it is done again, it counts once */
	struct policy_odds odds[POLICY_AGES][POLICY_SHARES];
};

struct policy_expert {
	uint32_t last;  /* visits of its layer at its last use; 0: never */
	uint16_t share; /* decayed share of visits that used it, of 65536 */
	uint16_t value; /* chance that the next visit uses it, of 65536 */
};

/* A log entry of a token (machinery 16). */
struct token_entry {
	uint32_t token;
	uint32_t end;  /* 1: an end token */
	float logprob; /* of the token under softmax(logits), natural log */
	uint32_t pad;
	uint64_t hash;           /* health: hash of the logits */
	uint64_t time_ns;        /* CLOCK_MONOTONIC, for rates */
	uint32_t alternative[8]; /* room for the best alternatives; zero until they are asked for */
};
_Static_assert(sizeof(struct token_entry) == 64, "a token entry is one cache line");

/* ---- node ---- */

enum node_stage {
	STAGE_SURVEY,
	STAGE_LOADING,
	STAGE_READY,
	STAGE_DRAINING,
	STAGE_STOPPING
};

struct node_file {
	uint64_t bytes;
	uint32_t direct;
	uint32_t drive; /* files with the same number lie on one drive */
	char name[256];
};

struct node_uring {
	uint8_t params[120];
	uint64_t base;
};

/*
 * What a step has cost (machinery 11). init writes it when it has reaped a process, the next one of
 * the role reads it.
 */
enum {
	POISON_ROWS = 1024, /* of a batch beyond these nothing is known row by row */
	POISON_CAREFUL = 2  /* deaths, after which rows are done one by one */
};

struct node_poison {
	_Atomic uint64_t step;   /* progress.step in which the last one died by its own doing */
	_Atomic uint64_t deaths; /* in that step, in a row */
	/* bit r: row r was done alone and killed its server */
	_Atomic uint64_t rows[POISON_ROWS / 64];
};

enum node_unwell {
	NODE_WELL,
	NODE_MISSING, /* it waits to be started: no io_uring, or short of processes or memory */
	NODE_DYING    /* it has died again and again of late */
};

struct node {
	struct object_header header;
	struct plan plan;
	uint64_t random[4];     /* for seeds and ids; drawn once */
	uint64_t started_ns;    /* CLOCK_REALTIME */
	char model_name[256];   /* folder's name or --name */
	char template_name[32]; /* --template, "" */
	char build[64];         /* build's name for system_fingerprint */
	uint8_t model_hash[32]; /* of the index; zero until the survey is done */
	uint32_t sandbox_lacks; /* what servers go without (ipc/sandbox.h); --sandbox=best-effort */
	alignas(64) _Atomic uint32_t stage;      /* enum node_stage; release */
	_Atomic uint32_t stop_signal;            /* why it drains */
	_Atomic uint64_t drain_until_ns;         /* CLOCK_MONOTONIC */
	_Atomic uint64_t generation[ROLE_COUNT]; /* of the living process of a role, from 1 */
	_Atomic uint32_t unwell[ROLE_COUNT];     /* enum node_unwell, for /health */
	struct node_poison poison[ROLE_COUNT];
	_Atomic uint64_t cuda_gone; /* the last generation of cuda that has died */
	_Atomic uint32_t cuda_off;  /* 1: there will be no other */
	/* experts' io_urings of generations up to this one are empty (machinery 10) */
	_Atomic uint64_t uring_empty;
	/*
	 * The io_uring of experts' generation g, at g % 4, written before that process is started:
	 * the kernel's struct io_uring_params as io_uring_setup returned it, so that experts can
	 * map the queues of FD_URING, and the address of byte 0 of the slots object in the buffers
	 * that init registered: piece i is registered buffer i, READ_FIXED takes base + offset.
	 */
	struct node_uring uring[4];
	_Atomic uint64_t slot_pieces; /* pieces of the slots that reads may go to; release */
	uint32_t file_count;
	uint32_t file_packed; /* 1: they are the parts of a packed store */
	struct node_file file[1024];
};

/* Offsets in the objects, bytes from the object's start. */
struct layout {
	uint64_t bytes[OBJ_COUNT]; /* size of each object */

	uint64_t router_record, router_record_size;
	uint64_t router_ring[3];          /* ATTEND0 [BATCHES][RING_ENTRIES], FEED the same */
	uint64_t router_area[BATCHES][2]; /* pass areas by pass & 1 */
	uint64_t area_copies[BATCHES], area_pages[BATCHES]; /* inside an area */
	uint64_t router_rows[BATCHES];         /* layer-0 input rows, FP32 [rows][row_stride] */
	uint64_t router_final[BATCHES];        /* after the final norm, FP32 [rows][row_stride] */
	uint64_t router_expert[BATCHES];       /* uint16_t [layers][rows][top_k] */
	uint64_t router_weight[BATCHES];       /* float [layers][rows][top_k] */
	uint64_t router_error[BATCHES];        /* uint64_t [rows] */
	uint64_t router_page_ids;              /* uint32_t [pages][256] */
	uint64_t router_tokens;                /* struct token_entry [CONN_PLACES][context] */
	uint64_t seq_off, table_off, page_off; /* inside the record */

	uint64_t mla_record, mla_ring; /* ROUTE [BATCHES][RING_ENTRIES] */
	uint64_t mla_rows[BATCHES];    /* residual after attention, FP32 [rows][row_stride] */
	uint64_t mla_x[BATCHES];       /* BF16 [rows][x_stride]: input of gate and experts */
	uint64_t mla_error[BATCHES];

	uint64_t experts_record, experts_ring[3]; /* ATTEND, FINISH, LOAD [BATCHES][RING_ENTRIES] */
	uint64_t experts_rows[BATCHES];           /* residual after the feed-forward block */
	uint64_t experts_acc[BATCHES][2];         /* accumulators, FP32 [rows][row_stride] */
	uint64_t experts_error[BATCHES];
	uint64_t experts_slots; /* _Atomic uint64_t [slots]: slot_word */
	uint64_t experts_policy, experts_visits, experts_known; /* the cache policy's parts */

	uint64_t router_list[BATCHES][2];   /* by pass & 1: struct list_head and its parts */
	uint64_t experts_load[BATCHES];     /* LOAD_BYTES */
	uint64_t experts_result[BATCHES];   /* FP32 [plan_results][row_stride] */
	uint64_t cuda_log;                  /* struct log_object: its progress is what counts */
	uint64_t cuda_record, cuda_ring[3]; /* DONE, STORE, MISSING [BATCHES][RING_ENTRIES] */
	uint64_t cuda_out[BATCHES][2];      /* by pass & 1: struct list_out of model/list.h */
	uint64_t cuda_store[BATCHES][2];    /* struct store_head and its parts */
	uint64_t cuda_missing[BATCHES];     /* struct gpu_missing and its parts */

	uint64_t client_record, client_record_size; /* rings' record: struct client_record */
	uint64_t client_ring;                       /* ANNOUNCE */
	uint64_t client_conn,
		/* records of connections: record_bytes(sizeof(struct conn_record)) apart */
		client_conn_stride;
	uint64_t client_tx;     /* out-rings [CONNS][CONN_RING] */
	uint64_t client_prompt; /* uint32_t [CONN_PLACES][context] */
	uint64_t client_body;   /* assembly areas [CLIENT_BODIES][CLIENT_BODY] */
	/* stop strings of the live reply, one after the other [CONNS][CLIENT_STOP] */
	uint64_t client_stop;

	uint64_t conns_in; /* struct conn_in [CONNS] */
	uint64_t conns_rx; /* in-rings [CONNS][CONN_RING] */

	uint64_t kv_pages; /* page p at kv_pages + p * plan.kv_page_bytes */

	uint64_t logits[2]; /* main, MTP: FP32 [rows of the prefill batch][vocab] */

	uint64_t trace_rows; /* records of a traced run, trace_stride apart */
	uint32_t trace_stride;
	uint32_t row_stride; /* floats: hidden padded to 128 (model_width) */
	uint32_t x_stride;   /* BF16 elements: hidden padded to 128 */
	uint32_t pages_per_seq;
	uint32_t page_list_max;
};

enum {
	BODY_MAX = 16 << 20,  /* bytes of a body without its framing; more is 413 */
	BODY_LEAST = 1 << 20, /* what the smallest node takes */
	BODY_FRAME = 64 << 10,
	/*
	 * Private memory of the gateway per byte of the largest body, while it is at hand: its JSON
	 * (1 for the text and up to 8 for values), the tokenizer (8.5 for a piece that nothing
	 * splits), ids (4), and replies (up to 8), of which not all live at once.
	 */
	BODY_SCRATCH = 15,
	CLIENT_BODIES =
		16, /* assembly areas: memory as far as they are touched, given back when free */
	CLIENT_BODY = BODY_MAX + BODY_FRAME,
	CLIENT_STOP = 32 * 1024
};

struct client_record {
	uint64_t announce_tail;
	/* row_error of the first reply that damaged weights ended: /health stays red */
	uint64_t damage;
	struct refusal refused; /* of router, when its record never stands still */
};

/* Computes the layout. Returns 0, or -EOVERFLOW for a plan whose sizes do not fit in 62 bits. */
MUST_CHECK int layout_make(struct layout *l, const struct plan *p, struct err *e);

#endif
