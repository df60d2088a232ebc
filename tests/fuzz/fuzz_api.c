/*
 * Bodies of requests against arbitrary text: the first byte names the endpoint. A refusal has a
 * status and a text, and what is taken becomes ids of the vocabulary (runtime/gateway/api.h).
 */
#include "runtime/gateway/api.h"
#include "tests/tiny_tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	TEXT_MAX = 4000,
	IDS = 256
};

static struct tiny tiny;
static struct arena arena;

static void check_error(const struct api_error *e)
{
	char text[4096];
	struct out o = out_make(text, sizeof(text));
	yyjson_doc *doc;

	if (e->status < 400 || !e->message[0])
		abort();
	api_write_error(&o, e);
	doc = yyjson_read(text, o.n, 0);
	if (o.full || !doc)
		abort(); /* whatever came in, the envelope is JSON */
	yyjson_doc_free(doc);
}

static void check_prompt(struct api_request *r, const struct api_model *m)
{
	struct api_error e = {0};
	uint32_t id[IDS];
	int64_t n = api_prompt_ids(r, m, id, IDS, &arena, &e);

	if (n <= 0)
		check_error(&e);
	for (int64_t i = 0; i < n && i < IDS; i++) {
		if (id[i] >= TINY_VOCAB)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct api_request r;
	struct api_error e = {0};
	struct api_model m = {.tokenizer_problem = "",
			      .template_problem = "",
			      .context = IDS,
			      .vocab = TINY_VOCAB,
			      .bos = TINY_BOS,
			      .temperature = 1,
			      .top_p = 1,
			      .name = "tiny"};
	enum api_endpoint endpoint;
	char *body;

	if (!arena.base) {
		char *json = tiny_tokenizer_json(NULL, 0);
		struct err err = {0};

		if (tiny_open(&tiny, json, TEXT_MAX, &err) || arena_map(&arena, 4 << 20, &err))
			abort();
		free(json);
	}
	if (!size || size > TEXT_MAX)
		return 0;
	m.tokenizer = &tiny.t;
	m.template_id = data[0] / 5 % 8;
	endpoint = (enum api_endpoint)(1u << data[0] % 5);
	body = malloc(size); /* a block of its own, so that reading beyond it is found */
	memcpy(body, data + 1, size - 1);
	arena_reset(&arena, 0);
	if (api_read(&r, endpoint, &m, body, size - 1, &arena, &e))
		check_error(&e);
	else if (endpoint & (API_CHAT | API_COMPLETION))
		check_prompt(&r, &m);
	free(body);
	return 0;
}
