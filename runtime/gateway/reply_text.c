/*
 * Tokens to the two texts of a reply, reasoning and content: tags cut out, stop strings found and
 * held back. See reply.h.
 */
#include "runtime/gateway/reply_text.h"

#include <string.h>

#define TAG_OPEN  "<think>"
#define TAG_CLOSE "</think>"

/* No proper prefix of the closing tag is its suffix, so all its borders are empty. */
static const uint16_t no_borders[sizeof(TAG_CLOSE)];
static const struct stop_set closing = {
	.n = 1, .text = {TAG_CLOSE}, .len = {sizeof(TAG_CLOSE) - 1}, .back = {no_borders}};

/* Text and what is left of it to be looked at. */
struct cursor {
	const char *s;
	size_t n;
};

/* Joins what was held and the new text in the work area. */
static size_t join(const struct reply *r, const struct reply_fold *f, const struct cursor *c)
{
	char *w = r->env->work;

	memcpy(w, f->held, f->n_held);
	memmove(w + f->n_held, c->s, c->n);
	return f->n_held + c->n;
}

static void hold(struct reply_fold *f, const char *s, size_t n)
{
	memcpy(f->held, s, n);
	f->n_held = (uint32_t)n;
}

/* Decides whether the reply begins with the tag, or waits for more text. */
static void step_begin(const struct reply *r, struct reply_fold *f, struct cursor *c)
{
	const size_t tag = sizeof(TAG_OPEN) - 1;
	char *w = r->env->work;
	size_t n = join(r, f, c);

	if (memcmp(w, TAG_OPEN, n < tag ? n : tag) != 0) {
		f->stage = STAGE_CONTENT;
		f->n_held = 0;
		/* the whole text is content; step_content joins it in the work area again */
		memcpy(r->env->begin, w, n);
		*c = (struct cursor){r->env->begin, n};
	} else if (n < tag) {
		hold(f, w, n);
		c->n = 0;
	} else {
		size_t used = tag - f->n_held;

		f->stage = STAGE_REASONING_BEGIN;
		f->reasoned = true;
		f->n_held = 0;
		*c = (struct cursor){c->s + used, c->n - used};
	}
}

static void step_newlines(struct reply_fold *f, struct cursor *c, enum reply_stage next)
{
	while (c->n && *c->s == '\n')
		*c = (struct cursor){c->s + 1, c->n - 1};
	if (c->n)
		f->stage = (uint8_t)next;
}

static void step_reasoning(const struct reply *r, struct reply_fold *f, struct cursor *c,
			   struct out *reasoning)
{
	size_t n = join(r, f, c);
	size_t found = stop_push(&closing, &f->tag, c->s, c->n);
	size_t held = found ? 0 : stop_held(&closing, &f->tag);

	out_bytes(reasoning, r->env->work, n - (found ? found : held));
	hold(f, r->env->work + n - held, held);
	if (found) {
		size_t rest = found - (sizeof(TAG_CLOSE) - 1);

		f->stage = STAGE_CONTENT_BEGIN;
		*c = (struct cursor){c->s + c->n - rest, rest};
	} else {
		c->n = 0;
	}
}

static void step_content(const struct reply *r, struct reply_fold *f, struct cursor *c,
			 struct out *content)
{
	size_t n = join(r, f, c);
	size_t found = stop_push(&r->stops, &f->stops, c->s, c->n);
	size_t held = stop_held(&r->stops, &f->stops);

	/* one found in an earlier piece began earlier */
	if (f->stop_found)
		found = f->stop_found + c->n > found ? f->stop_found + c->n : found;
	/* one that began before it may still become whole: the earliest start wins */
	f->stop_found = held > found ? (uint32_t)found : 0;
	if (found && !f->stop_found) {
		f->finish = FINISH_STOP;
		out_bytes(content, r->env->work, n - found);
		held = 0;
	} else {
		out_bytes(content, r->env->work, n - held);
	}
	hold(f, r->env->work + n - held, held);
	c->n = 0;
}

static void push_text(const struct reply *r, struct reply_fold *f, const char *s, size_t n,
		      struct reply_text *t)
{
	struct cursor c = {s, n};

	while (c.n && !f->finish) {
		switch ((enum reply_stage)f->stage) {
		case STAGE_BEGIN:
			step_begin(r, f, &c);
			break;
		case STAGE_REASONING_BEGIN:
			step_newlines(f, &c, STAGE_REASONING);
			break;
		case STAGE_REASONING:
			step_reasoning(r, f, &c, &t->reasoning);
			break;
		case STAGE_CONTENT_BEGIN:
			step_newlines(f, &c, STAGE_CONTENT);
			break;
		case STAGE_CONTENT:
			step_content(r, f, &c, &t->content);
			break;
		}
	}
}

static bool is_end(const struct reply_env *env, uint32_t token)
{
	for (uint32_t i = 0; i < env->n_eos; i++) {
		if (env->eos[i] == token)
			return true;
	}
	return false;
}

/* Nothing more comes: what was held is text after all. */
static void release(const struct reply *r, struct reply_fold *f, struct reply_text *t)
{
	char last[4];
	size_t n = detokenizer_finish(&f->detokenizer, last);

	push_text(r, f, last, n, t);
	if (f->stage == STAGE_BEGIN && f->n_held) { /* the beginning of a tag only: it is content */
		struct cursor c = {r->env->begin, f->n_held};

		memcpy(r->env->begin, f->held, f->n_held);
		f->stage = STAGE_CONTENT;
		f->n_held = 0;
		step_content(r, f, &c, &t->content);
	}
	if (f->finish == FINISH_STOP)
		return;
	if (f->stop_found) { /* what began before it did not become whole */
		f->finish = FINISH_STOP;
		f->n_held -= f->stop_found;
	}
	out_bytes(f->stage == STAGE_REASONING ? &t->reasoning : &t->content, f->held, f->n_held);
	f->n_held = 0;
}

void reply_fold_token(const struct reply *r, struct reply_fold *f, uint32_t token,
		      struct reply_text *t)
{
	const struct reply_env *env = r->env;
	bool end = is_end(env, token);

	t->reasoning = out_make(env->reasoning, env->work_cap);
	t->content = out_make(env->content, env->work_cap);
	f->tokens++;
	if (!end && env->tokenizer) {
		size_t n = detokenizer_push(&f->detokenizer, env->tokenizer, token, env->piece);

		push_text(r, f, env->piece, n, t);
	}
	if (f->finish || !(end || f->tokens >= r->max_tokens))
		return;
	release(r, f, t);
	if (!f->finish)
		f->finish = end ? FINISH_STOP : FINISH_LENGTH;
}
