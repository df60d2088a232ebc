/*
 * The survey: from a checkpoint's files to the bytes of an index (model/index.h). It parses
 * everything, checks that every tensor the config asks for is there with the right shape and type,
 * and plans where it will lie; it reads no weights. Called by the loader, and by the one-shot
 * commands.
 */
#ifndef MODEL_STORE_SURVEY_H
#define MODEL_STORE_SURVEY_H

#include "model/index.h"
#include "model/store/files.h"

/*
 * Writes the index into `out` (cap bytes, 64-byte aligned) and its length into *used. Returns 0;
 * -ENOSPC if it does not fit, with *used the bytes that it needs; else -errno. Texts name file and
 * tensor; status 3. Memory is malloc's, all given back.
 */
MUST_CHECK int survey(const struct store_files *f, void *out, size_t cap, size_t *used,
		      struct err *e);

#endif
