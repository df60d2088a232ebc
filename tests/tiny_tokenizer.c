/*
 * See tiny_tokenizer.h. Strings are built in a stream of memory; tokens are kept as bytes and spelt
 * in the byte alphabet of specification 7.2 when they are printed.
 */
#include "tests/tiny_tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned spelling(unsigned byte)
{
	unsigned other = 0x100;

	if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)
		return byte;
	for (unsigned b = 0; b < byte; b++)
		other += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
	return other;
}

/* Bytes as characters of the alphabet, escaped for JSON. */
static void print_spelt(FILE *f, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		fprintf(f, "\\u%04x", spelling((unsigned char)s[i]));
}

static const char patterns[] =
	"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{N}{1,3}\"},\"behavior\":\"Isolated\","
	"\"invert\":false},"
	"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-"
	"\\u30ff]+\"},"
	"\"behavior\":\"Isolated\",\"invert\":false},"
	"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[!\\\"#$%&'()*+,\\\\-./"
	":;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|"
	"[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| "
	"?[\\\\p{P}\\\\p{S}]+[\\r\\n]*|\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
	"\"behavior\":\"Isolated\",\"invert\":false},"
	"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":"
	"false}";

static const char *const markers[] = {
	"<\xef\xbd\x9c"
	"begin\xe2\x96\x81"
	"of\xe2\x96\x81sentence\xef\xbd\x9c>",
	"<\xef\xbd\x9c"
	"end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
	"<\xef\xbd\x9cUser\xef\xbd\x9c>",
	"<\xef\xbd\x9c"
	"Assistant\xef\xbd\x9c>",
	"<think>",
	"</think>",
	"<\xef\xbd\x9ctool\xe2\x96\x81"
	"calls\xe2\x96\x81"
	"begin\xef\xbd\x9c>",
	"<\xef\xbd\x9ctool\xe2\x96\x81"
	"calls\xe2\x96\x81"
	"end\xef\xbd\x9c>",
	"<\xef\xbd\x9ctool\xe2\x96\x81"
	"call\xe2\x96\x81"
	"begin\xef\xbd\x9c>",
	"<\xef\xbd\x9ctool\xe2\x96\x81"
	"call\xe2\x96\x81"
	"end\xef\xbd\x9c>",
	"<\xef\xbd\x9ctool\xe2\x96\x81outputs\xe2\x96\x81"
	"begin\xef\xbd\x9c>",
	"<\xef\xbd\x9ctool\xe2\x96\x81outputs\xe2\x96\x81"
	"end\xef\xbd\x9c>",
	"<\xef\xbd\x9ctool\xe2\x96\x81output\xe2\x96\x81"
	"begin\xef\xbd\x9c>",
	"<\xef\xbd\x9ctool\xe2\x96\x81output\xe2\x96\x81"
	"end\xef\xbd\x9c>",
	"<\xef\xbd\x9ctool\xe2\x96\x81sep\xef\xbd\x9c>",
};

struct token {
	char *s;
	size_t len;
};

static void print_model(FILE *f, const struct token *token, const struct tiny_merge *merge,
			size_t n)
{
	fputs("\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
	      "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
	      "\"byte_fallback\":false,\"vocab\":{",
	      f);
	for (size_t i = 0; i < 256 + n; i++) {
		fputs(i ? ",\"" : "\"", f);
		print_spelt(f, token[i].s, token[i].len);
		fprintf(f, "\":%zu", i);
	}
	fputs("},\"merges\":[", f);
	for (size_t i = 0; i < n; i++) {
		/* Both spellings of a merge, in turn. */
		fprintf(f, i % 2 ? "%s[\"" : "%s\"", i ? "," : "");
		print_spelt(f, token[merge[i].left].s, token[merge[i].left].len);
		fputs(i % 2 ? "\",\"" : " ", f);
		print_spelt(f, token[merge[i].right].s, token[merge[i].right].len);
		fputs(i % 2 ? "\"]" : "\"", f);
	}
	fputs("]}}", f);
}

char *tiny_tokenizer_json(const struct tiny_merge *merge, size_t n)
{
	struct token *token = calloc(256 + n, sizeof(*token));
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f || !token)
		abort();
	for (size_t i = 0; i < 256 + n; i++) {
		struct token a = {NULL, 1}, b = {NULL, 0};

		if (i >= 256) {
			a = token[merge[i - 256].left];
			b = token[merge[i - 256].right];
		}
		token[i] = (struct token){malloc(a.len + b.len), a.len + b.len};
		if (!token[i].s)
			abort();
		if (i < 256) {
			token[i].s[0] = (char)i;
			continue;
		}
		memcpy(token[i].s, a.s, a.len);
		memcpy(token[i].s + a.len, b.s, b.len);
	}
	fputs("{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[", f);
	for (int i = 0; i < (int)(sizeof(markers) / sizeof(markers[0])); i++)
		fprintf(f,
			"%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
			"\"rstrip\":false,\"normalized\":%s,\"special\":%s}",
			i ? "," : "", TINY_BOS + i, markers[i], i < 2 ? "false" : "true",
			i < 2 ? "true" : "false");
	fprintf(f,
		"],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]},"
		"\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[%s]},"
		"\"post_processor\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_"
		"offsets\":false,"
		"\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
		"\"trim_offsets\":true,\"use_regex\":true},",
		patterns);
	print_model(f, token, merge, n);
	fclose(f);
	for (size_t i = 0; i < 256 + n; i++)
		free(token[i].s);
	free(token);
	return text;
}

char *tiny_replace(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	size_t before, len = strlen(text) - strlen(from) + strlen(to);
	char *out = malloc(len + 1);

	if (!at || !out) {
		fprintf(stderr, "tiny_replace: \"%s\" does not occur\n", from);
		abort();
	}
	before = (size_t)(at - text);
	memcpy(out, text, before);
	memcpy(out + before, to, strlen(to));
	strcpy(out + before + strlen(to), at + strlen(from));
	return out;
}

int tiny_open(struct tiny *tiny, const char *json, size_t longest_piece, struct err *e)
{
	size_t used;
	int rc = tokenizer_compile(json, strlen(json), TINY_VOCAB, NULL, 0, &used, e);

	*tiny = (struct tiny){.blob_bytes = used};
	if (rc != -ENOSPC)
		return rc ? rc : -EINVAL;
	tiny->blob = aligned_alloc(8, used);
	tiny->scratch_bytes = tokenizer_scratch_bytes(longest_piece);
	tiny->scratch = malloc(tiny->scratch_bytes);
	if (!tiny->blob || !tiny->scratch)
		abort();
	rc = tokenizer_compile(json, strlen(json), TINY_VOCAB, tiny->blob, used, &used, e);
	return rc ? rc
		  : tokenizer_open(&tiny->t, tiny->blob, used, tiny->scratch, tiny->scratch_bytes,
				   e);
}

void tiny_close(struct tiny *tiny)
{
	free(tiny->blob);
	free(tiny->scratch);
	*tiny = (struct tiny){0};
}
