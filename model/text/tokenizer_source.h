/*
 * The parts of a tokenizer.json whose form was checked. Not for use outside model/text.
 */
#ifndef MODEL_TEXT_TOKENIZER_SOURCE_H
#define MODEL_TEXT_TOKENIZER_SOURCE_H

#include "model/text/messages.h"
#include "model/text/tokenizer.h"

/* Borrowed from the document. */
struct tokenizer_source {
	struct err *e;
	yyjson_val *vocab;                       /* an object: text to id, both unchecked */
	yyjson_val *merges;                      /* an array of anything */
	yyjson_val *added;                       /* an array of anything, or NULL */
	struct text split[TOKENIZER_SPLITS_MAX]; /* the patterns in order */
	uint32_t n_splits;
};

/*
 * Checks the document and fills source. Returns 0, or -EBADMSG with status 3 and a text that names
 * what is not supported.
 */
MUST_CHECK int source_read(struct tokenizer_source *source, yyjson_val *root, struct err *e);

/*
 * Records an error about tokenizer.json: a refusal (-EBADMSG, status 3), no memory (-ENOMEM, status
 * 4).
 */
int source_refuse(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
int source_no_memory(struct err *e);

#endif
