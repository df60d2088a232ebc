/*
 * What init tells the user on stderr while a node starts: what the model is, where the memory goes,
 * how loading gets on, that it answers. All before the first request; afterwards only scribe
 * writes.
 */
#ifndef BOOT_PROGRESS_H
#define BOOT_PROGRESS_H

#include "boot/plan.h"
#include "model/index.h"

#include <stdbool.h>

struct progress_line {
	uint64_t begin_ns, last_ns; /* of the line */
	bool tty, open;             /* open: the line has no end yet */
};

/* The first line: model, parameters, quantisation, context, resident GB, slots, drive, socket. */
void progress_model(const struct index *ix, const struct plan *p, const struct plan_table *t,
		    const char *name, const char *drive, const char *socket);
void progress_plan(const struct plan *p, const struct plan_table *t);

/* A line about something that the node goes on without. */
void progress_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Bytes loaded of all: rewritten on a terminal, else a line a second. */
void progress_load(struct progress_line *l, uint64_t done, uint64_t all, uint64_t now_ns);
void progress_load_end(struct progress_line *l, uint64_t all, uint64_t now_ns);

/* Name of the block device that a file lies on, "" if unknown; out has 64 bytes. */
void progress_drive(char *out, int fd);

#endif
