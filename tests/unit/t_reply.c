/*
 * A reply is the same bytes whatever happens on the way: the gateway against a router that is
 * played, killed after every commit (runtime/gateway/).
 */
#include "tests/gateway/fake_node.h"
#include "tests/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHAT       "/v1/chat/completions"
#define COMPLETION "/v1/completions"
#define HI         "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]"

static uint32_t script[2000];

/* The tokens of a text, byte by byte; `<` and `/` stand for the tags, `$` for the end token. */
static struct fake_script spell(const char *text)
{
	struct fake_script s = {.token = script, .status = SEQ_DONE};

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		script[s.n++] = c == '<'   ? TINY_THINK
				: c == '/' ? TINY_THINK_END
				: c == '$' ? TINY_EOS
					   : c;
	}
	return s;
}

/* `created`, and the Date that says the same, differ from run to run. */
static void blank_created(char *got)
{
	char *s = got;

	while ((s = strstr(s, "\"created\":")) != NULL) {
		for (s += 10; *s >= '0' && *s <= '9'; s++)
			*s = '0';
	}
	while ((got = strstr(got, "\r\nDate: ")) != NULL) {
		for (got += 8; *got && *got != '\r'; got++)
			*got = '0';
	}
}

/* The reply of a fresh node to one request. */
static char *reply(const char *path, const char *body, const char *text, unsigned kill, size_t take)
{
	struct fake_node n;
	char *got;

	fake_open(&n, BODY_MAX);
	n.kill = kill;
	n.take = take;
	n.script[3] = spell(text);
	fake_connect(&n, 3);
	got = strdup(fake_post(&n, 3, path, body));
	blank_created(got);
	if (kill)
		diag("%u kills", n.kills);
	fake_close(&n);
	return got;
}

static const char *body_of(const char *reply)
{
	const char *b = strstr(reply, "\r\n\r\n");

	return b ? b + 4 : "";
}

/* The value of a JSON string field's first occurrence, escaped as it is; "(none)". */
static const char *field(const char *json, const char *name)
{
	static char out[4096];
	char key[64];
	const char *at, *end;

	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(json, key);
	if (!at)
		return "(none)";
	at += strlen(key);
	if (*at != '"') {
		snprintf(out, sizeof(out), "%.*s", (int)strcspn(at, ",}"), at);
		return out;
	}
	for (end = at + 1; *end && *end != '"'; end++)
		end += *end == '\\';
	snprintf(out, sizeof(out), "%.*s", (int)(end - at - 1), at + 1);
	return out;
}

static void chat(const char *text, const char *options, const char *content, const char *reasoning,
		 const char *finish, const char *tokens, const char *name)
{
	char body[512], *got;

	snprintf(body, sizeof(body), HI "%s}", options);
	got = reply(CHAT, body, text, 0, CONN_RING);
	ok(!strncmp(got, "HTTP/1.1 200 OK\r\n", 17), "%s: 200", name);
	is_int((long long)atoi(strstr(got, "Content-Length: ") + 16),
	       (long long)strlen(body_of(got)), "%s: the length is right", name);
	is_str(field(got, "content"), content, "%s: content", name);
	is_str(field(got, "reasoning_content"), reasoning, "%s: reasoning", name);
	is_str(field(got, "finish_reason"), finish, "%s: finish", name);
	is_str(field(got, "completion_tokens"), tokens, "%s: tokens", name);
	free(got);
}

static void test_text(void)
{
	chat("hi there$zz", "", "hi there", "(none)", "stop", "9",
	     "an end token ends it and counts");
	chat("abcdef", ",\"max_tokens\":3", "abc", "(none)", "length", "3", "so does the limit");
	chat("$", "", "", "(none)", "stop", "1", "an empty reply is a reply");
	chat("say STOP now$", ",\"stop\":\"STOP\"", "say ", "(none)", "stop", "8", "a stop string");
	chat("say STO$", ",\"stop\":\"STOP\"", "say STO", "(none)", "stop", "8",
	     "half a stop string");
	chat("say STOX$", ",\"stop\":[\"STOP\",\"OX\"]", "say ST", "(none)", "stop", "8",
	     "one of two");
	chat("aab$", ",\"stop\":[\"ab\"]", "a", "(none)", "stop", "3",
	     "a border inside a stop string");
	chat("xabcy$", ",\"stop\":[\"abcd\",\"bc\"]", "xa", "(none)", "stop", "5",
	     "one that is whole waits for one that began before it");
	chat("xabcde$", ",\"stop\":[\"abcd\",\"bc\"]", "x", "(none)", "stop", "5",
	     "and that wins if it becomes whole");
	chat("xabc$", ",\"stop\":[\"abcd\",\"bc\"]", "xa", "(none)", "stop", "5",
	     "or does not, if the reply ends before");
	chat("xabcz", ",\"max_tokens\":4,\"stop\":[\"abcd\",\"bc\"]", "xa", "(none)", "stop", "4",
	     "at its limit too");
	chat("\xc3\xa4\xe4$", "", "\xc3\xa4\xef\xbf\xbd", "(none)", "stop", "4", "broken UTF-8");
	chat("<\n\nhm/\n\nyes$", "", "yes", "hm", "stop", "12", "reasoning that the reply opens");
	chat("<hm", ",\"max_tokens\":3", "null", "hm", "length", "3",
	     "a reply cut inside its reasoning");
	chat("hm/yes$", ",\"thinking\":true", "yes", "hm", "stop", "7",
	     "reasoning that the prompt opens");
	chat("hm/$", ",\"thinking\":true", "", "hm", "stop", "4", "reasoning and nothing more");
	chat("/yes$", ",\"thinking\":true", "yes", "", "stop", "5", "empty reasoning");
	chat("x/STOP/a$", ",\"thinking\":true,\"stop\":\"STOP\"", "", "x", "stop", "6",
	     "stop strings apply to content");
	chat("STOP/a$", ",\"thinking\":true,\"stop\":\"STOP\"", "a", "STOP", "stop", "7",
	     "and not to reasoning");
	chat("a<b$", "", "a<think>b", "(none)", "stop", "4", "a tag elsewhere is text");
}

static void test_same_bytes(void)
{
	static const struct {
		const char *path, *body, *text;
	} runs[] = {
		{CHAT, HI "}", "hello there, how are you?$"},
		{CHAT, HI ",\"stream\":true}", "hello there, how are you?$"},
		{CHAT,
		 HI
		 ",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"thinking\":true}",
		 "hm, \xe4\xb8\xad/\n\nyes STO STOP no$"},
		{CHAT, HI ",\"stream\":true,\"stop\":[\"STOP\",\"O ST\"]}", "<hm/a STO STOPno$"},
		{COMPLETION, "{\"prompt\":\"hello\",\"stream\":true,\"max_tokens\":5}", "abcdefgh"},
		{COMPLETION, "{\"prompt\":[1,2,3],\"seed\":-5}", "a\"\\\n\x01z$"},
	};

	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		char *plain = reply(runs[i].path, runs[i].body, runs[i].text, 0, CONN_RING);
		char *killed = reply(runs[i].path, runs[i].body, runs[i].text, 1, CONN_RING);
		char *slow = reply(runs[i].path, runs[i].body, runs[i].text, 5, 97);

		ok(strstr(plain, "HTTP/1.1 200") == plain, "run %zu answers", i);
		is_str(killed, plain, "run %zu: killed after every commit, the bytes are the same",
		       i);
		is_str(slow, plain, "run %zu: also to a client that takes 97 at a time", i);
		free(plain);
		free(killed);
		free(slow);
	}
}

/*
 * A reply larger than the ring to a client that does not read: the gateway still ends the request
 * in time.
 */
static void test_long(void)
{
	static const char body[] = HI ",\"stream\":true,\"stop\":\"!\"}";
	char *plain, *killed, text[1200];
	struct fake_node n;

	memset(text, 'x', sizeof(text));
	text[1100] = '!';
	text[1199] = 0;
	plain = reply(CHAT, body, text, 0, CONN_RING);
	killed = reply(CHAT, body, text, 9, 30000);
	ok(strlen(plain) > 3 * CONN_RING && strstr(plain, "[DONE]"),
	   "a stream of %zu bytes is whole", strlen(plain));
	is_str(killed, plain, "and the same after kills");
	free(plain);
	free(killed);
	fake_open(&n, BODY_MAX);
	n.script[3] = spell(text);
	n.take = 0;
	fake_connect(&n, 3);
	fake_post(&n, 3, CHAT, body);
	is_int(fake_record(&n, 3).request.live, 0,
	       "a client that does not read costs no tokens beyond the end");
	n.take = CONN_RING;
	fake_run(&n);
	ok(strstr(n.got[3], "[DONE]"), "and gets the rest when it reads");
	fake_close(&n);
}

int main(void)
{
	test_text();
	test_same_bytes();
	test_long();
	return tap_done();
}
