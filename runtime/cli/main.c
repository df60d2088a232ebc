/*
 * The program `penstock`: finds the command in a table and runs it. Errors are printed here and
 * nowhere else.
 */
#include "runtime/cli/cli.h"
#include "runtime/version.h"

#include <stdio.h>
#include <string.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv, struct err *e);
	const char *help;
} commands[] = {
	{"run", cmd_run, "start a node on a model, in the foreground"},
	{"info", cmd_info, "what a model is and what it needs"},
	{"verify", cmd_verify, "read every byte of a model and check it"},
	{"pack", cmd_pack, "make a packed store of a checkpoint"},
	{"synth", cmd_synth, "write a random checkpoint of any shape"},
	{"ask", cmd_ask, "one question to a running node"},
	{"chat", cmd_chat, "a conversation with a running node"},
	{"score", cmd_score, "log-probabilities and raw outputs of a model over prompts"},
	{"plan", cmd_plan, "tokens/s of a model on a machine, before buying it"},
	{"bench", cmd_bench, "the limits of this machine, and a node beside them"},
	{"chaos", cmd_chaos, "kill servers of a working node and compare the replies"},
	{"replay", cmd_rerun, "run the step again in which a server died"},
	{"top", cmd_top, "what a running node is doing"},
	{"image", cmd_image, "a disk that boots with a model on it"},
	{"relay", cmd_relay, "a booted node's port as a socket on its host"},
	{"node", cmd_node, "a booted node: what it holds, its end, a new program"},
	{"doctor", cmd_doctor, "whether this machine would do"},
	{"settings", cmd_settings, "what a booted node gets from its store"},
	{"tokenize", cmd_tokenize, "text to token ids and back, a line of JSON each"},
	{"template", cmd_template, "messages to the prompt's text and ids"},
};

static int usage(FILE *out, int status)
{
	fprintf(out, "usage: penstock COMMAND ...\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
	fprintf(out, "\n`penstock COMMAND --help` tells more of each.\n");
	return status;
}

int main(int argc, char **argv)
{
	struct err e = {0};
	int rc = -1;

	if (argc < 2)
		return usage(stderr, STATUS_USAGE);
	if (strcmp(argv[1], "--version") == 0)
		return puts(PENSTOCK_VERSION) < 0 ? STATUS_FAILED : STATUS_OK;
	if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0)
		return usage(stdout, STATUS_OK);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, argv[1]) == 0) {
			rc = commands[i].run(argc - 1, argv + 1, &e);
			if (rc >= 0)
				return rc;
			fprintf(stderr, "penstock: %s\n", e.text);
			return e.status ? e.status : STATUS_FAILED;
		}
	fprintf(stderr, "penstock: there is no command \"%.60s\"\n", argv[1]);
	return usage(stderr, STATUS_USAGE);
}
