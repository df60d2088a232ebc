/*
 * Opens a blob and answers what needs no encoding: the bytes of a token, the id of a text. The
 * checks here are what makes the encoder safe on a hostile blob: every offset inside, every id
 * below n_ids, and every merge's length the sum of its sides', so that the tokens of a piece always
 * tile it exactly.
 */
#include "model/text/tokenizer_internal.h"
#include "model/text/utf8.h"

#include <errno.h>
#include <string.h>

static int bad(struct err *e, const char *what)
{
	return err_exit(e, STATUS_MODEL, -EBADMSG, "tokenizer: damaged index: %s", what);
}

static bool span_inside(struct tokenizer_span s, size_t size, size_t align, size_t total)
{
	return s.off % align == 0 && s.off <= total && s.count <= (total - s.off) / size;
}

static bool text_inside(const struct tokenizer_blob *b, struct tokenizer_span s)
{
	return s.off <= b->text.count && s.count <= b->text.count - s.off;
}

static int check_header(const struct tokenizer_blob *b, size_t len, struct err *e)
{
	uint32_t slots = b->merges.count;

	if (b->magic != TOKENIZER_MAGIC || b->version != TOKENIZER_VERSION)
		return bad(e, "no compiled tokenizer of this version");
	if (b->bytes > len || b->n_ids == 0 || b->n_ids > TOKENIZER_IDS_MAX ||
	    b->n_splits > TOKENIZER_SPLITS_MAX)
		return bad(e, "a count of the tokenizer");
	if (b->token_off.count != b->n_ids + 1 || b->flags.count != b->n_ids ||
	    !span_inside(b->token_off, 4, 4, b->bytes) || !span_inside(b->flags, 1, 1, b->bytes) ||
	    !span_inside(b->text, 1, 1, b->bytes) ||
	    !span_inside(b->merges, sizeof(struct tokenizer_merge), 4, b->bytes) ||
	    !span_inside(b->added[0], sizeof(struct tokenizer_added), 4, b->bytes) ||
	    !span_inside(b->added[1], sizeof(struct tokenizer_added), 4, b->bytes))
		return bad(e, "an array of the tokenizer");
	if (slots == 0 || (slots & (slots - 1)))
		return bad(e, "the size of the merge table");
	for (uint32_t i = 0; i < b->n_splits; i++)
		if (!text_inside(b, b->split[i]))
			return bad(e, "a pattern of the tokenizer");
	return 0;
}

static uint32_t token_len(const struct tokenizer *t, uint32_t id)
{
	return t->token_off[id + 1] - t->token_off[id];
}

static int check_tokens(const struct tokenizer *t, struct err *e)
{
	const struct tokenizer_blob *b = t->blob;
	uint32_t longest = 0;

	for (uint32_t id = 0; id < t->n_ids; id++) {
		if (t->token_off[id] > t->token_off[id + 1])
			return bad(e, "the length of a token");
		longest = token_len(t, id) > longest ? token_len(t, id) : longest;
	}
	if (longest != t->token_max)
		return bad(e, "the length of the longest token");
	if (t->token_off[0] != 0 || t->token_off[t->n_ids] > b->text.count)
		return bad(e, "the text of the tokens");
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t id = b->byte_id[i];

		if (id == TOKENIZER_NONE && !utf8_has_byte((uint8_t)i))
			continue;
		if (id >= t->n_ids || token_len(t, id) != 1 || t->text[t->token_off[id]] != i)
			return bad(e, "the token of a byte");
	}
	return 0;
}

/* Sorted by text, each once: what longest_added in encode.c relies on to stay inside the texts. */
static int check_added(const struct tokenizer *t, struct err *e)
{
	const struct tokenizer_blob *b = t->blob;

	for (size_t k = 0; k < 2; k++)
		for (uint32_t i = 0; i < t->n_added[k]; i++) {
			struct tokenizer_span x, y = t->added[k][i].text;
			int d;

			if (t->added[k][i].id >= t->n_ids || !text_inside(b, y) || y.count == 0)
				return bad(e, "an added token");
			if (i == 0)
				continue;
			x = t->added[k][i - 1].text;
			d = memcmp(t->text + x.off, t->text + y.off,
				   x.count < y.count ? x.count : y.count);
			if (d > 0 || (d == 0 && x.count >= y.count))
				return bad(e, "the order of added tokens");
		}
	return 0;
}

static int check_merges(const struct tokenizer *t, struct err *e)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i <= t->merge_mask; i++) {
		const struct tokenizer_merge *m = &t->merges[i];

		if (m->left == TOKENIZER_NONE)
			continue;
		used++;
		if (m->left >= t->n_ids || m->right >= t->n_ids || m->merged >= t->n_ids ||
		    m->rank == UINT32_MAX || token_len(t, m->left) == 0 ||
		    token_len(t, m->right) == 0 ||
		    token_len(t, m->merged) != token_len(t, m->left) + token_len(t, m->right))
			return bad(e, "a merge");
	}
	/* An empty slot ends every search. */
	return used > t->merge_mask / 2 + 1 ? bad(e, "the merge table is too full") : 0;
}

static void note_first_bytes(struct tokenizer *t)
{
	for (size_t k = 0; k < 2; k++)
		for (uint32_t i = 0; i < t->n_added[k]; i++)
			t->added_first[k][t->text[t->added[k][i].text.off]] = 1;
}

size_t tokenizer_scratch_bytes(size_t longest_piece)
{
	return TOKENIZER_PCRE2_BYTES + PIECE_WORDS(longest_piece) * sizeof(uint32_t);
}

int tokenizer_open(struct tokenizer *t, const void *blob, size_t len, void *scratch,
		   size_t scratch_len, struct err *e)
{
	const struct tokenizer_blob *b = blob;
	const uint8_t *base = blob;
	size_t words;
	int rc;

	memset(t, 0, sizeof(*t));
	if ((uintptr_t)blob % 8 || (uintptr_t)scratch % 8 || len < sizeof(*b))
		return bad(e, "the tokenizer is too small or lies askew");
	rc = check_header(b, len, e);
	if (rc)
		return rc;
	if (scratch_len < tokenizer_scratch_bytes(0))
		return err_exit(e, STATUS_MEMORY, -ENOMEM,
				"tokenizer: %zu bytes of scratch memory are too few", scratch_len);
	t->blob = b;
	t->token_off = (const void *)(base + b->token_off.off);
	t->flags = base + b->flags.off;
	t->text = base + b->text.off;
	t->merges = (const void *)(base + b->merges.off);
	for (size_t k = 0; k < 2; k++) {
		t->added[k] = (const void *)(base + b->added[k].off);
		t->n_added[k] = b->added[k].count;
	}
	t->n_ids = b->n_ids;
	t->merge_mask = b->merges.count - 1;
	t->token_max = b->token_max;
	t->n_splits = b->n_splits;
	t->scratch = scratch;
	t->scratch_size = TOKENIZER_PCRE2_BYTES;
	t->work = (void *)(t->scratch + TOKENIZER_PCRE2_BYTES);
	words = (scratch_len - TOKENIZER_PCRE2_BYTES) / sizeof(uint32_t);
	t->piece_max =
		(words - 64) / 17 * 8; /* PIECE_WORDS read backwards, then what rounding left */
	while (PIECE_WORDS(t->piece_max + 1) <= words)
		t->piece_max++;
	if (t->piece_max > INT32_MAX)
		t->piece_max = INT32_MAX;
	if ((rc = check_tokens(t, e)) || (rc = check_added(t, e)) || (rc = check_merges(t, e)))
		return rc;
	note_first_bytes(t);
	return pattern_compile_all(t, e);
}

const uint8_t *tokenizer_token_bytes(const struct tokenizer *t, uint32_t id, size_t *len)
{
	*len = 0;
	if (!tokenizer_has(t, id))
		return NULL;
	*len = token_len(t, id);
	return t->text + t->token_off[id];
}

bool tokenizer_has(const struct tokenizer *t, uint32_t id)
{
	return id < t->n_ids && (t->flags[id] & TOKEN_PRESENT);
}

bool tokenizer_is_special(const struct tokenizer *t, uint32_t id)
{
	return id < t->n_ids && (t->flags[id] & TOKEN_SPECIAL);
}

uint32_t tokenizer_find_added(const struct tokenizer *t, const char *text, size_t len)
{
	for (size_t k = 0; k < 2; k++)
		for (uint32_t i = 0; i < t->n_added[k]; i++)
			if (t->added[k][i].text.count == len &&
			    memcmp(t->text + t->added[k][i].text.off, text, len) == 0)
				return t->added[k][i].id;
	return TOKENIZER_NONE;
}
