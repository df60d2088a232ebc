/*
 * tokenizer.json to a blob (tokenizer_blob.h): vocabulary, added tokens and merges become flat
 * arrays. The file comes from a checkpoint; tokenizer_source.c has checked its form, here ids and
 * texts are checked against each other. Called by the loader and by the commands that read a
 * checkpoint themselves; both allocate freely here and exit soon.
 */
#include "model/text/json.h"
#include "model/text/tokenizer_blob.h"
#include "model/text/tokenizer_source.h"
#include "model/text/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct token {
	const char *text; /* as in the file, borrowed from the document; NULL: the id has none */
	size_t len;
	uint8_t flags;
	bool normalized;
};

struct compiler {
	struct err *e;
	struct tokenizer_source source;
	uint32_t vocab_size; /* config.json's */
	uint32_t n_ids;      /* highest id + 1 */
	struct token *token; /* [n_ids] */
	uint32_t *by_text;   /* open addressing: id + 1 by the vocabulary's text, 0: empty */
	size_t by_text_mask;
	int16_t byte_of
		[0x144]; /* the byte that a code point of the byte alphabet stands for, or -1 */
	uint32_t n_merges;
	uint32_t n_added[2];
};

/*
 * The byte alphabet of specification 7.2: printable bytes stand for themselves, the others for
 * U+0100 onwards.
 */
static void make_alphabet(struct compiler *c)
{
	int16_t next = 0x100;

	for (size_t i = 0; i < sizeof(c->byte_of) / sizeof(c->byte_of[0]); i++)
		c->byte_of[i] = -1;
	for (int16_t b = 0; b < 256; b++) {
		bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		c->byte_of[printable ? b : next++] = b;
	}
}

/*
 * What a token's text decodes to: the bytes of its characters, or the text itself if a character is
 * outside the alphabet. out may be NULL. Returns the length; *in_alphabet says which.
 */
static size_t decode_token(const struct compiler *c, const char *text, size_t len, uint8_t *out,
			   bool *in_alphabet)
{
	const uint8_t *s = (const uint8_t *)text;
	size_t n = 0, i = 0;

	while (i < len) {
		size_t k = utf8_sequence(s + i, len - i);
		uint32_t code = k ? utf8_code_point(s + i, k) : UINT32_MAX;

		if (code >= sizeof(c->byte_of) / sizeof(c->byte_of[0]) || c->byte_of[code] < 0) {
			if (out)
				memcpy(out, text, len);
			*in_alphabet = false;
			return len;
		}
		if (out)
			out[n] = (uint8_t)c->byte_of[code];
		n++;
		i += k;
	}
	*in_alphabet = true;
	return n;
}

static uint64_t text_hash(const char *s, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ull ^ len;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)s[i]) * 0x100000001b3ull;
	return h ^ h >> 29;
}

/* The slot of a text in by_text: its own, or the empty one where it belongs. */
static uint32_t *vocab_slot(const struct compiler *c, const char *s, size_t len)
{
	size_t i = (size_t)text_hash(s, len) & c->by_text_mask;

	while (c->by_text[i]) {
		const struct token *t = &c->token[c->by_text[i] - 1];

		if (t->len == len && memcmp(t->text, s, len) == 0)
			break;
		i = (i + 1) & c->by_text_mask;
	}
	return &c->by_text[i];
}

static uint32_t vocab_find(const struct compiler *c, const char *s, size_t len)
{
	uint32_t slot = *vocab_slot(c, s, len);

	return slot ? slot - 1 : TOKENIZER_NONE;
}

/* An id from the file: an integer below vocab_size. */
static int read_id(struct compiler *c, yyjson_val *v, const char *text, size_t len, uint32_t *id)
{
	char name[204];
	uint64_t n = yyjson_get_uint(v);

	if (!yyjson_is_uint(v))
		return source_refuse(c->e, "the id of token \"%s\" is not an integer from 0",
				     err_name(name, text, len));
	if (n >= c->vocab_size)
		return source_refuse(
			c->e, "token \"%s\" has id %llu, but config.json has vocab_size %u",
			err_name(name, text, len), (unsigned long long)n, c->vocab_size);
	if (n >= TOKENIZER_IDS_MAX)
		return source_refuse(
			c->e, "token \"%s\" has id %llu; ids from %d on are not supported",
			err_name(name, text, len), (unsigned long long)n, TOKENIZER_IDS_MAX);
	*id = (uint32_t)n;
	return 0;
}

/* ---- vocabulary and added tokens ---- */

static int count_ids(struct compiler *c)
{
	yyjson_obj_iter vocab = yyjson_obj_iter_with(c->source.vocab);
	yyjson_arr_iter added = yyjson_arr_iter_with(c->source.added);
	yyjson_val *key, *v;
	uint32_t id;
	int rc;

	while ((key = yyjson_obj_iter_next(&vocab)) != NULL) {
		rc = read_id(c, yyjson_obj_iter_get_val(key), yyjson_get_str(key),
			     yyjson_get_len(key), &id);
		if (rc)
			return rc;
		c->n_ids = id >= c->n_ids ? id + 1 : c->n_ids;
	}
	while (c->source.added && (v = yyjson_arr_iter_next(&added)) != NULL) {
		yyjson_val *text = json_get(v, "content");

		if (!yyjson_is_str(text) || yyjson_get_len(text) == 0)
			return source_refuse(c->e, "an added token has no content");
		rc = read_id(c, json_get(v, "id"), yyjson_get_str(text), yyjson_get_len(text), &id);
		if (rc)
			return rc;
		c->n_ids = id >= c->n_ids ? id + 1 : c->n_ids;
	}
	return c->n_ids ? 0 : source_refuse(c->e, "the vocabulary is empty");
}

static int two_tokens(struct compiler *c, uint32_t id, const char *text, size_t len)
{
	char one[204], two[204];

	return source_refuse(c->e, "id %u belongs to two tokens, \"%.60s\" and \"%.60s\"", id,
			     err_name(one, c->token[id].text, c->token[id].len),
			     err_name(two, text, len));
}

static int read_vocab(struct compiler *c)
{
	yyjson_obj_iter it = yyjson_obj_iter_with(c->source.vocab);
	size_t slots = 64;
	yyjson_val *key;

	while (slots < 2 * yyjson_obj_size(c->source.vocab))
		slots *= 2;
	c->by_text_mask = slots - 1;
	c->token = calloc(c->n_ids, sizeof(*c->token));
	c->by_text = calloc(slots, sizeof(*c->by_text));
	if (!c->token || !c->by_text)
		return source_no_memory(c->e);
	while ((key = yyjson_obj_iter_next(&it)) != NULL) {
		const char *text = yyjson_get_str(key);
		size_t len = yyjson_get_len(key);
		uint32_t id = (uint32_t)yyjson_get_uint(yyjson_obj_iter_get_val(key));

		if (len == 0)
			return source_refuse(c->e, "the vocabulary has an empty token, id %u", id);
		if (c->token[id].flags)
			return two_tokens(c, id, text, len);
		c->token[id] = (struct token){text, len, TOKEN_PRESENT, false};
		*vocab_slot(c, text, len) = id + 1;
	}
	return 0;
}

/* One boolean of an added token; absent is false, as in the library. */
static int added_flag(struct compiler *c, yyjson_val *v, const char *key, bool *out)
{
	yyjson_val *flag = json_get(v, key);

	if (flag && !yyjson_is_bool(flag))
		return source_refuse(c->e, "added token %llu: \"%s\" is not a boolean",
				     (unsigned long long)yyjson_get_uint(json_get(v, "id")), key);
	*out = yyjson_is_true(flag);
	return 0;
}

static int read_added_token(struct compiler *c, yyjson_val *v)
{
	static const char *const unsupported[] = {"lstrip", "rstrip", "single_word"};
	yyjson_val *content = json_get(v, "content");
	const char *text = yyjson_get_str(content);
	size_t len = yyjson_get_len(content);
	uint32_t id = (uint32_t)yyjson_get_uint(json_get(v, "id"));
	struct token *t = &c->token[id];
	uint32_t other = vocab_find(c, text, len);
	bool flag;
	int rc;

	for (size_t i = 0; i < 3; i++) {
		rc = added_flag(c, v, unsupported[i], &flag);
		if (rc)
			return rc;
		if (flag)
			return source_refuse(c->e, "added token %u with \"%s\" is not supported",
					     id, unsupported[i]);
	}
	if (other != TOKENIZER_NONE && other != id) {
		char name[204];

		return source_refuse(c->e, "token \"%s\" has two ids, %u and %u",
				     err_name(name, text, len), other, id);
	}
	if (t->flags & TOKEN_ADDED || (t->flags && other != id))
		return two_tokens(c, id, text, len);
	t->text = text;
	t->len = len;
	t->flags |= TOKEN_PRESENT | TOKEN_ADDED;
	rc = added_flag(c, v, "special", &flag);
	t->flags |= flag ? TOKEN_SPECIAL : 0;
	if (!rc)
		rc = added_flag(c, v, "normalized", &t->normalized);
	c->n_added[t->normalized]++;
	return rc;
}

static int read_added(struct compiler *c)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(c->source.added);
	yyjson_val *v;
	int rc = 0;

	while (!rc && c->source.added && (v = yyjson_arr_iter_next(&it)) != NULL)
		rc = read_added_token(c, v);
	return rc;
}

/* ---- merges ---- */

/* The two sides of merge i: "a b", or ["a", "b"]. */
static int merge_sides(struct compiler *c, yyjson_val *v, uint32_t i, const char *side[2],
		       size_t len[2])
{
	if (yyjson_is_arr(v) && yyjson_arr_size(v) == 2 && yyjson_is_str(yyjson_arr_get(v, 0)) &&
	    yyjson_is_str(yyjson_arr_get(v, 1))) {
		for (size_t k = 0; k < 2; k++) {
			side[k] = yyjson_get_str(yyjson_arr_get(v, k));
			len[k] = yyjson_get_len(yyjson_arr_get(v, k));
		}
		return 0;
	}
	if (yyjson_is_str(v)) {
		const char *s = yyjson_get_str(v);
		size_t n = yyjson_get_len(v);
		const char *space = memchr(s, ' ', n);

		if (space && !memchr(space + 1, ' ', n - (size_t)(space + 1 - s))) {
			side[0] = s;
			len[0] = (size_t)(space - s);
			side[1] = space + 1;
			len[1] = n - len[0] - 1;
			return 0;
		}
	}
	return source_refuse(c->e, "merge %u is neither \"a b\" nor [\"a\", \"b\"]", i);
}

/*
 * Adds merge i to the table. A merge of tokens outside the byte alphabet can never apply, since BPE
 * starts from bytes; it is left out. Of two merges of one pair the later counts, as in the library.
 */
static int add_merge(struct compiler *c, yyjson_val *v, uint32_t rank,
		     struct tokenizer_merge *table, uint32_t mask, char *joined, size_t joined_cap)
{
	const char *side[2];
	size_t len[2];
	uint32_t id[2], merged, h;
	bool in_alphabet;
	char name[204];
	int rc = merge_sides(c, v, rank, side, len);

	if (rc)
		return rc;
	for (size_t k = 0; k < 2; k++) {
		id[k] = vocab_find(c, side[k], len[k]);
		if (id[k] == TOKENIZER_NONE)
			return source_refuse(c->e,
					     "merge %u has \"%s\", which is not in the vocabulary",
					     rank, err_name(name, side[k], len[k]));
	}
	if (len[0] + len[1] > joined_cap)
		return source_refuse(c->e, "merge %u makes a token that is not in the vocabulary",
				     rank);
	memcpy(joined, side[0], len[0]);
	memcpy(joined + len[0], side[1], len[1]);
	merged = vocab_find(c, joined, len[0] + len[1]);
	if (merged == TOKENIZER_NONE)
		return source_refuse(c->e, "merge %u makes \"%s\", which is not in the vocabulary",
				     rank, err_name(name, joined, len[0] + len[1]));
	decode_token(c, joined, len[0] + len[1], NULL, &in_alphabet);
	if (!in_alphabet)
		return 0;
	h = tokenizer_pair_hash(id[0], id[1]) & mask;
	while (table[h].left != TOKENIZER_NONE &&
	       (table[h].left != id[0] || table[h].right != id[1]))
		h = (h + 1) & mask;
	table[h] = (struct tokenizer_merge){id[0], id[1], rank, merged};
	return 0;
}

static int write_merges(struct compiler *c, struct tokenizer_merge *table, uint32_t slots)
{
	yyjson_arr_iter it = yyjson_arr_iter_with(c->source.merges);
	size_t longest = 0;
	char *joined;
	int rc = 0;

	for (uint32_t id = 0; id < c->n_ids; id++)
		longest = c->token[id].len > longest ? c->token[id].len : longest;
	joined = malloc(longest + 1);
	if (!joined)
		return source_no_memory(c->e);
	memset(table, 0xff, slots * sizeof(*table));
	for (uint32_t rank = 0; !rc && rank < c->n_merges; rank++)
		rc = add_merge(c, yyjson_arr_iter_next(&it), rank, table, slots - 1, joined,
			       longest);
	free(joined);
	return rc;
}

/* ---- the blob ---- */

/* Where everything goes; total 0 if it does not fit 32 bits. */
static uint64_t lay_out(const struct compiler *c, struct tokenizer_blob *b)
{
	uint64_t off = sizeof(*b), text = 0, slots = 64;
	bool in_alphabet;

	while (slots < 2 * (uint64_t)c->n_merges)
		slots *= 2;
	for (uint32_t id = 0; id < c->n_ids; id++) {
		const struct token *t = &c->token[id];

		text += decode_token(c, t->text, t->len, NULL, &in_alphabet);
		text += t->flags & TOKEN_ADDED ? t->len : 0;
	}
	for (uint32_t i = 0; i < c->source.n_splits; i++)
		text += c->source.split[i].len;
	if (text > UINT32_MAX / 4 || slots > UINT32_MAX / 4 / sizeof(struct tokenizer_merge))
		return 0;
	b->merges = (struct tokenizer_span){(uint32_t)off, (uint32_t)slots};
	off += slots * sizeof(struct tokenizer_merge);
	b->token_off = (struct tokenizer_span){(uint32_t)off, c->n_ids + 1};
	off += ((uint64_t)c->n_ids + 1) * sizeof(uint32_t);
	for (size_t i = 0; i < 2; i++) {
		b->added[i] = (struct tokenizer_span){(uint32_t)off, c->n_added[i]};
		off += (uint64_t)c->n_added[i] * sizeof(struct tokenizer_added);
	}
	b->flags = (struct tokenizer_span){(uint32_t)off, c->n_ids};
	off += c->n_ids;
	b->text = (struct tokenizer_span){(uint32_t)off, (uint32_t)text};
	off = (off + text + 7) & ~(uint64_t)7;
	b->bytes = (uint32_t)off;
	return off;
}

static int write_bytes(struct compiler *c, struct tokenizer_blob *b, const uint32_t *token_off,
		       const uint8_t *text)
{
	for (uint32_t i = 0; i < 256; i++)
		b->byte_id[i] = TOKENIZER_NONE;
	for (uint32_t id = 0; id < c->n_ids; id++) {
		const struct token *t = &c->token[id];
		bool in_alphabet;

		/*
		 * An added token of one byte is a byte of the vocabulary only if it is in the
		 * vocabulary.
		 */
		if (token_off[id + 1] - token_off[id] == 1 &&
		    decode_token(c, t->text, t->len, NULL, &in_alphabet) == 1 && in_alphabet &&
		    vocab_find(c, t->text, t->len) == id)
			b->byte_id[text[token_off[id]]] = id;
	}
	for (uint32_t i = 0; i < 256; i++)
		if (b->byte_id[i] == TOKENIZER_NONE && utf8_has_byte((uint8_t)i))
			return source_refuse(
				c->e, "byte 0x%02x has no token in the vocabulary: not byte-level",
				i);
	return 0;
}

static int compare_added(const void *a, const void *b, void *text)
{
	const uint8_t *base = text;
	const struct tokenizer_added *x = a, *y = b;
	uint32_t n = x->text.count < y->text.count ? x->text.count : y->text.count;
	int d = memcmp(base + x->text.off, base + y->text.off, n);

	return d ? d : (x->text.count > y->text.count) - (x->text.count < y->text.count);
}

static int check_added_order(struct compiler *c, const struct tokenizer_added *added, uint32_t n,
			     uint8_t *text)
{
	for (uint32_t i = 1; i < n; i++) {
		char name[204];

		if (compare_added(&added[i - 1], &added[i], text) == 0)
			return source_refuse(c->e, "token \"%s\" has two ids, %u and %u",
					     err_name(name, c->token[added[i].id].text,
						      c->token[added[i].id].len),
					     added[i - 1].id, added[i].id);
	}
	return 0;
}

static int write_blob(struct compiler *c, struct tokenizer_blob *b, uint8_t *base)
{
	uint32_t *token_off = (void *)(base + b->token_off.off);
	uint8_t *flags = base + b->flags.off, *text = base + b->text.off;
	struct tokenizer_added *added[2] = {(void *)(base + b->added[0].off),
					    (void *)(base + b->added[1].off)};
	uint32_t at = 0, n[2] = {0, 0};
	bool in_alphabet;
	int rc;

	for (uint32_t id = 0; id < c->n_ids; id++) {
		const struct token *t = &c->token[id];
		uint32_t len = (uint32_t)decode_token(c, t->text, t->len, text + at, &in_alphabet);

		token_off[id] = at;
		flags[id] = t->flags;
		at += len;
		b->token_max = len > b->token_max ? len : b->token_max;
	}
	token_off[c->n_ids] = at;
	for (uint32_t id = 0; id < c->n_ids; id++) {
		const struct token *t = &c->token[id];

		if (!(t->flags & TOKEN_ADDED))
			continue;
		added[t->normalized][n[t->normalized]++] =
			(struct tokenizer_added){id, {at, (uint32_t)t->len}};
		memcpy(text + at, t->text, t->len);
		at += (uint32_t)t->len;
	}
	for (uint32_t i = 0; i < c->source.n_splits; i++) {
		const char *s = c->source.split[i].s;
		size_t len = c->source.split[i].len;

		b->split[i] = (struct tokenizer_span){at, (uint32_t)len};
		memcpy(text + at, s, len);
		at += (uint32_t)len;
	}
	for (size_t i = 0; i < 2; i++) {
		qsort_r(added[i], n[i], sizeof(*added[i]), compare_added, text);
		rc = check_added_order(c, added[i], n[i], text);
		if (rc)
			return rc;
	}
	rc = write_bytes(c, b, token_off, text);
	if (!rc)
		rc = write_merges(c, (void *)(base + b->merges.off), b->merges.count);
	return rc;
}

static int compile(struct compiler *c, void *out, size_t cap, size_t *used)
{
	struct tokenizer_blob b = {.magic = TOKENIZER_MAGIC, .version = TOKENIZER_VERSION};
	uint64_t total;
	int rc;

	if ((rc = count_ids(c)) || (rc = read_vocab(c)) || (rc = read_added(c)))
		return rc;
	if (yyjson_arr_size(c->source.merges) > TOKENIZER_IDS_MAX)
		return source_refuse(c->e, "more than %d merges are not supported",
				     TOKENIZER_IDS_MAX);
	c->n_merges = (uint32_t)yyjson_arr_size(c->source.merges);
	total = lay_out(c, &b);
	if (total == 0)
		return source_refuse(c->e, "it is too large");
	b.n_ids = c->n_ids;
	b.n_splits = c->source.n_splits;
	*used = (size_t)total;
	if (!out || total > cap)
		return -ENOSPC;
	memset((uint8_t *)out + total - 8, 0, 8);
	rc = write_blob(c, &b, out);
	memcpy(out, &b, sizeof(b));
	return rc;
}

int tokenizer_compile(const char *json, size_t len, uint32_t vocab_size, void *out, size_t cap,
		      size_t *used, struct err *e)
{
	struct compiler c = {.e = e, .vocab_size = vocab_size};
	struct err why = {0};
	yyjson_doc *doc;
	int rc;

	*used = 0;
	if (len > TOKENIZER_JSON_MAX)
		return source_refuse(e, "%zu bytes are more than the limit of %d", len,
				     TOKENIZER_JSON_MAX);
	rc = json_read(&doc, json, len, JSON_PLAIN, NULL, &why);
	if (rc)
		return rc == -ENOMEM ? source_no_memory(e) : source_refuse(e, "%s", why.text);
	make_alphabet(&c);
	rc = source_read(&c.source, yyjson_doc_get_root(doc), e);
	if (!rc)
		rc = compile(&c, out, cap, used);
	free(c.token);
	free(c.by_text);
	yyjson_doc_free(doc);
	return rc;
}
