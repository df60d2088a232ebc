/*
 * The bodies of requests, as api.md has them: JSON checked key by key into options, and prompts
 * into text or token ids. Pure: the same bytes give the same answer, so a request may be read again
 * after a restart. Knows nothing of connections and rings.
 */
#ifndef GATEWAY_API_H
#define GATEWAY_API_H

#include "model/text/json.h"
#include "model/text/tokenizer.h"
#include "runtime/arena.h"
#include "runtime/gateway/out.h"
#include "runtime/gateway/stop.h"

enum {
	API_PARAM = 208, /* bytes of a field's name before broken UTF-8 is replaced */
	API_TEXT = 640   /* the same of a message */
};

/* Why a request is refused; becomes the error envelope. */
struct api_error {
	int status;                    /* 0: none */
	const char *code;              /* or NULL */
	char param[3 * API_PARAM + 1]; /* the top-level field, "" if none; UTF-8 */
	char message[3 * API_TEXT];    /* UTF-8 */
	unsigned retry_after;          /* seconds, 0: none */
};

/* What the requests are checked against. Borrowed for the life of the process. */
struct api_model {
	struct tokenizer *tokenizer;   /* NULL: there is none, and tokenizer_problem says why */
	const char *tokenizer_problem; /* */
	const char *template_problem;  /* why there is no chat, where template_id is 0 */
	int template_id;               /* enum template_id of model/text/template.h */
	uint32_t context, vocab;
	uint32_t bos;              /* UINT32_MAX: none */
	double temperature, top_p; /* defaults */
	const char *name;          /* of the model */
};

enum api_endpoint {
	API_CHAT = 1,
	API_COMPLETION = 2,
	API_TEMPLATE = 4,
	API_TOKENIZE = 8,
	API_DETOKENIZE = 16
};

/* A body that has been read. Strings and values are borrowed from the arena. */
struct api_request {
	enum api_endpoint endpoint;
	yyjson_val *messages; /* chat, apply-template */
	yyjson_val *prompt;   /* completions */
	yyjson_val *content;  /* tokenize */
	yyjson_val *tokens;   /* detokenize */
	bool stream, include_usage;
	bool thinking, add_generation_prompt;
	const char *thinking_field; /* the field that set it, for errors */
	bool has_max_tokens, has_seed;
	uint64_t max_tokens;
	double temperature, top_p, min_p;
	uint32_t top_k;
	int64_t seed;
	uint32_t n_stop;
	const char *stop[STOP_STRINGS];
	uint32_t stop_len[STOP_STRINGS];
	bool opens_reasoning; /* out of api_prompt_ids: the reply begins inside its reasoning */
};

/*
 * Reads a body for an endpoint. The arena is for this request alone; the caller resets it. Returns
 * 0, or -1 with *e filled.
 */
MUST_CHECK int api_read(struct api_request *r, enum api_endpoint endpoint,
			const struct api_model *m, const char *body, size_t len, struct arena *a,
			struct api_error *e);

/*
 * The ids of a chat's or completion's prompt, at most cap stored. Returns how many it has (1 or
 * more, perhaps more than cap), or -1 with *e filled.
 */
MUST_CHECK int64_t api_prompt_ids(struct api_request *r, const struct api_model *m, uint32_t *ids,
				  size_t cap, struct arena *a, struct api_error *e);

/*
 * Ids of an array of the field `param`, each below the vocabulary's size; at most cap stored.
 * Returns how many, or -1.
 */
MUST_CHECK int64_t api_given_ids(const struct api_model *m, yyjson_val *array, const char *param,
				 uint32_t *ids, size_t cap, struct api_error *e);

/* The template that --template names; 0 for an unknown name. */
int api_template_named(const char *name);

/* The text that apply-template answers with, borrowed from the arena. */
MUST_CHECK int api_prompt_text(struct api_request *r, const struct api_model *m, const char **text,
			       size_t *len, struct arena *a, struct api_error *e);

/* Fills an error in and returns -1. param may be NULL. */
int api_refuse(struct api_error *e, int status, const char *param, const char *code,
	       const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The envelope: {"error": {...}}. */
void api_write_error(struct out *o, const struct api_error *e);

/*
 * An allocator over an arena for yyjson: what is freed last is reused, the rest waits for the
 * reset.
 */
yyjson_alc api_alc(struct arena *a);

#endif
