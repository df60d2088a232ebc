/*
 * The settings of a node, which stand in its packed store (pack_format.h, struct pack_settings) and
 * in no hash: options of `penstock run` that change its size and speed and never its answers. They
 * are written by `penstock image` and `penstock settings`, read by `init` on a booted node.
 */
#ifndef MODEL_STORE_SETTINGS_H
#define MODEL_STORE_SETTINGS_H

#include "model/store/pack_format.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	SETTINGS_MAX = 16 /* lines */
};

/* "context, parallel, ...": the options that may be set. */
extern const char settings_names[];

/* Adds or replaces key=value; value "" takes the key away. -EINVAL with a text, STATUS_USAGE. */
MUST_CHECK int settings_set(struct pack_settings *s, const char *key, const char *value,
			    struct err *e);

/* Brings the sum up to date, before it is written. */
void settings_seal(struct pack_settings *s);

/* Whether the page is whole: an untouched one (all zero) is. */
MUST_CHECK bool settings_ok(const struct pack_settings *s);

/*
 * As arguments "--context=4096" of a page that is ok: into argv, SETTINGS_MAX at most; the strings
 * lie in `text` (of `room` bytes; 2 * sizeof(s->text) is enough). Lines of other keys are left out.
 * Returns their number.
 */
unsigned settings_arguments(const struct pack_settings *s, char **argv, char *text, size_t room);

#endif
