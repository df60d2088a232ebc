/*
 * HTTP against arbitrary bytes: the first byte says where they are cut. However they are cut, the
 * verdict, the end of the request and its body are the same, and a refusal has a status and a text
 * (runtime/gateway/http.h).
 */
#include "runtime/gateway/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char body[2][HTTP_BODY_MAX];

static enum http_result feed(struct http *h, const char *s, size_t len, size_t step, char *to)
{
	enum http_result r = HTTP_MORE;

	http_begin(h, to);
	for (size_t at = 0; at < len && r == HTTP_MORE; at += step) {
		/* a block of its own, so that reading beyond a piece is found */
		size_t n = len - at < step ? len - at : step;
		char *piece = malloc(n);

		memcpy(piece, s + at, n);
		r = http_feed(h, piece, n);
		free(piece);
	}
	return r;
}

static void check_path(const struct http *h)
{
	char path[64];
	int n = http_path(h, path, sizeof(path));

	if (n > (int)sizeof(path) || (n > 0 && memchr(path, 0, (size_t)n)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http a, b;
	enum http_result r, q;

	if (!size)
		return 0;
	r = feed(&a, (const char *)data + 1, size - 1, size, body[0]);
	q = feed(&b, (const char *)data + 1, size - 1, 1 + data[0] % 37, body[1]);
	if (r != q || (r == HTTP_BAD && (!a.status || !a.problem || a.status != b.status)))
		abort();
	if (r != HTTP_BAD && (a.fed != b.fed || a.fed > size || a.body_bytes != b.body_bytes ||
			      memcmp(body[0], body[1], a.body_bytes) != 0))
		abort();
	if (r == HTTP_WHOLE) {
		if (a.keep_alive != b.keep_alive || a.http11 != b.http11)
			abort();
		check_path(&a);
	}
	return 0;
}
