/*
 * A request's messages and tools against arbitrary JSON, rendered by every template, encoded, and
 * decoded again: a run of text must come back as it was, and no text may become a marker. The first
 * byte chooses template and options.
 */
#include "model/text/json.h"
#include "model/text/template.h"
#include "tests/tiny_tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	POOL = 1 << 20,
	TEXT_MAX = 1 << 18,
	SEGMENTS_MAX = 1 << 14
};

static struct tiny tiny;
static char pool[POOL], text[TEXT_MAX];
static struct segment segment[SEGMENTS_MAX];
static uint32_t ids[TEXT_MAX];

/* The ids of a prompt spell its text, and have as many markers as the template printed. */
static void check_prompt(const struct prompt *p, struct err *e)
{
	ssize_t n = prompt_encode(p, &tiny.t, ids, TEXT_MAX, e);
	size_t at = 0, markers = 0, want = 0;

	if (n < 0)
		abort();
	for (ssize_t i = 0; i < n; i++) {
		size_t k;
		const uint8_t *bytes = tokenizer_token_bytes(&tiny.t, ids[i], &k);

		if (k > p->text_len - at || memcmp(bytes, p->text + at, k))
			abort();
		at += k;
		markers += ids[i] >= TINY_BOS;
	}
	for (size_t i = 0; i < p->n_segments; i++)
		want += p->segment[i].marker != MARKER_TEXT;
	if (at != p->text_len || markers != want)
		abort();
}

static int render(yyjson_val *root, uint8_t choice, const yyjson_alc *alc, struct err *e)
{
	enum template_id id = (enum template_id)(choice % TEMPLATE_COUNT);
	struct messages messages;
	struct tools tools;
	struct template_options o = {choice & 0x40, choice & 0x80, &tools};
	struct prompt p = {.text = text,
			   .text_cap = TEXT_MAX,
			   .segment = segment,
			   .segment_cap = SEGMENTS_MAX};
	int rc = messages_parse(json_get(root, "messages"), (int)id, alc, &messages, e);

	if (!rc)
		rc = tools_parse(json_get(root, "tools"), alc, &tools, e);
	if (!rc)
		rc = template_render(id, &messages, &o, &p, e);
	if (!rc)
		check_prompt(&p, e);
	return rc == -ENOSPC ? 0 : rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = {0};
	yyjson_doc *doc;
	yyjson_alc alc;
	char *json;
	int rc;

	if (!tiny.blob) {
		json = tiny_tokenizer_json(NULL, 0);
		if (tiny_open(&tiny, json, TEXT_MAX, &e))
			abort();
		free(json);
	}
	if (size == 0)
		return 0;
	yyjson_alc_pool_init(&alc, pool, sizeof(pool));
	rc = json_read(&doc, (const char *)data + 1, size - 1,
		       data[0] & 0x20 ? JSON_RAW_NUMBERS : 0, &alc, &e);
	if (!rc)
		rc = render(yyjson_doc_get_root(doc), data[0], &alc, &e);
	if (rc && !e.text[0])
		abort(); /* a refusal without a text */
	return 0;
}
