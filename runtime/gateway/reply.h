/*
 * A generated reply as a pure function of its request and the token log (machinery 15). The reply
 * is a sequence of events: the beginning, one per token, the end; each event is some bytes, perhaps
 * none. What was rendered is named by (events done, bytes of the current one), so a successor makes
 * the same bytes again. State that depends on tokens is a fold over them and is recomputed, never
 * stored.
 *
 * Streamed: an event is a chunk with a `data:` line. Not streamed: the events are consecutive
 * pieces of one JSON text.
 */
#ifndef GATEWAY_REPLY_H
#define GATEWAY_REPLY_H

#include "model/text/tokenizer.h"
#include "runtime/arena.h"
#include "runtime/gateway/api.h"
#include "runtime/gateway/out.h"
#include "runtime/gateway/stop.h"

#include <stdbool.h>
#include <stdint.h>

/* What is the same for every reply of a node. Borrowed for the life of the process. */
struct reply_env {
	const struct tokenizer *tokenizer;
	const uint32_t *eos;
	uint32_t n_eos, vocab;
	const char *model;
	char fingerprint[96];
	uint64_t random[4];
	/* scratch memory that all replies share, for one call at a time */
	char *piece, *work, *begin, *reasoning, *content, *event;
	size_t piece_cap, work_cap, event_cap;
};

/* Sizes the scratch memory from the tokenizer, which may be NULL. Returns 0 or -ENOMEM. */
MUST_CHECK int reply_env_open(struct reply_env *env, struct arena *a, struct err *e);

enum reply_flags {
	REPLY_CHAT = 1, /* else a completion */
	REPLY_STREAM = 2,
	REPLY_USAGE = 4,     /* a last event with the usage */
	REPLY_REASONING = 8, /* begins inside its reasoning */
	REPLY_HTTP11 = 16,
	REPLY_KEEP = 32 /* the connection stays */
};

enum reply_finish {
	FINISH_NONE,
	FINISH_STOP,
	FINISH_LENGTH,
	FINISH_ERROR
};

/* One reply: its facts, from the committed record. */
struct reply {
	const struct reply_env *env;
	uint32_t flags; /* enum reply_flags */
	uint32_t n_prompt, max_tokens;
	uint64_t created; /* seconds */
	int64_t seed;
	char id[48];
	struct stop_set stops;
};

/*
 * Names a request: id and drawn seed come from this. out: 32 bytes, a hash of the node's random
 * block.
 */
void reply_draw(const uint64_t random[4], uint32_t conn, uint64_t number, uint8_t out[32]);
/* Writes r->id for the request; r->flags must be set. */
void reply_name(struct reply *r, uint32_t conn, uint64_t number);

enum reply_stage {
	STAGE_BEGIN,           /* it may begin with <think> */
	STAGE_REASONING_BEGIN, /* behind the tag: newlines are dropped */
	STAGE_REASONING,
	STAGE_CONTENT_BEGIN,
	STAGE_CONTENT
};

/* The fold. Zeroed and reply_fold_begin: no tokens yet. */
struct reply_fold {
	uint32_t tokens;
	uint32_t finish; /* enum reply_finish, after the last token */
	uint8_t stage;   /* enum reply_stage */
	bool reasoned, reasoning_open, content_open;
	struct detokenizer detokenizer;
	struct stop_state tag, stops;
	/*
	 * bytes from the start of a whole stop string to the text's end, while an earlier start is
	 * undecided
	 */
	uint32_t stop_found;
	uint32_t n_held;
	char *held; /* STOP_BYTES bytes: text that may begin a stop string or a tag */
};

void reply_fold_begin(const struct reply *r, struct reply_fold *f, char *held);

/*
 * Events. Each appends to o. `body_len` is that of all JSON pieces together; of no use to a stream.
 */
void reply_begin(const struct reply *r, uint64_t body_len, struct out *o);
/*
 * Folds the next token; o may be NULL (nothing is written). Afterwards f->finish says whether it
 * was the last one.
 */
void reply_token(const struct reply *r, struct reply_fold *f, uint32_t token, struct out *o);
void reply_end(const struct reply *r, const struct reply_fold *f, uint32_t cached, struct out *o);
/* The end of a stream that has begun and cannot go on. */
void reply_broken(const struct reply *r, const struct api_error *e, struct out *o);
/* A comment line, between events of a stream. */
void reply_comment(const struct reply *r, const char *text, struct out *o);

/* Bytes of the JSON text before the first token and behind the last (not streamed). */
uint64_t reply_frame_len(const struct reply *r, const struct reply_fold *f, uint32_t cached);

#endif
