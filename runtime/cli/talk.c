/* Printing a streamed reply; see talk.h. */
#include "runtime/cli/talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

volatile sig_atomic_t talk_interrupted;

void talk_options(struct client_options *o, struct opt *table)
{
	const struct opt rows[TALK_OPTIONS] = {
		{.name = "socket",
		 .type = OPT_STRING,
		 .to = &o->socket,
		 .value = "PATH",
		 .help = "of the node (the usual places)"},
		{.name = "temp",
		 .type = OPT_DOUBLE,
		 .to = &o->temperature,
		 .value = "X",
		 .help = "temperature (the model's)",
		 .min = 0,
		 .max = 1e9},
		{.name = "top-p",
		 .type = OPT_DOUBLE,
		 .to = &o->top_p,
		 .value = "X",
		 .help = "smallest set of this probability (the model's)",
		 .min = 1e-12,
		 .max = 1},
		{.name = "top-k",
		 .type = OPT_I64,
		 .to = &o->top_k,
		 .value = "N",
		 .help = "most likely tokens only (off)",
		 .min = 0,
		 .max = 1e9},
		{.name = "min-p",
		 .type = OPT_DOUBLE,
		 .to = &o->min_p,
		 .value = "X",
		 .help = "least probability beside the best (off)",
		 .min = 0,
		 .max = 1},
		{.name = "seed",
		 .type = OPT_I64,
		 .to = &o->seed,
		 .value = "N",
		 .help = "the same seed, the same reply (drawn)"},
		{.name = "max-tokens",
		 .type = OPT_I64,
		 .to = &o->max_tokens,
		 .value = "N",
		 .help = "longest reply (up to the context)",
		 .min = 1,
		 .max = 1e9},
		{.name = "think",
		 .type = OPT_FLAG,
		 .to = &o->thinking,
		 .help = "let the model reason first"},
	};

	*o = (struct client_options){
		.temperature = -1, .top_p = -1, .min_p = -1, .top_k = -1, .max_tokens = -1};
	memcpy(table, rows, sizeof(rows));
}

void talk_options_done(struct client_options *o, const struct opt *table)
{
	o->have_seed = table[5].given;
}

static void on_interrupt(int signal)
{
	(void)signal;
	talk_interrupted = 1;
}

void talk_begin(void)
{
	struct sigaction sa = {.sa_handler =
				       on_interrupt}; /* no SA_RESTART: recv and getline return */

	talk_interrupted = 0;
	sigaction(SIGINT, &sa, NULL);
}

struct screen {
	bool colour;
	enum client_text kind;
	bool any;
	bool waiting; /* a line of progress stands on stderr */
};

static void print_piece(void *context, enum client_text kind, const char *text, size_t len)
{
	struct screen *s = context;

	if (kind == TEXT_PROGRESS || s->waiting) {
		/* one rewritten line, gone when the reply begins */
		if (isatty(2))
			fprintf(stderr, "\r\033[K%.*s", kind == TEXT_PROGRESS ? (int)len : 0, text);
		s->waiting = kind == TEXT_PROGRESS;
		if (s->waiting)
			return;
	}
	if (kind != s->kind) {
		if (s->any)
			fputs("\n", stdout);
		if (s->colour)
			fputs(kind == TEXT_REASONING ? "\033[2m" : "\033[0m", stdout);
		s->kind = kind;
	}
	s->any = true;
	fwrite(text, 1, len, stdout);
	fflush(stdout);
}

static void print_speeds(const struct client_reply *r)
{
	double first = (double)r->first_ns / 1e9, rest = (double)(r->total_ns - r->first_ns) / 1e9;
	uint64_t computed = r->prompt_tokens - r->cached_tokens;

	if (!r->prompt_tokens || !r->first_ns)
		return;
	fprintf(stderr,
		"prefill: %.1f t/s (%llu tokens, %llu from cache), generation: %.1f t/s (%llu "
		"tokens)\n",
		(double)computed / first, (unsigned long long)r->prompt_tokens,
		(unsigned long long)r->cached_tokens,
		rest > 0 ? (double)(r->completion_tokens - 1) / rest : 0.0,
		(unsigned long long)r->completion_tokens);
}

int talk(const struct client_options *o, const struct turns *t, struct client_reply *reply,
	 struct err *e)
{
	struct screen s = {.colour = isatty(1) && !getenv("NO_COLOR"), .kind = TEXT_CONTENT};
	int rc = client_chat(o, t, print_piece, &s, &talk_interrupted, reply, e);

	if (s.kind == TEXT_REASONING && s.colour)
		fputs("\033[0m", stdout);
	if (s.any)
		fputs("\n", stdout);
	fflush(stdout);
	if (rc == 0 && isatty(2))
		print_speeds(reply);
	return rc;
}
