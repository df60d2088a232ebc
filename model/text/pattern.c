/*
 * The checkpoint's regular expressions. The library runs them with Oniguruma (Ruby syntax); we run
 * PCRE2 with UTF and UCP, whose classes were compared over all code points (specification 7.2; of
 * Unicode 16 in both): the one difference is U+180E in \s. PCRE2 takes all its memory from the
 * tokenizer's scratch, at open or, for backtracking frames, by doubling up to a limit; nothing is
 * ever given back, which the doubling bounds to twice the limit.
 */
#include "model/text/tokenizer_internal.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
	HEAP_LIMIT_KIB = 1024, /* backtracking; published patterns stay below 20 */
	STEPS_MIN = 1000000,   /* steps from one starting point */
	STEPS_PER_BYTE = 8,    /* \s*[\r\n]+ walks back over a run of blanks once */
	PATTERN_SHARE = 4,     /* a rewritten pattern may take this part of the scratch memory */
};

/* Oniguruma's \s. The same text serves inside and outside of a class. */
#define SPACES                                                                                     \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{"     \
	"202f}\\x{205f}\\x{3000}"
/* What is left of Unicode without them. */
#define NOT_SPACES                                                                                 \
	"\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{" \
	"1fff}\\x{200b}-\\x{2027}"                                                                 \
	"\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"

static void *scratch_malloc(size_t size, void *data)
{
	struct tokenizer *t = data;
	size_t need = (size + 15) & ~(size_t)15;
	void *p = t->scratch + t->scratch_used;

	if (need < size || need > t->scratch_size - t->scratch_used)
		return NULL;
	t->scratch_used += need;
	return p;
}

static void scratch_free(void *p, void *data)
{
	(void)p;
	(void)data;
}

struct writer {
	char *out;
	size_t len, cap;
	bool full;
};

static void put(struct writer *w, const char *s, size_t n)
{
	if (n > w->cap - w->len) {
		w->full = true;
		return;
	}
	memcpy(w->out + w->len, s, n);
	w->len += n;
}

/* Writes what \s or \S (letter) means; inside a class only the ranges, else a class of its own. */
static void put_spaces(struct writer *w, char letter, bool in_class)
{
	const char *in = letter == 's' ? SPACES : NOT_SPACES;

	if (!in_class)
		put(w, "[", 1);
	put(w, in, strlen(in));
	if (!in_class)
		put(w, "]", 1);
}

/* Escapes that both readers understand alike (\x only with braces); \s and \S are rewritten. */
static bool escape_agrees(const char *s, size_t left)
{
	bool is_word = (s[1] >= '0' && s[1] <= '9') || (s[1] >= 'A' && s[1] <= 'Z') ||
		       (s[1] >= 'a' && s[1] <= 'z') || (s[1] & 0x80);

	if (s[1] == 'x')
		return left > 2 && s[2] == '{';
	return !is_word || (s[1] && strchr("pPrntdD", s[1]));
}

/* Groups that both understand alike: plain, (?: (?= (?! (?> (?<= (?<! */
static bool group_agrees(const char *s, size_t left)
{
	if (left < 2 || (s[1] != '?' && s[1] != '*'))
		return true;
	if (s[1] == '*' || left < 4)
		return false;
	return strchr(":=!>", s[2]) || (s[2] == '<' && (s[3] == '=' || s[3] == '!'));
}

/*
 * Rewrites one pattern. Returns NULL, or what in it is not supported. PCRE2 itself finds what is
 * malformed.
 */
static const char *rewrite(struct writer *w, const char *s, size_t len)
{
	bool in_class = false;

	for (size_t i = 0; i < len; i++) {
		const char *rest = s + i;
		size_t left = len - i;

		if (rest[0] == '\\' && left > 1) {
			if (rest[1] == 's' || rest[1] == 'S')
				put_spaces(w, rest[1], in_class);
			else if (!escape_agrees(rest, left))
				return "an escape that is not supported";
			else
				put(w, rest, 2);
			i++;
			continue;
		}
		if (in_class && rest[0] == '[')
			return "a class inside a class";
		if (in_class && left > 1 && rest[0] == '&' && rest[1] == '&')
			return "an intersection of classes";
		if (!in_class && rest[0] == '(' && !group_agrees(rest, left))
			return "a group or option that is not supported";
		put(w, rest, 1);
		if (rest[0] == '[') {
			in_class = true;
			if (left > 1 && rest[1] == '^')
				put(w, s + ++i, 1);
			if (i + 1 < len && s[i + 1] == ']') /* one that stands first is itself */
				put(w, s + ++i, 1);
		} else if (rest[0] == ']') {
			in_class = false;
		}
	}
	return w->full ? "more rewriting than there is memory for" : NULL;
}

static int compile_one(struct tokenizer *t, uint32_t k, pcre2_compile_context *context,
		       struct err *e)
{
	struct tokenizer_span span = t->blob->split[k];
	struct writer w = {.out = (char *)t->scratch + t->scratch_used};
	const char *problem;
	int code = 0;
	PCRE2_SIZE at = 0;

	/* The rewritten text stays in scratch, in front of what PCRE2 makes of it. */
	w.cap = t->scratch_size - t->scratch_used;
	if (w.cap > TOKENIZER_PCRE2_BYTES / PATTERN_SHARE)
		w.cap = TOKENIZER_PCRE2_BYTES / PATTERN_SHARE;
	problem = rewrite(&w, (const char *)t->text + span.off, span.count);
	if (problem)
		return err_exit(e, STATUS_MODEL, -ENOTSUP,
				"tokenizer.json: the pattern of Split %u has %s", k + 1, problem);
	t->scratch_used += (w.len + 15) & ~(size_t)15;
	if (t->scratch_used > t->scratch_size)
		t->scratch_used = t->scratch_size;
	t->split[k] = pcre2_compile((PCRE2_SPTR)w.out, w.len,
				    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
					    PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE,
				    &code, &at, context);
	if (!t->split[k]) {
		PCRE2_UCHAR text[120] = "";

		pcre2_get_error_message(code, text, sizeof(text));
		return err_exit(e, STATUS_MODEL, -EBADMSG,
				"tokenizer.json: the pattern of Split %u does not compile: %s",
				k + 1, (const char *)text);
	}
	return 0;
}

int pattern_compile_all(struct tokenizer *t, struct err *e)
{
	pcre2_general_context *general =
		pcre2_general_context_create(scratch_malloc, scratch_free, t);
	pcre2_compile_context *compile = general ? pcre2_compile_context_create(general) : NULL;
	pcre2_match_context *match = general ? pcre2_match_context_create(general) : NULL;
	int rc = 0;

	t->match_context = match;
	t->match_data = general ? pcre2_match_data_create(1, general) : NULL;
	if (!compile || !match || !t->match_data)
		return err_exit(e, STATUS_MEMORY, -ENOMEM,
				"tokenizer: too little scratch memory for patterns");
	pcre2_set_newline(compile, PCRE2_NEWLINE_LF);
	pcre2_set_max_pattern_length(compile, TOKENIZER_PCRE2_BYTES);
	pcre2_set_heap_limit(match, HEAP_LIMIT_KIB);
	for (uint32_t k = 0; !rc && k < t->n_splits; k++)
		rc = compile_one(t, k, compile, e);
	return rc;
}

int pattern_find(const struct tokenizer *t, uint32_t k, const char *s, size_t len, size_t from,
		 size_t *start, size_t *end, struct err *e)
{
	size_t steps = STEPS_MIN + len * STEPS_PER_BYTE;
	const PCRE2_SIZE *range = pcre2_get_ovector_pointer(t->match_data);
	int rc;

	pcre2_set_match_limit(t->match_context, steps > UINT32_MAX ? UINT32_MAX : (uint32_t)steps);
	rc = pcre2_match(t->split[k], (PCRE2_SPTR)s, len, from, PCRE2_NO_UTF_CHECK, t->match_data,
			 t->match_context);
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	if (rc < 0)
		return err_exit(
			e, STATUS_MODEL, -ELOOP,
			"tokenizer.json: the pattern of Split %u exceeds the %s limit on a text of "
			"%zu bytes",
			k + 1, rc == PCRE2_ERROR_MATCHLIMIT ? "step" : "memory", len);
	*start = range[0];
	*end = range[1];
	if (*start < from || *end < *start)
		return err_exit(e, STATUS_MODEL, -ELOOP,
				"tokenizer.json: the pattern of Split %u matches backwards", k + 1);
	return 1;
}
