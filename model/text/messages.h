/*
 * The `messages` and `tools` of a request (api.md "Requests"), checked against what the model's
 * template makes use of. Strings are borrowed from the JSON document; what must be joined or listed
 * is allocated by the caller's allocator and lives as long as that. Used by the gateway and by
 * `penstock template`.
 */
#ifndef MODEL_TEXT_MESSAGES_H
#define MODEL_TEXT_MESSAGES_H

#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <yyjson.h>

/* len bytes of UTF-8, not terminated; s is NULL where JSON had null or nothing. */
struct text {
	const char *s;
	size_t len;
};

enum message_role {
	MESSAGE_SYSTEM,
	MESSAGE_USER,
	MESSAGE_ASSISTANT,
	MESSAGE_TOOL
};

struct tool_call {
	struct text name, arguments; /* arguments: JSON as the client sent it, never parsed */
};

struct message {
	enum message_role role;
	struct text content;
	bool prefix;                   /* assistant: the reply continues this text */
	const struct tool_call *calls; /* assistant */
	size_t n_calls;
};

struct messages {
	const struct message *item;
	size_t n;
};

struct tool {
	struct text name, description;
	yyjson_val *parameters; /* an object, or NULL */
};

struct tools {
	const struct tool *item;
	size_t n;
};

/*
 * Reads the array of messages. Returns 0, or -EINVAL with a text that begins with the place
 * ("messages[2].content: ..."), or -ENOMEM. array may be NULL (the key was absent), which is an
 * error too. template_id is an enum template_id (template.h includes this header).
 */
MUST_CHECK int messages_parse(yyjson_val *array, int template_id, const yyjson_alc *alc,
			      struct messages *out, struct err *e);

/*
 * Reads the array of tools; NULL, null and [] are none. Errors as above ("tools[0].function.name:
 * ...").
 */
MUST_CHECK int tools_parse(yyjson_val *array, const yyjson_alc *alc, struct tools *out,
			   struct err *e);

#endif
