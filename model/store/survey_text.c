/*
 * The text side of a survey: the tokenizer compiled into its blob, the ids that have a token, the
 * chat template recognised. None of it is needed to compute, so what is wrong with it is noted in
 * the index and ends nothing (api, "Command line": info and score work without).
 */
#include "model/store/builder.h"
#include "model/text/template.h"
#include "model/text/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TEMPLATE_FILE_MAX = 1 << 20
};

/* Keeps the text as the problem, unless memory ran out, which ends the survey. */
static int note_problem(struct builder *b, const struct err *why, char *problem, size_t size)
{
	if (why->code == -ENOMEM)
		return err_exit(b->e, STATUS_MEMORY, why->code, "%s", why->text);
	snprintf(problem, size, "%.*s", (int)size - 1, why->text);
	return 0;
}

/* Which ids the sampler may draw: those that have a token. */
static int find_candidates(struct builder *b, struct err *why)
{
	const size_t scratch_bytes = tokenizer_scratch_bytes(0);
	void *scratch = aligned_alloc(64, (scratch_bytes + 63) & ~(size_t)63);
	struct tokenizer t;
	int rc = -ENOMEM;

	b->candidates_bytes = ((size_t)b->config.vocab_size + 7) / 8;
	b->candidates = calloc(b->candidates_bytes, 1);
	if (!scratch || !b->candidates)
		err_exit(why, STATUS_MEMORY, rc, "no memory for the tokenizer");
	else
		rc = tokenizer_open(&t, b->tokenizer, b->tokenizer_bytes, scratch, scratch_bytes,
				    why);
	for (uint32_t id = 0; !rc && id < b->config.vocab_size; id++)
		if (tokenizer_has(&t, id))
			b->candidates[id / 8] |= (uint8_t)(1u << id % 8);
	free(scratch);
	return rc;
}

static int compile(struct builder *b, const char *json, size_t len, struct err *why)
{
	struct err measure = {0};
	int rc = tokenizer_compile(json, len, b->config.vocab_size, NULL, 0, &b->tokenizer_bytes,
				   &measure);

	if (rc != -ENOSPC) {
		*why = measure;
		return rc;
	}
	b->tokenizer = aligned_alloc(64, (b->tokenizer_bytes + 63) & ~(size_t)63);
	if (!b->tokenizer)
		return err_exit(why, STATUS_MEMORY, -ENOMEM, "no memory for the tokenizer");
	rc = tokenizer_compile(json, len, b->config.vocab_size, b->tokenizer, b->tokenizer_bytes,
			       &b->tokenizer_bytes, why);
	return rc ? rc : find_candidates(b, why);
}

static int add_tokenizer(struct builder *b)
{
	struct err why = {0};
	char *json = NULL;
	size_t len = 0;
	int rc = builder_read(b, "tokenizer.json", TOKENIZER_JSON_MAX, &json, &len, &why);

	if (!rc && !json)
		rc = err_exit(&why, STATUS_MODEL, -ENOENT, "there is no tokenizer.json");
	if (!rc)
		rc = compile(b, json, len, &why);
	free(json);
	if (!rc)
		return 0;
	b->tokenizer_bytes = b->candidates_bytes = 0;
	return note_problem(b, &why, b->tokenizer_problem, sizeof(b->tokenizer_problem));
}

static int add_template(struct builder *b)
{
	struct err why = {0};
	enum template_id id = TEMPLATE_NONE;
	char *config = NULL;
	char *jinja = NULL;
	size_t config_len = 0;
	size_t jinja_len = 0;
	int rc = builder_read(b, "tokenizer_config.json", TEMPLATE_FILE_MAX, &config, &config_len,
			      &why);

	if (!rc)
		rc = builder_read(b, "chat_template.jinja", TEMPLATE_FILE_MAX, &jinja, &jinja_len,
				  &why);
	if (!rc)
		rc = template_of_checkpoint(config, config_len, jinja, jinja_len, &id, &why);
	free(config);
	free(jinja);
	b->template_id = rc ? TEMPLATE_NONE : id;
	return rc ? note_problem(b, &why, b->template_problem, sizeof(b->template_problem)) : 0;
}

int builder_add_text(struct builder *b)
{
	int rc = add_tokenizer(b);

	return rc ? rc : add_template(b);
}
