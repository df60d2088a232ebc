/*
 * Guesses which experts the next layer will need, for reads while the drive would idle: between a
 * layer's last expert and the next layer's demand. The next layer's gate is applied to what this
 * layer has so far, the rows after attention and the shared experts' output, while the drive reads
 * what is missing. How often guesses come true is measured all the time, by rank, and only the
 * better ones are read. Tokens never depend on it. Called by runtime/experts/ for decode steps.
 */
#ifndef RUNTIME_EXPERTS_HINT_H
#define RUNTIME_EXPERTS_HINT_H

#include "model/config.h"
#include "runtime/experts/slots.h"

enum {
	HINT_GUESSES = 64,     /* missing experts remembered at a time; more are forgotten */
	HINT_READS = 4,        /* of these, read at most */
	HINT_BYTES = 16 << 20, /* or so many bytes: more than fits between two layers */
	HINT_RANKS = 16        /* by weight in a row's choice; all below share the last */
};

struct hint_rank {
	uint32_t tried, right; /* of late */
};

struct hint {
	bool on;        /* enough slots, and memory for the gate */
	uint32_t layer; /* that was guessed for; UINT32_MAX: none */
	uint64_t pass;
	uint32_t n;
	struct {
		uint32_t expert, slot; /* SLOT_NONE: not read */
		uint32_t rank;
	} guess[HINT_GUESSES];
	struct hint_rank rank[HINT_RANKS];
	float *sum;       /* [rows][row_stride] */
	uint16_t *x;      /* [rows][x_stride] */
	uint16_t *expert; /* [rows][top_k] */
	float *weight;    /* [rows][top_k] */
	uint8_t *failed;  /* [rows] */
	void *work;       /* of gate_rows */
};

struct step;

void hint_open(struct hint *h, const struct server *s, const struct slots *t);

/* Guesses for the layer behind st's, and asks for what is likely and missing. */
void hint_guess(struct step *st);

/* Judges the guesses for st's layer by what its rows need, and takes the wrong reads back. */
void hint_judge(struct step *st);

#endif
