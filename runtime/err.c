/*
 * Formats errors; see err.h. Text that came from a checkpoint or a client may hold control
 * characters, so the whole message is escaped here, once, and no caller needs to think of it.
 */
#include "runtime/err.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * Bytes of the UTF-8 sequence at s that a terminal shows as it stands: 1 to 4. 0 where it is none,
 * or is a control character: C0, DEL, C1 (a terminal takes U+009B for ESC [), line and paragraph
 * separators, and those that turn the direction of what follows.
 */
static size_t printable(const unsigned char *s)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);

	if (s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
	    (n == 4 && (c < 0x10000 || c > 0x10ffff)))
		return 0;
	if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
	    (c >= 0x2066 && c <= 0x2069))
		return 0;
	return n;
}

static void escape(char *out, size_t cap, const char *in)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)in;
	size_t n = 0;

	while (*s && n + 5 <= cap) {
		size_t len = printable(s);

		for (size_t i = 0; i < len; i++)
			out[n++] = (char)s[i];
		s += len;
		if (len)
			continue;
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = hex[*s >> 4];
		out[n++] = hex[*s++ & 15];
	}
	out[n] = 0;
}

static int record(struct err *e, int status, int code, const char *format, va_list args)
	__attribute__((format(printf, 4, 0)));

static int record(struct err *e, int status, int code, const char *format, va_list args)
{
	char raw[sizeof(e->text)];

	if (code >= 0)
		code = -EINVAL;
	if (!e || e->code)
		return code;
	vsnprintf(raw, sizeof(raw), format, args);
	e->code = code;
	e->status = status;
	escape(e->text, sizeof(e->text), raw);
	return code;
}

int err_set(struct err *e, int code, const char *format, ...)
{
	va_list args;
	int rc;

	va_start(args, format);
	rc = record(e, STATUS_FAILED, code, format, args);
	va_end(args);
	return rc;
}

int err_exit(struct err *e, enum err_status status, int code, const char *format, ...)
{
	va_list args;
	int rc;

	va_start(args, format);
	rc = record(e, (int)status, code, format, args);
	va_end(args);
	return rc;
}

const char *err_name(char out[204], const char *name, unsigned long len)
{
	size_t n = len > 200 ? 200 : len;

	while (n < len && n > 197 && (name[n] & 0xc0) == 0x80) /* not within a character */
		n--;

	memcpy(out, name, n);
	if (len > 200) {
		memcpy(out + n, "...", 3);
		n += 3;
	}
	out[n] = 0;
	return out;
}
