/*
 * Text to ids: added tokens, then the Splits one inside the other, then byte-pair merges of each
 * piece (specification, section 7.2). BPE applies the pair of lowest rank, leftmost among equals,
 * until none applies. Short pieces, nearly all of them, are scanned again for each merge; long ones
 * keep the ranks under a tree of minima, 16 to a node, so that a piece of n bytes costs n log n and
 * 8.5 n bytes of scratch however it merges.
 */
#include "model/text/tokenizer_internal.h"
#include "model/text/utf8.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	SHORT_PIECE = 64, /* bytes; of random letters, the tree wins from about 90 on */
	FANOUT_SHIFT = 4, /* of the tree: 16 ranks are one cache line */
	LEVELS_MAX = 8,   /* 16^8 positions */
};

#define RANK_NONE UINT32_MAX
/* In id[]: the last byte of a longer token, with the distance to its first. */
#define TAIL 0x80000000u

struct encoder {
	struct tokenizer *t;
	uint32_t *ids;
	size_t cap, count;
	struct err *e;
};

static void emit(struct encoder *en, uint32_t id)
{
	if (en->count < en->cap)
		en->ids[en->count] = id;
	en->count++;
}

static const struct tokenizer_merge *merge_find(const struct tokenizer *t, uint32_t left,
						uint32_t right)
{
	uint32_t i = tokenizer_pair_hash(left, right) & t->merge_mask;

	while (t->merges[i].left != TOKENIZER_NONE) {
		if (t->merges[i].left == left && t->merges[i].right == right)
			return &t->merges[i];
		i = (i + 1) & t->merge_mask;
	}
	return NULL;
}

/* ---- short pieces ---- */

static void encode_short(struct encoder *en, const uint8_t *s, size_t len)
{
	uint32_t id[SHORT_PIECE];
	const struct tokenizer_merge *pair[SHORT_PIECE]; /* of i and i + 1, or NULL */
	size_t n = len;

	for (size_t i = 0; i < n; i++)
		id[i] = en->t->blob->byte_id[s[i]];
	for (size_t i = 0; i + 1 < n; i++)
		pair[i] = merge_find(en->t, id[i], id[i + 1]);
	while (n > 1) {
		size_t best = n;

		for (size_t i = 0; i + 1 < n; i++)
			if (pair[i] && (best == n || pair[i]->rank < pair[best]->rank))
				best = i;
		if (best == n)
			break;
		id[best] = pair[best]->merged;
		n--;
		memmove(&id[best + 1], &id[best + 2], (n - best - 1) * sizeof(id[0]));
		if (best + 1 < n) {
			memmove(&pair[best + 1], &pair[best + 2], (n - best - 2) * sizeof(pair[0]));
			pair[best] = merge_find(en->t, id[best], id[best + 1]);
		}
		if (best > 0)
			pair[best - 1] = merge_find(en->t, id[best - 1], id[best]);
	}
	for (size_t i = 0; i < n; i++)
		emit(en, id[i]);
}

/* ---- long pieces ---- */

struct piece {
	const struct tokenizer *t;
	size_t n;
	/* [n] at a token's first byte: its id; at its last, if another: TAIL | distance */
	uint32_t *id;
	/* [n] at a token's first byte: of its pair with the next one; else RANK_NONE */
	uint32_t *rank;
	/* [n >> 4 * (level + 1), rounded up] position of the lowest rank, leftmost */
	uint32_t *low[LEVELS_MAX];
	unsigned levels;
};

static size_t token_bytes(const struct piece *p, size_t at)
{
	uint32_t id = p->id[at];

	return p->t->token_off[id + 1] - p->t->token_off[id];
}

/* The position of the lowest rank below node i of a level. */
static uint32_t lowest(const struct piece *p, unsigned level, size_t i)
{
	size_t first = i << FANOUT_SHIFT, end = first + (1 << FANOUT_SHIFT);
	size_t width = ((p->n - 1) >> (FANOUT_SHIFT * level)) + 1; /* of the level below */
	uint32_t best = level ? p->low[level - 1][first] : (uint32_t)first;

	for (size_t k = first + 1; k < end && k < width; k++) {
		uint32_t at = level ? p->low[level - 1][k] : (uint32_t)k;

		if (p->rank[at] < p->rank[best])
			best = at;
	}
	return best;
}

/* Sets a rank and brings the minima above it up to date, as far as they change. */
static void set_rank(struct piece *p, size_t at, uint32_t rank)
{
	p->rank[at] = rank;
	for (unsigned level = 0; level < p->levels; level++) {
		size_t node = at >> (FANOUT_SHIFT * (level + 1));
		uint32_t old = p->low[level][node];

		p->low[level][node] = lowest(p, level, node);
		if (p->low[level][node] == old && old != at)
			break;
	}
}

static uint32_t pair_rank(const struct piece *p, size_t left, size_t right)
{
	const struct tokenizer_merge *m = merge_find(p->t, p->id[left], p->id[right]);

	return m ? m->rank : RANK_NONE;
}

static void piece_init(struct piece *p, const struct tokenizer *t, const uint8_t *s, size_t n)
{
	uint32_t *free_words = t->work;
	size_t width = n;

	*p = (struct piece){.t = t, .n = n, .id = free_words, .rank = free_words + n};
	free_words += 2 * n;
	for (size_t i = 0; i < n; i++)
		p->id[i] = t->blob->byte_id[s[i]];
	for (size_t i = 0; i < n; i++)
		p->rank[i] = i + 1 < n ? pair_rank(p, i, i + 1) : RANK_NONE;
	while (width > 1 || p->levels == 0) {
		assert(p->levels < LEVELS_MAX);
		width = ((width - 1) >> FANOUT_SHIFT) + 1;
		p->low[p->levels++] = free_words;
		free_words += width;
		for (size_t i = 0; i < width; i++)
			p->low[p->levels - 1][i] = lowest(p, p->levels - 1, i);
	}
	assert(free_words <= t->work + PIECE_WORDS(t->piece_max));
}

/* Merges the token at `at` with its right neighbour. */
static void piece_merge(struct piece *p, size_t at)
{
	size_t right = at + token_bytes(p, at), end = right + token_bytes(p, right);
	const struct tokenizer_merge *m = merge_find(p->t, p->id[at], p->id[right]);

	assert(m && end <= p->n);
	p->id[at] = m->merged;
	p->id[end - 1] = TAIL | (uint32_t)(end - 1 - at);
	set_rank(p, right, RANK_NONE);
	set_rank(p, at, end < p->n ? pair_rank(p, at, end) : RANK_NONE);
	if (at > 0) {
		uint32_t last = p->id[at - 1];
		size_t left = at - 1 - (last & TAIL ? last & ~TAIL : 0);

		set_rank(p, left, pair_rank(p, left, at));
	}
}

static void encode_long(struct encoder *en, const uint8_t *s, size_t len)
{
	struct piece p;

	piece_init(&p, en->t, s, len);
	for (;;) {
		uint32_t at = p.low[p.levels - 1][0];

		if (p.rank[at] == RANK_NONE)
			break;
		piece_merge(&p, at);
	}
	for (size_t i = 0; i < len; i += token_bytes(&p, i))
		emit(en, p.id[i]);
}

/* ---- pieces ---- */

static int encode_piece(struct encoder *en, const char *s, size_t len)
{
	const uint8_t *bytes = (const uint8_t *)s;

	if (len <= SHORT_PIECE)
		encode_short(en, bytes, len);
	else if (len <= en->t->piece_max)
		encode_long(en, bytes, len);
	else
		return err_set(
			en->e, -E2BIG,
			"text: a run of %zu bytes that no pattern splits is longer than the %zu "
			"there is memory for",
			len, en->t->piece_max);
	return 0;
}

/*
 * Applies Split k and those behind it. Matches and gaps become pieces alike; an empty match
 * divides, and one that directly follows a match is passed over, as Oniguruma's iterator does.
 * Recursion is bounded by the number of Splits.
 */
static int encode_split(struct encoder *en, uint32_t k, const char *s, size_t len)
{
	size_t done = 0, from = 0, start, end;
	bool after_match = false;
	int rc = 0;

	if (len == 0)
		return 0;
	if (k == en->t->n_splits)
		return encode_piece(en, s, len);
	while (from <= len) {
		rc = pattern_find(en->t, k, s, len, from, &start, &end, en->e);
		if (rc <= 0)
			break;
		if (start == end && after_match && start == done) {
			from = start +
			       (start < len ? utf8_sequence((const uint8_t *)s + start, len - start)
					    : 1);
			after_match = false;
			continue;
		}
		if ((rc = encode_split(en, k + 1, s + done, start - done)) ||
		    (rc = encode_split(en, k + 1, s + start, end - start)))
			return rc;
		done = from = end;
		after_match = true;
	}
	return rc < 0 ? rc : encode_split(en, k + 1, s + done, len - done);
}

/* ---- added tokens ---- */

/*
 * First index in [low, high) of the sorted tokens whose byte at `depth` is at least b; all have
 * more than depth bytes.
 */
static uint32_t narrow(const struct tokenizer *t, unsigned group, uint32_t low, uint32_t high,
		       size_t depth, unsigned b)
{
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (t->text[t->added[group][mid].text.off + depth] < b)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The longest added token of a group that s begins with: its id and length, or TOKENIZER_NONE. */
static uint32_t longest_added(const struct tokenizer *t, unsigned group, const uint8_t *s,
			      size_t len, size_t *token_len)
{
	uint32_t low = 0, high = t->n_added[group], found = TOKENIZER_NONE;

	if (len == 0 || !t->added_first[group][s[0]])
		return TOKENIZER_NONE;
	for (size_t depth = 0; depth < len; depth++) {
		low = narrow(t, group, low, high, depth, s[depth]);
		high = narrow(t, group, low, high, depth, s[depth] + 1u);
		if (low == high)
			break;
		if (t->added[group][low].text.count == depth + 1) { /* the shortest sorts first */
			found = t->added[group][low].id;
			*token_len = depth + 1;
			low++;
		}
	}
	return found;
}

/*
 * Group 0 first, over the whole text; what is between its matches goes to group 1, and then to the
 * Splits.
 */
static int encode_added(struct encoder *en, unsigned group, const char *s, size_t len)
{
	const uint8_t *u = (const uint8_t *)s;
	size_t done = 0, i = 0, n;

	if (group == 2)
		return encode_split(en, 0, s, len);
	while (i < len) {
		uint32_t id = longest_added(en->t, group, u + i, len - i, &n);
		int rc;

		if (id == TOKENIZER_NONE) {
			i++;
			continue;
		}
		rc = encode_added(en, group + 1, s + done, i - done);
		if (rc)
			return rc;
		emit(en, id);
		done = i = i + n;
	}
	return encode_added(en, group + 1, s + done, len - done);
}

ssize_t tokenizer_encode(struct tokenizer *t, const char *text, size_t len, enum encode_flags flags,
			 uint32_t *ids, size_t cap, struct err *e)
{
	struct encoder en = {.t = t, .ids = ids, .cap = cap, .e = e};
	size_t valid = utf8_valid_prefix((const uint8_t *)text, len);
	int rc;

	if (valid < len)
		return err_set(e, -EILSEQ, "text is not UTF-8 at byte %zu", valid);
	if (len == 0)
		return 0;
	rc = flags & ENCODE_MARKERS ? encode_added(&en, 0, text, len)
				    : encode_split(&en, 0, text, len);
	return rc ? rc : (ssize_t)en.count;
}
