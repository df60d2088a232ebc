/*
 * The tokenizer against arbitrary input. The first byte says what the rest is: 'J' a
 * tokenizer.json, 'B' a text, a NUL, and six-byte patches (offset, value) of a sound blob, 'T' a
 * text for a sound tokenizer, whose tokens must spell it.
 */
#include "model/text/utf8.h"
#include "tests/tiny_tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	TEXT_MAX = 2000
};

static struct tiny sound;
static uint8_t *blob, *scratch;

static void make_sound(void)
{
	static const struct tiny_merge merge[] = {{'a', 'b'}, {256, 'c'},   {'a', 'a'},
						  {258, 258}, {' ', 'a'},   {'1', '2'},
						  {259, 259}, {0xe4, 0xb8}, {' ', ' '}};
	struct err e = {0};
	char *json = tiny_tokenizer_json(merge, 9);

	if (tiny_open(&sound, json, TEXT_MAX, &e))
		abort();
	free(json);
	blob = aligned_alloc(8, sound.blob_bytes);
	scratch = malloc(sound.scratch_bytes);
	if (!blob || !scratch)
		abort();
}

/* Encodes on any tokenizer that opened; ids must be ids. */
static void encode(struct tokenizer *t, const char *text, size_t len)
{
	for (int flags = ENCODE_PLAIN; flags <= ENCODE_MARKERS; flags++) {
		static uint32_t id[TEXT_MAX];
		struct err e = {0};
		ssize_t n =
			tokenizer_encode(t, text, len, (enum encode_flags)flags, id, TEXT_MAX, &e);
		char *piece = malloc(detokenizer_piece_max(t));
		struct detokenizer d = {0};

		if (n < 0 ? !e.text[0] : (size_t)n > len)
			abort(); /* a refusal without a text, or more tokens than bytes */
		if (detokenizer_piece_max(t) < 1 << 20 && piece)
			for (ssize_t i = 0; i < n; i++)
				if (id[i] >= t->n_ids || detokenizer_push(&d, t, id[i], piece) >
								 detokenizer_piece_max(t))
					abort();
		free(piece);
	}
}

static void fuzz_json(const char *json, size_t size)
{
	struct err e = {0};
	struct tokenizer t;
	size_t used;
	int rc = tokenizer_compile(json, size, TINY_VOCAB, NULL, 0, &used, &e);
	void *out;

	if (rc != -ENOSPC) {
		if (!e.text[0] || !e.status)
			abort();
		return;
	}
	out = aligned_alloc(8, used);
	if (!out)
		abort();
	if (tokenizer_compile(json, size, TINY_VOCAB, out, used, &used, &e) ||
	    tokenizer_open(&t, out, used, scratch, sound.scratch_bytes, &e)) {
		if (!e.text[0])
			abort();
	} else {
		encode(&t, "ab 12 <think> caaab\n", 20);
	}
	free(out);
}

static void fuzz_blob(const uint8_t *data, size_t size)
{
	size_t text = strnlen((const char *)data, size < 64 ? size : 64), at = text + 1;
	struct err e = {0};
	struct tokenizer t;

	memcpy(blob, sound.blob, sound.blob_bytes);
	for (; at + 6 <= size; at += 6) {
		size_t off = ((size_t)data[at] << 8 | data[at + 1]) * 4 % (sound.blob_bytes - 3);

		memcpy(blob + off, data + at + 2, 4);
	}
	if (tokenizer_open(&t, blob, sound.blob_bytes, scratch, sound.scratch_bytes, &e) == 0)
		encode(&t, (const char *)data, text);
	else if (!e.text[0])
		abort();
}

static void fuzz_text(const char *text, size_t size)
{
	static uint32_t id[TEXT_MAX];
	struct err e = {0};
	size_t at = 0, len = size < TEXT_MAX ? size : TEXT_MAX;
	ssize_t n = tokenizer_encode(&sound.t, text, len, ENCODE_PLAIN, id, TEXT_MAX, &e);
	bool valid = utf8_valid_prefix((const uint8_t *)text, len) == len;

	if ((n >= 0) != valid)
		abort();
	for (ssize_t i = 0; i < n; i++) {
		size_t k;
		const uint8_t *bytes = tokenizer_token_bytes(&sound.t, id[i], &k);

		if (k > len - at || memcmp(bytes, text + at, k))
			abort();
		at += k;
	}
	if (valid && at != len)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy;

	if (!blob)
		make_sound();
	if (size == 0)
		return 0;
	copy = malloc(size - 1 ? size - 1 : 1); /* exact, so that one byte too far is noticed */
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	if (data[0] == 'J')
		fuzz_json(copy, size - 1);
	else if (data[0] == 'B')
		fuzz_blob((const uint8_t *)copy, size - 1);
	else if (data[0] == 'T')
		fuzz_text(copy, size - 1);
	free(copy);
	return 0;
}
