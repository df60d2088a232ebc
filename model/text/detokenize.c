/*
 * Ids to text as they arrive. A token may end inside a character, or be a lone continuation byte,
 * so the bytes that may still become a character wait for the next token. Used by the gateway for
 * replies and by `tokenize --decode`.
 */
#include "model/text/tokenizer_blob.h"
#include "model/text/utf8.h"

#include <string.h>

size_t detokenizer_piece_max(const struct tokenizer *t)
{
	return 3 * ((size_t)t->token_max + 3);
}

size_t detokenizer_push(struct detokenizer *d, const struct tokenizer *t, uint32_t id, char *out)
{
	size_t len, n = 0, held = d->n_held, join, tail;
	const uint8_t *bytes = tokenizer_token_bytes(t, id, &len);
	uint8_t seam[6];

	if (!bytes || len == 0 || (d->skip_special && tokenizer_is_special(t, id)))
		return 0;
	/*
	 * The held bytes and the first of the token's are one sequence or none, so they are decided
	 * together: a seam of the held bytes and as many of the token's as could complete them. The
	 * rest is the token's alone.
	 */
	memcpy(seam, d->held, held);
	for (join = 0; held > 0 && join < len && join < 3 && (bytes[join] & 0xc0) == 0x80; join++)
		seam[held + join] = bytes[join];
	if (join == len) {
		tail = utf8_incomplete_tail(seam, held + join);
		n = utf8_copy_lossy(out, seam, held + join - tail);
		memcpy(d->held, seam + held + join - tail, tail);
	} else {
		tail = utf8_incomplete_tail(bytes + join, len - join);
		n = utf8_copy_lossy(out, seam, held + join);
		n += utf8_copy_lossy(out + n, bytes + join, len - join - tail);
		memcpy(d->held, bytes + len - tail, tail);
	}
	d->n_held = (uint8_t)tail;
	return n;
}

size_t detokenizer_finish(struct detokenizer *d, char *out)
{
	size_t n = utf8_copy_lossy(out, d->held, d->n_held);

	d->n_held = 0;
	return n;
}
