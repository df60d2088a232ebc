/*
 * The header of a safetensors file against arbitrary bytes: the input is a whole file
 * (model/store/safetensors.h).
 */
#include "model/store/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t prefix[SAFETENSORS_PREFIX] = {0};
	struct safetensors st;
	struct err e = {0};
	uint64_t len = 0;
	uint64_t end;

	memcpy(prefix, data, size < sizeof(prefix) ? size : sizeof(prefix));
	if (safetensors_header_len(prefix, "f", size, &len, &e) ||
	    safetensors_parse(&st, "f", 0, (const char *)data + sizeof(prefix), len, size, &e)) {
		if (!e.code || !e.text[0] || !e.status)
			abort(); /* a refusal without a text */
		return 0;
	}
	end = sizeof(prefix) + len;
	for (size_t i = 0; i < st.count; i++) {
		if (st.tensor[i].off != end || st.tensor[i].bytes > size - end)
			abort(); /* a tensor outside the file, or a hole */
		end += st.tensor[i].bytes;
	}
	if (end != size)
		abort();
	safetensors_free(&st);
	return 0;
}
