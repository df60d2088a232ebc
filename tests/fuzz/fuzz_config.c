/*
 * config.json and generation_config.json against arbitrary bytes: the input is the one, a NUL, and
 * the other (model/store/config.h).
 */
#include "model/store/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *config = (const char *)data;
	const char *generation = size ? memchr(data, 0, size) : NULL;
	size_t config_len = generation ? (size_t)(generation - config) : size;
	size_t generation_len = generation ? size - config_len - 1 : 0;
	struct model_config c;
	struct err e = {0};

	if (config_parse(config, config_len, generation ? generation + 1 : NULL, generation_len, &c,
			 &e)) {
		if (!e.code || !e.text[0] || !e.status)
			abort(); /* a refusal without a text */
		return 0;
	}
	memset(&e, 0, sizeof(e));
	if (config_check(&c, &e) || !config_kv_row(&c) || !config_kv_page_bytes(&c))
		abort(); /* accepted, and yet impossible */
	return 0;
}
