/*
 * UTF-8 checks by the table of well-formed byte sequences: the second byte's range depends on the
 * first, the others are 80..BF. Called for every byte of a prompt and of a reply, so ASCII leaves
 * each function early.
 */
#include "model/text/utf8.h"

#include <string.h>

/*
 * What a lead byte promises: bytes of the sequence (0: no lead byte) and the range of the second
 * byte.
 */
struct lead {
	size_t need;
	uint8_t low, high;
};

static struct lead lead_of(uint8_t b)
{
	struct lead l = {0, 0x80, 0xbf};

	if (b >= 0xc2 && b <= 0xdf)
		l.need = 2;
	else if (b >= 0xe0 && b <= 0xef)
		l.need = 3;
	else if (b >= 0xf0 && b <= 0xf4)
		l.need = 4;
	if (b == 0xe0)
		l.low = 0xa0;
	else if (b == 0xed)
		l.high = 0x9f;
	else if (b == 0xf0)
		l.low = 0x90;
	else if (b == 0xf4)
		l.high = 0x8f;
	return l;
}

bool utf8_has_byte(uint8_t b)
{
	return b < 0xc0 || lead_of(b).need > 0;
}

/* Bytes of s that begin one well-formed sequence: all of it (then *whole), or as far as it goes. */
static size_t sequence_prefix(const uint8_t *s, size_t len, bool *whole)
{
	struct lead l;
	size_t n = 1;

	*whole = false;
	if (len == 0)
		return 0;
	if (s[0] < 0x80) {
		*whole = true;
		return 1;
	}
	l = lead_of(s[0]);
	if (l.need == 0)
		return 0;
	while (n < l.need && n < len && s[n] >= (n == 1 ? l.low : 0x80) &&
	       s[n] <= (n == 1 ? l.high : 0xbf))
		n++;
	*whole = n == l.need;
	return n;
}

size_t utf8_sequence(const uint8_t *s, size_t len)
{
	bool whole;
	size_t n = sequence_prefix(s, len, &whole);

	return whole ? n : 0;
}

uint32_t utf8_code_point(const uint8_t *s, size_t n)
{
	uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (s[i] & 0x3fu);
	return c;
}

size_t utf8_valid_prefix(const uint8_t *s, size_t len)
{
	size_t i = 0;

	while (i < len) {
		size_t n = s[i] < 0x80 ? 1 : utf8_sequence(s + i, len - i);

		if (n == 0)
			break;
		i += n;
	}
	return i;
}

size_t utf8_incomplete_tail(const uint8_t *s, size_t len)
{
	for (size_t n = len < 3 ? len : 3; n > 0; n--) {
		bool whole;

		if (sequence_prefix(s + len - n, n, &whole) == n && !whole)
			return n;
	}
	return 0;
}

size_t utf8_copy_lossy(char *out, const uint8_t *s, size_t len)
{
	size_t n_out = 0, i = 0;

	while (i < len) {
		bool whole;
		size_t n = sequence_prefix(s + i, len - i, &whole);

		if (whole) {
			memcpy(out + n_out, s + i, n);
			n_out += n;
		} else {
			memcpy(out + n_out, "\xef\xbf\xbd", 3);
			n_out += 3;
			n = n ? n : 1;
		}
		i += n;
	}
	return n_out;
}
