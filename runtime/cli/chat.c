/*
 * `penstock chat`: a conversation with a running node, line by line. Ctrl-C stops a reply and not
 * the program; Ctrl-D ends it.
 */
#include "runtime/cli/cli.h"
#include "runtime/cli/talk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chat {
	struct client_options o;
	struct turns turns;
	const char *system;
	bool prompt; /* stdin is a terminal */
};

static void help(void)
{
	printf("/help           this list\n"
	       "/clear          forget the conversation\n"
	       "/system TEXT    begin anew, with TEXT said first\n"
	       "/think          let the model reason first; /nothink: not\n"
	       "/seed N         the same seed, the same reply\n"
	       "/temp X         temperature\n"
	       "/read FILE      send a file's text\n"
	       "/save FILE      write the conversation to FILE\n"
	       "/quit           leave (also Ctrl-D)\n"
	       "A line that ends in \\ goes on in the next one.\n");
}

/*
 * Reads a line, and more while it ends in a backslash. NULL at the end of input, or when
 * interrupted.
 */
static char *read_line(const struct chat *c)
{
	char *all = NULL, *line = NULL;
	size_t len = 0, cap = 0;
	ssize_t n;

	do {
		char *p;

		if (c->prompt) {
			fputs(len ? "... " : "> ", stdout);
			fflush(stdout);
		}
		n = getline(&line, &cap, stdin);
		if (n <= 0)
			break;
		if (line[n - 1] == '\n')
			line[--n] = 0;
		p = realloc(all, len + (size_t)n + 2);
		if (!p)
			break;
		all = p;
		memcpy(all + len, line, (size_t)n + 1);
		len += (size_t)n;
		if (n && all[len - 1] == '\\')
			all[len - 1] = '\n';
		else
			n = 0;
	} while (n > 0);
	free(line);
	return all;
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t len = 0;
	FILE *out;
	int ch;

	if (!f) {
		fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
		return NULL;
	}
	out = open_memstream(&text, &len);
	while (out && (ch = getc(f)) != EOF)
		putc(ch, out);
	fclose(f);
	if (out)
		fclose(out);
	return text;
}

static void save(const struct chat *c, const char *path)
{
	FILE *f = fopen(path, "w");

	for (size_t i = 0; f && i < c->turns.count; i++)
		fprintf(f, "%s: %s\n\n", c->turns.turn[i].role, c->turns.turn[i].text);
	if (!f || fclose(f))
		fprintf(stderr, "cannot write %s: %s\n", path, strerror(errno));
}

static int begin(struct chat *c, struct err *e)
{
	turns_cut(&c->turns, 0);
	return c->system && *c->system ? turns_add(&c->turns, "system", c->system, e) : 0;
}

/* One question; a reply that failed or was stopped before any text takes the question back. */
static int say(struct chat *c, const char *text, struct err *e)
{
	struct client_reply reply;
	struct err fault = {0};
	size_t before = c->turns.count;
	int rc = turns_add(&c->turns, "user", text, e);

	if (rc)
		return rc;
	talk_begin();
	rc = talk(&c->o, &c->turns, &reply, &fault);
	talk_interrupted = 0;
	if (rc < 0) {
		fprintf(stderr, "%s\n", fault.text);
		turns_cut(&c->turns, before);
		return 0;
	}
	rc = *reply.content ? turns_add(&c->turns, "assistant", reply.content, e) : 0;
	if (!*reply.content)
		turns_cut(&c->turns, before);
	free(reply.content);
	return rc;
}

/* A line that begins with a slash. 1: leave. */
static int command(struct chat *c, char *line, struct err *e)
{
	char *rest = line + strcspn(line, " ");

	if (*rest)
		*rest++ = 0;
	if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0)
		return 1;
	if (strcmp(line, "/clear") == 0)
		return begin(c, e);
	if (strcmp(line, "/system") == 0) {
		c->system = strdup(rest);
		return begin(c, e);
	}
	if (strcmp(line, "/read") == 0) {
		char *text = read_file(rest);
		int rc = text ? say(c, text, e) : 0;

		free(text);
		return rc;
	}
	if (strcmp(line, "/save") == 0)
		save(c, rest);
	else if (strcmp(line, "/think") == 0 || strcmp(line, "/nothink") == 0)
		c->o.thinking = line[1] == 't';
	else if (strcmp(line, "/seed") == 0)
		c->o.have_seed = parse_i64(rest, &c->o.seed) == 0;
	else if (strcmp(line, "/temp") != 0 || parse_double(rest, &c->o.temperature))
		help();
	return 0;
}

int cmd_chat(int argc, char **argv, struct err *e)
{
	struct chat c = {.prompt = isatty(0)};
	struct opt table[TALK_OPTIONS + 1];
	struct options t = {
		.usage = "penstock chat",
		.about =
			"A conversation with a running node; /help lists what can be said besides.",
		.table = table,
		.n = TALK_OPTIONS + 1};
	int rc;

	talk_options(&c.o, table);
	table[TALK_OPTIONS] = (struct opt){.name = "system",
					   .type = OPT_STRING,
					   .to = &c.system,
					   .value = "TEXT",
					   .help = "what the model is told first"};
	rc = options_parse(&t, argc, argv, e);
	if (rc < 0)
		return rc;
	if (t.help)
		return options_help(&t, stdout);
	talk_options_done(&c.o, table);
	rc = begin(&c, e);
	for (char *line; rc == 0; free(line)) {
		talk_begin();
		line = read_line(&c);
		if (!line && talk_interrupted) {
			clearerr(stdin);
			fputs("\n", stdout);
			continue;
		}
		if (!line)
			break;
		if (*line == '/')
			rc = command(&c, line, e);
		else if (*line)
			rc = say(&c, line, e);
	}
	turns_cut(&c.turns, 0);
	free(c.turns.turn);
	return rc < 0 ? rc : 0;
}
