/*
 * `penstock template MODEL [--template NAME]`: one object per line (messages,
 * add_generation_prompt, thinking, tools) to one {"text": ..., "ids": [...]} per line: the prompt
 * that the node would make of it.
 */
#include "runtime/cli/cli.h"
#include "runtime/cli/text_model.h"
#include "runtime/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a line holds, checked. Lists live in `pool`, a chain that line_free gives back. */
struct line {
	struct messages messages;
	struct tools tools;
	struct template_options options;
	struct prompt prompt;
};

/* An allocator that frees nothing alone; each block begins with the address of the one before. */
static void *pool_malloc(void *ctx, size_t size)
{
	void **pool = ctx, **block = size < SIZE_MAX - 64 ? malloc(size + 16) : NULL;

	if (!block)
		return NULL;
	*block = *pool;
	*pool = block;
	return block + 2;
}

static void *pool_realloc(void *ctx, void *p, size_t old_size, size_t size)
{
	void *fresh = pool_malloc(ctx, size);

	if (fresh)
		memcpy(fresh, p, old_size < size ? old_size : size);
	return fresh;
}

static void pool_free(void *ctx, void *p)
{
	(void)ctx;
	(void)p;
}

static void pool_reset(void **pool)
{
	while (*pool) {
		void **block = *pool;

		*pool = *block;
		free(block);
	}
}

static int read_flag(yyjson_val *line, const char *key, bool absent, bool *out, struct err *e)
{
	yyjson_val *v = json_get(line, key);

	if (v && !yyjson_is_bool(v))
		return err_set(e, -EINVAL, "%s: must be a boolean", key);
	*out = v ? yyjson_is_true(v) : absent;
	return 0;
}

static int check_keys(yyjson_val *line, struct err *e)
{
	static const char *const known[] = {"messages", "add_generation_prompt", "thinking",
					    "tools"};
	yyjson_obj_iter it = yyjson_obj_iter_with(line);
	yyjson_val *key;

	if (!yyjson_is_obj(line))
		return err_set(e, -EINVAL, "not a JSON object");
	while ((key = yyjson_obj_iter_next(&it)) != NULL) {
		bool found = yyjson_is_null(yyjson_obj_iter_get_val(key));
		char name[204];

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			found |= json_is(key, known[i]);
		if (!found)
			return err_set(e, -EINVAL, "%s: not known",
				       err_name(name, yyjson_get_str(key), yyjson_get_len(key)));
	}
	return 0;
}

static int parse_line(const struct text_model *m, yyjson_val *v, const yyjson_alc *alc,
		      struct line *l, struct err *e)
{
	int rc;

	if ((rc = check_keys(v, e)) ||
	    (rc = read_flag(v, "add_generation_prompt", false, &l->options.add_generation_prompt,
			    e)) ||
	    (rc = read_flag(v, "thinking", false, &l->options.thinking, e)) ||
	    (rc = messages_parse(json_get(v, "messages"), (int)m->template_id, alc, &l->messages,
				 e)) ||
	    (rc = tools_parse(json_get(v, "tools"), alc, &l->tools, e)))
		return rc;
	l->options.tools = &l->tools;
	return 0;
}

/* Renders twice: once to learn the sizes. */
static int render(const struct text_model *m, const yyjson_alc *alc, struct line *l, struct err *e)
{
	struct prompt *p = &l->prompt;
	int rc = template_render(m->template_id, &l->messages, &l->options, p, e);

	if (rc != -ENOSPC)
		return rc;
	p->text = alc->malloc(alc->ctx, p->text_len);
	p->segment = alc->malloc(alc->ctx, p->n_segments * sizeof(*p->segment));
	if (!p->text || !p->segment)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the prompt");
	p->text_cap = p->text_len;
	p->segment_cap = p->n_segments;
	return template_render(m->template_id, &l->messages, &l->options, p, e);
}

static int print_line(struct text_model *m, const yyjson_alc *alc, const struct line *l,
		      struct err *e)
{
	const struct prompt *p = &l->prompt;
	uint32_t *ids = alc->malloc(alc->ctx, (p->text_len + 1) * sizeof(*ids));
	ssize_t n;
	int rc;

	if (!ids)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the ids");
	rc = text_model_reserve(m, p->text_len, e);
	if (rc)
		return rc;
	n = prompt_encode(p, &m->tokenizer, ids, p->text_len, e);
	if (n < 0)
		return (int)n;
	fputs("{\"text\": ", stdout);
	rc = print_string(stdout, p->text, p->text_len, e);
	fputs(", \"ids\": ", stdout);
	print_ids(stdout, ids, (size_t)n);
	fputs("}\n", stdout);
	return rc;
}

static int template_line(void *context, yyjson_val *v, struct err *e)
{
	struct text_model *m = context;
	void *pool = NULL;
	const yyjson_alc alc = {pool_malloc, pool_realloc, pool_free, &pool};
	struct line l = {0};
	int rc = parse_line(m, v, &alc, &l, e);

	if (!rc)
		rc = render(m, &alc, &l, e);
	if (!rc)
		rc = print_line(m, &alc, &l, e);
	pool_reset(&pool);
	return rc;
}

int cmd_template(int argc, char **argv, struct err *e)
{
	unsigned name = 0;
	struct opt table[] = {
		{"template", OPT_ENUM, &name, .value = TEMPLATE_NAMES,
		 .help = "instead of the model's own"},
	};
	struct options o = {
		.usage = "penstock template MODEL",
		.about = "Reads one object per line (messages, add_generation_prompt, "
			 "thinking, tools) and prints the prompt as {\"text\", \"ids\"}.",
		.table = table,
		.n = 1,
		.min_operands = 1,
		.max_operands = 1};
	struct text_model m;
	int rc = options_parse(&o, argc, argv, e);

	if (rc < 0 || o.help)
		return o.help ? options_help(&o, stdout) : rc;
	rc = text_model_open(&m, argv[1], true, e);
	if (!rc && table[0].given)
		m.template_id = (enum template_id)(TEMPLATE_V3 + name);
	if (!rc && m.template_id == TEMPLATE_NONE)
		rc = err_exit(e, STATUS_MODEL, -ENOENT, "%s (%s)", m.template_problem,
			      table[0].value);
	if (!rc)
		rc = lines_run(JSON_RAW_NUMBERS, template_line, &m, e);
	text_model_close(&m);
	return rc;
}
