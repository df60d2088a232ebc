/*
 * The cache policy: which expert gives up its slot to one that must be read. Called by slots.c and
 * step.c of this folder, and by the replay of traces (runtime/replay), which runs this very code.
 *
 * A layer is visited once per pass, so time is counted in visits, and the question is one: how soon
 * will a visit use this expert again? The policy keeps two facts of every expert, in a slot or not:
 * its age (visits since its last use) and its share (of the visits of late, how many used it), and
 * learns from what it sees how likely the next visit is to use an expert of that age and share. So
 * it weighs recency against frequency as the model at hand deserves. Of the experts in slots the
 * one goes whose next use is expected last.
 *
 * Everything that a decision depends on lies in experts' object (struct policy_head) or is
 * slots.c's map: a successor decides as its predecessor would have. If a process dies in the middle
 * of policy_step, some counts are lost; that costs hits, never an answer.
 */
#ifndef RUNTIME_EXPERTS_POLICY_H
#define RUNTIME_EXPERTS_POLICY_H

#include "ipc/layout.h"

#include <stdbool.h>
#include <stdint.h>

#define POLICY_NONE UINT32_MAX

/*
 * How many experts a step may have asked for that are not computed yet, of which every one holds a
 * slot that others could use. Eight of V3 are 350 MB, far more than the drive has in flight; a
 * small step, which computes what is there, may have more.
 */
static inline uint32_t policy_ahead(uint32_t slots, bool small)
{
	uint32_t ahead = slots / 8 > 2 ? slots / 8 : 2;

	return small || ahead < 8 ? ahead : 8;
}

struct policy {
	struct policy_head *head;    /* these three are shared */
	uint32_t *visits;            /* [layers] */
	struct policy_expert *known; /* [layers][experts] */
	const uint32_t *map; /* [layers][experts]: slot + 1, 0: in none; the caller's, kept by it */
	uint32_t layers, experts;
	uint32_t *least; /* [layers]: expert + 1 of the smallest value in a slot; 0: not known */
	uint8_t *wanted[BATCHES];       /* [experts]: the step under way has yet to ask for it */
	uint32_t wanted_layer[BATCHES]; /* the layer of that step */
	uint8_t *used;                  /* [experts]: scratch of policy_step */
	uint32_t now,
		rows; /* layer of the step that began last; its rows if of a prefill, else 0 */
	uint8_t age_class[256];
};

/* A step of a layer with routed experts. */
struct policy_step {
	uint64_t seq; /* names it; the same if it is done again */
	uint32_t batch, layer;
	bool decode; /* the rows are one visit together; a prefill's are one each */
	uint32_t rows, top_k;
	const uint16_t *route; /* [rows][top_k]: ids below `experts`, checked by the caller */
	const uint64_t *error; /* [rows]: rows with a word other than 0 do not count; may be NULL */
};

/*
 * Attaches to the shared parts, zero in a new object. `map` is the caller's and outlives the
 * policy. False: no memory.
 */
bool policy_open(struct policy *p, struct policy_head *head, uint32_t *visits,
		 struct policy_expert *known, uint32_t layers, uint32_t experts,
		 const uint32_t *map);
void policy_close(struct policy *p);

/*
 * A step begins. Its experts count as used, and those in slots are given up last until they have
 * been asked for.
 */
void policy_step(struct policy *p, const struct policy_step *st);

/* The chance that the next visit of its layer uses the expert, of 65536. */
static inline uint32_t policy_value(const struct policy *p, uint32_t layer, uint32_t expert)
{
	return p->known[(size_t)layer * p->experts + expert].value;
}

/* The step under way has asked for this expert. */
void policy_asked(struct policy *p, uint32_t layer, uint32_t expert);

/* Another expert of `layer` is in a slot, or one less: the map has changed. */
void policy_moved(struct policy *p, uint32_t layer);

/*
 * The slot to give up among those of the map for which may(context, slot) is true; POLICY_NONE if
 * there is none. The caller takes free slots first.
 */
uint32_t policy_victim(struct policy *p, bool (*may)(void *, uint32_t), void *context);

#endif
