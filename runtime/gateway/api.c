/*
 * Bodies into options. One table says which fields there are, of which types, where, and what takes
 * them; types are checked first, then values, then what several fields say together. See api.h.
 */
#include "runtime/gateway/api.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum shape {
	BOOL = 1,
	INTEGER = 2,
	NUMBER = 4, /* an integer too */
	STRING = 8,
	ARRAY = 16,
	OBJECT = 32,
	ANY = 63
};

struct reader {
	struct api_request *r;
	const struct api_model *m;
	struct api_error *e;
	const char *field; /* being taken */
	bool thinking_given, max_tokens_given, max_completion_given;
	bool stream_options_given;
	uint64_t max_tokens, max_completion_tokens;
};

struct field {
	const char *name;
	unsigned endpoints, shapes;
	int (*take)(struct reader *c, yyjson_val *v);
};

static int invalid(struct reader *c, const char *what)
{
	return api_refuse(c->e, 400, c->field, "invalid_value", "Invalid value for '%s': %s",
			  c->field, what);
}

static int unsupported(struct reader *c, const char *what)
{
	return api_refuse(c->e, 400, c->field, "unsupported_parameter",
			  "Unsupported value for '%s': %s", c->field, what);
}

/* A key inside a field's object that this API does not have. */
static int unknown_inside(struct reader *c, yyjson_val *key)
{
	char name[204];

	return api_refuse(c->e, 400, c->field, "unknown_parameter", "Unknown parameter: '%s.%s'",
			  c->field, err_name(name, yyjson_get_str(key), yyjson_get_len(key)));
}

/*
 * A key of an object that is not `known` (NULL: none is) and whose value is not null, or NULL: null
 * means absent.
 */
static yyjson_val *other_key(yyjson_val *object, const char *known)
{
	yyjson_obj_iter it = yyjson_obj_iter_with(object);
	yyjson_val *key;

	while ((key = yyjson_obj_iter_next(&it)) != NULL) {
		if (!yyjson_is_null(yyjson_obj_iter_get_val(key)) &&
		    !(known && json_is(key, known)))
			return key;
	}
	return NULL;
}

/* ---- what has an effect ---- */

static int take_messages(struct reader *c, yyjson_val *v)
{
	c->r->messages = v;
	return 0;
}

static int take_prompt(struct reader *c, yyjson_val *v)
{
	c->r->prompt = v;
	return 0;
}

static int take_content(struct reader *c, yyjson_val *v)
{
	c->r->content = v;
	return 0;
}

static int take_tokens(struct reader *c, yyjson_val *v)
{
	c->r->tokens = v;
	return 0;
}

static int take_model(struct reader *c, yyjson_val *v)
{
	char name[204];

	if (json_is(v, c->m->name))
		return 0;
	return api_refuse(c->e, 404, "model", "model_not_found",
			  "The model '%s' does not exist; this node serves '%s'",
			  err_name(name, yyjson_get_str(v), yyjson_get_len(v)), c->m->name);
}

static int take_stream(struct reader *c, yyjson_val *v)
{
	c->r->stream = yyjson_is_true(v);
	return 0;
}

static int take_stream_options(struct reader *c, yyjson_val *v)
{
	yyjson_val *usage = json_get(v, "include_usage"), *other = other_key(v, "include_usage");

	c->stream_options_given = true;
	if (usage && !yyjson_is_bool(usage))
		return invalid(c, "include_usage must be a boolean");
	c->r->include_usage = yyjson_is_true(usage);
	return other ? unknown_inside(c, other) : 0;
}

/* A count of at least `least`. */
static int take_count(struct reader *c, yyjson_val *v, uint64_t least, uint64_t *out)
{
	/* -0 is an integer too, and yyjson has it as a signed one */
	if ((yyjson_is_sint(v) && yyjson_get_sint(v) < 0) || yyjson_get_uint(v) < least)
		return invalid(c, least ? "must be at least 1" : "must not be negative");
	*out = yyjson_get_uint(v);
	return 0;
}

static int take_max_tokens(struct reader *c, yyjson_val *v)
{
	c->max_tokens_given = true;
	return take_count(c, v, 1, &c->max_tokens);
}

static int take_max_completion_tokens(struct reader *c, yyjson_val *v)
{
	c->max_completion_given = true;
	return take_count(c, v, 1, &c->max_completion_tokens);
}

static int take_temperature(struct reader *c, yyjson_val *v)
{
	double t = yyjson_get_num(v);

	if (!isfinite(t) || t < 0)
		return invalid(c, "must be a finite number of at least 0");
	c->r->temperature = t;
	return 0;
}

static int take_top_p(struct reader *c, yyjson_val *v)
{
	double p = yyjson_get_num(v);

	/*
	 * below the normal numbers the router, which flushes them, would read 0; they keep one
	 * token all the same
	 */
	c->r->top_p = p > 0 && p < DBL_MIN ? DBL_MIN : p;
	return p > 0 && p <= 1 ? 0 : invalid(c, "must be above 0 and at most 1");
}

static int take_min_p(struct reader *c, yyjson_val *v)
{
	c->r->min_p = yyjson_get_num(v);
	return c->r->min_p >= 0 && c->r->min_p <= 1 ? 0 : invalid(c, "must be between 0 and 1");
}

static int take_top_k(struct reader *c, yyjson_val *v)
{
	uint64_t k = 0;

	if (take_count(c, v, 0, &k))
		return -1;
	c->r->top_k = k >= c->m->vocab ? 0 : (uint32_t)k; /* all of them: the same as off */
	return 0;
}

static int take_seed(struct reader *c, yyjson_val *v)
{
	if (yyjson_is_uint(v) && yyjson_get_uint(v) > INT64_MAX)
		return invalid(c, "must be a signed 64-bit integer");
	c->r->seed = yyjson_get_sint(v);
	c->r->has_seed = true;
	return 0;
}

static int add_stop(struct reader *c, yyjson_val *v)
{
	size_t total = yyjson_get_len(v);

	if (!yyjson_is_str(v) || !total)
		return invalid(c, "must be a string or an array of strings, none of them empty");
	for (uint32_t i = 0; i < c->r->n_stop; i++)
		total += c->r->stop_len[i];
	if (c->r->n_stop == STOP_STRINGS || total > STOP_BYTES)
		return invalid(c, "at most 16 strings, together at most 32 KiB");
	c->r->stop[c->r->n_stop] = yyjson_get_str(v);
	c->r->stop_len[c->r->n_stop++] = (uint32_t)yyjson_get_len(v);
	return 0;
}

static int take_stop(struct reader *c, yyjson_val *v)
{
	yyjson_arr_iter it;
	yyjson_val *item;

	if (yyjson_is_str(v))
		return add_stop(c, v);
	it = yyjson_arr_iter_with(v);
	while ((item = yyjson_arr_iter_next(&it)) != NULL) {
		if (add_stop(c, item))
			return -1;
	}
	return 0;
}

static int set_thinking(struct reader *c, bool on)
{
	if (c->thinking_given && c->r->thinking != on)
		return invalid(c, "thinking is given twice, and differently");
	c->thinking_given = true;
	c->r->thinking = on;
	c->r->thinking_field = c->field;
	return 0;
}

static int take_thinking(struct reader *c, yyjson_val *v)
{
	yyjson_val *type = yyjson_obj_get(v, "type"), *other = other_key(v, "type");

	if (yyjson_is_bool(v))
		return set_thinking(c, yyjson_is_true(v));
	if (!json_is(type, "enabled") && !json_is(type, "disabled"))
		return invalid(c, "must be a boolean or {\"type\": \"enabled\" or \"disabled\"}");
	if (other)
		return unknown_inside(c, other);
	return set_thinking(c, json_is(type, "enabled"));
}

static int take_template_kwargs(struct reader *c, yyjson_val *v)
{
	yyjson_val *thinking = json_get(v, "thinking"), *other = other_key(v, "thinking");

	if (thinking && !yyjson_is_bool(thinking))
		return invalid(c, "thinking must be a boolean");
	if (other)
		return unknown_inside(c, other);
	return thinking ? set_thinking(c, yyjson_is_true(thinking)) : 0;
}

static int take_generation_prompt(struct reader *c, yyjson_val *v)
{
	c->r->add_generation_prompt = yyjson_is_true(v);
	return 0;
}

/* ---- what is accepted at its neutral value only ---- */

static int only_one(struct reader *c, yyjson_val *v)
{
	return yyjson_is_uint(v) && yyjson_get_uint(v) == 1 ? 0 : unsupported(c, "only 1");
}

static int only_zero(struct reader *c, yyjson_val *v)
{
	return yyjson_get_num(v) < 0 || yyjson_get_num(v) > 0 ? unsupported(c, "only 0") : 0;
}

static int only_false(struct reader *c, yyjson_val *v)
{
	return yyjson_is_true(v) ? unsupported(c, "only false") : 0;
}

static int only_empty(struct reader *c, yyjson_val *v)
{
	bool empty = yyjson_is_arr(v) ? !yyjson_arr_size(v) : !other_key(v, NULL);

	return empty ? 0 : unsupported(c, "only when it is empty");
}

static int only_null(struct reader *c, yyjson_val *v)
{
	(void)v;
	return unsupported(c, "only null");
}

static int only_no_tools(struct reader *c, yyjson_val *v)
{
	return json_is(v, "none") || json_is(v, "auto")
		       ? 0
		       : unsupported(c, "only \"none\" or \"auto\", as there are no tools");
}

static int only_text(struct reader *c, yyjson_val *v)
{
	return json_is(yyjson_obj_get(v, "type"), "text") && !other_key(v, "type")
		       ? 0
		       : unsupported(c, "only {\"type\": \"text\"}");
}

static int anything(struct reader *c, yyjson_val *v)
{
	(void)c;
	(void)v;
	return 0;
}

#define BOTH (API_CHAT | API_COMPLETION)
#define ALL  (BOTH | API_TEMPLATE)

static const struct field fields[] = {
	{"messages", API_CHAT | API_TEMPLATE, ARRAY, take_messages},
	{"prompt", API_COMPLETION, STRING | ARRAY, take_prompt},
	{"content", API_TOKENIZE, STRING, take_content},
	{"tokens", API_DETOKENIZE, ARRAY, take_tokens},
	{"model", ALL, STRING, take_model},
	{"stream", ALL, BOOL, take_stream},
	{"stream_options", ALL, OBJECT, take_stream_options},
	{"max_tokens", ALL, INTEGER, take_max_tokens},
	{"max_completion_tokens", ALL, INTEGER, take_max_completion_tokens},
	{"temperature", ALL, NUMBER, take_temperature},
	{"top_p", ALL, NUMBER, take_top_p},
	{"top_k", ALL, INTEGER, take_top_k},
	{"min_p", ALL, NUMBER, take_min_p},
	{"seed", ALL, INTEGER, take_seed},
	{"stop", ALL, STRING | ARRAY, take_stop},
	{"thinking", ALL, BOOL | OBJECT, take_thinking},
	{"chat_template_kwargs", ALL, OBJECT, take_template_kwargs},
	{"add_generation_prompt", API_CHAT | API_TEMPLATE, BOOL, take_generation_prompt},
	{"n", ALL, INTEGER, only_one},
	{"best_of", ALL, INTEGER, only_one},
	{"presence_penalty", ALL, NUMBER, only_zero},
	{"frequency_penalty", ALL, NUMBER, only_zero},
	{"logit_bias", ALL, OBJECT, only_empty},
	{"logprobs", API_CHAT | API_TEMPLATE, BOOL, only_false},
	{"logprobs", API_COMPLETION, INTEGER, only_null},
	{"top_logprobs", ALL, INTEGER, only_zero},
	{"tools", ALL, ARRAY, only_empty},
	{"tool_choice", ALL, STRING | OBJECT, only_no_tools},
	{"response_format", ALL, OBJECT, only_text},
	{"suffix", ALL, STRING, only_null},
	{"echo", API_COMPLETION, BOOL, only_false},
	{"store", ALL, BOOL, only_false},
	{"user", ALL, ANY, anything},
	{"metadata", ALL, ANY, anything},
	{"service_tier", ALL, ANY, anything},
	{"parallel_tool_calls", ALL, ANY, anything},
};

static const struct field *find(yyjson_val *key, enum api_endpoint endpoint)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (fields[i].endpoints & endpoint && json_is(key, fields[i].name))
			return &fields[i];
	}
	return NULL;
}

static unsigned shape_of(yyjson_val *v)
{
	switch (yyjson_get_type(v)) {
	case YYJSON_TYPE_BOOL:
		return BOOL;
	case YYJSON_TYPE_NUM:
		return yyjson_is_int(v) ? INTEGER | NUMBER : NUMBER;
	case YYJSON_TYPE_STR:
		return STRING;
	case YYJSON_TYPE_ARR:
		return ARRAY;
	default:
		return OBJECT;
	}
}

static void name_shapes(struct out *o, unsigned shapes)
{
	static const char *const names[] = {"a boolean", "an integer", "a number",
					    "a string",  "an array",   "an object"};

	for (unsigned i = 0; i < 6; i++) {
		if (!(shapes >> i & 1))
			continue;
		if (o->n)
			out_text(o, " or ");
		out_text(o, names[i]);
	}
	out_bytes(o, "", 1);
}

static int check_types(struct reader *c, yyjson_val *body)
{
	yyjson_obj_iter it = yyjson_obj_iter_with(body);
	yyjson_val *key;

	while ((key = yyjson_obj_iter_next(&it)) != NULL) {
		yyjson_val *v = yyjson_obj_iter_get_val(key);
		const struct field *f = find(key, c->r->endpoint);
		char text[128];
		struct out o = out_make(text, sizeof(text));

		if (!f || yyjson_is_null(v) || f->shapes & shape_of(v))
			continue;
		name_shapes(&o, f->shapes);
		return api_refuse(c->e, 400, f->name, "invalid_value",
				  "Invalid type for '%s': expected %s", f->name, text);
	}
	return 0;
}

static int unknown(struct reader *c, yyjson_val *key)
{
	char name[204];

	err_name(name, yyjson_get_str(key), yyjson_get_len(key));
	return api_refuse(c->e, 400, name, "unknown_parameter", "Unknown parameter: '%s'", name);
}

static int take_values(struct reader *c, yyjson_val *body)
{
	yyjson_obj_iter it = yyjson_obj_iter_with(body);
	yyjson_val *key;

	while ((key = yyjson_obj_iter_next(&it)) != NULL) {
		yyjson_val *v = yyjson_obj_iter_get_val(key);
		const struct field *f = find(key, c->r->endpoint);

		if (yyjson_is_null(v))
			continue;
		if (!f)
			return unknown(c, key);
		c->field = f->name;
		if (f->take(c, v))
			return -1;
	}
	return 0;
}

static int missing(struct reader *c, const char *field)
{
	return api_refuse(c->e, 400, field, "missing_required_parameter",
			  "Missing required parameter: '%s'", field);
}

/* What several fields say together. */
static int check_together(struct reader *c)
{
	struct api_request *r = c->r;

	if (r->endpoint & (API_CHAT | API_TEMPLATE) && !r->messages)
		return missing(c, "messages");
	if (r->endpoint == API_COMPLETION && !r->prompt)
		return missing(c, "prompt");
	if (r->endpoint == API_TOKENIZE && !r->content)
		return missing(c, "content");
	if (r->endpoint == API_DETOKENIZE && !r->tokens)
		return missing(c, "tokens");
	c->field = "max_completion_tokens";
	if (c->max_tokens_given && c->max_completion_given &&
	    c->max_tokens != c->max_completion_tokens)
		return invalid(c, "max_tokens is given too, and differently");
	r->has_max_tokens = c->max_tokens_given || c->max_completion_given;
	r->max_tokens = c->max_completion_given ? c->max_completion_tokens : c->max_tokens;
	c->field = "stream_options";
	if (c->stream_options_given && !r->stream)
		return invalid(c, "only allowed when 'stream' is true");
	c->field = r->thinking_field;
	if (r->thinking && r->endpoint == API_COMPLETION)
		return unsupported(c, "a completion has no chat template");
	return 0;
}

/* Whether a number that JSON lacks is in a value. At most JSON_DEPTH_MAX levels are looked at. */
static bool has_not_finite(yyjson_val *v, unsigned depth)
{
	yyjson_arr_iter items = yyjson_arr_iter_with(v);
	yyjson_obj_iter keys = yyjson_obj_iter_with(v);
	yyjson_val *x;

	if (yyjson_is_real(v))
		return !isfinite(yyjson_get_real(v));
	if (depth == JSON_DEPTH_MAX)
		return false;
	while ((x = yyjson_arr_iter_next(&items)) != NULL) {
		if (has_not_finite(x, depth + 1))
			return true;
	}
	while ((x = yyjson_obj_iter_next(&keys)) != NULL) {
		if (has_not_finite(yyjson_obj_iter_get_val(x), depth + 1))
			return true;
	}
	return false;
}

/*
 * Python writes NaN and Infinity, which JSON lacks, and 1e999 is no double: where nothing else is
 * wrong with a body, the field is named. Returns -1 always.
 */
static int broken_json(struct reader *c, const char *body, size_t len, const yyjson_alc *alc,
		       const struct err *err)
{
	yyjson_obj_iter it;
	yyjson_val *key;
	yyjson_doc *doc;
	char *text;

	memcpy(&text, &body, sizeof(text)); /* not written to: not read in place */
	doc = yyjson_read_opts(text, len, YYJSON_READ_ALLOW_INF_AND_NAN, alc, NULL);
	it = yyjson_obj_iter_with(doc ? yyjson_doc_get_root(doc) : NULL);
	while ((key = yyjson_obj_iter_next(&it)) != NULL) {
		const struct field *f = find(key, c->r->endpoint);

		if (!has_not_finite(yyjson_obj_iter_get_val(key), 0))
			continue;
		if (!f)
			return unknown(c, key);
		c->field = f->name;
		return invalid(c, "not a finite number");
	}
	return api_refuse(c->e, 400, NULL, "invalid_json", "The body is not valid JSON: %s",
			  err->text);
}

int api_read(struct api_request *r, enum api_endpoint endpoint, const struct api_model *m,
	     const char *body, size_t len, struct arena *a, struct api_error *e)
{
	struct reader c = {.r = r, .m = m, .e = e};
	struct err err = {0};
	yyjson_alc alc = api_alc(a);
	yyjson_doc *doc;
	yyjson_val *root;

	*r = (struct api_request){.endpoint = endpoint,
				  .add_generation_prompt = true,
				  .top_p = m->top_p,
				  .temperature = m->temperature};
	if (json_read(&doc, body, len, JSON_PLAIN, &alc, &err)) {
		arena_reset(a, 0); /* what the first try has left */
		return broken_json(&c, body, len, &alc, &err);
	}
	root = yyjson_doc_get_root(doc); /* the document stays: the arena is reset whole */
	if (!yyjson_is_obj(root))
		return api_refuse(e, 400, NULL, "invalid_json", "The body must be a JSON object");
	if (check_types(&c, root) || take_values(&c, root))
		return -1;
	return check_together(&c);
}
