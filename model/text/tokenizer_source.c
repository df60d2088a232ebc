/*
 * The form of tokenizer.json: model, pre-tokenizers, decoder and the rest must be what our encoder
 * does, and whatever the library would do otherwise is refused by name rather than ignored. Called
 * by tokenizer_compile.c alone.
 */
#include "model/text/tokenizer_source.h"
#include "model/text/json.h"
#include "model/text/tokenizer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int source_refuse(struct err *e, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return err_exit(e, STATUS_MODEL, -EBADMSG, "tokenizer.json: %s", text);
}

int source_no_memory(struct err *e)
{
	return err_exit(e, STATUS_MEMORY, -ENOMEM, "tokenizer.json: no memory to compile it");
}

/* Requires that `key` of `object` is absent, null, or what `neutral` accepts. */
static int require(struct tokenizer_source *c, yyjson_val *object, const char *part,
		   const char *key, bool neutral)
{
	return !json_get(object, key) || neutral
		       ? 0
		       : source_refuse(c->e, "%s with this \"%s\" is not supported", part, key);
}

static int check_model(struct tokenizer_source *c, yyjson_val *model)
{
	yyjson_val *v, *type = json_get(model, "type");
	char name[204];
	int rc;

	if (!yyjson_is_obj(model))
		return source_refuse(c->e, "there is no \"model\" object");
	if (!json_is(type, "BPE"))
		return source_refuse(c->e, "model type \"%s\" is not supported, only BPE",
				     err_name(name,
					      yyjson_is_str(type) ? yyjson_get_str(type) : "none",
					      yyjson_is_str(type) ? yyjson_get_len(type) : 4));
	if ((rc = require(c, model, "model", "dropout", false)) ||
	    (rc = require(c, model, "model", "unk_token", false)) ||
	    (rc = require(c, model, "model", "continuing_subword_prefix",
			  json_is(json_get(model, "continuing_subword_prefix"), ""))) ||
	    (rc = require(c, model, "model", "end_of_word_suffix",
			  json_is(json_get(model, "end_of_word_suffix"), ""))) ||
	    (rc = require(c, model, "model", "byte_fallback",
			  yyjson_is_false(json_get(model, "byte_fallback")))) ||
	    (rc = require(c, model, "model", "fuse_unk",
			  yyjson_is_bool(json_get(model, "fuse_unk")))) ||
	    (rc = require(c, model, "model", "ignore_merges",
			  yyjson_is_false(json_get(model, "ignore_merges")))))
		return rc;
	v = json_get(model, "vocab");
	if (!yyjson_is_obj(v))
		return source_refuse(c->e, "model has no \"vocab\" object");
	c->vocab = v;
	v = json_get(model, "merges");
	if (!yyjson_is_arr(v))
		return source_refuse(c->e, "model has no \"merges\" array");
	c->merges = v;
	return 0;
}

/* `what` of a kind that is not ours: says which, and which one is. */
static int refuse_kind(struct tokenizer_source *c, const char *what, yyjson_val *given,
		       const char *supported)
{
	char name[204];

	if (!yyjson_is_str(given))
		return source_refuse(c->e, "%s is missing or has no name, only %s is supported",
				     what, supported);
	return source_refuse(c->e, "%s \"%s\" is not supported, only %s", what,
			     err_name(name, yyjson_get_str(given), yyjson_get_len(given)),
			     supported);
}

static int check_split(struct tokenizer_source *c, yyjson_val *split)
{
	yyjson_val *pattern = json_get(json_get(split, "pattern"), "Regex");

	if (!json_is(json_get(split, "behavior"), "Isolated"))
		return refuse_kind(c, "Split: behavior", json_get(split, "behavior"), "Isolated");
	if (!yyjson_is_false(json_get(split, "invert")))
		return source_refuse(c->e, "Split without \"invert\": false is not supported");
	if (!yyjson_is_str(pattern))
		return source_refuse(c->e, "Split without a Regex pattern is not supported");
	if (yyjson_get_len(pattern) > TOKENIZER_PATTERN_MAX)
		return source_refuse(c->e, "the pattern of Split %u is longer than %d bytes",
				     c->n_splits + 1, TOKENIZER_PATTERN_MAX);
	c->split[c->n_splits++] = (struct text){yyjson_get_str(pattern), yyjson_get_len(pattern)};
	return 0;
}

/* Digits (in V2's file) is a Split by a fixed pattern. */
static int check_digits(struct tokenizer_source *c, yyjson_val *digits)
{
	yyjson_val *each = json_get(digits, "individual_digits");

	if (each && !yyjson_is_bool(each))
		return source_refuse(c->e, "Digits: individual_digits is not a boolean");
	c->split[c->n_splits++] =
		yyjson_is_true(each) ? (struct text){"\\p{N}", 5} : (struct text){"\\p{N}+", 6};
	return 0;
}

static int check_byte_level(struct tokenizer_source *c, yyjson_val *v)
{
	if (!yyjson_is_false(json_get(v, "add_prefix_space")))
		return source_refuse(
			c->e, "ByteLevel without \"add_prefix_space\": false is not supported");
	if (!yyjson_is_false(json_get(v, "use_regex")))
		return source_refuse(c->e,
				     "ByteLevel without \"use_regex\": false is not supported");
	return 0;
}

static int check_pre_tokenizer(struct tokenizer_source *c, yyjson_val *pre)
{
	yyjson_val *list = json_get(pre, "pretokenizers"), *v = NULL;
	yyjson_arr_iter it;
	int rc = 0;

	if (json_is(json_get(pre, "type"), "ByteLevel"))
		return check_byte_level(c, pre);
	if (!json_is(json_get(pre, "type"), "Sequence") || !yyjson_is_arr(list))
		return refuse_kind(c, "pre_tokenizer", json_get(pre, "type"),
				   "a Sequence of Split and ByteLevel, or ByteLevel alone");
	it = yyjson_arr_iter_with(list);
	while (!rc && yyjson_arr_iter_has_next(&it)) {
		yyjson_val *type;

		v = yyjson_arr_iter_next(&it);
		type = json_get(v, "type");
		if (json_is(type, "ByteLevel") && !yyjson_arr_iter_has_next(&it))
			return check_byte_level(c, v);
		if (c->n_splits == TOKENIZER_SPLITS_MAX)
			return source_refuse(
				c->e, "more than %d pre-tokenizers in a row are not supported",
				TOKENIZER_SPLITS_MAX);
		if (json_is(type, "Split"))
			rc = check_split(c, v);
		else if (json_is(type, "Digits"))
			rc = check_digits(c, v);
		else
			return refuse_kind(c, "pre_tokenizer", type,
					   "Split and Digits, and ByteLevel at the end");
	}
	return rc ? rc
		  : source_refuse(c->e,
				  "the pre_tokenizer does not end with ByteLevel: not byte-level");
}

/* None, or a Sequence of none. */
static int check_normalizer(struct tokenizer_source *c, yyjson_val *v)
{
	yyjson_val *list = json_get(v, "normalizers");
	yyjson_val *type = json_get(v, "type");

	if (!v)
		return 0;
	if (!json_is(type, "Sequence") || !yyjson_is_arr(list))
		return refuse_kind(c, "normalizer", type, "an empty Sequence");
	if (yyjson_arr_size(list))
		return refuse_kind(c, "normalizer", json_get(yyjson_arr_get(list, 0), "type"),
				   "an empty Sequence");
	return 0;
}

int source_read(struct tokenizer_source *c, yyjson_val *root, struct err *e)
{
	yyjson_val *v;
	int rc;

	*c = (struct tokenizer_source){.e = e};

	if (!yyjson_is_obj(root))
		return source_refuse(c->e, "it is not a JSON object");
	rc = check_normalizer(c, json_get(root, "normalizer"));
	if (rc)
		return rc;
	if ((rc = require(c, root, "a file", "truncation", false)) ||
	    (rc = require(c, root, "a file", "padding", false)) ||
	    (rc = check_model(c, json_get(root, "model"))) ||
	    (rc = check_pre_tokenizer(c, json_get(root, "pre_tokenizer"))))
		return rc;
	if (!json_is(json_get(json_get(root, "decoder"), "type"), "ByteLevel"))
		return refuse_kind(c, "decoder", json_get(json_get(root, "decoder"), "type"),
				   "ByteLevel");
	v = json_get(root, "post_processor");
	if (v && !json_is(json_get(v, "type"), "ByteLevel"))
		return refuse_kind(c, "post_processor", json_get(v, "type"), "ByteLevel");
	c->added = json_get(root, "added_tokens");
	if (c->added && !yyjson_is_arr(c->added))
		return source_refuse(c->e, "\"added_tokens\" is not an array");
	return 0;
}
