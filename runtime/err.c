/*
 * Formats errors; see err.h. Text that came from a checkpoint or a client may hold control
 * characters, so the whole message is escaped here, once, and no caller needs to think of it.
 */
#include "runtime/err.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_control(unsigned char c)
{
	return (c < 0x20 && c != '\n') || c == 0x7f;
}

static void escape(char *out, size_t cap, const char *in)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (; *in; in++) {
		unsigned char c = (unsigned char)*in;

		if (n + 5 > cap)
			break;
		if (!is_control(c)) {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
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

	memcpy(out, name, n);
	if (len > 200) {
		memcpy(out + n, "...", 3);
		n += 3;
	}
	out[n] = 0;
	return out;
}
