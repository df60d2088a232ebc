/*
 * Finds the first of several strings in a text that arrives in pieces, and says how much of the end
 * of the text must be held back because a string may have begun there. Used for a reply's stop
 * strings and for the tags around its reasoning. Pure; its state is recomputed from the text after
 * a restart.
 */
#ifndef GATEWAY_STOP_H
#define GATEWAY_STOP_H

#include <stddef.h>
#include <stdint.h>

enum {
	STOP_STRINGS = 16,
	STOP_BYTES = 32 * 1024 /* of all stop strings of one request together */
};

/* The strings: borrowed bytes, and the tables of Knuth, Morris and Pratt. */
struct stop_set {
	uint32_t n;
	const char *text[STOP_STRINGS];
	uint32_t len[STOP_STRINGS];
	const uint16_t
		*back[STOP_STRINGS]; /* back[k][i]: longest proper border of text[k][0 .. i] */
};

/* How much of each string the end of the text matches. */
struct stop_state {
	uint16_t matched[STOP_STRINGS];
};

/*
 * Adds a string of 1 to STOP_BYTES bytes; `table` has room for len entries and both stay as long as
 * the set is used.
 */
void stop_add(struct stop_set *set, const char *text, size_t len, uint16_t *table);

/*
 * Takes the next piece of the text. Returns the distance from the piece's end back to the earliest
 * start of a string that became complete inside the piece, or 0 if none did. Of strings that begin
 * together it does not matter which.
 */
size_t stop_push(const struct stop_set *set, struct stop_state *s, const char *piece, size_t len);

/* Bytes at the end of the text that may begin a string. */
size_t stop_held(const struct stop_set *set, const struct stop_state *s);

#endif
