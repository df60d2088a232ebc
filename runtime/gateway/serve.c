/*
 * From a whole request to its answer: the table of endpoints, and the small ones themselves. See
 * gateway.h.
 */
#include "runtime/gateway/gateway.h"

#include "runtime/clock.h"

#include <string.h>

enum {
	HEAD_ROOM = 1024, /* in front of a reply's body; a head of ours has a quarter of it */
	LARGE = 1 << 20   /* a body that leaves much scratch memory touched */
};

#define JSON "application/json"

/* ---- replies ---- */

struct out *serve_begin(struct gateway *g)
{
	bool small = g->out_conn != CONNS;

	g->out = out_make((small ? g->small : g->block) + HEAD_ROOM,
			  (small ? SMALL_OUT : GATEWAY_OUT * g->body_max) - HEAD_ROOM);
	return &g->out;
}

void serve_end(struct gateway *g, const struct http *h, const struct http_head *head)
{
	struct http_head facts = *head;
	char text[HEAD_ROOM];
	struct out o = out_make(text, sizeof(text));

	facts.length = g->out.n;
	facts.http11 = h->http11;
	facts.date = gateway_date(g);
	http_write_head(&o, &facts);
	if (http_is_head(h))
		g->out.n = 0;
	g->out.p -= o.n;
	memcpy(g->out.p, text, o.n);
	g->out.n += o.n;
	g->out.full |= o.full;
}

void serve_error(struct gateway *g, const struct http *h, const struct api_error *e, bool keep,
		 const char *allow)
{
	struct http_head head = {.status = e->status,
				 .content_type = JSON,
				 .keep_alive = keep,
				 .retry_after = e->retry_after,
				 .allow = allow};

	api_write_error(serve_begin(g), e);
	serve_end(g, h, &head);
	count_add(g->at.log, COUNT_HTTP_ERRORS, 1);
}

static enum served error(struct gateway *g, struct conn *c, const struct api_error *e, bool keep)
{
	serve_error(g, &c->http, e, keep, NULL);
	return SERVED_REPLY;
}

static enum served json(struct gateway *g, struct conn *c, bool keep)
{
	serve_end(g, &c->http,
		  &(struct http_head){.status = 200, .content_type = JSON, .keep_alive = keep});
	return SERVED_REPLY;
}

int serve_read(struct gateway *g, const struct conn *c, enum api_endpoint endpoint,
	       struct api_request *r, struct api_error *e)
{
	struct http h;
	const char *bytes;
	enum http_result result = HTTP_MORE;
	int rc;

	http_begin(&h, g->body);
	while (result == HTTP_MORE && h.fed < c->http.fed) {
		size_t n = conn_raw(g, c, h.fed, &bytes);

		result = http_feed(&h, bytes, n);
	}
	arena_reset(&g->json, 0);
	g->scratch_dirty |= h.body_bytes > LARGE;
	rc = api_read(r, endpoint, &g->model, g->body, h.body_bytes, &g->json, e);
	if (h.body_bytes > LARGE) /* its strings have been copied */
		gateway_give_back(g->body, h.body_bytes);
	return rc;
}

/* ---- small endpoints ---- */

static void write_model(const struct gateway *g, struct out *o)
{
	out_text(o, "{\"id\":");
	out_json(o, g->model.name, strlen(g->model.name));
	out_format(o,
		   ",\"object\":\"model\",\"created\":%llu,\"owned_by\":\"penstock\","
		   "\"max_model_len\":%u}",
		   (unsigned long long)(g->at.node->started_ns / NS_PER_S), g->model.context);
}

static enum served models(struct gateway *g, struct conn *c, bool keep)
{
	struct out *o = serve_begin(g);

	out_text(o, "{\"object\":\"list\",\"data\":[");
	write_model(g, o);
	out_text(o, "]}");
	return json(g, c, keep);
}

static enum served model(struct gateway *g, struct conn *c, const char *id, size_t len, bool keep)
{
	struct api_error e;
	char name[204];

	if (len == strlen(g->model.name) && memcmp(id, g->model.name, len) == 0) {
		write_model(g, serve_begin(g));
		return json(g, c, keep);
	}
	api_refuse(&e, 404, "model", "model_not_found",
		   "The model '%s' does not exist; this node serves '%s'", err_name(name, id, len),
		   g->model.name);
	return error(g, c, &e, keep);
}

static enum served metrics(struct gateway *g, struct conn *c, bool keep)
{
	metrics_write(g, serve_begin(g));
	serve_end(g, &c->http,
		  &(struct http_head){.status = 200,
				      .content_type = "text/plain; version=0.0.4; charset=utf-8",
				      .keep_alive = keep});
	return SERVED_ONCE;
}

static bool has_tokenizer(const struct gateway *g, struct api_error *e)
{
	if (g->model.tokenizer)
		return true;
	api_refuse(e, 503, NULL, NULL, "this model has no usable tokenizer: %s",
		   g->model.tokenizer_problem);
	return false;
}

static enum served tokenize(struct gateway *g, struct conn *c, bool keep)
{
	struct api_request r;
	struct api_error e;
	struct err err = {0};
	struct out *o;
	ssize_t n;

	if (!has_tokenizer(g, &e) || serve_read(g, c, API_TOKENIZE, &r, &e))
		return error(g, c, &e, keep);
	n = tokenizer_encode(&g->tokenizer, yyjson_get_str(r.content), yyjson_get_len(r.content),
			     ENCODE_MARKERS, g->ids, g->body_max, &err);
	if (n < 0) {
		api_refuse(&e, 400, "content", "invalid_value", "Invalid value for 'content': %s",
			   err.text);
		return error(g, c, &e, keep);
	}
	gateway_drop_text(g);
	o = serve_begin(g);
	out_text(o, "{\"tokens\":[");
	for (ssize_t i = 0; i < n; i++) {
		if (i)
			out_text(o, ",");
		out_u64(o, g->ids[i]);
	}
	out_text(o, "]}");
	return json(g, c, keep);
}

static enum served detokenize(struct gateway *g, struct conn *c, bool keep)
{
	size_t n, k;
	struct detokenizer d = {0};
	struct api_request r;
	struct api_error e;
	struct out *o;
	int64_t count;

	if (!has_tokenizer(g, &e) || serve_read(g, c, API_DETOKENIZE, &r, &e))
		return error(g, c, &e, keep);
	count = api_given_ids(&g->model, r.tokens, "tokens", g->ids, g->body_max, &e);
	if (count < 0)
		return error(g, c, &e, keep);
	gateway_drop_text(g);
	o = serve_begin(g);
	out_text(o, "{\"content\":\"");
	for (k = 0; k < (size_t)count; k++) {
		n = detokenizer_push(&d, &g->tokenizer, g->ids[k], g->env.piece);
		out_json_part(o, g->env.piece, n);
	}
	n = detokenizer_finish(&d, g->env.piece);
	out_json_part(o, g->env.piece, n);
	out_text(o, "\"}");
	return json(g, c, keep);
}

static enum served apply_template(struct gateway *g, struct conn *c, bool keep)
{
	size_t n;
	struct api_request r;
	struct api_error e;
	const char *text;
	struct out *o;

	if (serve_read(g, c, API_TEMPLATE, &r, &e) ||
	    api_prompt_text(&r, &g->model, &text, &n, &g->json, &e))
		return error(g, c, &e, keep);
	o = serve_begin(g);
	out_text(o, "{\"prompt\":");
	out_json(o, text, n);
	out_text(o, "}");
	return json(g, c, keep);
}

static enum served chat(struct gateway *g, struct conn *c, bool keep)
{
	return generate_serve(g, c, API_CHAT, keep);
}

static enum served completion(struct gateway *g, struct conn *c, bool keep)
{
	return generate_serve(g, c, API_COMPLETION, keep);
}

/* ---- the table ---- */

static const struct endpoint {
	const char *path;
	bool post;
	enum served (*serve)(struct gateway *g, struct conn *c, bool keep);
} endpoints[] = {
	{"/health", false, health_serve},      {"/metrics", false, metrics},
	{"/v1/models", false, models},         {"/v1/chat/completions", true, chat},
	{"/v1/completions", true, completion}, {"/tokenize", true, tokenize},
	{"/detokenize", true, detokenize},     {"/apply-template", true, apply_template},
};

#define ALLOW_GET "GET, HEAD, OPTIONS"
#define MODELS    "/v1/models/"

static const struct endpoint *find(const char *path, size_t len)
{
	for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
		if (strlen(endpoints[i].path) == len && memcmp(endpoints[i].path, path, len) == 0)
			return &endpoints[i];
	}
	return NULL;
}

static enum served options(struct gateway *g, struct conn *c, const char *allow, bool keep)
{
	serve_begin(g);
	serve_end(g, &c->http,
		  &(struct http_head){.status = 200, .keep_alive = keep, .allow = allow});
	return SERVED_REPLY;
}

static enum served not_allowed(struct gateway *g, struct conn *c, const char *allow, bool keep)
{
	struct api_error e;

	api_refuse(&e, 405, NULL, "method_not_allowed", "Only %s can be used here", allow);
	serve_error(g, &c->http, &e, keep, allow);
	return SERVED_REPLY;
}

enum served serve(struct gateway *g, struct conn *c, bool keep)
{
	const struct http *h = &c->http;
	unsigned method = h->parser.method;
	bool get = method == HTTP_GET || method == HTTP_HEAD;
	char path[HTTP_TARGET_KEPT];
	int n = http_path(h, path, sizeof(path));
	const struct endpoint *ep = n < 0 ? NULL : find(path, (size_t)n);
	bool one_model = n > (int)sizeof(MODELS) - 1 && !memcmp(path, MODELS, sizeof(MODELS) - 1);
	const char *allow = ep && ep->post ? "POST, OPTIONS" : ALLOW_GET;
	struct api_error e;

	if (method == HTTP_OPTIONS && n == 1 && path[0] == '*')
		return options(g, c, "GET, HEAD, POST, OPTIONS", keep);
	if (!ep && !one_model) {
		api_refuse(&e, 404, NULL, "not_found", "There is nothing at this path");
		return error(g, c, &e, keep);
	}
	if (method == HTTP_OPTIONS)
		return options(g, c, allow, keep);
	if (one_model)
		return get ? model(g, c, path + sizeof(MODELS) - 1,
				   (size_t)n - (sizeof(MODELS) - 1), keep)
			   : not_allowed(g, c, allow, keep);
	if (ep->post ? method != HTTP_POST : !get)
		return not_allowed(g, c, allow, keep);
	if (ep->post && h->not_json) {
		api_refuse(&e, 415, NULL, NULL, "The body must be " JSON);
		return error(g, c, &e, keep);
	}
	return ep->serve(g, c, keep);
}
