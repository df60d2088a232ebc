/*
 * Chat templates: a conversation to a prompt, as the Jinja templates of DeepSeek's checkpoints do
 * it, but in C (specification 8, golden/text/README.md). A checkpoint's template is not run, it is
 * recognised by its SHA-256. A prompt is text and, beside it, the same text as a list of markers
 * and runs between them, so that only what the template itself printed can become a marker's token.
 *
 *	struct prompt p = {0};
 *	template_render(id, &messages, &options, &p, &e);           -ENOSPC: the sizes are in p
 *	p = (struct prompt){.text = ..., .text_cap = p.text_len,
 *			    .segment = ..., .segment_cap = p.n_segments};
 *	template_render(id, &messages, &options, &p, &e);
 *	n = prompt_encode(&p, &tokenizer, ids, cap, &e);
 */
#ifndef MODEL_TEXT_TEMPLATE_H
#define MODEL_TEXT_TEMPLATE_H

#include "model/text/messages.h"
#include "model/text/tokenizer.h"

enum template_id {     /* stored in the index: append only */
	TEMPLATE_NONE, /* no template, or an unknown one: no chat */
	TEMPLATE_V3,   /* December 2024; follows the rules of V3-0324 (its own are malformed) */
	TEMPLATE_V3_0324,
	TEMPLATE_R1_FIRST, /* generation prompt without <think> */
	TEMPLATE_R1,
	TEMPLATE_R1_0528,
	TEMPLATE_V31,
	TEMPLATE_V32, /* V3.1-Terminus, V3.2-Exp */
	TEMPLATE_COUNT
};

/* What --template takes, in the order of the ids. */
#define TEMPLATE_NAMES "v3|v3-0324|r1-first|r1|r1-0528|v31|v32"

/* The name that --template takes ("v3-0324"), and back; TEMPLATE_NONE for an unknown name. */
const char *template_name(enum template_id id);
enum template_id template_named(const char *name);

/* Which published template this text is, trailing white space aside; TEMPLATE_NONE if none. */
enum template_id template_recognize(const char *text, size_t len);

/*
 * The template of a checkpoint: chat_template.jinja if there is one (jinja not NULL), else
 * `chat_template` in tokenizer_config.json (config not NULL; also the entry "default" of a list).
 * Allocates with malloc. Returns 0 and the id, or -ENOENT with a text that says what is wrong and
 * names --template.
 */
MUST_CHECK int template_of_checkpoint(const char *config, size_t config_len, const char *jinja,
				      size_t jinja_len, enum template_id *id, struct err *e);

/* What a template makes use of; what it does not know is refused by messages_parse. */
bool template_knows_thinking(enum template_id id); /* the `thinking` switch, `prefix` and tools */
/* Reasoning in earlier replies, which it drops. */
bool template_knows_reasoning(enum template_id id);
bool template_takes_null(enum template_id id, const struct message *m); /* null content here */

struct template_options {
	bool add_generation_prompt;
	bool thinking;
	const struct tools *tools; /* NULL or empty: none */
};

enum marker {
	MARKER_TEXT, /* not a marker: a run of plain text */
	MARKER_BOS,
	MARKER_EOS,
	MARKER_USER,
	MARKER_ASSISTANT,
	MARKER_THINK,
	MARKER_THINK_END,
	MARKER_CALLS,
	MARKER_CALLS_END,
	MARKER_CALL,
	MARKER_CALL_END,
	MARKER_OUTPUTS,
	MARKER_OUTPUTS_END,
	MARKER_OUTPUT,
	MARKER_OUTPUT_END,
	MARKER_SEP,
	MARKER_COUNT
};

/* The text of a marker ("<think>"); for MARKER_TEXT "". */
const char *marker_text(enum marker m);

struct segment {
	enum marker marker;
	size_t off, len; /* of prompt.text */
};

struct prompt {
	char *text; /* not terminated; may be NULL if text_cap is 0 */
	size_t text_cap, text_len;
	struct segment *segment; /* may be NULL if segment_cap is 0 */
	size_t segment_cap, n_segments;
	bool opens_reasoning; /* the reply begins inside its reasoning */
	bool in_run;          /* the last segment is text; used while rendering */
};

/*
 * Renders into p (its caps are the caller's; text_len and n_segments count even past them). Returns
 * 0; -ENOSPC without a text if a cap is too small; -EINVAL for options the template has no form
 * for.
 */
MUST_CHECK int template_render(enum template_id id, const struct messages *messages,
			       const struct template_options *options, struct prompt *p,
			       struct err *e);

/*
 * A rendered prompt's ids: markers become their tokens, each run of text between two of them is one
 * string encoded with added tokens off. A marker that this tokenizer lacks is text. Returns as
 * tokenizer_encode does.
 */
MUST_CHECK ssize_t prompt_encode(const struct prompt *p, struct tokenizer *t, uint32_t *ids,
				 size_t cap, struct err *e);

#endif
