/*
 * `penstock tokenize MODEL [--decode]`: one JSON string per line to one array of ids per line, and
 * back. Added tokens in the text become their ids; no BOS is added; decoding keeps special tokens.
 */
#include "runtime/cli/cli.h"
#include "runtime/cli/text_model.h"
#include "runtime/options.h"

#include <errno.h>
#include <stdlib.h>

static int encode_line(void *context, yyjson_val *line, struct err *e)
{
	struct text_model *m = context;
	size_t len = yyjson_get_len(line);
	uint32_t *ids;
	ssize_t n;
	int rc;

	if (!yyjson_is_str(line))
		return err_set(e, -EINVAL, "not a JSON string");
	rc = text_model_reserve(m, len, e);
	if (rc)
		return rc;
	ids = malloc((len + 1) * sizeof(*ids)); /* a token has at least one byte */
	if (!ids)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for %zu ids", len);
	n = tokenizer_encode(&m->tokenizer, yyjson_get_str(line), len, ENCODE_MARKERS, ids, len, e);
	if (n >= 0) {
		print_ids(stdout, ids, (size_t)n);
		fputc('\n', stdout);
	}
	free(ids);
	return n < 0 ? (int)n : 0;
}

static int decode_ids(const struct text_model *m, yyjson_val *line, char *out, size_t *len,
		      struct err *e)
{
	struct detokenizer d = {0};
	yyjson_arr_iter it = yyjson_arr_iter_with(line);
	yyjson_val *v;

	while ((v = yyjson_arr_iter_next(&it)) != NULL) {
		if (!yyjson_is_uint(v) || yyjson_get_uint(v) >= m->vocab_size)
			return err_set(e, -EINVAL, "not an id from 0 to %u", m->vocab_size - 1);
		*len += detokenizer_push(&d, &m->tokenizer, (uint32_t)yyjson_get_uint(v),
					 out + *len);
	}
	*len += detokenizer_finish(&d, out + *len);
	return 0;
}

static int decode_line(void *context, yyjson_val *line, struct err *e)
{
	struct text_model *m = context;
	size_t len = 0, cap;
	char *out;
	int rc;

	if (!yyjson_is_arr(line))
		return err_set(e, -EINVAL, "not a JSON array of ids");
	if (__builtin_mul_overflow(yyjson_arr_size(line) + 1, detokenizer_piece_max(&m->tokenizer),
				   &cap) ||
	    !(out = malloc(cap)))
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory to decode %zu ids",
				yyjson_arr_size(line));
	rc = decode_ids(m, line, out, &len, e);
	if (!rc)
		rc = print_string(stdout, out, len, e);
	if (!rc)
		fputc('\n', stdout);
	free(out);
	return rc;
}

int cmd_tokenize(int argc, char **argv, struct err *e)
{
	bool decode = false;
	struct opt table[] = {
		{"decode", OPT_FLAG, &decode, .help = "ids to text instead"},
	};
	struct options o = {.usage = "penstock tokenize MODEL",
			    .about = "Reads one JSON string per line and prints one array of token "
				     "ids per line; with --decode the reverse.",
			    .table = table,
			    .n = 1,
			    .min_operands = 1,
			    .max_operands = 1};
	struct text_model m;
	int rc = options_parse(&o, argc, argv, e);

	if (rc < 0 || o.help)
		return o.help ? options_help(&o, stdout) : rc;
	rc = text_model_open(&m, argv[1], false, e);
	if (!rc)
		rc = lines_run(JSON_PLAIN, decode ? decode_line : encode_line, &m, e);
	text_model_close(&m);
	return rc;
}
