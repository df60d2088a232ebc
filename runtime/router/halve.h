/* Whether decode rows run in two halves of opposite phase; see halve.c. */
#ifndef RUNTIME_ROUTER_HALVE_H
#define RUNTIME_ROUTER_HALVE_H

#include <stdbool.h>
#include <stdint.h>

enum halve_trial {
	HALVE_NONE,
	HALVE_WHOLE, /* one batch is timed */
	HALVE_HALVES /* two are */
};

/* Zero to begin with. */
struct halve {
	bool on; /* halves were faster */
	enum halve_trial trial;
	uint32_t n, tried;   /* sequences that decode together: now, at the last trial */
	uint32_t hold;       /* rows of each until the next trial */
	uint32_t rows;       /* since the last trial; in a trial, those of its window so far */
	uint32_t begin_rows; /* of them, when the clock was started */
	uint64_t begin_ns;   /* 0: not yet */
	float whole_ns;      /* a row in one batch */
	float gain;          /* of the last trial: whole_ns beside a row's time in halves */
};

/* A pass with rows of some of n sequences that decode is to begin. Returns whether in halves. */
bool halve_choose(struct halve *h, uint32_t n);

/* Something else runs beside decode rows: what was timed says nothing. */
void halve_disturbed(struct halve *h);

/* A pass with so many decode rows has ended. */
void halve_ended(struct halve *h, uint32_t rows, uint64_t now_ns);

#endif
