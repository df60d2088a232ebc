/*
 * What the one-shot commands share: opening a model for looking at it, sizes for people, progress
 * of something long.
 */
#ifndef RUNTIME_CLI_MODEL_H
#define RUNTIME_CLI_MODEL_H

#include "model/index.h"
#include "model/store/files.h"
#include "runtime/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A model opened by a one-shot command: its files, and the index that the survey made of them. */
struct cli_model {
	struct store_files *files;
	const struct index *ix;
	void *map;
	size_t map_bytes;
};

/*
 * Surveys the checkpoint directory `path`; no weights are read. Status 3 where it is missing,
 * damaged or unsupported.
 */
MUST_CHECK int cli_model_open(struct cli_model *m, const char *path, struct err *e);
void cli_model_close(struct cli_model *m);

/* "17.8 GiB" and the like into out; returns out. */
const char *cli_bytes(char out[32], uint64_t bytes);

/*
 * Progress of something long on stderr: bytes, rate and time left. On a terminal one line that is
 * redrawn twice a second, else a line every ten seconds.
 */
struct cli_progress {
	const char *what; /* "verify" */
	uint64_t total;   /* bytes */
	uint64_t begin_ns, shown_ns;
	bool terminal, drawn;
};

void progress_begin(struct cli_progress *p, const char *what, uint64_t total);
void progress_show(struct cli_progress *p, uint64_t done);
/* Ends the line. Returns seconds since progress_begin. */
double progress_end(struct cli_progress *p, uint64_t done);

#endif
