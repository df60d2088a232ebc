/*
 * Which template a checkpoint has, and what each knows. Templates are programs; running a
 * stranger's is out of the question, so the published ones are known by the SHA-256 of their text
 * less trailing white space, in both spellings of the line ends inside string literals that occur
 * (golden/text/templates.json).
 */
#include "model/text/json.h"
#include "model/text/template.h"
#include "runtime/sha256.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	const char *sum[2];
} templates[TEMPLATE_COUNT] = {
	[TEMPLATE_NONE] = {"none", {"", ""}},
	[TEMPLATE_V3] = {"v3",
			 {"3b8267e54b67df6500f231ffa969955cc9d26b3444a291ced4eb96ca7d3ca1ea",
			  "1abb11869cb1ab4f7003d1c40de7c11b046c7844da22a67e6154d29e7d14d994"}},
	[TEMPLATE_V3_0324] = {"v3-0324",
			      {"22e97ba043dacf9df1f071a9de9d2bb6b0757491f16e96e810834b86e1641286",
			       "86c9eb894f13402f6a30ad06ba7b05d436db0c7e1cc2ba84791a957fb4f6210d"}},
	[TEMPLATE_R1_FIRST] =
		{"r1-first",
		 {"3a3036eeb96ca0e48565fc1f19b4d7d3fa17ada32bb1b3d5ed539ae74cf22923",
		  "3564be42d3171962fc65e6a1187f991cb23b4114c15159c524c701be44da3964"}},
	[TEMPLATE_R1] = {"r1",
			 {"563b1ce7d61d50a9b4c7439a912a1116f095b712df5b5e4d3e1116049874eb64",
			  "5b7a90c17faa4288745d78ec7097e9a571a3bb7cddc0ab0282d552bd63c7fb51"}},
	[TEMPLATE_R1_0528] = {"r1-0528",
			      {"53671bac29bcb3e1f95f51b8c77d85a6011b66dc38bd23dce64eef04384a976b",
			       "f04e2c07c639ea5fb4d3ce97d23b64236bf28b2a7b28a280e41176abf393f5fb"}},
	[TEMPLATE_V31] = {"v31",
			  {"45690185067ea25c073bff2d3e425a45ee2564d2bbf6cdf7d885e139d460b8e0",
			   "37cabd20b2b62e3efe7fa55533ef0bc6e1eae63b60cf77265b2a09632aa1358d"}},
	[TEMPLATE_V32] = {"v32",
			  {"6e50812c1ed791d81930e675021f2524b075f5f23558305b7eef5c030b4c61f2",
			   "53163748371ddd5efad7a4cb7d977cccab8f95c85b8b3a65d2c2c00527613051"}},
};

const char *template_name(enum template_id id)
{
	return id > TEMPLATE_NONE && id < TEMPLATE_COUNT ? templates[id].name : "none";
}

enum template_id template_named(const char *name)
{
	for (int i = TEMPLATE_NONE + 1; i < TEMPLATE_COUNT; i++)
		if (strcmp(templates[i].name, name) == 0)
			return (enum template_id)i;
	return TEMPLATE_NONE;
}

enum template_id template_recognize(const char *text, size_t len)
{
	uint8_t sum[32];
	char hex[65];

	while (len > 0 && strchr(" \t\r\n\v\f", text[len - 1]) && text[len - 1])
		len--;
	sha256(text, len, sum);
	sha256_hex(sum, hex);
	for (int i = TEMPLATE_NONE + 1; i < TEMPLATE_COUNT; i++)
		if (strcmp(templates[i].sum[0], hex) == 0 || strcmp(templates[i].sum[1], hex) == 0)
			return (enum template_id)i;
	return TEMPLATE_NONE;
}

/* The chat_template of tokenizer_config.json: a string, or the one named "default" in a list. */
static yyjson_val *template_text(yyjson_val *config)
{
	yyjson_val *v = json_get(config, "chat_template"), *item;
	yyjson_arr_iter it = yyjson_arr_iter_with(v);

	while (yyjson_is_arr(v) && (item = yyjson_arr_iter_next(&it)) != NULL)
		if (json_is(json_get(item, "name"), "default"))
			return json_get(item, "template");
	return v;
}

int template_of_checkpoint(const char *config, size_t config_len, const char *jinja,
			   size_t jinja_len, enum template_id *id, struct err *e)
{
	struct err why = {0};
	yyjson_doc *doc = NULL;

	*id = TEMPLATE_NONE;
	if (!jinja && !config)
		return err_set(e, -ENOENT,
			       "the model has no chat template: name one with --template");
	if (jinja) {
		*id = template_recognize(jinja, jinja_len);
	} else {
		yyjson_val *text;

		if (json_read(&doc, config, config_len, JSON_PLAIN, NULL, &why))
			return err_set(e, -ENOENT,
				       "tokenizer_config.json: %.60s: no chat without --template",
				       why.text);
		text = template_text(yyjson_doc_get_root(doc));
		if (yyjson_is_str(text))
			*id = template_recognize(yyjson_get_str(text), yyjson_get_len(text));
		else
			err_set(e, -ENOENT,
				"the model has no chat template: name one with --template");
		yyjson_doc_free(doc);
	}
	return *id ? 0
		   : err_set(e, -ENOENT,
			     "the model's chat template is not a known one: name one with "
			     "--template");
}

bool template_knows_thinking(enum template_id id)
{
	return id == TEMPLATE_V31 || id == TEMPLATE_V32;
}

bool template_knows_reasoning(enum template_id id)
{
	return id >= TEMPLATE_R1_FIRST && id < TEMPLATE_COUNT;
}

bool template_takes_null(enum template_id id, const struct message *m)
{
	return m->role == MESSAGE_ASSISTANT && (m->n_calls > 0 || id == TEMPLATE_R1_0528);
}
