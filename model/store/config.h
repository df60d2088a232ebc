/*
 * Reads config.json and generation_config.json into struct model_config (specification 1): fields,
 * defaults of the family, refusals by name, and the constants that follow (specification 4.3 and 5,
 * arithmetic 7). Hostile input. Called by the survey.
 */
#ifndef MODEL_STORE_CONFIG_H
#define MODEL_STORE_CONFIG_H

#include "model/config.h"
#include "runtime/err.h"

#include <stddef.h>

enum {
	CONFIG_BYTES_MAX = 1 << 20
};

/*
 * `generation` may be NULL: there is no generation_config.json. Fills all of *c (zeroes included:
 * it is hashed). num_nextn_predict_layers is what the file says; the survey lowers it where the
 * tensors are missing. Returns 0 or -errno with a text that names file and field; status 3.
 */
MUST_CHECK int config_parse(const char *json, size_t len, const char *generation,
			    size_t generation_len, struct model_config *c, struct err *e);

#endif
