/*
 * The client half of the API for `ask`, `chat` and `bench`: one streamed completion over a node's
 * Unix socket. HTTP by llhttp, JSON by yyjson; text goes to a callback as it arrives.
 */
#ifndef RUNTIME_CLI_CLIENT_H
#define RUNTIME_CLI_CLIENT_H

#include "runtime/err.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A conversation: roles and contents, owned. */
struct turns {
	struct turn {
		const char *role; /* a string literal */
		char *text;
	} * turn;
	size_t count, room;
};

/* Appends a turn; copies text. */
MUST_CHECK int turns_add(struct turns *t, const char *role, const char *text, struct err *e);
/* Drops turns from `count` on. */
void turns_cut(struct turns *t, size_t count);

/* What the user may say about sampling; -1 (or have_seed false) leaves it to the node. */
struct client_options {
	const char *socket; /* NULL: the usual places */
	double temperature, top_p, min_p;
	int64_t top_k, max_tokens, seed;
	bool have_seed, thinking;
};

/*
 * Connects to a node's socket (NULL: the usual places), or to the one whose name has `suffix`
 * behind it. Returns the descriptor or -errno.
 */
MUST_CHECK int client_connect(const char *path, const char *suffix, struct err *e);

enum client_text {
	TEXT_CONTENT,
	TEXT_REASONING,
	TEXT_PROGRESS
};

/* What came back. */
struct client_reply {
	char *content; /* all of it, owned by the caller; never NULL after success */
	char finish[32];
	uint64_t prompt_tokens, cached_tokens, completion_tokens;
	uint64_t first_ns, total_ns; /* from sending to the first text and to the end */
	unsigned status;             /* of HTTP; 0: none came */
};

/* TEXT_PROGRESS is for the person who waits: how far the prompt has come. */
typedef void client_piece(void *context, enum client_text kind, const char *text, size_t len);

/*
 * Asks and streams. Returns 0; 1 if *interrupted became nonzero meanwhile (the connection is
 * closed, which stops the node's work; reply holds what came); or -errno with the node's own error
 * message.
 */
MUST_CHECK int client_chat(const struct client_options *o, const struct turns *t,
			   client_piece *piece, void *context,
			   const volatile sig_atomic_t *interrupted, struct client_reply *reply,
			   struct err *e);

/*
 * The same for a body that the caller has made, to /v1/chat/completions or /v1/completions; it asks
 * for a stream with its usage. Of a plain completion every token is a call of `piece`, its text may
 * be empty.
 */
MUST_CHECK int client_post(const char *socket, const char *path, const char *body,
			   client_piece *piece, void *context,
			   const volatile sig_atomic_t *interrupted, struct client_reply *reply,
			   struct err *e);

#endif
