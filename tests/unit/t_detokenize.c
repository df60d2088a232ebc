/*
 * Streaming decode: every sequence of byte tokens, however broken, gives pieces that are whole
 * UTF-8 and join to the lossy decode of all bytes. Random sequences come from bytes that matter;
 * examples are golden/text/README.md's.
 */
#include "model/text/utf8.h"
#include "tests/tap.h"
#include "tests/tiny_tokenizer.h"

#include <stdlib.h>
#include <string.h>

static uint32_t seed = 1;

static uint32_t draw(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)(seed >> 8) * below) >> 24);
}

/* Decodes n ids; pieces are joined by "|", the end's piece is the last. */
static void decode(const struct tiny *tiny, const uint32_t *id, size_t n, bool skip, char *out)
{
	struct detokenizer d = {.skip_special = skip};
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		len += detokenizer_push(&d, &tiny->t, id[i], out + len);
		out[len++] = '|';
	}
	len += detokenizer_finish(&d, out + len);
	out[len] = 0;
}

#define DECODES(tiny, skip, want, name, ...)                                                       \
	do {                                                                                       \
		static const uint32_t ids[] = {__VA_ARGS__};                                       \
		char got[512];                                                                     \
		decode(tiny, ids, sizeof(ids) / sizeof(ids[0]), skip, got);                        \
		is_str(got, want, name);                                                           \
	} while (0)

static void examples(const struct tiny *tiny)
{
	DECODES(tiny, false, "a||\xe4\xb8\xad|", "a character of three tokens comes with the last",
		'a', 256, 0xad);
	DECODES(tiny, false, "|\xef\xbf\xbd\xef\xbf\xbd|",
		"E0 80 begins no character and is not held", 0xe0, 0x80);
	DECODES(tiny, false, "|||\xef\xbf\xbd", "F0 9F 98 is held, and lost as one at the end",
		0xf0, 0x9f, 0x98);
	DECODES(tiny, false,
		"|\xef\xbf\xbd"
		"a|",
		"a letter decides a held byte", 0xc3, 'a');
	DECODES(tiny, false, "|\xef\xbf\xbd|\xef\xbf\xbd", "a lead byte replaces a held one", 0xc3,
		0xe4);
	DECODES(tiny, false, "|||\xe4\xb8\xad|", "an id without text changes nothing", 256, 999,
		UINT32_MAX, 0xad);
	DECODES(tiny, true, "||\xe4\xb8\xad|", "a skipped special token leaves no gap", 256,
		TINY_EOS, 0xad);
	DECODES(tiny, true, "<think>|", "a marker that is not special is not skipped", TINY_THINK);
	DECODES(tiny, false, "|\xef\xbf\xbd<\xef\xbd\x9cUser\xef\xbd\x9c>|\xef\xbf\xbd|",
		"a marker inside a character breaks it", 256, TINY_USER, 0xad);
}

/* Plain definition: the whole decode, which pieces must join to. */
static void random_sequences(const struct tiny *tiny)
{
	static const uint8_t bytes[] = {'a',  0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc3, 0xdf,
					0xe0, 0xe4, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff};
	size_t bad_join = 0, bad_piece = 0, bad_held = 0;

	for (int round = 0; round < 100000; round++) {
		uint8_t all[8];
		char want[32], got[64], *end = got;
		size_t n = 1 + draw(8), want_len;
		struct detokenizer d = {0};

		for (size_t i = 0; i < n; i++) {
			size_t k;

			all[i] = bytes[draw(sizeof(bytes))];
			k = detokenizer_push(&d, &tiny->t, all[i], end);
			bad_piece += utf8_valid_prefix((const uint8_t *)end, k) != k;
			bad_held += d.n_held != utf8_incomplete_tail(all, i + 1);
			end += k;
		}
		end += detokenizer_finish(&d, end);
		want_len = utf8_copy_lossy(want, all, n);
		bad_join += (size_t)(end - got) != want_len || memcmp(got, want, want_len);
	}
	is_int((long long)bad_join, 0,
	       "pieces join to the whole decode, 100,000 sequences (seed 1)");
	is_int((long long)bad_piece, 0, "every piece is whole UTF-8");
	is_int((long long)bad_held, 0, "what is held follows from the last bytes alone");
}

int main(void)
{
	static const struct tiny_merge merge[] = {{0xe4, 0xb8}};
	char *json = tiny_tokenizer_json(merge, 1);
	struct tiny tiny;
	struct err e = {0};

	if (ok(tiny_open(&tiny, json, 64, &e) == 0, "a tokenizer opens (%s)", e.text)) {
		examples(&tiny);
		random_sequences(&tiny);
		ok(detokenizer_piece_max(&tiny.t) >= 3 * 32,
		   "a piece has room for the longest token");
	}
	tiny_close(&tiny);
	free(json);
	return tap_done();
}
