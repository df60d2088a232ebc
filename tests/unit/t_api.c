/*
 * Bodies of requests: what api.md takes and what it refuses, with `param` and `code`
 * (runtime/gateway/api.h).
 */
#include "runtime/gateway/api.h"
#include "tests/tap.h"
#include "tests/tiny_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define BOS                                                                                        \
	"<\xef\xbd\x9c"                                                                            \
	"begin\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"

static struct tiny tiny;
static struct arena arena;
static struct api_model model;
static struct api_request request;
static struct api_error error;

static int read_body(enum api_endpoint endpoint, const char *body, size_t len)
{
	arena_reset(&arena, 0);
	memset(&error, 0, sizeof(error));
	return api_read(&request, endpoint, &model, body, len, &arena, &error);
}

static void taken(enum api_endpoint endpoint, const char *body)
{
	if (!ok(read_body(endpoint, body, strlen(body)) == 0, "taken: %s", body))
		diag("%s: %s", error.param, error.message);
}

static void refused(enum api_endpoint endpoint, const char *body, const char *param,
		    const char *code)
{
	int rc = read_body(endpoint, body, strlen(body));

	if (!ok(rc && !strcmp(error.param, param) && error.code && !strcmp(error.code, code) &&
			error.message[0],
		"refused with %s of %s: %s", code, param[0] ? param : "nothing", body))
		diag("%d %s %s %s", rc, error.param, error.code ? error.code : "-", error.message);
}

/* A chat with one more field. */
static void chat(const char *field)
{
	char body[512];

	snprintf(body, sizeof(body), "{" HI ",%s}", field);
	taken(API_CHAT, body);
}

static void bad(const char *field, const char *code)
{
	char body[512], param[64];

	snprintf(body, sizeof(body), "{" HI ",%s}", field);
	snprintf(param, sizeof(param), "%.*s", (int)strcspn(field + 1, "\""), field + 1);
	refused(API_CHAT, body, param, code);
}

static void test_good_values(void)
{
	static const char *const good[] = {
		"\"temperature\":0",
		"\"temperature\":1e300",
		"\"temperature\":null",
		"\"top_p\":1",
		"\"top_p\":1e-9",
		"\"top_k\":0",
		"\"top_k\":1000000000000",
		"\"min_p\":1",
		"\"min_p\":0",
		"\"seed\":-9223372036854775808",
		"\"seed\":9223372036854775807",
		"\"max_tokens\":1",
		"\"max_tokens\":5,\"max_completion_tokens\":5",
		"\"stop\":\"x\"",
		"\"stop\":[\"x\",\"y\"]",
		"\"stop\":[]",
		"\"stop\":null",
		"\"stream\":true,\"stream_options\":{\"include_usage\":true}",
		"\"stream\":true,\"stream_options\":{}",
		"\"thinking\":true",
		"\"thinking\":{\"type\":\"enabled\"}",
		"\"chat_template_kwargs\":{\"thinking\":false}",
		"\"chat_template_kwargs\":{}",
		"\"thinking\":false,\"chat_template_kwargs\":{\"thinking\":false}",
		"\"add_generation_prompt\":false",
		"\"model\":\"tiny\"",
		"\"n\":1",
		"\"best_of\":1",
		"\"presence_penalty\":0",
		"\"presence_penalty\":0.0",
		"\"presence_penalty\":-0.0",
		"\"frequency_penalty\":0",
		"\"logit_bias\":{}",
		"\"logprobs\":false",
		"\"top_logprobs\":0",
		"\"tools\":[]",
		"\"tool_choice\":\"none\"",
		"\"tool_choice\":\"auto\"",
		"\"response_format\":{\"type\":\"text\"}",
		"\"suffix\":null",
		"\"store\":false",
		"\"user\":7",
		"\"metadata\":[1]",
		"\"service_tier\":\"x\"",
		"\"parallel_tool_calls\":true",
		"\"nothing_we_know\":null",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		chat(good[i]);
}

static void test_invalid_values(void)
{
	static const char *const invalid[] = {
		"\"temperature\":-0.1",
		"\"temperature\":\"1\"",
		"\"temperature\":true",
		"\"top_p\":0",
		"\"top_p\":1.01",
		"\"top_p\":-1",
		"\"top_k\":-1",
		"\"top_k\":1.5",
		"\"min_p\":1.1",
		"\"seed\":9223372036854775808",
		"\"seed\":1.0",
		"\"seed\":\"1\"",
		"\"max_tokens\":0",
		"\"max_tokens\":-1",
		"\"max_tokens\":1.0",
		"\"max_completion_tokens\":0",
		"\"max_completion_tokens\":4,\"max_tokens\":5",
		"\"stop\":\"\"",
		"\"stop\":[\"\"]",
		"\"stop\":[1]",
		"\"stop\":{}",
		"\"stop\":5",
		"\"stream\":1",
		"\"stream\":\"true\"",
		"\"stream_options\":{\"include_usage\":true}",
		"\"thinking\":\"on\"",
		"\"thinking\":{\"type\":\"maybe\"}",
		"\"thinking\":{}",
		"\"chat_template_kwargs\":{\"thinking\":1}",
		"\"add_generation_prompt\":1",
		"\"model\":5",
		"\"n\":\"1\"",
		"\"n\":1.0",
		"\"logit_bias\":[]",
		"\"logprobs\":0",
		"\"tools\":{}",
		"\"response_format\":\"text\"",
		"\"store\":0",
	};

	for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
		bad(invalid[i], "invalid_value");
}

static void test_unsupported_values(void)
{
	static const char *const unsupported[] = {
		"\"n\":2",
		"\"n\":0",
		"\"best_of\":2",
		"\"presence_penalty\":0.1",
		"\"frequency_penalty\":-2",
		"\"logit_bias\":{\"1\":1}",
		"\"logprobs\":true",
		"\"top_logprobs\":1",
		"\"tools\":[{}]",
		"\"tool_choice\":\"required\"",
		"\"tool_choice\":{}",
		"\"response_format\":{\"type\":\"json_object\"}",
		"\"response_format\":{\"type\":\"text\",\"x\":1}",
		"\"suffix\":\"x\"",
		"\"store\":true",
	};

	for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++)
		bad(unsupported[i], "unsupported_parameter");
}

static void test_numbers_and_names(void)
{
	bad("\"temperature\":NaN", "invalid_value");
	bad("\"top_p\":-Infinity", "invalid_value");
	bad("\"min_p\":1e999", "invalid_value");
	bad("\"logit_bias\":{\"1\":NaN}", "invalid_value");
	bad("\"tempreature\":1", "unknown_parameter");
	bad("\"tempreature\":NaN", "unknown_parameter");
	bad("\"chat_template_kwargs\":{\"enable_thinking\":true}", "unknown_parameter");
	bad("\"stream_options\":{\"x\":1},\"stream\":true", "unknown_parameter");
	bad("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1}", "unknown_parameter");
	chat("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":null}");
	chat("\"response_format\":{\"type\":\"text\",\"json_schema\":null}");
	chat("\"top_k\":-0");
	chat("\"top_p\":5e-324");
	bad("\"prompt\":\"x\"", "unknown_parameter");
	bad("\"echo\":false", "unknown_parameter");
	bad("\"model\":\"gpt\"", "model_not_found");
	is_int(error.status, 404, "another model is 404");
}

static void test_endpoints(void)
{
	refused(API_CHAT, "{" HI ",\"unknown\":1,\"temperature\":\"x\"}", "temperature",
		"invalid_value");
	refused(API_CHAT,
		"{" HI ",\"thinking\":true,\"chat_template_kwargs\":{\"thinking\":false}}",
		"chat_template_kwargs", "invalid_value");
	refused(API_CHAT, "{}", "messages", "missing_required_parameter");
	refused(API_CHAT, "{\"messages\":null}", "messages", "missing_required_parameter");
	refused(API_COMPLETION, "{}", "prompt", "missing_required_parameter");
	refused(API_COMPLETION, "{\"prompt\":\"x\",\"logprobs\":1}", "logprobs",
		"unsupported_parameter");
	refused(API_COMPLETION, "{\"prompt\":\"x\",\"echo\":true}", "echo",
		"unsupported_parameter");
	refused(API_COMPLETION, "{\"prompt\":\"x\",\"thinking\":true}", "thinking",
		"unsupported_parameter");
	refused(API_COMPLETION, "{\"prompt\":5}", "prompt", "invalid_value");
	refused(API_TOKENIZE, "{\"content\":\"x\",\"temperature\":1}", "temperature",
		"unknown_parameter");
	taken(API_COMPLETION,
	      "{\"prompt\":\"x\",\"logprobs\":null,\"echo\":false,\"thinking\":false}");
}

static void test_values(void)
{
	taken(API_CHAT,
	      "{" HI ",\"seed\":-5,\"top_k\":7,\"temperature\":0.3,\"stop\":[\"a\",\"bc\"]}");
	ok(request.has_seed && request.seed == -5 && request.top_k == 7 && request.n_stop == 2 &&
		   request.stop_len[1] == 2 && request.stop[1][1] == 'c',
	   "values arrive");
	is_near(request.temperature, 0.3, 0, "as doubles");
	is_near(request.top_p, 0.95, 0, "and the rest from the model's own defaults");
	ok(!request.stream && !request.thinking && request.add_generation_prompt &&
		   !request.has_max_tokens,
	   "or ours");
	chat("\"max_completion_tokens\":9");
	ok(request.has_max_tokens && request.max_tokens == 9,
	   "max_completion_tokens is max_tokens");
}

static char *repeat(const char *head, const char *what, size_t n, const char *tail)
{
	char *s = malloc(strlen(head) + n * strlen(what) + strlen(tail) + 1);
	char *to = s + sprintf(s, "%s", head);

	for (size_t i = 0; i < n; i++)
		to += sprintf(to, "%s", what);
	strcpy(to, tail);
	return s;
}

static void limit(const char *head, const char *what, size_t n, const char *tail, bool good,
		  const char *name)
{
	char *s = repeat(head, what, n, tail);

	if (!ok((read_body(API_CHAT, s, strlen(s)) == 0) == good, "%s", name))
		diag("%s", error.message);
	free(s);
}

static void test_json(void)
{
	static const char *const broken[] = {
		"",
		"{",
		"[]",
		"7",
		"\"x\"",
		"null",
		"{\"a\":1,}",
		"{'a':1}",
		"{\"a\":01}",
		"{} x",
		"\xef\xbb\xbf{}",
		"{\"a\":\"\\ud800\"}",
		"{\"a\":\"\xff\"}",
		"{\"a\":1,\"a\":2}",
		"{\"a\":{\"b\":1,\"b\":1}}",
		"{\"a\":\"\n\"}",
		"{/**/}",
	};

	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		refused(API_CHAT, broken[i], "", "invalid_json");
	ok(read_body(API_CHAT, "{" HI "}\0", sizeof("{" HI "}\0") - 1),
	   "NUL behind the text is refused");
	limit("{" HI ",\"metadata\":", "[", 63, "", false, "63 open arrays are not JSON");
	limit("{" HI ",\"user\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
	      "]", 63, "}", true, "64 levels are taken");
	limit("{" HI ",\"user\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
	      "]", 64, "}", false, "65 are not");
	limit("{" HI ",\"stop\":[", "\"x\",", 15, "\"x\"]}", true, "16 stop strings are taken");
	limit("{" HI ",\"stop\":[", "\"x\",", 16, "\"x\"]}", false, "17 are not");
	limit("{" HI ",\"stop\":\"", "x", STOP_BYTES, "\"}", true, "32 KiB of them are taken");
	limit("{" HI ",\"stop\":\"", "x", STOP_BYTES + 1, "\"}", false, "a byte more is not");
}

static void ids(enum api_endpoint endpoint, const char *body, const char *want)
{
	uint32_t id[32];
	char got[256] = "";
	int64_t n;

	if (!ok(read_body(endpoint, body, strlen(body)) == 0, "read: %s", body))
		return;
	n = api_prompt_ids(&request, &model, id, 32, &arena, &error);
	for (int64_t i = 0; i < n && i < 32; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%u", i ? " " : "", id[i]);
	is_str(n < 0 ? error.param : got, want, "ids of %s", body);
}

static void test_prompts(void)
{
	ids(API_COMPLETION, "{\"prompt\":\"ab\"}", "1000 97 98");
	ids(API_COMPLETION, "{\"prompt\":\"" BOS "ab\"}", "1000 97 98");
	ids(API_COMPLETION, "{\"prompt\":\"\"}", "1000");
	ids(API_COMPLETION, "{\"prompt\":[\"ab\"]}", "1000 97 98");
	ids(API_COMPLETION, "{\"prompt\":[5,6]}", "5 6");
	ids(API_COMPLETION, "{\"prompt\":[[5,6]]}", "5 6");
	ids(API_COMPLETION, "{\"prompt\":\"<think>\"}", "1000 1004");
	ids(API_COMPLETION, "{\"prompt\":[]}", "prompt");
	ids(API_COMPLETION, "{\"prompt\":[[]]}", "prompt");
	ids(API_COMPLETION, "{\"prompt\":[\"a\",\"b\"]}", "prompt");
	ids(API_COMPLETION, "{\"prompt\":[[1],[2]]}", "prompt");
	ids(API_COMPLETION, "{\"prompt\":[1,\"a\"]}", "prompt");
	ids(API_COMPLETION, "{\"prompt\":[1100]}", "prompt");
	ids(API_COMPLETION, "{\"prompt\":[-1]}", "prompt");
	ids(API_COMPLETION, "{\"prompt\":[1.5]}", "prompt");
	ids(API_COMPLETION, "{\"prompt\":[null]}", "prompt");
	ids(API_CHAT, "{" HI "}", "1000 1002 104 105 1003 1005");
	ids(API_CHAT, "{" HI ",\"thinking\":true}", "1000 1002 104 105 1003 1004");
	ok(request.opens_reasoning, "thinking opens the reasoning");
	ids(API_CHAT, "{" HI ",\"add_generation_prompt\":false}", "1000 1002 104 105");
	ids(API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"<think>\"}]}",
	    "1000 1002 60 116 104 105 110 107 62 1003 1005");
	ids(API_CHAT, "{\"messages\":[]}", "messages");
	ids(API_CHAT, "{\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", "messages");
	ids(API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"weight\":1}]}",
	    "messages");
	model.template_id = api_template_named("v3");
	ids(API_CHAT, "{" HI ",\"thinking\":true}", "thinking");
	model.template_id = 0;
	read_body(API_CHAT, "{" HI "}", strlen("{" HI "}"));
	ok(api_prompt_ids(&request, &model, NULL, 0, &arena, &error) < 0 && error.status == 400 &&
		   strstr(error.message, "--template"),
	   "without a template chat is refused, naming --template");
}

int main(void)
{
	char *json = tiny_tokenizer_json(NULL, 0);
	struct err e = {0};

	if (tiny_open(&tiny, json, 100000, &e) || arena_map(&arena, 16 << 20, &e))
		return 1;
	free(json);
	model = (struct api_model){.tokenizer = &tiny.t,
				   .tokenizer_problem = "",
				   .template_problem = "none",
				   .template_id = api_template_named("v31"),
				   .context = 100,
				   .vocab = TINY_VOCAB,
				   .bos = TINY_BOS,
				   .temperature = 0.6,
				   .top_p = 0.95,
				   .name = "tiny"};
	test_good_values();
	test_invalid_values();
	test_unsupported_values();
	test_numbers_and_names();
	test_endpoints();
	test_values();
	test_json();
	test_prompts();
	arena_fini(&arena);
	tiny_close(&tiny);
	return tap_done();
}
