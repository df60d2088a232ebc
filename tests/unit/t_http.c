/*
 * A request is read out of bytes wherever they are cut, and what api.md refuses is refused
 * (runtime/gateway/http.h).
 */
#include "runtime/gateway/http.h"
#include "tests/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char body[HTTP_BODY_MAX];

/* Feeds in two pieces, cut at `cut`. */
static enum http_result feed(struct http *h, const char *s, size_t len, size_t cut)
{
	enum http_result r;

	http_begin(h, body);
	r = http_feed(h, s, cut);
	return r == HTTP_MORE ? http_feed(h, s + cut, len - cut) : r;
}

/*
 * The status with which a request is refused, at every cut the same; 0: taken. -1: it depends on
 * the cut.
 */
static int refused(const char *s, size_t len)
{
	struct http h;
	int first = -2;

	for (size_t cut = 0; cut < len; cut++) {
		enum http_result r = feed(&h, s, len, cut);
		int status = r == HTTP_BAD ? h.status : r == HTTP_WHOLE ? 0 : -3;

		if (first != -2 && status != first) {
			diag("cut %zu: %d, before %d", cut, status, first);
			return -1;
		}
		first = status;
		if (r == HTTP_BAD && !h.problem)
			return -4;
	}
	return first;
}

#define REFUSED(text, status, ...) is_int(refused((text), sizeof(text) - 1), (status), __VA_ARGS__)

static void test_framing(void)
{
	static const char two[] =
		"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyzGET /b HTTP/1.1\r\n\r\n";
	static const char chunked[] = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
				      "2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: z\r\n\r\nGET /";
	struct http h;
	bool same = true;

	for (size_t cut = 0; cut < 52; cut++) {
		same &= feed(&h, two, sizeof(two) - 1, cut) == HTTP_WHOLE && h.fed == 42 &&
			h.body_bytes == 3 && !memcmp(body, "xyz", 3) && h.keep_alive;
		if (cut >= 42)
			break;
	}
	ok(same, "a request ends exactly behind its body, wherever it is cut");
	same = true;
	for (size_t cut = 0; cut < sizeof(chunked) - 1 - 5; cut++)
		same &= feed(&h, chunked, sizeof(chunked) - 1, cut) == HTTP_WHOLE &&
			h.fed == sizeof(chunked) - 1 - 5 && h.body_bytes == 3 &&
			!memcmp(body, "abc", 3);
	ok(same, "so does a chunked one, with extensions and trailers");
	REFUSED("GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 0,
		"an offer to upgrade is declined in silence");
	feed(&h, two, sizeof(two) - 1, 0);
	ok(h.http11 && !h.chunked && h.has_body && h.length == 3, "the head's facts are there");
	REFUSED("\r\nGET / HTTP/1.1\r\n\r\n", 0, "an empty line before a request is skipped");
	REFUSED("GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\r\n\r\n", 0,
		"bytes above ASCII may stand in a value");
}

static void test_refusals(void)
{
	REFUSED("GET /\r\n\r\n", 400, "HTTP/0.9 is not spoken");
	REFUSED("GET / HTTP/2.0\r\n\r\n", 505, "HTTP/2.0 is 505");
	REFUSED("GET / HTTP/1.2\r\n\r\n", 505, "HTTP/1.2 is 505");
	REFUSED("GET / HTTP/0.9\r\n\r\n", 505, "HTTP/0.9 by name is 505");
	REFUSED("GET / HTTP/2\r\n\r\n", 505, "HTTP/2 is 505");
	REFUSED("GET / HTTP/1.\r\n\r\n", 400, "half a version is none");
	REFUSED("GET / HTTP/x.y\r\n\r\n", 400, "nor are letters");
	REFUSED("\r\nGET  / HTTP/1.1\r\n\r\n", 400, "two spaces before the target are refused");
	REFUSED("GET / HTTP/5.0  \r\n\r\n", 505,
		"the first mistake decides, however the bytes are cut");
	REFUSED("GET /  HTTP/1.1\r\n\r\n", 400, "two behind it too");
	REFUSED("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2's preface is 505");
	REFUSED("GET / HTTP/1.1\nHost: a\n\n", 400, "bare LF ends no line");
	REFUSED("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "nor does it in the headers");
	REFUSED("GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "nor does it end them");
	REFUSED("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400, "bare CR is refused");
	REFUSED("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400, "a folded header is refused");
	REFUSED("GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", 400, "also with a tab");
	REFUSED("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "also the first one");
	REFUSED("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "a space before the colon is refused");
	REFUSED("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", 400, "a tab too");
	REFUSED("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400, "NUL in a value is refused");
	REFUSED("GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n", 400, "NUL in a name is refused");
	REFUSED("GET /\0 HTTP/1.1\r\n\r\n", 400, "NUL in the target is refused");
	REFUSED("GET / HTTP/1.1\r\nHost\r\n\r\n", 400, "a header without a colon is refused");
	REFUSED("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400,
		"two lengths are refused");
	REFUSED("POST / HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\nabcd", 400, "also in one line");
	REFUSED("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", 400, "a length has no sign");
	REFUSED("POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc", 400, "nor a minus");
	REFUSED("POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\nabc", 400, "nor is it hexadecimal");
	REFUSED("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\nabc", 400,
		"nor may it overflow");
	REFUSED("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400, "nor be empty");
	REFUSED("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: "
		"chunked\r\n\r\n0\r\n\r\n",
		400, "length and coding together are refused");
	REFUSED("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: "
		"3\r\n\r\n0\r\n\r\n",
		400, "in either order");
	REFUSED("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501,
		"another coding is 501");
	REFUSED("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501,
		"also one that looks like it");
	REFUSED("POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", 501, "also identity");
	REFUSED("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
		"chunked\r\n\r\n0\r\n\r\n",
		501, "also chunked twice");
	REFUSED("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
		"HTTP/1.0 has no transfer codings");
	REFUSED("?? / HTTP/1.1\r\n\r\n", 400, "a method that nobody knows is not HTTP");
}

#define CHUNKS "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

static void test_chunks(void)
{
	REFUSED(CHUNKS "0\r\n\r\n", 0, "an empty chunked body is taken");
	REFUSED(CHUNKS "A\r\n0123456789\r\n0\r\n\r\n", 0, "sizes are hexadecimal");
	REFUSED(CHUNKS "g\r\nx\r\n0\r\n\r\n", 400, "other digits are refused");
	REFUSED(CHUNKS "0x1\r\nx\r\n0\r\n\r\n", 400, "0x too");
	REFUSED(CHUNKS "-1\r\nx\r\n0\r\n\r\n", 400, "a sign too");
	REFUSED(CHUNKS "1 \r\nx\r\n0\r\n\r\n", 400, "a space behind the size too");
	REFUSED(CHUNKS " 1\r\nx\r\n0\r\n\r\n", 400, "and before it");
	REFUSED(CHUNKS "1\nx\r\n0\r\n\r\n", 400, "bare LF behind the size is refused");
	REFUSED(CHUNKS "1\r\nx\n0\r\n\r\n", 400, "and behind the data");
	REFUSED(CHUNKS "1\r\nx\r\n0\n\n", 400, "and at the end");
	REFUSED(CHUNKS "1\r\nxy\r\n0\r\n\r\n", 400, "data longer than its size is refused");
	REFUSED(CHUNKS "\r\nx\r\n0\r\n\r\n", 400, "an empty size is refused");
	REFUSED(CHUNKS "10000000000000001\r\nx\r\n0\r\n\r\n", 400,
		"a size that overflows is refused");
	REFUSED(CHUNKS "0\r\nA : b\r\n\r\n", 400, "trailers follow the rules of headers");
	REFUSED(CHUNKS "0\r\nA: b\r\n c\r\n\r\n", 400, "folding among them");
	REFUSED(CHUNKS "0\r\nA: b\n\r\n", 400, "and bare LF");
	REFUSED(CHUNKS "1;a=\"b\nc\"\r\nx\r\n0\r\n\r\n", 400, "and bare LF in an extension");
}

static int big(const char *prefix, const char *fill, size_t times, const char *suffix)
{
	size_t n = strlen(prefix), f = strlen(fill), total = n + f * times + strlen(suffix);
	char *s = malloc(total + 1);
	struct http h;
	enum http_result r = HTTP_MORE;

	strcpy(s, prefix);
	for (size_t i = 0; i < times; i++)
		memcpy(s + n + i * f, fill, f);
	strcpy(s + n + f * times, suffix);
	http_begin(&h, body);
	for (size_t at = 0; at < total && r == HTTP_MORE; at += 4096)
		r = http_feed(&h, s + at, total - at < 4096 ? total - at : 4096);
	free(s);
	return r == HTTP_BAD ? h.status : r == HTTP_WHOLE ? 0 : -3;
}

static void test_limits(void)
{
	is_int(big("GET / HTTP/1.1\r\n", "A: b\r\n", 100, "\r\n"), 0, "100 header lines are taken");
	is_int(big("GET / HTTP/1.1\r\n", "A: b\r\n", 101, "\r\n"), 431, "101 are not");
	is_int(big("GET / HTTP/1.1\r\nA: ", "x", 65536 - 23, "\r\n\r\n"), 0,
	       "64 KiB of head are taken");
	is_int(big("GET / HTTP/1.1\r\nA: ", "x", 65536 - 20, "\r\n\r\n"), 431, "more is 431");
	is_int(big("GET /", "x", 70000, " HTTP/1.1\r\n\r\n"), 414, "in the target it is 414");
	is_int(big("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1000000\r\n", "x",
		   16 << 20, "\r\n0\r\n\r\n"),
	       0, "16 MiB in a chunk are taken");
	is_int(big("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1000001\r\n", "x",
		   (16 << 20) + 1, "\r\n0\r\n\r\n"),
	       413, "a byte more is 413");
	is_int(big("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", "x", 70000,
		   "\r\n\r\n"),
	       431, "trailers are limited too");
}

static void path(const char *target, const char *want)
{
	char request[256], got[64];
	struct http h;
	int n;

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n\r\n", target);
	http_begin(&h, NULL);
	ok(http_feed(&h, request, strlen(request)) == HTTP_WHOLE, "%s is a target", target);
	n = http_path(&h, got, sizeof(got) - 1);
	got[n < 0 ? 0 : n] = 0;
	if (want)
		is_str(got, want, "%s leads to %s", target, want);
	else
		is_int(n, -1, "%s leads nowhere", target);
}

static void test_paths(void)
{
	path("/v1/models", "/v1/models");
	path("/v1/models?x=%zz", "/v1/models");
	path("http://localhost/health?x", "/health");
	path("http://localhost:80", "/");
	path("HTTP://a/%68ealth", "/health");
	path("/v1/models/a%2Fb", "/v1/models/a/b");
	path("/a%2", NULL);
	path("/a%zz", NULL);
	path("/a%00", NULL);
	path("*", "*");
}

static void test_head(void)
{
	char text[512];
	struct out o = out_make(text, sizeof(text));
	struct http_head h = {.status = 429,
			      .content_type = "application/json",
			      .length = 12,
			      .keep_alive = true,
			      .http11 = true,
			      .retry_after = 3,
			      .date = 784111777};
	static const char want[] =
		"HTTP/1.1 429 Too Many Requests\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
		"Content-Type: application/json\r\n"
		"Content-Length: 12\r\nRetry-After: 3\r\n\r\n";

	http_write_head(&o, &h);
	ok(!o.full && o.n == sizeof(want) - 1, "a head is written");
	is_mem(text, want, sizeof(want) - 1, "as HTTP has it");
}

int main(void)
{
	test_framing();
	test_refusals();
	test_chunks();
	test_limits();
	test_paths();
	test_head();
	return tap_done();
}
