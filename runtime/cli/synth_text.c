/*
 * The tokenizer of a synthetic checkpoint: one token per byte, DeepSeek's markers as added tokens,
 * its patterns, no merges (specification 7); see synth.h.
 */
#include "runtime/cli/synth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

static const char bos_text[] = "<｜begin▁of▁sentence｜>";
static const char eos_text[] = "<｜end▁of▁sentence｜>";

static const struct {
	const char *text;
	bool special;
} markers[] = {
	{"<｜▁pad▁｜>", true},
	{"<think>", false},
	{"</think>", false},
	{"<｜User｜>", false},
	{"<｜Assistant｜>", false},
	{"<|EOT|>", true},
	{"<｜tool▁calls▁begin｜>", false},
	{"<｜tool▁calls▁end｜>", false},
	{"<｜tool▁call▁begin｜>", false},
	{"<｜tool▁call▁end｜>", false},
	{"<｜tool▁outputs▁begin｜>", false},
	{"<｜tool▁outputs▁end｜>", false},
	{"<｜tool▁output▁begin｜>", false},
	{"<｜tool▁output▁end｜>", false},
	{"<｜tool▁sep｜>", false},
};

enum {
	MARKERS = sizeof(markers) / sizeof(markers[0]),
	TOKENS = 256 + MARKERS + 2
};

static const char *const patterns[] = {
	"\\p{N}{1,3}",
	"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
	"[!\"#$%&'()*+,\\-./"
	":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
	" ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
};

/*
 * A byte as the code point that stands for it in a byte-level vocabulary (specification 7.2 step
 * 3).
 */
static unsigned code_point(unsigned byte)
{
	unsigned shifted = 0;

	if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)
		return byte;
	for (unsigned b = 0; b < byte; b++)
		shifted += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
	return 0x100 + shifted;
}

static const char *utf8(char out[4], unsigned c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		out[1] = 0;
		return out;
	}
	out[0] = (char)(0xc0 | c >> 6); /* none is above U+0143 */
	out[1] = (char)(0x80 | (c & 0x3f));
	out[2] = 0;
	return out;
}

/* The next id that is neither end of a text. */
static uint32_t next_id(const struct model_config *c, uint32_t *id)
{
	while (*id == c->bos_token_id || *id == c->eos_token_id[0])
		++*id;
	return (*id)++;
}

static void add_marker(yyjson_mut_doc *doc, yyjson_mut_val *added, uint32_t id, const char *text,
		       bool special)
{
	yyjson_mut_val *t = yyjson_mut_arr_add_obj(doc, added);

	yyjson_mut_obj_add_uint(doc, t, "id", id);
	yyjson_mut_obj_add_str(doc, t, "content", text);
	yyjson_mut_obj_add_bool(doc, t, "single_word", false);
	yyjson_mut_obj_add_bool(doc, t, "lstrip", false);
	yyjson_mut_obj_add_bool(doc, t, "rstrip", false);
	yyjson_mut_obj_add_bool(doc, t, "normalized", !special);
	yyjson_mut_obj_add_bool(doc, t, "special", special);
}

static void add_byte_level(yyjson_mut_doc *doc, yyjson_mut_val *to, bool prefix, bool trim,
			   bool regex)
{
	yyjson_mut_obj_add_str(doc, to, "type", "ByteLevel");
	yyjson_mut_obj_add_bool(doc, to, "add_prefix_space", prefix);
	yyjson_mut_obj_add_bool(doc, to, "trim_offsets", trim);
	yyjson_mut_obj_add_bool(doc, to, "use_regex", regex);
}

static void add_pre_tokenizer(yyjson_mut_doc *doc, yyjson_mut_val *root)
{
	yyjson_mut_val *pre = yyjson_mut_obj_add_obj(doc, root, "pre_tokenizer");
	yyjson_mut_val *list;

	yyjson_mut_obj_add_str(doc, pre, "type", "Sequence");
	list = yyjson_mut_obj_add_arr(doc, pre, "pretokenizers");
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		yyjson_mut_val *split = yyjson_mut_arr_add_obj(doc, list);
		yyjson_mut_val *pattern;

		yyjson_mut_obj_add_str(doc, split, "type", "Split");
		pattern = yyjson_mut_obj_add_obj(doc, split, "pattern");
		yyjson_mut_obj_add_str(doc, pattern, "Regex", patterns[i]);
		yyjson_mut_obj_add_str(doc, split, "behavior", "Isolated");
		yyjson_mut_obj_add_bool(doc, split, "invert", false);
	}
	add_byte_level(doc, yyjson_mut_arr_add_obj(doc, list), false, true, false);
}

static void add_model(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct model_config *c,
		      uint32_t *id)
{
	yyjson_mut_val *model = yyjson_mut_obj_add_obj(doc, root, "model");
	yyjson_mut_val *vocab;

	yyjson_mut_obj_add_str(doc, model, "type", "BPE");
	yyjson_mut_obj_add_null(doc, model, "dropout");
	yyjson_mut_obj_add_null(doc, model, "unk_token");
	yyjson_mut_obj_add_null(doc, model, "continuing_subword_prefix");
	yyjson_mut_obj_add_null(doc, model, "end_of_word_suffix");
	yyjson_mut_obj_add_bool(doc, model, "fuse_unk", false);
	yyjson_mut_obj_add_bool(doc, model, "byte_fallback", false);
	vocab = yyjson_mut_obj_add_obj(doc, model, "vocab");
	for (unsigned b = 0; b < 256; b++) {
		char text[4];

		yyjson_mut_obj_add(vocab, yyjson_mut_strcpy(doc, utf8(text, code_point(b))),
				   yyjson_mut_uint(doc, next_id(c, id)));
	}
	yyjson_mut_obj_add_arr(doc, model, "merges");
}

static yyjson_mut_doc *make_tokenizer(const struct model_config *c)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);
	yyjson_mut_val *added;
	yyjson_mut_val *normalizer;
	uint32_t id = 0;

	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "version", "1.0");
	yyjson_mut_obj_add_null(doc, root, "truncation");
	yyjson_mut_obj_add_null(doc, root, "padding");
	added = yyjson_mut_obj_add_arr(doc, root, "added_tokens");
	normalizer = yyjson_mut_obj_add_obj(doc, root, "normalizer");
	yyjson_mut_obj_add_str(doc, normalizer, "type", "Sequence");
	yyjson_mut_obj_add_arr(doc, normalizer, "normalizers");
	add_pre_tokenizer(doc, root);
	add_byte_level(doc, yyjson_mut_obj_add_obj(doc, root, "post_processor"), true, false, true);
	add_byte_level(doc, yyjson_mut_obj_add_obj(doc, root, "decoder"), true, true, true);
	add_model(doc, root, c, &id);
	add_marker(doc, added, c->bos_token_id, bos_text, true);
	add_marker(doc, added, c->eos_token_id[0], eos_text, true);
	for (size_t i = 0; i < MARKERS; i++)
		add_marker(doc, added, next_id(c, &id), markers[i].text, markers[i].special);
	return doc;
}

static yyjson_mut_doc *make_config(const struct model_config *c)
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(doc);

	yyjson_mut_doc_set_root(doc, root);
	yyjson_mut_obj_add_str(doc, root, "tokenizer_class", "LlamaTokenizerFast");
	yyjson_mut_obj_add_bool(doc, root, "add_bos_token", true);
	yyjson_mut_obj_add_bool(doc, root, "add_eos_token", false);
	yyjson_mut_obj_add_str(doc, root, "bos_token", bos_text);
	yyjson_mut_obj_add_str(doc, root, "eos_token", eos_text);
	yyjson_mut_obj_add_uint(doc, root, "model_max_length", c->max_position_embeddings);
	return doc;
}

static int write_doc(yyjson_mut_doc *doc, int dirfd, const char *name, struct err *e)
{
	size_t len;
	char *text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY_TWO_SPACES, &len);
	int rc = text ? synth_write_text(dirfd, name, text, len, e)
		      : err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %s", name);

	free(text);
	yyjson_mut_doc_free(doc);
	return rc;
}

int synth_write_tokenizer(const struct model_config *c, int dirfd, bool *written, struct err *e)
{
	int rc;

	*written = c->vocab_size >= TOKENS && c->n_eos && c->bos_token_id != UINT32_MAX &&
		   c->bos_token_id != c->eos_token_id[0];
	if (!*written)
		return 0;
	rc = write_doc(make_tokenizer(c), dirfd, "tokenizer.json", e);
	return rc ? rc : write_doc(make_config(c), dirfd, "tokenizer_config.json", e);
}
