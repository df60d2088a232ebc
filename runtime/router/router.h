/*
 * router's state. Everything committed lies in the record of router's object: a head, one sequence
 * per connection, page tables by place, pages. Reference counts of pages and the like are derived
 * from it when a successor attaches. Used by runtime/router/ only.
 *
 * Invariants, each asserted where it is used:
 *  1. A sequence has a place exactly while it is SEQ_RUNNING (health: the place behind the last).
 *  2. Positions 0 .. computed - 1 of a running sequence have KV rows; its table covers them.
 *  3. A page is written only by the one running sequence whose table ends with it; pages before a
 *     table's last are shared and full.
 *  4. A page's name speaks of ids that lie in router_page_ids, and of KV rows of passes that have
 *     ended.
 */
#ifndef RUNTIME_ROUTER_ROUTER_H
#define RUNTIME_ROUTER_ROUTER_H

#include "model/gate.h"
#include "model/head.h"
#include "model/mtp.h"
#include "model/sampler.h"
#include "runtime/router/halve.h"
#include "runtime/server/server.h"

#include <stdnoreturn.h>

#define NO_PLACE UINT32_MAX
#define NO_PAGE  UINT32_MAX

/* Passes without drafts of n sequences: a mean of their time. */
struct pay_plain {
	uint32_t passes;
	float ns;
};

/* What is known about drafting's use (pay.c). */
struct pay {
	bool follow, draft; /* MTP follows the sequences of the next decode pass; it has drafts */
	bool on;            /* drafting pays */
	uint32_t trial;     /* passes for which the other way is still tried */
	uint32_t since, interval;  /* passes since the last trial, and when the next is due */
	float sequences, together; /* that decode together: of late, and at the last trial */
	struct pay_plain *plain;   /* [places + 1] by sequences that decode together */
	/* passes with drafts: how many, their time, and what their tokens had taken without */
	uint32_t passes;
	float taken, spared;
	/* the last decode pass, and MTP's behind it */
	uint32_t n, tokens, drafts;
	uint64_t ns;
	uint32_t warm;
	uint64_t start_ns[BATCHES];
	bool alone[BATCHES]; /* the other batch was idle when this one's pass began */
};

struct router {
	struct server s;
	struct record record;
	struct ring_end route[BATCHES];  /* from mla */
	struct ring_end finish[BATCHES]; /* from experts */
	bool gpu_seen;                   /* lists_wait: it has come, or will not */
	struct ring_end done[BATCHES];   /* from cuda */
	struct ring_end announce;        /* from the client role */
	uint32_t *refs;                  /* [pages] running sequences that use a page */
	/*
	 * connections whose sequence is queued or running, the oldest first; health's is not here
	 */
	uint16_t active[CONNS];
	uint32_t n_active;
	/* the connection's request is to be looked at when its pass has ended */
	uint8_t again[CONN_PLACES];
	struct pay pay;
	struct halve halve;
	/* scratch */
	void *gate_work, *mtp_work, *sampler_work;
	uint8_t *skip, *failed;   /* [largest batch] */
	uint32_t *token, *source; /* [largest batch] */
	uint32_t *list_picked;    /* the same: rows of a list that want logits */
	float *picked;            /* [picked_max][row_stride]: rows for the head, then normed */
	uint16_t *picked_x;       /* [picked_max][x_stride] */
	float *logits;            /* [picked_max][vocab], or the logits object of a score run */
	uint32_t picked_max;
};

/* ---- router.c: the record ---- */
struct router_head *router_head(struct router *r);                   /* of the draft, touched */
struct router_seq *router_seq_edit(struct router *r, uint32_t conn); /* touched */
const struct router_seq *router_seq(const struct router *r, uint32_t conn);
uint32_t *
router_table_edit(struct router *r, uint32_t place, uint32_t first,
		  uint32_t n); /* touched: entries first .. first + n - 1; returns entry 0 */
const uint32_t *router_table(const struct router *r, uint32_t place);
struct router_page *router_page_edit(struct router *r, uint32_t page);
const struct router_page *router_page(const struct router *r, uint32_t page);
uint32_t *router_page_ids(const struct router *r, uint32_t page); /* [256], outside the record */
struct token_entry *router_tokens(const struct router *r, uint32_t conn); /* [context] */
const uint32_t *router_prompt(const struct router *r,
			      uint32_t conn); /* [context], in the client's object: hostile */
/* Tokens known of a sequence: prompt and log. */
uint32_t router_known(const struct router_seq *q);
/* Token at a position below router_known; UINT32_MAX for a prompt id that the vocabulary lacks. */
uint32_t router_token_at(const struct router *r, uint32_t conn, uint32_t position);
void router_commit(struct router *r);

/* generation: argv[1]. The loop begins when its predecessor is gone. */
struct router *router_open(const char *generation, struct err *e);
noreturn void router_loop(struct router *r);
/* Its two parts, for who calls them without a process: waits for its predecessor's end; */
void router_take_over(struct router *r);
/* does what can be done now, whether there was anything. */
bool router_turn(struct router *r);

/* ---- requests.c: what the client role wants ---- */
/* Looks at a connection's request and draws the consequence in the draft: queue, refuse, end. */
void requests_look(struct router *r, uint32_t conn);
/* After the commit: the log of a request that nobody wants any more needs no memory. */
void requests_give_back(const struct router *r, uint32_t conn);
/* Ends a sequence that is in no pass, releasing pages and place. */
void requests_end(struct router *r, uint32_t conn, enum seq_status status, uint64_t error);
bool requests_active(const struct router_seq *q);
/* Derives router.active from the record. */
void requests_open(struct router *r);
/* Active sequences with this status. */
uint32_t requests_count(const struct router *r, enum seq_status status);

/* ---- pages.c ---- */
void pages_open(struct router *r);
/* A page for writing, with a reference and without a name; NO_PAGE if all are in use. */
uint32_t pages_take(struct router *r);
/* Pages that pages_take could give. */
uint32_t pages_available(const struct router *r);
void pages_hold(struct router *r, uint32_t page);
void pages_drop(struct router *r, uint32_t page);
/* The page kept for the known-answer request. */
uint32_t pages_reserved(const struct router *r);
/*
 * Finds the longest run of positions that kept pages share with the sequence's known tokens and
 * puts it into its table (place set, n_pages 0): sets n_pages, computed and the copy. Never all
 * known tokens: the last is always computed.
 */
void pages_reuse(struct router *r, uint32_t conn);
/*
 * The pass in which mla made the sequence's copy has ended: the copy has the ids of its original,
 * too. Not before, since until the pass's first commit the committed record may know the page by
 * what it held before.
 */
void pages_copied(struct router *r, uint32_t conn);
/* Gives back all pages of a sequence. */
void pages_release(struct router *r, uint32_t conn);
/*
 * Names the pages of n rows of a pass that has ended: by the tokens that were computed, whatever
 * stands in the prompt's area now.
 */
void pages_name(struct router *r, uint32_t conn, const struct pass_row *row, uint32_t n);
/* The same for n rows of the MTP layer. */
void pages_name_mtp(struct router *r, uint32_t conn, const struct pass_row *row, uint32_t n);

/* ---- draft.c: what MTP knows of a sequence ---- */
/* Nothing yet: at admission, and when its pages are given back. */
void draft_start(struct router *r, uint32_t conn);
/*
 * Admission found a page whose first position is `position`, and `mtp` rows of MTP in it, from the
 * first on. Pages are named in ascending order.
 */
void draft_reuse(struct router_seq *q, uint32_t position, uint32_t mtp);
/*
 * Where to begin, `computed` positions being found: as far before it as MTP needs hidden states,
 * if that is not far.
 */
uint32_t draft_resume(const struct router_seq *q, uint32_t computed);
/* Pairs that an MTP pass could compute now, and the position of the first one's hidden state. */
uint32_t draft_pairs(const struct router_seq *q);
uint32_t draft_from(const struct router_seq *q);
/* Where the MTP layer's keys begin for those pairs. */
uint32_t draft_first_key(const struct router_seq *q);
/* Rows [row0, row0 + n) of a main pass are committed, their final hidden states kept. */
void draft_keep(struct router_seq *q, uint32_t batch, uint32_t row0, uint32_t position, uint32_t n);
/*
 * An MTP pass has ended for n rows, whose first is `row`; logits (NULL: none wanted) speak of the
 * token behind the last known one. error: the rows are lost, and drafting begins anew behind them.
 */
void draft_take(struct router *r, uint32_t conn, const struct pass_row *row, uint32_t n, bool error,
		const float *logits);
/* MTP follows the sequence from the next main pass on, or leaves it. */
void draft_follow(struct router_seq *q, bool follow);
/* Whether the next main pass verifies a draft of this sequence. */
bool draft_wanted(const struct router *r, uint32_t conn);

/* ---- schedule.c ---- */
/*
 * Admits what fits and starts a pass on each idle batch. Whether a pass was started (and
 * committed).
 */
bool schedule(struct router *r);
/* Gives the oldest queued sequence a place if its pages are there. Whether it got one. */
bool schedule_admit(struct router *r);
/*
 * Takes a running sequence's pages and place away, to compute it again from prompt and log when
 * there is room: same bits, nothing truncated. It is in no pass.
 */
void schedule_set_back(struct router *r, uint32_t conn);

/* ---- pay.c: whether drafting pays ---- */
bool pay_open(struct router *r);
/* Before a decode pass of n sequences: sets pay.follow and pay.draft. */
void pay_choose(struct router *r, uint32_t n);
/* A pass of the batch begins. */
void pay_started(struct router *r, uint32_t batch);
/* It has ended, for n sequences, and has given so many tokens and verified so many drafts. */
void pay_ended(struct router *r, uint32_t batch, enum pass_kind kind, uint32_t n, uint32_t tokens,
	       uint32_t drafts);

/* A step on its way. */
struct step {
	struct router *r;
	struct msg msg;
	struct pass pass;
	uint64_t start_ns;
	bool listed; /* it ran as a command list: results are in cuda's object */
};

/* ---- lists.c: passes that `cuda` runs ---- */
/* The generation of cuda that may run the next pass of the batch; 0: the circle does. */
uint64_t lists_gpu(const struct router *r, uint32_t batch);
/* Whether a score run still waits for its GPU: what it was asked to show is what that computes. */
bool lists_wait(struct router *r);
/* Writes the list of the pass that `m` announces. */
void lists_put(struct router *r, const struct msg *m, const struct pass_area *area,
	       const struct pass_row *row, const struct pass_copy *copy, const uint32_t *pages);
/* What a pass has left in cuda's object: hostile, as all that others write. */
const float *lists_rows(const struct step *st);   /* [rows][row_stride] */
const float *lists_logits(const struct step *st); /* [rows that want them][vocab] */
const uint64_t *lists_errors(const struct step *st);
/* Copies the routes to where those of the circle are. */
void lists_take_routes(const struct step *st);

/* ---- finish.c ---- */
/* Computes the head and ends the pass for each of its sequences, in the draft. */
void finish_pass(const struct step *st);
/* After the commit: the rows of a main pass into the route trace. */
void finish_trace(const struct step *st);
/* Draws the token at router_known from a logit row. 0 or -errno; see sampler_draw. */
int finish_draw(struct router *r, uint32_t conn, const float *logits, uint32_t *token);
bool finish_is_end(const struct router *r, uint32_t token);

/* ---- steps.c ---- */
/* Serves one message of the circle, decode first. Whether there was one. */
bool steps_serve(struct router *r);
/*
 * For a successor: counts of rings that cannot be are made to agree with the neighbours', and the
 * passes that lost a message by it are run again.
 */
void steps_repair(struct router *r);
/* Gives up passes that a neighbour refused (machinery 5). Whether there was one. */
bool steps_abandon_refused(struct router *r);
/* The same for passes of a cuda that has died. */
bool steps_abandon_dead(struct router *r);

#endif
