/*
 * `penstock ask`: one question to a running node; the answer streams to stdout.
 */
#include "runtime/cli/cli.h"
#include "runtime/cli/talk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The question: the operands joined by spaces, or stdin if there are none. */
static char *question(int n, char **argv)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int c;

	if (!out)
		return NULL;
	for (int i = 1; i <= n; i++)
		fprintf(out, "%s%s", i > 1 ? " " : "", argv[i]);
	while (n == 0 && (c = getchar()) != EOF)
		fputc(c, out);
	return fclose(out) ? NULL : text;
}

int cmd_ask(int argc, char **argv, struct err *e)
{
	struct client_options o;
	const char *system = NULL;
	struct opt table[TALK_OPTIONS + 1];
	struct options t = {
		.usage = "penstock ask \"question\"",
		.about = "Asks a running node one question; without one, reads it from stdin.",
		.table = table,
		.n = TALK_OPTIONS + 1,
		.max_operands = 1000};
	struct client_reply reply;
	struct turns turns = {0};
	char *text;
	int n, rc;

	talk_options(&o, table);
	table[TALK_OPTIONS] = (struct opt){.name = "system",
					   .type = OPT_STRING,
					   .to = &system,
					   .value = "TEXT",
					   .help = "what the model is told first"};
	n = options_parse(&t, argc, argv, e);
	if (n < 0)
		return n;
	if (t.help)
		return options_help(&t, stdout);
	talk_options_done(&o, table);
	text = question(n, argv);
	if (!text)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for the question");
	if (!*text)
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"ask needs a question. Try `penstock ask --help`");
	rc = system ? turns_add(&turns, "system", system, e) : 0;
	if (!rc)
		rc = turns_add(&turns, "user", text, e);
	free(text);
	if (rc)
		return rc;
	talk_begin();
	rc = talk(&o, &turns, &reply, e);
	if (rc >= 0)
		free(reply.content);
	turns_cut(&turns, 0);
	free(turns.turn);
	return rc == 1 ? STATUS_CTRL_C : rc;
}
