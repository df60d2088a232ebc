/*
 * Prompts of requests into ids and text; see api.h. Apart from api.c because only this file knows
 * chat templates.
 */
#include "model/text/template.h"
#include "runtime/gateway/api.h"

#include <errno.h>
#include <string.h>

static int no_tokenizer(const struct api_model *m, struct api_error *e)
{
	return api_refuse(e, 503, NULL, NULL, "this model has no usable tokenizer: %s",
			  m->tokenizer_problem);
}

/* A tokenizer's refusal: our limits and broken text are the client's to hear. */
static int text_error(const struct err *err, const char *param, struct api_error *e)
{
	return api_refuse(e, 400, param, "invalid_value", "Invalid value for '%s': %s", param,
			  err->text);
}

/* Which field was wrong: the text of model/text begins with its name. */
static int template_error(const struct api_request *r, const struct err *err, struct api_error *e)
{
	bool thinking = strncmp(err->text, "thinking", 8) == 0;

	if (err->code == -ENOMEM)
		return api_refuse(e, 413, "messages", NULL, "the messages need too much memory");
	return api_refuse(e, 400, thinking ? r->thinking_field : "messages",
			  thinking ? "unsupported_parameter" : "invalid_value", "%s", err->text);
}

/* Renders the conversation into memory of the arena. */
static int render(struct api_request *r, const struct api_model *m, struct prompt *p,
		  struct arena *a, struct api_error *e)
{
	struct template_options options = {.add_generation_prompt = r->add_generation_prompt,
					   .thinking = r->thinking};
	enum template_id id = (enum template_id)m->template_id;
	yyjson_alc alc = api_alc(a);
	struct messages messages;
	struct err err = {0};
	int rc;

	if (id == TEMPLATE_NONE)
		return api_refuse(e, 400, NULL, "no_chat_template",
				  "chat is off: %s. Start the node with --template NAME",
				  m->template_problem);
	if (messages_parse(r->messages, (int)id, &alc, &messages, &err))
		return template_error(r, &err, e);
	memset(p, 0, sizeof(*p));
	rc = template_render(id, &messages, &options, p, &err);
	if (rc == -ENOSPC) {
		size_t text = p->text_len, segments = p->n_segments;

		memset(p, 0, sizeof(*p));
		p->text = arena_alloc(a, text, 1);
		p->segment = arena_new(a, struct segment, segments);
		p->text_cap = text;
		p->segment_cap = segments;
		if (!p->text || !p->segment)
			return api_refuse(e, 413, "messages", NULL,
					  "the messages need too much memory");
		rc = template_render(id, &messages, &options, p, &err);
	}
	r->opens_reasoning = p->opens_reasoning;
	return rc ? template_error(r, &err, e) : 0;
}

/* A text prompt: markers in it count, and BOS comes first unless it is there. */
static int64_t text_ids(const struct api_model *m, yyjson_val *v, uint32_t *ids, size_t cap,
			struct api_error *e)
{
	bool bos = m->bos != UINT32_MAX;
	struct err err = {0};
	ssize_t n;

	if (!m->tokenizer)
		return no_tokenizer(m, e);
	n = tokenizer_encode(m->tokenizer, yyjson_get_str(v), yyjson_get_len(v), ENCODE_MARKERS,
			     ids, cap, &err);
	if (n < 0)
		return text_error(&err, "prompt", e);
	if (bos && cap && !(n && ids[0] == m->bos)) {
		size_t stored = (size_t)n < cap ? (size_t)n : cap - 1;

		memmove(ids + 1, ids, stored * sizeof(*ids));
		ids[0] = m->bos;
		n++;
	}
	if (!n)
		return api_refuse(e, 400, "prompt", "invalid_value",
				  "Invalid value for 'prompt': it is empty, and this model has no "
				  "BOS token to begin with");
	return n;
}

int64_t api_given_ids(const struct api_model *m, yyjson_val *array, const char *param,
		      uint32_t *ids, size_t cap, struct api_error *e)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(array);
	yyjson_val *v;
	size_t n = 0;

	for (; (v = yyjson_arr_iter_next(&it)) != NULL; n++) {
		if (!yyjson_is_uint(v) || yyjson_get_uint(v) >= m->vocab)
			return api_refuse(
				e, 400, param, "invalid_value",
				"Invalid value for '%s': item %zu is not a token id below %u",
				param, n, m->vocab);
		if (n < cap)
			ids[n] = (uint32_t)yyjson_get_uint(v);
	}
	return (int64_t)n;
}

static int64_t completion_ids(const struct api_request *r, const struct api_model *m, uint32_t *ids,
			      size_t cap, struct api_error *e)
{
	yyjson_val *v = r->prompt;

	if (yyjson_is_arr(v)) {
		yyjson_val *first = yyjson_arr_get_first(v);
		bool nested = yyjson_is_str(first) || yyjson_is_arr(first);

		if (nested && yyjson_arr_size(v) > 1)
			return api_refuse(e, 400, "prompt", "unsupported_parameter",
					  "Unsupported value for 'prompt': one prompt per request");
		v = nested ? first : v;
	}
	if (yyjson_is_str(v))
		return text_ids(m, v, ids, cap, e);
	if (!yyjson_arr_size(v))
		return api_refuse(e, 400, "prompt", "invalid_value",
				  "Invalid value for 'prompt': an empty array");
	return api_given_ids(m, v, "prompt", ids, cap, e);
}

int64_t api_prompt_ids(struct api_request *r, const struct api_model *m, uint32_t *ids, size_t cap,
		       struct arena *a, struct api_error *e)
{
	struct prompt p;
	struct err err = {0};
	ssize_t n;

	if (r->endpoint == API_COMPLETION)
		return completion_ids(r, m, ids, cap, e);
	if (!m->tokenizer)
		return no_tokenizer(m, e);
	if (render(r, m, &p, a, e))
		return -1;
	n = prompt_encode(&p, m->tokenizer, ids, cap, &err);
	return n < 0 ? text_error(&err, "messages", e) : n;
}

int api_prompt_text(struct api_request *r, const struct api_model *m, const char **text,
		    size_t *len, struct arena *a, struct api_error *e)
{
	struct prompt p;

	if (render(r, m, &p, a, e))
		return -1;
	*text = p.text;
	*len = p.text_len;
	return 0;
}

int api_template_named(const char *name)
{
	return (int)template_named(name);
}
