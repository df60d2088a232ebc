/*
 * What `ask` and `chat` have in common: the options of sampling, Ctrl-C that stops a reply,
 * printing as it arrives, and the line of speeds.
 */
#ifndef RUNTIME_CLI_TALK_H
#define RUNTIME_CLI_TALK_H

#include "runtime/cli/client.h"
#include "runtime/options.h"

enum {
	TALK_OPTIONS = 8
};

/*
 * Fills table[0 .. TALK_OPTIONS - 1] with --socket --temp --top-p --top-k --min-p --seed
 * --max-tokens --think and sets defaults.
 */
void talk_options(struct client_options *o, struct opt *table);
/* After parsing: notes whether a seed was given. */
void talk_options_done(struct client_options *o, const struct opt *table);

/* Ctrl-C sets this; `talk_begin` clears it and takes the signal. */
extern volatile sig_atomic_t talk_interrupted;
void talk_begin(void);

/*
 * Asks, prints reasoning (dim on a terminal) and content on stdout, speeds on stderr where it is a
 * terminal. As client_chat.
 */
MUST_CHECK int talk(const struct client_options *o, const struct turns *t,
		    struct client_reply *reply, struct err *e);

#endif
