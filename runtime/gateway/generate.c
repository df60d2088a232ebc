/*
 * A chat or completion request into a connection's record, and the words for what went wrong with
 * one. See gateway.h.
 */
#include "runtime/gateway/gateway.h"

#include "model/tensors.h"
#include "runtime/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
	QUIET_MS = 50 /* a bell for the end of a cancelled sequence is not promised */
};

static uint32_t *prompt_area(const struct gateway *g, const struct conn *c)
{
	return (uint32_t *)attach_at(&g->at, OBJ_CLIENT, g->at.layout.client_prompt) +
	       (uint64_t)c->i * g->at.plan->context;
}

static int too_long(const struct gateway *g, const struct api_request *r, uint64_t n,
		    struct api_error *e)
{
	const char *param = r->endpoint == API_CHAT ? "messages" : "prompt";
	uint64_t wanted = r->has_max_tokens ? r->max_tokens : 1;
	char wish[64] = "";

	if (r->has_max_tokens)
		snprintf(wish, sizeof(wish), " and %llu for the completion",
			 (unsigned long long)r->max_tokens);
	return api_refuse(e, 400, param, "context_length_exceeded",
			  "This model's maximum context length is %u tokens, but the request needs "
			  "%llu: %llu in the %s%s",
			  g->model.context,
			  (unsigned long long)(wanted > UINT64_MAX - n ? UINT64_MAX : n + wanted),
			  (unsigned long long)n, param, wish);
}

/* The prompt into its area. Returns its length, or -1. */
static int64_t put_prompt(struct gateway *g, struct conn *c, struct api_request *r,
			  struct api_error *e)
{
	uint32_t context = g->model.context;
	int64_t n = api_prompt_ids(r, &g->model, prompt_area(g, c), context, &g->json, e);

	if (n < 0)
		return -1;
	if (n >= (int64_t)context || (r->has_max_tokens && r->max_tokens > context - (uint64_t)n))
		return too_long(g, r, (uint64_t)n, e);
	return n;
}

static void put_stops(const struct gateway *g, const struct conn *c, const struct api_request *r)
{
	char *area = (char *)attach_at(&g->at, OBJ_CLIENT, g->at.layout.client_stop) +
		     (uint64_t)c->i * CLIENT_STOP;
	struct own *own = conn_own(c);

	own->n_stop = r->n_stop;
	for (uint32_t k = 0; k < r->n_stop; k++) {
		memcpy(area, r->stop[k], r->stop_len[k]);
		area += r->stop_len[k];
		own->stop_len[k] = r->stop_len[k];
	}
}

static int64_t draw_seed(const struct gateway *g, const struct conn *c, uint64_t number)
{
	uint8_t sum[32];
	uint64_t seed;

	reply_draw(g->env.random, c->i, number, sum);
	memcpy(&seed, sum, sizeof(seed));
	/* 53 bits, so that it survives a client that keeps numbers as doubles */
	return (int64_t)(seed >> 11);
}

static void put_request(struct gateway *g, struct conn *c, const struct api_request *r, uint32_t n)
{
	struct request *q = &conn_draft(c)->request;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	q->number++;
	q->live = 1;
	q->flags = 0;
	q->n_prompt = n;
	q->max_tokens = r->has_max_tokens ? (uint32_t)r->max_tokens : g->model.context - n;
	q->top_k = r->top_k;
	q->temperature = r->temperature;
	q->top_p = r->top_p;
	q->min_p = r->min_p;
	q->seed = r->has_seed ? r->seed : draw_seed(g, c, q->number);
	q->created_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
	q->taken = 0;
}

enum served generate_serve(struct gateway *g, struct conn *c, enum api_endpoint endpoint, bool keep)
{
	struct own *own = conn_own(c);
	struct api_request r;
	struct api_error e;
	int64_t n;

	/* invariant 2: the router may still read the prompt of the request before */
	if (!follow_quiet(c)) {
		uint64_t again = g->now + QUIET_MS * NS_PER_MS;

		c->wake_ns = again < c->wake_ns ? again : c->wake_ns;
		return SERVED_WAIT;
	}
	if (gateway_stage(g) >= STAGE_DRAINING) {
		api_refuse(&e, 503, NULL, NULL, "the node is going down");
		e.retry_after = 30;
		serve_error(g, &c->http, &e, keep, NULL);
		return SERVED_ONCE;
	}
	if (serve_read(g, c, endpoint, &r, &e) || (n = put_prompt(g, c, &r, &e)) < 0) {
		serve_error(g, &c->http, &e, keep, NULL);
		return SERVED_REPLY;
	}
	put_request(g, c, &r, (uint32_t)n);
	put_stops(g, c, &r);
	c->touched |= r.n_stop || n * (int64_t)sizeof(uint32_t) >= CONN_IDLE_KEPT;
	own->event = own->end = 0;
	own->event_off = 0;
	own->finish = FINISH_NONE;
	own->error = 0;
	own->cached = 0;
	own->flags = (endpoint == API_CHAT ? REPLY_CHAT : 0u) | (r.stream ? REPLY_STREAM : 0u) |
		     (r.include_usage ? REPLY_USAGE : 0u) |
		     (r.opens_reasoning ? REPLY_REASONING : 0u) |
		     (c->http.http11 ? REPLY_HTTP11 : 0u) |
		     /* a stream to HTTP/1.0 ends with the connection */
		     (keep && (c->http.http11 || !r.stream) ? REPLY_KEEP : 0u);
	log_write(g->at.log, g->at.generation, LOG_REQUEST,
		  (const uint64_t[5]){c->i, conn_draft(c)->request.number, (uint64_t)n, 0,
				      conn_draft(c)->request.max_tokens});
	count_add(g->at.log, COUNT_REQUESTS, 1);
	return SERVED_GENERATE;
}

/* ---- causes ---- */

static const char *role_named(uint64_t role)
{
	return role < ROLE_COUNT ? graph_roles[role].program : "that runs it";
}

void cause_explain(const struct gateway *g, uint64_t error, struct api_error *e)
{
	uint32_t layer = error >> 32 & 0xffff, expert = error >> 16 & 0xffff;
	char text[TENSOR_DAMAGE_TEXT];

	switch ((enum seq_cause)(error >> 56)) {
	case CAUSE_READ:
	case CAUSE_BAD_EXPERT:
		api_refuse(e, 503, NULL, "model_damaged", "%s",
			   tensor_damage_text(text, g->index, layer, expert, error >> 48 & 0xff,
					      error & 0xffff));
		break;
	case CAUSE_NOT_FINITE:
		if (layer == 0xffff)
			api_refuse(e, 503, NULL, "not_finite", "the logits are not finite");
		else
			api_refuse(e, 503, NULL, "not_finite",
				   "a number that is not finite appeared in layer %u", layer);
		break;
	case CAUSE_POISON:
		if (layer == 0xffff)
			api_refuse(e, 500, NULL, "poison",
				   "this request ended the server router in the head three times");
		else
			api_refuse(e, 500, NULL, "poison",
				   "this request ended the server %s in layer %u three times",
				   role_named(error >> 48 & 0xff), layer);
		break;
	case CAUSE_TOO_LONG:
		api_refuse(
			e, 400, NULL, "context_length_exceeded",
			"the request does not fit in the memory for %u KV pages of 256 positions",
			g->at.plan->pages);
		break;
	case CAUSE_STOPPING:
		api_refuse(e, 503, NULL, NULL, "the node is going down");
		e->retry_after = 30;
		break;
	default:
		api_refuse(e, 500, NULL, "internal_error",
			   "the node answered in a way it should not (cause %u)",
			   (unsigned)(error >> 56));
	}
}

void cause_note(struct gateway *g, uint64_t error)
{
	struct client_record *rec = g->rings.draft;
	uint64_t cause = error >> 56;

	if (rec->damage || !(error == UINT64_MAX || cause == CAUSE_READ ||
			     cause == CAUSE_BAD_EXPERT || cause == CAUSE_NOT_FINITE))
		return;
	rec->damage = error;
	record_touch(&g->rings, &rec->damage, sizeof(rec->damage));
	record_commit(&g->rings);
}
