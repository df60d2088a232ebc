/*
 * The tokenizer on tokenizers made here: merges against a plain definition of BPE, splits against
 * the specification's examples, added tokens, every refusal, damaged blobs, limits. The published
 * tokenizer is golden/text.t's.
 */
#include "model/text/tokenizer_blob.h"
#include "tests/tap.h"
#include "tests/tiny_tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t seed = 20241226;

static uint32_t draw(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)(seed >> 8) * below) >> 24);
}

/* ---- merges ---- */

enum {
	RANDOM_MERGES = 40
};

/* Merges of tokens over "ab c", each result new. */
static size_t random_merges(struct tiny_merge *merge)
{
	static const char letters[] = "abc ";
	char text[256 + RANDOM_MERGES][128] = {{0}};
	size_t n = 0;

	for (size_t i = 0; i < 4; i++)
		text[(unsigned char)letters[i]][0] = letters[i];
	for (int tries = 0; tries < 2000 && n < RANDOM_MERGES; tries++) {
		uint32_t pool = 4 + (uint32_t)n, a = draw(pool), b = draw(pool);
		char joined[256];
		bool known = false;

		a = a < 4 ? (unsigned char)letters[a] : 252 + a;
		b = b < 4 ? (unsigned char)letters[b] : 252 + b;
		snprintf(joined, sizeof(joined), "%s%s", text[a], text[b]);
		for (size_t i = 0; i < 256 + n; i++)
			known |= strcmp(text[i], joined) == 0;
		if (known || strlen(joined) > 100)
			continue;
		strcpy(text[256 + n], joined);
		merge[n++] = (struct tiny_merge){a, b};
	}
	return n;
}

/* BPE as it is defined: the lowest rank anywhere, leftmost first, until none applies. */
static size_t plain_bpe(const struct tiny_merge *merge, size_t n_merges, const char *s, size_t len,
			uint32_t *id)
{
	for (size_t i = 0; i < len; i++)
		id[i] = (unsigned char)s[i];
	for (size_t rank = 0; rank < n_merges; rank++)
		for (size_t i = 0; i + 1 < len; i++)
			if (id[i] == merge[rank].left && id[i + 1] == merge[rank].right) {
				id[i] = 256 + (uint32_t)rank;
				memmove(&id[i + 1], &id[i + 2], (len - i - 2) * sizeof(*id));
				len--;
				rank = SIZE_MAX; /* a merge may have made a lower one possible */
				break;
			}
	return len;
}

static char *without_patterns(const char *json)
{
	char *out = strdup(json), *from, *to;

	if (!out)
		abort();
	from = strstr(out, "{\"type\":\"Split\"");
	to = strstr(out, "{\"type\":\"ByteLevel\"");
	memmove(from, to, strlen(to) + 1);
	return out;
}

static void merges_agree(void)
{
	enum {
		LONG = 700
	};
	uint32_t want[LONG], got[LONG];
	char s[LONG];
	size_t bad = 0, texts = 0;
	uint32_t first_seed = seed;

	for (int round = 0; round < 12; round++) {
		struct tiny_merge merge[RANDOM_MERGES];
		size_t n = random_merges(merge);
		char *json = tiny_tokenizer_json(merge, n), *bare = without_patterns(json);
		struct tiny tiny;
		struct err e = {0};
		int rc = tiny_open(&tiny, bare, LONG, &e);

		free(json);
		free(bare);
		if (!ok(rc == 0, "a tokenizer of %zu random merges opens (%s)", n, e.text))
			return;
		for (int i = 0; i < 60; i++, texts++) {
			size_t len = i < 20 ? 56 + (size_t)i : 1 + draw(i < 50 ? 60 : LONG - 1), k;
			uint32_t letters = 1 + draw(4);
			ssize_t m;

			for (size_t at = 0; at < len; at++)
				s[at] = "abc "[draw(letters)];
			k = plain_bpe(merge, n, s, len, want);
			m = tokenizer_encode(&tiny.t, s, len, ENCODE_PLAIN, got, LONG, &e);
			bad += m != (ssize_t)k || memcmp(want, got, k * sizeof(*got));
		}
		tiny_close(&tiny);
	}
	is_int((long long)bad, 0,
	       "short and long pieces merge as BPE is defined, %zu texts (seed %u)", texts,
	       first_seed);
}

/* ---- splits ---- */

/* Splits show in which merges apply: none reaches across two pieces. */
static void ids_are(struct tiny *tiny, const char *text, enum encode_flags flags,
		    const uint32_t *want, size_t n, const char *name)
{
	uint32_t got[64] = {0};
	struct err e = {0};
	ssize_t k = tokenizer_encode(&tiny->t, text, strlen(text), flags, got, 64, &e);

	if (ok(k == (ssize_t)n, "%s: as many tokens as expected", name))
		is_mem(got, want, n * sizeof(*want), "%s", name);
	else
		diag("%zd tokens, not %zu: %s", k, n, e.text);
}

#define IDS(...)                                                                                   \
	(const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)

static void splits(void)
{
	/* 256 "12", 257 "  ", 258 " a", 259 ".a", 260 ")\n" */
	static const struct tiny_merge merge[] = {
		{'1', '2'}, {' ', ' '}, {' ', 'a'}, {'.', 'a'}, {')', '\n'}};
	char *json = tiny_tokenizer_json(merge, 5);
	struct tiny tiny;
	struct err e = {0};

	is_int(tiny_open(&tiny, json, 64, &e), 0, "a tokenizer with V3's patterns opens");
	ids_are(&tiny, "1212", ENCODE_PLAIN, IDS(256, '1', '2'), "digits split by three");
	ids_are(&tiny, "a  1", ENCODE_PLAIN, IDS('a', 257, '1'),
		"blanks before a digit stay together: each Split sees its piece alone");
	ids_are(&tiny, "a  a", ENCODE_PLAIN, IDS('a', ' ', 258),
		"the last blank before a word goes to the word");
	ids_are(&tiny, "b.a)\n", ENCODE_PLAIN, IDS('b', 259, 260),
		"punctuation takes the letters or the line end behind it");
	ids_are(&tiny,
		"\xe1\xa0\x8e"
		"a",
		ENCODE_PLAIN, IDS(0xe1, 0xa0, 0x8e, 'a'), "U+180E is encoded whole");
	ids_are(&tiny, "", ENCODE_PLAIN, NULL, 0, "no text");
	tiny_close(&tiny);
	free(json);
}

/* ---- added tokens ---- */

static void added_tokens(void)
{
	char *json = tiny_tokenizer_json(NULL, 0);
	char *overlap =
		tiny_replace(json, "\"content\":\"<think>\"", "\"content\":\"<\\u00e9</thi\"");
	struct tiny tiny;
	struct err e = {0};

	is_int(tiny_open(&tiny, json, 64, &e), 0, "a tokenizer without merges opens");
	ids_are(&tiny, "a<think>b", ENCODE_MARKERS, IDS('a', TINY_THINK, 'b'),
		"an added token in the text is its id");
	ids_are(&tiny, "<think>", ENCODE_PLAIN, IDS('<', 't', 'h', 'i', 'n', 'k', '>'),
		"with markers off an added token is text");
	ids_are(&tiny, "<<think</think>", ENCODE_MARKERS,
		IDS('<', '<', 't', 'h', 'i', 'n', 'k', TINY_THINK_END),
		"a beginning of an added token is text");
	is_int(tokenizer_find_added(&tiny.t, "</think>", 8), TINY_THINK_END,
	       "a marker is found by its text");
	is_int(tokenizer_find_added(&tiny.t, "a", 1), TOKENIZER_NONE,
	       "a token of the vocabulary is no marker");
	ok(tokenizer_is_special(&tiny.t, TINY_BOS) && !tokenizer_is_special(&tiny.t, TINY_USER),
	   "special is what the file says");
	ok(!tokenizer_has(&tiny.t, 999) && !tokenizer_has(&tiny.t, TINY_VOCAB) &&
		   !tokenizer_has(&tiny.t, UINT32_MAX),
	   "ids without a token are known as such");
	tiny_close(&tiny);
	is_int(tiny_open(&tiny, overlap, 64, &e), 0, "added tokens may overlap");
	ids_are(&tiny, "<\xc3\xa9</think>", ENCODE_MARKERS, IDS(TINY_THINK, 'n', 'k', '>'),
		"the leftmost of two that overlap counts");
	tiny_close(&tiny);
	free(overlap);
	overlap = tiny_replace(json, "\"\\u00ff\":255", "\"zz\":255");
	is_int(tiny_open(&tiny, overlap, 64, &e), 0,
	       "a byte that UTF-8 never has needs no token, as in V2's vocabulary");
	tiny_close(&tiny);
	free(json);
	free(overlap);
}

/* ---- refusals ---- */

static void refusals(void)
{
	static const struct {
		const char *from, *to, *text;
	} table[] = {
		{"\"type\":\"BPE\"", "\"type\":\"Unigram\"", "only BPE"},
		{"\"type\":\"BPE\",", "", "only BPE"},
		{"\"dropout\":null", "\"dropout\":0.1", "dropout"},
		{"\"unk_token\":null", "\"unk_token\":\"x\"", "unk_token"},
		{"\"byte_fallback\":false", "\"byte_fallback\":true", "byte_fallback"},
		{"\"fuse_unk\":false", "\"fuse_unk\":false,\"ignore_merges\":true",
		 "ignore_merges"},
		{"\"truncation\":null", "\"truncation\":{\"max_length\":5}", "truncation"},
		{"\"normalizers\":[]", "\"normalizers\":[{\"type\":\"NFC\"}]",
		 "normalizer \"NFC\""},
		{"\"behavior\":\"Isolated\"", "\"behavior\":\"Removed\"", "Isolated"},
		{"\"invert\":false", "\"invert\":true", "invert"},
		{"{\"Regex\":", "{\"String\":", "Regex"},
		{"\\\\p{N}{1,3}", "(", "does not compile"},
		{"\\\\p{N}{1,3}", "\\\\h+", "escape"},
		{"\\\\p{N}{1,3}", "(?i)a", "group"},
		{"\\\\p{N}{1,3}", "[a[b]]", "class"},
		{"\"type\":\"Split\"", "\"type\":\"Metaspace\"", "Metaspace"},
		{"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_"
		 "regex\":false}",
		 "{\"type\":\"Digits\"}", "byte-level"},
		{"\"add_prefix_space\":false", "\"add_prefix_space\":true", "add_prefix_space"},
		{"\"use_regex\":false", "\"use_regex\":true", "use_regex"},
		{"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"Fuse\"",
		 "decoder"},
		{"\"post_processor\":{\"type\":\"ByteLevel\"", "\"post_processor\":{\"type\":\"X\"",
		 "post_processor"},
		{"\"lstrip\":false", "\"lstrip\":true", "lstrip"},
		{"\"rstrip\":false", "\"rstrip\":true", "rstrip"},
		{"\"single_word\":false", "\"single_word\":true", "single_word"},
		{"\"id\":1001", "\"id\":1000", "two tokens"},
		{"\"id\":1001", "\"id\":97", "two tokens"},
		{"\"id\":1001", "\"id\":1100", "vocab_size 1100"},
		{"\"id\":1001", "\"id\":-1", "integer"},
		{"\"id\":1001", "\"id\":1.5", "integer"},
		{"\"content\":\"<think>\"", "\"content\":\"</think>\"", "two ids"},
		{"\"content\":\"<think>\"", "\"content\":\"\"", "content"},
		{"\"\\u0061\":97", "\"\\u0061\":96", "two tokens"},
		{"\"\\u0061\":97,", "", "byte 0x61"},
		{"\"\\u0061\":97", "\"\\u0062\":97", "twice"},
		{"\"\\u0061\":97", "\"\\u0061\":\"97\"", "integer"},
		{"\"merges\":[\"\\u0061 \\u0062\"", "\"merges\":[\"\\u0061\\u0062\"", "merge 0"},
		{"\"merges\":[\"\\u0061 \\u0062\"", "\"merges\":[\"\\u0061 xyz\"",
		 "not in the vocabulary"},
		{"\"merges\":[\"\\u0061 \\u0062\"", "\"merges\":[\"\\u0061 \\u0063\"",
		 "not in the vocabulary"},
		{"\"merges\":[\"\\u0061 \\u0062\"", "\"merges\":[7", "merge 0"},
		{"{\"version\"", "{\"version", "JSON"},
	};
	static const struct tiny_merge merge[] = {{'a', 'b'}};
	char *json = tiny_tokenizer_json(merge, 1);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *bad = tiny_replace(json, table[i].from, table[i].to);
		struct err e = {0};
		struct tiny tiny;
		int rc = tiny_open(&tiny, bad, 64, &e);

		ok(rc < 0 && e.status == STATUS_MODEL && strstr(e.text, table[i].text),
		   "%.40s: refused, naming %s (%s)", table[i].to, table[i].text, e.text);
		tiny_close(&tiny);
		free(bad);
	}
	free(json);
}

/* ---- limits ---- */

static void limits(void)
{
	static const struct tiny_merge merge[] = {{'a', 'a'}};
	char *json = tiny_tokenizer_json(merge, 1);
	char *slow = tiny_replace(json, "\\\\p{N}{1,3}", "(a+)+$");
	struct tiny tiny;
	struct err e = {0};
	size_t len = 1 << 20, longest;
	char *text = malloc(len + 1);
	uint32_t id[4];
	ssize_t n;

	if (!text)
		abort();
	memset(text, 'a', len);
	is_int(tiny_open(&tiny, json, len, &e), 0, "a tokenizer opens with room for 1 MiB");
	n = tokenizer_encode(&tiny.t, text, len, ENCODE_PLAIN, id, 4, &e);
	ok(n == (ssize_t)len / 2 && id[3] == 256,
	   "1 MiB of one character encodes, and ids past the cap are counted (%zd)", n);
	tiny_close(&tiny);

	is_int(tiny_open(&tiny, json, 100, &e), 0, "a tokenizer opens with room for 100 bytes");
	longest = tiny.t.piece_max;
	ok(longest >= 100 && longest < 200, "the room is what was asked for (%zu)", longest);
	n = tokenizer_encode(&tiny.t, text, longest, ENCODE_PLAIN, id, 4, &e);
	ok(n == (ssize_t)(longest + 1) / 2, "a piece that just fits is encoded");
	n = tokenizer_encode(&tiny.t, text, longest + 1, ENCODE_PLAIN, id, 4, &e);
	ok(n == -E2BIG && e.text[0], "one byte more is refused: %s", e.text);
	e = (struct err){0};
	n = tokenizer_encode(&tiny.t, "ab\xe2\x82", 4, ENCODE_PLAIN, id, 4, &e);
	ok(n == -EILSEQ && strstr(e.text, "byte 2"), "text that is not UTF-8 is refused: %s",
	   e.text);
	tiny_close(&tiny);

	e = (struct err){0};
	is_int(tiny_open(&tiny, slow, 100, &e), 0, "a pattern that explodes can be opened");
	text[40] = '!';
	n = tokenizer_encode(&tiny.t, text, 41, ENCODE_PLAIN, id, 4, &e);
	ok(n == -ELOOP && e.status == STATUS_MODEL && strstr(e.text, "Split 1"),
	   "and is named when it exceeds its limit: %s", e.text);
	tiny_close(&tiny);
	free(json);
	free(slow);
	free(text);
}

/* ---- damaged blobs ---- */

static void damaged_blobs(void)
{
	static const struct tiny_merge merge[] = {{'a', 'b'}, {256, 'c'}};
	char *json = tiny_tokenizer_json(merge, 2);
	struct tiny tiny;
	struct err e = {0};
	uint8_t *copy;
	size_t opened = 0, refused = 0, silent = 0, used;
	uint32_t id[64];

	is_int(tiny_open(&tiny, json, 64, &e), 0, "a tokenizer opens");
	is_int(tokenizer_compile(json, strlen(json), TINY_VOCAB, tiny.blob, tiny.blob_bytes - 1,
				 &used, &e),
	       -ENOSPC, "a blob that is one byte too small is refused");
	is_int(tokenizer_compile(json, strlen(json), TINY_VOCAB, tiny.blob, tiny.blob_bytes, &used,
				 &e),
	       0, "and one that is large enough is not");
	copy = aligned_alloc(8, tiny.blob_bytes);
	if (!copy)
		abort();
	/*
	 * Every word of the header, and every 97th behind it, takes values that offsets and ids
	 * must not have.
	 */
	for (size_t at = 0; at + 4 <= tiny.blob_bytes;
	     at += at < sizeof(struct tokenizer_blob) ? 4 : 97 * 4) {
		static const uint32_t values[] = {0, 1, 0x7fffffff, 0xfffffff0, UINT32_MAX};

		for (size_t v = 0; v < 5; v++) {
			struct tokenizer t;

			e = (struct err){0};
			memcpy(copy, tiny.blob, tiny.blob_bytes);
			memcpy(copy + at, &values[v], 4);
			if (tokenizer_open(&t, copy, tiny.blob_bytes, tiny.scratch,
					   tiny.scratch_bytes, &e)) {
				refused++;
				silent += !e.text[0];
				continue;
			}
			opened++;
			if (tokenizer_encode(&t, "abc<think> abab", 15, ENCODE_MARKERS, id, 64,
					     &e) < 0)
				silent += !e.text[0];
		}
	}
	ok(refused > 100 && silent == 0,
	   "damaged blobs: %zu refused with a text, %zu harmless, none read outside itself",
	   refused, opened);
	e = (struct err){0};
	ok(tokenizer_open(&tiny.t, tiny.blob, tiny.blob_bytes - 8, tiny.scratch, tiny.scratch_bytes,
			  &e) == -EBADMSG,
	   "a blob that was cut off is refused");
	free(copy);
	tiny_close(&tiny);
	free(json);
}

int main(void)
{
	merges_agree();
	splits();
	added_tokens();
	refusals();
	limits();
	damaged_blobs();
	return tap_done();
}
