/*
 * The flight recorder: what a server was doing when it died, kept by init in an object that
 * outlives every server, and appended by scribe to the file of --recorder. An entry names the cause
 * and the step, and holds what `penstock replay` needs to run that step again somewhere else: the
 * rows of the pass, and every token before them, since a row's bits depend on nothing else
 * (arithmetic). The last spans of all servers (ipc/log.h) say when what happened and what was read.
 *
 * The file, little-endian: struct recorder_file, then entries of `entry_bytes` each.
 */
#ifndef IPC_RECORDER_H
#define IPC_RECORDER_H

#include "ipc/layout.h"

#define RECORDER_MAGIC   0x5244524f43455250ull
#define RECORDER_VERSION 1u

enum {
	RECORDER_ENTRIES = 4,     /* in the object: scribe comes within milliseconds */
	RECORDER_ROWS = 1024,     /* of a pass; of larger ones the first */
	RECORDER_SEQUENCES = 264, /* a pass has no more */
	RECORDER_TOKENS = 65536,  /* of all sequences before the pass */
	RECORDER_SPANS = 64,      /* the last ones of each log */
	RECORDER_LOGS = OBJ_LOG_EXPERTS - OBJ_LOG_CLIENT + 1,
	RECORDER_HASHED = 4, /* rows whose input is hashed */
	RECORDER_ROUTES =
		4096 /* expert ids of these rows: [layers][hashed][top_k], as far as they fit */
};

/* What is not whole in an entry. */
enum recorder_partial {
	RECORDER_NO_STEP = 1,    /* the server was between two steps: there is no pass */
	RECORDER_SOME_ROWS = 2,  /* the pass has more rows */
	RECORDER_SOME_TOKENS = 4 /* sequences are longer, or the request has gone: no replay */
};

struct recorder_sequence {
	uint32_t conn;
	uint32_t tokens; /* positions 0 .. tokens - 1 come before the pass */
};

struct recorder_entry {
	_Atomic uint64_t
		number;   /* 1 + its position in the endless list, stored last with release */
	uint64_t time_ns; /* CLOCK_REALTIME */
	uint32_t role, generation;
	uint32_t by_signal; /* 1: `status` is a signal, else an exit status */
	uint32_t status;
	uint64_t seq, pass;
	uint32_t batch, kind; /* enum pass_kind */
	uint32_t layers;      /* of the plan: seq = pass * (layers + 2) + hop */
	uint32_t rows, sequences, tokens;
	uint32_t partial;    /* bits of enum recorder_partial */
	uint32_t hashed;     /* rows in input_hash, the first ones */
	uint64_t input_hash; /* recorder_hash over the rows that the step reads */
	uint32_t top_k, workers, isa, pad;
	uint8_t model_hash[32];
	char build[64];
	struct span span[RECORDER_LOGS][RECORDER_SPANS]; /* client, router, mla, experts */
	struct pass_row row[RECORDER_ROWS];
	struct recorder_sequence sequence[RECORDER_SEQUENCES];
	uint16_t route[RECORDER_ROUTES];
	uint32_t token[RECORDER_TOKENS]; /* sequence by sequence */
};

struct recorder_file {
	uint64_t magic;
	uint32_t version;
	uint32_t entry_bytes;
};

/* A RECORDER object after its header. */
struct recorder {
	alignas(64) _Atomic uint64_t head; /* entries ever made; release */
	struct recorder_entry entry[RECORDER_ENTRIES];
};

/* Goes on over the `n` floats of a row; begins with 0. The bits count, not the values. */
static inline uint64_t recorder_hash(uint64_t h, const float *row, uint32_t n)
{
	const unsigned char *p = (const unsigned char *)row;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t bits;

		__builtin_memcpy(&bits, p + 4ull * i, 4);
		h = (h ^ bits) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 29;
	}
	return h;
}

#endif
