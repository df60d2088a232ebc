/*
 * YaRN as specification 5 writes it, in binary64 with our own log and exp, so that every build
 * gives the same bits (arithmetic 7).
 */
#include "model/store/yarn.h"

#include "drivers/cpu/math.h"
#include "model/store/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

static const double pi = 0x1.921fb54442d18p+1;

/* g of specification 5 step 5. */
static double mscale_of(double factor, double mscale)
{
	return factor > 1 ? 0.1 * mscale * log_f64(factor) + 1 : 1;
}

/* cd of step 2: the dimension that turns `rotations` times within the original length. */
static double correction_dim(const struct yarn *y, double dim, double rotations)
{
	return dim * log_f64(y->original / (2 * pi * rotations)) / (2 * log_f64(y->theta));
}

/*
 * mu of step 5. With only one of the two mscales (or a 0 for one) it is that of generic YaRN, as
 * transformers has it; the softmax scale follows mscale_all_dim all the same.
 */
static double multiplier(const struct yarn *y)
{
	if (y->attention_factor > 0)
		return y->attention_factor;
	if (!(y->mscale > 0) || !(y->mscale_all_dim > 0))
		return mscale_of(y->factor, 1);
	return mscale_of(y->factor, y->mscale) / mscale_of(y->factor, y->mscale_all_dim);
}

void yarn_compute(const struct yarn *y, struct model_config *c)
{
	const double dim = c->qk_rope_head_dim;
	const double width = (double)c->qk_nope_head_dim + dim;
	double low = 0;
	double high = 0;
	double m = 1;

	c->rope_mu = 1;
	if (y->scaled) {
		low = floor_f64(correction_dim(y, dim, y->beta_fast));
		high = ceil_f64(correction_dim(y, dim, y->beta_slow));
		low = low > 0 ? low : 0;
		high = high < dim - 1 ? high : dim - 1;
		if (low == high)
			high += 0.001;
		c->rope_mu = multiplier(y);
		m = mscale_of(y->factor, y->mscale_all_dim);
	}
	for (uint32_t i = 0; i < c->qk_rope_head_dim / 2; i++) {
		double f = i ? exp_f64(-(2.0 * i / dim) * log_f64(y->theta)) : 1;
		double ramp;

		if (!y->scaled) {
			c->rope_freq[i] = f;
			continue;
		}
		ramp = (i - low) / (high - low);
		ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
		c->rope_freq[i] = f / y->factor * ramp + f * (1 - ramp);
	}
	c->softmax_scale = (float)(1 / sqrt_f64(width) * m * m);
}

static int refuse(struct err *e, const char *field, const char *what)
{
	return err_exit(e, STATUS_MODEL, -EBADMSG, "config.json: %s %s", field, what);
}

/*
 * Reads a positive number into *out, keeping the default where it is absent. `field` names the
 * block in messages, NULL the file's own object.
 */
static int read_positive(yyjson_val *block, const char *field, const char *key, double min,
			 double *out, struct err *e)
{
	yyjson_val *v = yyjson_obj_get(block, key);
	char name[96];
	double x;

	if (!v || yyjson_is_null(v))
		return 0;
	snprintf(name, sizeof(name), "%s%s%s", field ? field : "", field ? "." : "", key);
	if (!yyjson_is_num(v))
		return refuse(e, name, "is not a number");
	x = yyjson_get_num(v);
	if (!(x >= min && x <= 0x1p60))
		return refuse(e, name, "is outside its range");
	*out = x;
	return 0;
}

static bool present(yyjson_val *v)
{
	return v && !yyjson_is_null(v);
}

/*
 * `type` in published files, `rope_type` in files written by newer transformers; both, if they
 * agree.
 */
static int read_type(yyjson_val *block, const char *field, bool *scaled, struct err *e)
{
	yyjson_val *type = yyjson_obj_get(block, "type");
	yyjson_val *rope_type = yyjson_obj_get(block, "rope_type");
	char name[204];

	if (present(type) && present(rope_type) && !yyjson_equals(type, rope_type))
		return refuse(e, field, "has a type and another rope_type");
	if (!present(type))
		type = rope_type;
	if (!yyjson_is_str(type))
		return refuse(e, field, "has no type");
	*scaled = yyjson_equals_str(type, "yarn");
	if (*scaled || yyjson_equals_str(type, "default"))
		return 0;
	return err_exit(e, STATUS_MODEL, -ENOTSUP,
			"config.json: %s type \"%s\" is not supported, only yarn", field,
			err_name(name, yyjson_get_str(type), yyjson_get_len(type)));
}

/* Reads the object `field` of root; where there is none, *y keeps its defaults. */
static int read_block(yyjson_val *root, const char *field, struct yarn *y, struct err *e)
{
	static const double tiny = 0x1p-60;
	const struct {
		const char *key;
		double min, *out;
	} numbers[] = {{"factor", 1, &y->factor},
		       {"original_max_position_embeddings", 1, &y->original},
		       {"beta_fast", tiny, &y->beta_fast},
		       {"beta_slow", tiny, &y->beta_slow},
		       {"mscale", 0, &y->mscale},
		       {"mscale_all_dim", 0, &y->mscale_all_dim},
		       {"attention_factor", tiny, &y->attention_factor}};
	yyjson_val *block = yyjson_obj_get(root, field);
	yyjson_val *truncate = yyjson_obj_get(block, "truncate");
	int rc;

	*y = (struct yarn){.beta_fast = 32, .beta_slow = 1};
	if (!present(block))
		return 0;
	if (!yyjson_is_obj(block))
		return refuse(e, field, "is not an object");
	rc = read_positive(block, field, "rope_theta", 0, &y->theta, e);
	if (!rc)
		rc = read_type(block, field, &y->scaled, e);
	if (rc || !y->scaled)
		return rc;
	if (present(truncate) && !yyjson_is_true(truncate))
		return refuse(e, field, "has a truncate other than true, which is not supported");
	for (size_t i = 0; !rc && i < sizeof(numbers) / sizeof(numbers[0]); i++)
		rc = read_positive(block, field, numbers[i].key, numbers[i].min, numbers[i].out, e);
	if (!rc && !(y->factor > 0))
		rc = refuse(e, field, "has no factor");
	if (!rc && !(y->original > 0))
		rc = refuse(e, field, "has no original_max_position_embeddings");
	return rc;
}

/* Whether two blocks say the same of the scaling; both spellings may stand in one file. */
static bool agree(const struct yarn *a, const struct yarn *b)
{
	return a->scaled == b->scaled && a->factor == b->factor && a->original == b->original &&
	       a->beta_fast == b->beta_fast && a->beta_slow == b->beta_slow &&
	       a->mscale == b->mscale && a->mscale_all_dim == b->mscale_all_dim &&
	       a->attention_factor == b->attention_factor;
}

/* Takes over a rope_theta, if there is one: every place that has it must have the same. */
static int same_theta(double *theta, double other, const char *field, struct err *e)
{
	if (*theta > 0 && other > 0 && *theta != other)
		return refuse(e, field, "has another rope_theta than the rest of the file");
	if (other > 0)
		*theta = other;
	return 0;
}

int yarn_read(yyjson_val *root, struct model_config *c, struct err *e)
{
	static const char scaling[] = "rope_scaling", parameters[] = "rope_parameters";
	const bool both =
		present(yyjson_obj_get(root, scaling)) && present(yyjson_obj_get(root, parameters));
	struct yarn old, y;
	double theta = 0;
	int rc = read_block(root, scaling, &old, e);

	if (!rc)
		rc = read_block(root, parameters, &y, e);
	if (rc)
		return rc;
	if (both && !agree(&old, &y))
		return refuse(e, "rope_scaling", "and rope_parameters are both given and differ");
	/* Checked before anything is computed from them; config_check sees them again. */
	if (c->qk_rope_head_dim < 2 || c->qk_rope_head_dim > 2 * CONFIG_ROPE_PAIRS_MAX ||
	    c->qk_nope_head_dim > CONFIG_WIDTH_MAX)
		return config_check(c, e);
	rc = read_positive(root, NULL, "rope_theta", 0, &theta, e);
	if (!rc)
		rc = same_theta(&theta, old.theta, scaling, e);
	if (!rc)
		rc = same_theta(&theta, y.theta, parameters, e);
	if (rc)
		return rc;
	if (!present(yyjson_obj_get(root, parameters)))
		y = old;
	y.theta = theta > 0 || present(yyjson_obj_get(root, "rope_theta")) ? theta : 10000;
	if (!(y.theta > 1))
		return refuse(e, "rope_theta", "must be above 1");
	yarn_compute(&y, c);
	return 0;
}
