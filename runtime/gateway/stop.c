/* Stop strings by Knuth, Morris and Pratt: linear, whatever the strings are. See stop.h. */
#include "runtime/gateway/stop.h"

#include <assert.h>

void stop_add(struct stop_set *set, const char *text, size_t len, uint16_t *table)
{
	uint16_t border = 0;

	assert(set->n < STOP_STRINGS && len > 0 && len <= STOP_BYTES);
	table[0] = 0;
	for (size_t i = 1; i < len; i++) {
		while (border && text[i] != text[border])
			border = table[border - 1];
		if (text[i] == text[border])
			border++;
		table[i] = border;
	}
	set->text[set->n] = text;
	set->len[set->n] = (uint32_t)len;
	set->back[set->n] = table;
	set->n++;
}

size_t stop_push(const struct stop_set *set, struct stop_state *s, const char *piece, size_t len)
{
	size_t earliest = 0;

	for (uint32_t k = 0; k < set->n; k++) {
		const char *text = set->text[k];
		const uint16_t *back = set->back[k];
		uint32_t want = set->len[k];
		uint16_t m = s->matched[k];

		for (size_t i = 0; i < len; i++) {
			while (m && (m == want || piece[i] != text[m]))
				m = back[m - 1];
			if (piece[i] == text[m])
				m++;
			if (m == want && len - 1 - i + want > earliest)
				earliest = len - 1 - i + want;
		}
		s->matched[k] = m;
	}
	return earliest;
}

size_t stop_held(const struct stop_set *set, const struct stop_state *s)
{
	size_t held = 0;

	for (uint32_t k = 0; k < set->n; k++) {
		if (s->matched[k] > held)
			held = s->matched[k];
	}
	return held;
}
