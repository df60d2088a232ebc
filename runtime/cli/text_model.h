/*
 * What `tokenize` and `template` share: the tokenizer of a checkpoint directory, and lines of JSON
 * in and out.
 */
#ifndef RUNTIME_CLI_TEXT_MODEL_H
#define RUNTIME_CLI_TEXT_MODEL_H

#include "model/text/json.h"
#include "model/text/template.h"
#include "model/text/tokenizer.h"

#include <stdio.h>

struct text_model {
	struct tokenizer tokenizer;
	enum template_id template_id; /* the checkpoint's own; TEMPLATE_NONE if unknown */
	char template_problem[160];   /* why, then */
	uint32_t vocab_size;          /* ids are below this */
	void *blob, *scratch;
	size_t blob_bytes;
};

/*
 * Reads tokenizer.json, the vocab_size of config.json (a directory without one has no such limit)
 * and, if want_template, the chat template of the directory `path`. Errors have status 3.
 */
MUST_CHECK int text_model_open(struct text_model *m, const char *path, bool want_template,
			       struct err *e);
void text_model_close(struct text_model *m);

/*
 * Scratch for one text of len bytes: makes the tokenizer's memory large enough for a piece of that
 * length.
 */
MUST_CHECK int text_model_reserve(struct text_model *m, size_t len, struct err *e);

/*
 * Reads stdin line by line (split at LF only, an empty last line is none) and calls `each` with a
 * parsed line; stops at the first error, whose text gets the line's number in front, or at a write
 * error of stdout.
 */
MUST_CHECK int lines_run(enum json_flags flags,
			 int (*each)(void *context, yyjson_val *line, struct err *e), void *context,
			 struct err *e);

/* Prints a JSON array of ids, a JSON string. */
void print_ids(FILE *out, const uint32_t *ids, size_t n);
MUST_CHECK int print_string(FILE *out, const char *s, size_t len, struct err *e);

#endif
