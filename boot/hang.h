/*
 * Servers that no longer move (machinery 12). Each computing server and the gateway counts its
 * turns and says which step it is in; one whose step or turn is late is killed, and the rest is a
 * death like another. Called by the loop.
 */
#ifndef BOOT_HANG_H
#define BOOT_HANG_H

#include "ipc/layout.h"
#include "model/config.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	HANG_LOOK_MS = 20, /* between two looks while anything is to be done */
	/*
	 * What a look adds to the time that a server has not moved: no more, however late it comes.
	 * On a machine that is stopped or overloaded init comes late itself, and that is nobody's
	 * hang.
	 */
	HANG_STEP_MS = 5 * HANG_LOOK_MS,
	HANG_LEAST_S = 3,  /* the shortest deadline: of a turn without a step */
	HANG_DRIVE_S = 180 /* of a wait for the drive, whose reads have deadlines of their own */
};

struct init;

/* What was last seen of one server. */
struct hang {
	uint64_t turns, step;
	uint64_t still_ns; /* for how long it has been the same */
	bool asked;        /* rung since it last moved: it must show a turn */
};

/* Every server has been rung. */
void hang_asked(struct init *in);
/* A new process of the role serves. */
void hang_begin(struct init *in, enum role role);
/* Looks at all; kills who is late. */
void hang_tick(struct init *in);
/* In how many ms it wants to look again; -1: nobody has anything to do. */
int hang_timeout(const struct init *in);

/*
 * Deadline of a step of `rows` rows by a role: multiply-adds of the largest step of the kind at a
 * rate that the slowest machine has, and never less than HANG_LEAST_S.
 */
uint64_t hang_deadline_ns(const struct model_config *c, const struct plan *p, enum role role,
			  uint32_t rows);

#endif
