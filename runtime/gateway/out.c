/* Text into a fixed block; see out.h. */
#include "runtime/gateway/out.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void out_bytes(struct out *o, const void *s, size_t len)
{
	if (len > o->cap - o->n) {
		o->full = true;
		return;
	}
	if (len)
		memcpy(o->p + o->n, s, len);
	o->n += len;
}

void out_text(struct out *o, const char *s)
{
	out_bytes(o, s, strlen(s));
}

void out_u64(struct out *o, uint64_t v)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	out_bytes(o, digits + at, sizeof(digits) - at);
}

void out_i64(struct out *o, int64_t v)
{
	if (v < 0)
		out_bytes(o, "-", 1);
	out_u64(o, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static void escape(struct out *o, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char u[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

	switch (c) {
	case '"':
		out_bytes(o, "\\\"", 2);
		break;
	case '\\':
		out_bytes(o, "\\\\", 2);
		break;
	case '\n':
		out_bytes(o, "\\n", 2);
		break;
	case '\r':
		out_bytes(o, "\\r", 2);
		break;
	case '\t':
		out_bytes(o, "\\t", 2);
		break;
	default:
		out_bytes(o, u, sizeof(u));
	}
}

void out_json_part(struct out *o, const char *s, size_t len)
{
	size_t from = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		/* DEL is legal in JSON, but no terminal likes it */
		if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
			continue;
		out_bytes(o, s + from, i - from);
		escape(o, c);
		from = i + 1;
	}
	out_bytes(o, s + from, len - from);
}

void out_json(struct out *o, const char *s, size_t len)
{
	out_bytes(o, "\"", 1);
	out_json_part(o, s, len);
	out_bytes(o, "\"", 1);
}

void out_format(struct out *o, const char *format, ...)
{
	char text[1024];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(text)) {
		o->full = true;
		return;
	}
	out_bytes(o, text, (size_t)n);
}
