/* The events of a reply: the envelopes of both endpoints, streamed and whole. See reply.h. */
#include "runtime/gateway/reply.h"

#include "runtime/gateway/http.h"
#include "runtime/gateway/reply_text.h"
#include "runtime/sha256.h"

#include <errno.h>
#include <string.h>

int reply_env_open(struct reply_env *env, struct arena *a, struct err *e)
{
	env->piece_cap = (env->tokenizer ? detokenizer_piece_max(env->tokenizer) : 0) + 16;
	env->work_cap = env->piece_cap + STOP_BYTES + 16;
	/*
	 * both texts escaped, each byte at most \u00xx, and the envelope with the model's name
	 * twice over
	 */
	env->event_cap = 12 * env->work_cap + 8192;
	env->piece = arena_alloc(a, env->piece_cap, 64);
	env->work = arena_alloc(a, env->work_cap, 64);
	env->begin = arena_alloc(a, env->work_cap, 64);
	env->reasoning = arena_alloc(a, env->work_cap, 64);
	env->content = arena_alloc(a, env->work_cap, 64);
	env->event = arena_alloc(a, env->event_cap, 64);
	if (!env->piece || !env->work || !env->begin || !env->reasoning || !env->content ||
	    !env->event)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "gateway: no memory for replies");
	return 0;
}

void reply_draw(const uint64_t random[4], uint32_t conn, uint64_t number, uint8_t out[32])
{
	uint64_t text[6] = {random[0], random[1], random[2], random[3], conn, number};

	sha256(text, sizeof(text), out);
}

void reply_name(struct reply *r, uint32_t conn, uint64_t number)
{
	struct out o = out_make(r->id, sizeof(r->id) - 1);
	uint8_t sum[32];

	reply_draw(r->env->random, conn, number, sum);
	out_text(&o, r->flags & REPLY_CHAT ? "chatcmpl-" : "cmpl-");
	/* the first 8 bytes are the drawn seed's; an id need not tell it */
	for (unsigned i = 8; i < 20; i++)
		out_format(&o, "%02x", sum[i]);
	r->id[o.n] = 0;
}

void reply_fold_begin(const struct reply *r, struct reply_fold *f, char *held)
{
	memset(f, 0, sizeof(*f));
	f->held = held;
	f->detokenizer.skip_special = true;
	f->stage = STAGE_CONTENT;
	if (r->flags & REPLY_CHAT)
		f->stage = STAGE_BEGIN;
	if (r->flags & REPLY_REASONING) {
		f->stage = STAGE_REASONING_BEGIN;
		f->reasoned = true;
	}
}

/* ---- pieces of the envelope ---- */

static void write_facts(const struct reply *r, const char *object, struct out *o)
{
	out_format(o, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%llu,\"model\":", r->id, object,
		   (unsigned long long)r->created);
	out_json(o, r->env->model, strlen(r->env->model));
	out_text(o, ",\"system_fingerprint\":");
	out_json(o, r->env->fingerprint, strlen(r->env->fingerprint));
	out_text(o, ",\"seed\":");
	out_i64(o, r->seed);
	out_text(o, ",\"choices\":[");
}

static void write_usage(const struct reply *r, const struct reply_fold *f, uint32_t cached,
			struct out *o)
{
	out_format(o,
		   "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%llu,"
		   "\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
		   r->n_prompt, f->tokens, (unsigned long long)r->n_prompt + f->tokens, cached);
}

static const char *reason_of(const struct reply_fold *f)
{
	return f->finish == FINISH_LENGTH ? "\"length\"" : "\"stop\"";
}

/* ---- streamed ---- */

/* Writes what the event scratch holds as a `data:` event. */
static void send_bytes(const struct reply *r, const struct out *event, struct out *o)
{
	if (event->full) {
		o->full = true;
		return;
	}
	if (r->flags & REPLY_HTTP11)
		out_format(o, "%zx\r\n", event->n);
	out_bytes(o, event->p, event->n);
	if (r->flags & REPLY_HTTP11)
		out_text(o, "\r\n");
}

static struct out chunk_begin(const struct reply *r)
{
	struct out c = out_make(r->env->event, r->env->event_cap);

	out_text(&c, "data: ");
	write_facts(r, r->flags & REPLY_CHAT ? "chat.completion.chunk" : "text_completion", &c);
	return c;
}

static void chunk_end(const struct reply *r, struct out *c, struct out *o)
{
	out_text(c, r->flags & REPLY_USAGE ? "],\"usage\":null}\n\n" : "]}\n\n");
	send_bytes(r, c, o);
}

static void stream_text(const struct reply *r, const struct reply_text *t, struct out *o)
{
	struct out c;
	const char *comma = "";

	if (!t->reasoning.n && !t->content.n)
		return;
	c = chunk_begin(r);
	if (r->flags & REPLY_CHAT) {
		out_text(&c, "{\"index\":0,\"delta\":{");
		if (t->reasoning.n) {
			out_text(&c, "\"reasoning_content\":");
			out_json(&c, t->reasoning.p, t->reasoning.n);
			comma = ",";
		}
		if (t->content.n) {
			out_text(&c, comma);
			out_text(&c, "\"content\":");
			out_json(&c, t->content.p, t->content.n);
		}
		out_text(&c, "},\"logprobs\":null,\"finish_reason\":null}");
	} else {
		out_text(&c, "{\"index\":0,\"text\":");
		out_json(&c, t->content.p, t->content.n);
		out_text(&c, ",\"logprobs\":null,\"finish_reason\":null}");
	}
	chunk_end(r, &c, o);
}

static void stream_role(const struct reply *r, struct out *o)
{
	struct out c = chunk_begin(r);

	/*
	 * OpenAI's form; null where the reply begins inside its reasoning, as its content may stay
	 * null
	 */
	out_format(&c,
		   "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":%s},"
		   "\"logprobs\":null,\"finish_reason\":null}",
		   r->flags & REPLY_REASONING ? "null" : "\"\"");
	chunk_end(r, &c, o);
}

static void stream_last(const struct reply *r, struct out *o)
{
	if (r->flags & REPLY_HTTP11)
		out_text(o, "0\r\n\r\n");
}

static void stream_end(const struct reply *r, const struct reply_fold *f, uint32_t cached,
		       struct out *o)
{
	struct out c = chunk_begin(r);

	out_text(&c, r->flags & REPLY_CHAT ? "{\"index\":0,\"delta\":{}"
					   : "{\"index\":0,\"text\":\"\"");
	out_format(&c, ",\"logprobs\":null,\"finish_reason\":%s}", reason_of(f));
	chunk_end(r, &c, o);
	if (r->flags & REPLY_USAGE) {
		c = chunk_begin(r);
		out_text(&c, "],");
		write_usage(r, f, cached, &c);
		out_text(&c, "}\n\n");
		send_bytes(r, &c, o);
	}
	c = out_make(r->env->event, r->env->event_cap);
	out_text(&c, "data: [DONE]\n\n");
	send_bytes(r, &c, o);
	stream_last(r, o);
}

void reply_broken(const struct reply *r, const struct api_error *e, struct out *o)
{
	struct out c = out_make(r->env->event, r->env->event_cap);

	out_text(&c, "data: ");
	api_write_error(&c, e);
	out_text(&c, "\n\n");
	send_bytes(r, &c, o);
	stream_last(r, o);
}

void reply_comment(const struct reply *r, const char *text, struct out *o)
{
	struct out c = out_make(r->env->event, r->env->event_cap);

	out_text(&c, ": ");
	out_text(&c, text);
	out_text(&c, "\n\n");
	send_bytes(r, &c, o);
}

/* ---- whole ---- */

static void whole_begin(const struct reply *r, struct out *o)
{
	write_facts(r, r->flags & REPLY_CHAT ? "chat.completion" : "text_completion", o);
	out_text(o, r->flags & REPLY_CHAT ? "{\"index\":0,\"message\":{\"role\":\"assistant\""
					  : "{\"index\":0,\"text\":\"");
}

/*
 * A string is open in the JSON text from its first byte on; opening the content closes the
 * reasoning.
 */
static void open_reasoning(struct reply_fold *f, struct out *o)
{
	if (!f->reasoning_open)
		out_text(o, ",\"reasoning_content\":\"");
	f->reasoning_open = true;
}

static void open_content(const struct reply *r, struct reply_fold *f, struct out *o)
{
	if (f->content_open)
		return;
	f->content_open = true;
	if (!(r->flags & REPLY_CHAT))
		return;
	if (f->reasoned)
		open_reasoning(f, o);
	out_text(o, f->reasoned ? "\",\"content\":\"" : ",\"content\":\"");
}

static void whole_text(const struct reply *r, struct reply_fold *f, const struct reply_text *t,
		       struct out *o)
{
	if (t->reasoning.n) {
		open_reasoning(f, o);
		out_json_part(o, t->reasoning.p, t->reasoning.n);
	}
	if (t->content.n) {
		open_content(r, f, o);
		out_json_part(o, t->content.p, t->content.n);
	}
}

static void whole_end(const struct reply *r, const struct reply_fold *f, uint32_t cached,
		      struct out *o)
{
	struct reply_fold last = *f;

	if (f->stage == STAGE_REASONING || f->stage == STAGE_REASONING_BEGIN) {
		open_reasoning(&last, o);
		out_text(o, "\",\"content\":null}");
	} else {
		open_content(r, &last, o);
		out_text(o, r->flags & REPLY_CHAT ? "\"}" : "\"");
	}
	out_format(o, ",\"logprobs\":null,\"finish_reason\":%s}],", reason_of(f));
	write_usage(r, f, cached, o);
	out_text(o, "}");
}

uint64_t reply_frame_len(const struct reply *r, const struct reply_fold *f, uint32_t cached)
{
	struct out o = out_make(r->env->event, r->env->event_cap);

	whole_begin(r, &o);
	whole_end(r, f, cached, &o);
	return o.n;
}

/* ---- both ---- */

void reply_begin(const struct reply *r, uint64_t body_len, struct out *o)
{
	struct http_head h = {.status = 200,
			      .content_type = "application/json",
			      .length = body_len,
			      .date = r->created, /* whoever writes it, and when */
			      .keep_alive = r->flags & REPLY_KEEP,
			      .http11 = r->flags & REPLY_HTTP11};

	if (r->flags & REPLY_STREAM) {
		h.content_type = "text/event-stream";
		h.no_cache = true;
		h.length = r->flags & REPLY_HTTP11 ? HTTP_CHUNKED : HTTP_UNTIL_CLOSE;
	}
	http_write_head(o, &h);
	if (!(r->flags & REPLY_STREAM))
		whole_begin(r, o);
	else if (r->flags & REPLY_CHAT)
		stream_role(r, o);
}

void reply_token(const struct reply *r, struct reply_fold *f, uint32_t token, struct out *o)
{
	struct reply_text t;

	reply_fold_token(r, f, token, &t);
	if (!o)
		return;
	if (t.reasoning.full || t.content.full)
		o->full = true;
	else if (r->flags & REPLY_STREAM)
		stream_text(r, &t, o);
	else
		whole_text(r, f, &t, o);
}

void reply_end(const struct reply *r, const struct reply_fold *f, uint32_t cached, struct out *o)
{
	if (r->flags & REPLY_STREAM)
		stream_end(r, f, cached, o);
	else
		whole_end(r, f, cached, o);
}
