/*
 * See messages.h. Every key of every message is looked at: one that the template would ignore is
 * refused, so that no client believes something took effect that did not. Duplicate keys,
 * surrogates and depth were json_read's.
 */
#include "model/text/messages.h"
#include "model/text/json.h"
#include "model/text/template.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct parser {
	struct err *e;
	const yyjson_alc *alc;
	enum template_id id;
	char at[80]; /* "messages[12]" */
};

static int wrong(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int wrong(struct parser *p, const char *format, ...)
{
	char text[360];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return err_set(p->e, -EINVAL, "%s%s", p->at, text);
}

static void *allocate(struct parser *p, size_t n, size_t size)
{
	void *m = n <= SIZE_MAX / size ? p->alc->malloc(p->alc->ctx, n * size) : NULL;

	if (!m)
		err_set(p->e, -ENOMEM, "%s: no memory for it", p->at);
	else
		memset(m, 0, n * size);
	return m;
}

static struct text text_of(yyjson_val *v)
{
	return (struct text){yyjson_get_str(v), yyjson_get_len(v)};
}

static int unknown_key(struct parser *p, yyjson_val *key, const char *why)
{
	char name[204];

	return wrong(p, ".%s: %s", err_name(name, yyjson_get_str(key), yyjson_get_len(key)), why);
}

/* Every key of an object must be one of `known` (NULL-terminated), or null. */
static int check_known(struct parser *p, yyjson_val *object, const char *const *known)
{
	yyjson_obj_iter it = yyjson_obj_iter_with(object);
	yyjson_val *key;

	while ((key = yyjson_obj_iter_next(&it)) != NULL) {
		size_t i = 0;

		while (known[i] && !json_is(key, known[i]))
			i++;
		if (!known[i] && !yyjson_is_null(yyjson_obj_iter_get_val(key)))
			return unknown_key(p, key, "not supported; leave it out or pass null");
	}
	return 0;
}

/* ---- content ---- */

/* An array of {"type": "text", "text": ...}, joined plainly. */
static int join_parts(struct parser *p, yyjson_val *parts, struct text *out)
{
	static const char *const known[] = {"type", "text", NULL};
	yyjson_arr_iter it = yyjson_arr_iter_with(parts);
	size_t len = 0;
	yyjson_val *part;
	char *joined;
	int rc;

	while ((part = yyjson_arr_iter_next(&it)) != NULL) {
		if (!json_is(json_get(part, "type"), "text") ||
		    !yyjson_is_str(json_get(part, "text")))
			return wrong(p,
				     ".content: parts must be {\"type\": \"text\", \"text\": ...}");
		rc = check_known(p, part, known);
		if (rc)
			return rc;
		len += yyjson_get_len(json_get(part, "text"));
	}
	joined = allocate(p, len + 1, 1);
	if (!joined)
		return -ENOMEM;
	*out = (struct text){joined, len};
	it = yyjson_arr_iter_with(parts);
	while ((part = yyjson_arr_iter_next(&it)) != NULL) {
		struct text t = text_of(json_get(part, "text"));

		memcpy(joined, t.s, t.len);
		joined += t.len;
	}
	return 0;
}

static int parse_content(struct parser *p, yyjson_val *v, struct text *out)
{
	if (!v)
		return 0;
	if (yyjson_is_arr(v))
		return join_parts(p, v, out);
	if (!yyjson_is_str(v))
		return wrong(p, ".content: must be a string, an array of text parts, or null");
	*out = text_of(v);
	return 0;
}

/* ---- tool calls ---- */

static int parse_call(struct parser *p, yyjson_val *v, size_t i, struct tool_call *out)
{
	static const char *const known[] = {"id", "type", "function", NULL};
	static const char *const known_function[] = {"name", "arguments", NULL};
	yyjson_val *function = json_get(v, "function"), *type = json_get(v, "type");
	yyjson_val *id = json_get(v, "id");
	int rc;

	if (!yyjson_is_obj(v) || !yyjson_is_obj(function))
		return wrong(p, ".tool_calls[%zu]: must be an object with a \"function\"", i);
	if ((rc = check_known(p, v, known)) || (rc = check_known(p, function, known_function)))
		return rc;
	if (type && !json_is(type, "function"))
		return wrong(p, ".tool_calls[%zu].type: must be \"function\"", i);
	if (id && !yyjson_is_str(id))
		return wrong(p, ".tool_calls[%zu].id: must be a string", i);
	if (!yyjson_is_str(json_get(function, "name")) ||
	    !yyjson_is_str(json_get(function, "arguments")))
		return wrong(p, ".tool_calls[%zu].function: name and arguments must be strings", i);
	out->name = text_of(json_get(function, "name"));
	out->arguments = text_of(json_get(function, "arguments"));
	return 0;
}

static int parse_calls(struct parser *p, yyjson_val *array, struct message *m)
{
	size_t n = yyjson_arr_size(array), i = 0;
	yyjson_arr_iter it = yyjson_arr_iter_with(array);
	struct tool_call *call;
	int rc = 0;

	if (!yyjson_is_arr(array))
		return wrong(p, ".tool_calls: must be an array");
	if (n == 0) /* as if absent: several templates drop the content of such a message */
		return 0;
	call = allocate(p, n, sizeof(*call));
	if (!call)
		return -ENOMEM;
	for (; !rc && i < n; i++)
		rc = parse_call(p, yyjson_arr_iter_next(&it), i, &call[i]);
	m->calls = call;
	m->n_calls = n;
	return rc;
}

/* ---- one message ---- */

static int parse_role(struct parser *p, yyjson_val *v, enum message_role *out)
{
	static const struct {
		const char *name;
		enum message_role role;
	} roles[] = {{"system", MESSAGE_SYSTEM},
		     {"developer", MESSAGE_SYSTEM},
		     {"user", MESSAGE_USER},
		     {"assistant", MESSAGE_ASSISTANT},
		     {"tool", MESSAGE_TOOL}};

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (json_is(v, roles[i].name)) {
			*out = roles[i].role;
			return 0;
		}
	return wrong(p, ".role: must be system, developer, user, assistant or tool");
}

/* The keys beside role and content: taken, or refused because this template has no use for them. */
static int parse_extra(struct parser *p, yyjson_val *key, yyjson_val *v, struct message *m)
{
	bool assistant = m->role == MESSAGE_ASSISTANT;

	if (json_is(key, "tool_calls") && assistant)
		return parse_calls(p, v, m);
	if (json_is(key, "prefix") && assistant) {
		if (!yyjson_is_bool(v))
			return wrong(p, ".prefix: must be a boolean");
		m->prefix = yyjson_is_true(v);
		return 0;
	}
	if ((json_is(key, "reasoning_content") && assistant && template_knows_reasoning(p->id)) ||
	    (m->role == MESSAGE_TOOL && (json_is(key, "tool_call_id") || json_is(key, "name"))))
		return yyjson_is_str(v) ? 0 : unknown_key(p, key, "must be a string");
	return unknown_key(
		p, key,
		"not known to the model's chat template for this role; leave it out or pass null");
}

static int parse_message(struct parser *p, yyjson_val *v, struct message *m)
{
	yyjson_obj_iter it = yyjson_obj_iter_with(v);
	yyjson_val *key;
	int rc;

	if (!yyjson_is_obj(v))
		return wrong(p, ": must be an object");
	if ((rc = parse_role(p, json_get(v, "role"), &m->role)) ||
	    (rc = parse_content(p, json_get(v, "content"), &m->content)))
		return rc;
	while (!rc && (key = yyjson_obj_iter_next(&it)) != NULL) {
		yyjson_val *value = yyjson_obj_iter_get_val(key);

		if (!json_is(key, "role") && !json_is(key, "content") && !yyjson_is_null(value))
			rc = parse_extra(p, key, value, m);
	}
	if (!rc && !m->content.s && !template_takes_null(p->id, m))
		return wrong(p, ".content: is missing or null, which this role cannot have");
	return rc;
}

int messages_parse(yyjson_val *array, int template_id, const yyjson_alc *alc, struct messages *out,
		   struct err *e)
{
	struct parser p = {
		.e = e, .alc = alc, .id = (enum template_id)template_id, .at = "messages"};
	size_t n = yyjson_arr_size(array);
	yyjson_arr_iter it = yyjson_arr_iter_with(array);
	struct message *m;
	int rc = 0;

	*out = (struct messages){0};
	if (!yyjson_is_arr(array))
		return wrong(&p, ": must be an array of messages");
	if (n == 0)
		return wrong(&p, ": must hold at least one message");
	m = allocate(&p, n, sizeof(*m));
	if (!m)
		return -ENOMEM;
	for (size_t i = 0; !rc && i < n; i++) {
		snprintf(p.at, sizeof(p.at), "messages[%zu]", i);
		rc = parse_message(&p, yyjson_arr_iter_next(&it), &m[i]);
	}
	*out = (struct messages){m, n};
	return rc;
}

/* ---- tools ---- */

static int parse_tool(struct parser *p, yyjson_val *v, struct tool *out)
{
	static const char *const known[] = {"type", "function", NULL};
	static const char *const known_function[] = {"name", "description", "parameters", NULL};
	yyjson_val *function = json_get(v, "function");
	yyjson_val *description = json_get(function, "description");
	yyjson_val *parameters = json_get(function, "parameters");
	int rc;

	if (!yyjson_is_obj(v) || !json_is(json_get(v, "type"), "function") ||
	    !yyjson_is_obj(function))
		return wrong(p, ": must be {\"type\": \"function\", \"function\": {...}}");
	if ((rc = check_known(p, v, known)) || (rc = check_known(p, function, known_function)))
		return rc;
	if (!yyjson_is_str(json_get(function, "name")))
		return wrong(p, ".function.name: must be a string");
	if (description && !yyjson_is_str(description))
		return wrong(p, ".function.description: must be a string");
	if (parameters && !yyjson_is_obj(parameters))
		return wrong(p, ".function.parameters: must be an object");
	out->name = text_of(json_get(function, "name"));
	out->description = text_of(description);
	out->parameters = parameters;
	return 0;
}

int tools_parse(yyjson_val *array, const yyjson_alc *alc, struct tools *out, struct err *e)
{
	struct parser p = {.e = e, .alc = alc, .at = "tools"};
	size_t n = yyjson_arr_size(array);
	yyjson_arr_iter it = yyjson_arr_iter_with(array);
	struct tool *tool;
	int rc = 0;

	*out = (struct tools){0};
	if (!array || yyjson_is_null(array))
		return 0;
	if (!yyjson_is_arr(array))
		return wrong(&p, ": must be an array");
	if (n == 0)
		return 0;
	tool = allocate(&p, n, sizeof(*tool));
	if (!tool)
		return -ENOMEM;
	for (size_t i = 0; !rc && i < n; i++) {
		snprintf(p.at, sizeof(p.at), "tools[%zu]", i);
		rc = parse_tool(&p, yyjson_arr_iter_next(&it), &tool[i]);
	}
	*out = (struct tools){tool, n};
	return rc;
}
