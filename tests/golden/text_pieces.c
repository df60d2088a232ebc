/*
 * Not a test by itself: golden/text.t calls it to see the pieces of a streaming decode, which no
 * command prints.
 *	text_pieces TOKENIZER.JSON < decode.jsonl
 * reads {"ids", "skip"} per line and prints the array of pieces per line.
 */
#include "model/text/json.h"
#include "model/text/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	PIECE_MAX = 8192
};

static void print_piece(const char *s, size_t len, bool first)
{
	char quoted[JSON_QUOTED_MAX(PIECE_MAX)] = "";

	if (!first)
		putchar(',');
	len = json_quote(quoted, s, len, false);
	fwrite(quoted, 1, len, stdout);
}

static void print_pieces(const struct tokenizer *t, yyjson_val *record, char *piece)
{
	struct detokenizer d = {.skip_special = yyjson_is_true(json_get(record, "skip"))};
	yyjson_arr_iter it = yyjson_arr_iter_with(json_get(record, "ids"));
	bool first = true;
	yyjson_val *v;

	putchar('[');
	for (; (v = yyjson_arr_iter_next(&it)) != NULL; first = false)
		print_piece(piece, detokenizer_push(&d, t, (uint32_t)yyjson_get_uint(v), piece),
			    first);
	print_piece(piece, detokenizer_finish(&d, piece), first);
	puts("]");
}

static int run(const char *json, size_t len, char *piece, struct err *e)
{
	struct tokenizer t;
	size_t used, scratch = tokenizer_scratch_bytes(0), cap = 0;
	char *line = NULL;
	ssize_t n;
	void *blob;
	int rc = tokenizer_compile(json, len, 129280, NULL, 0, &used, e);

	if (rc != -ENOSPC)
		return -1;
	blob = aligned_alloc(8, used);
	rc = tokenizer_compile(json, len, 129280, blob, used, &used, e);
	if (rc || (rc = tokenizer_open(&t, blob, used, malloc(scratch), scratch, e)) ||
	    detokenizer_piece_max(&t) > PIECE_MAX)
		return -1;
	while ((n = getline(&line, &cap, stdin)) > 0) {
		yyjson_doc *doc;

		if (json_read(&doc, line, (size_t)n - 1, JSON_PLAIN, NULL, e))
			return -1;
		print_pieces(&t, yyjson_doc_get_root(doc), piece);
		yyjson_doc_free(doc);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static char json[TOKENIZER_JSON_MAX], piece[PIECE_MAX];
	struct err e = {0};
	FILE *f;
	int rc;

	if (argc != 2 || !(f = fopen(argv[1], "rb")))
		return 2;
	rc = run(json, fread(json, 1, sizeof(json), f), piece, &e);
	fclose(f);
	if (rc)
		fprintf(stderr, "text_pieces: %s\n", e.text);
	return rc ? 1 : 0;
}
