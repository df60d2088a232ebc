/*
 * What the server `cuda` knows, and what its two files call of each other: server.c has passes and
 * the loop, loads.c the lists that bring experts. Used by runtime/lists only.
 */
#ifndef RUNTIME_LISTS_LISTS_H
#define RUNTIME_LISTS_LISTS_H

#include "model/list.h"
#include "runtime/lists/server.h"

/* A list on its way: one of each batch. */
struct running {
	bool active;
	bool waits;   /* for experts */
	bool loading; /* experts' list is under way, and popped when it is done with their slots */
	struct msg msg;
	char *list; /* [plan.list_bytes], private: what was checked is what is executed */
	uint32_t n, done;
};

struct lists {
	struct server s;
	struct executor *x;
	struct device d;
	struct record record; /* struct cuda_record */
	struct ring_end list[BATCHES], load[BATCHES];
	struct running run[BATCHES];
	struct list_layout in[BATCHES];
	struct list_out out[BATCHES][2];
	struct command *loads, *evicted; /* [LOAD_COMMANDS] each, private */
	uint32_t *tenant;  /* [gpu_slots]: layer * experts + expert, UINT32_MAX: none */
	uint8_t *mirrored; /* [pages]: the device has the page */
	uint32_t *state;   /* of the pairs of a list that has stopped */
	uint16_t *expert;
	uint8_t *wanted; /* [experts] */
	uint32_t slots;  /* experts that the device has room for */
};

/* The device is of no more use if rc is not 0: init starts another process, which begins anew. */
void lists_need(int rc, const struct err *e);

/* The draft of the record, to be changed and committed. */
struct cuda_record *lists_draft(struct lists *l);

/* The pass's commands, copied and checked. */
const struct command *lists_commands(const struct lists *l, uint32_t b);

/* loads.c: takes one list of experts. Whether there was one. */
bool lists_serve_load(struct lists *l, uint32_t b);

#endif
