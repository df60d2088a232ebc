/*
 * Text that is being written into a fixed block: replies, heads and events. Nothing allocates and
 * nothing overruns: what does not fit sets `full`, and the caller asks once at the end. Used by
 * everything in the gateway that makes bytes for a client.
 */
#ifndef GATEWAY_OUT_H
#define GATEWAY_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct out {
	char *p;
	size_t n, cap;
	bool full; /* something did not fit; the text is worthless */
};

static inline struct out out_make(void *block, size_t cap)
{
	return (struct out){.p = block, .cap = cap};
}

void out_bytes(struct out *o, const void *s, size_t len);
void out_text(struct out *o, const char *s);
void out_u64(struct out *o, uint64_t v);
void out_i64(struct out *o, int64_t v);
/* A JSON string with its quotes; s is UTF-8. */
void out_json(struct out *o, const char *s, size_t len);
/* The same without the quotes: a part of a string. */
void out_json_part(struct out *o, const char *s, size_t len);
/* printf's rules, for short texts without user data (at most 1 KiB). */
void out_format(struct out *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
