/*
 * YaRN as specification 5 writes it, in binary64 with our own log and exp, so that every build
 * gives the same bits (arithmetic 7).
 */
#include "model/store/yarn.h"

#include "drivers/cpu/math.h"
#include "model/store/json.h"

#include <errno.h>
#include <math.h>

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
 * Reads a positive number into *out, keeping the default where it is absent; `name` says the field
 * in messages.
 */
static int read_positive(yyjson_val *block, const char *key, double min, double *out, struct err *e)
{
	yyjson_val *v = yyjson_obj_get(block, key);
	double x;

	if (!v || yyjson_is_null(v))
		return 0;
	if (!yyjson_is_num(v))
		return refuse(e, key, "is not a number");
	x = yyjson_get_num(v);
	if (!(x >= min && x <= 0x1p60))
		return refuse(e, key, "is outside its range");
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
static int read_type(yyjson_val *block, bool *scaled, struct err *e)
{
	yyjson_val *type = yyjson_obj_get(block, "type");
	yyjson_val *rope_type = yyjson_obj_get(block, "rope_type");
	char name[204];

	if (present(type) && present(rope_type) && !yyjson_equals(type, rope_type))
		return refuse(e, "rope_scaling", "has a type and another rope_type");
	if (!present(type))
		type = rope_type;
	if (!yyjson_is_str(type))
		return refuse(e, "rope_scaling", "has no type");
	*scaled = yyjson_equals_str(type, "yarn");
	if (*scaled || yyjson_equals_str(type, "default"))
		return 0;
	return err_exit(e, STATUS_MODEL, -ENOTSUP,
			"config.json: rope_scaling type \"%s\" is not supported, only yarn",
			err_name(name, yyjson_get_str(type), yyjson_get_len(type)));
}

static int read_block(yyjson_val *block, struct yarn *y, struct err *e)
{
	yyjson_val *truncate = yyjson_obj_get(block, "truncate");
	const double tiny = 0x1p-60;
	int rc = read_type(block, &y->scaled, e);

	if (rc || !y->scaled)
		return rc;
	if (present(truncate) && !yyjson_is_true(truncate))
		return refuse(e, "rope_scaling.truncate", "other than true is not supported");
	rc = read_positive(block, "factor", 1, &y->factor, e);
	if (!rc)
		rc = read_positive(block, "original_max_position_embeddings", 1, &y->original, e);
	if (!rc)
		rc = read_positive(block, "beta_fast", tiny, &y->beta_fast, e);
	if (!rc)
		rc = read_positive(block, "beta_slow", tiny, &y->beta_slow, e);
	if (!rc)
		rc = read_positive(block, "mscale", 0, &y->mscale, e);
	if (!rc)
		rc = read_positive(block, "mscale_all_dim", 0, &y->mscale_all_dim, e);
	if (!rc)
		rc = read_positive(block, "attention_factor", tiny, &y->attention_factor, e);
	if (rc)
		return rc;
	if (!(y->factor > 0))
		return refuse(e, "rope_scaling.factor", "is missing");
	if (!(y->original > 0))
		return refuse(e, "rope_scaling.original_max_position_embeddings", "is missing");
	return 0;
}

int yarn_read(yyjson_val *root, struct model_config *c, struct err *e)
{
	yyjson_val *scaling = yyjson_obj_get(root, "rope_scaling");
	yyjson_val *parameters = yyjson_obj_get(root, "rope_parameters");
	struct yarn y = {.theta = 0, .beta_fast = 32, .beta_slow = 1};
	double inner = 0;
	int rc;

	if (present(scaling) && present(parameters) && !yyjson_equals(scaling, parameters))
		return refuse(e, "rope_scaling", "and rope_parameters are both given and differ");
	if (present(parameters))
		scaling = parameters;
	if (present(scaling) && !yyjson_is_obj(scaling))
		return refuse(e, "rope_scaling", "is not an object");
	/* Checked before anything is computed from them; config_check sees them again. */
	if (c->qk_rope_head_dim < 2 || c->qk_rope_head_dim > 2 * CONFIG_ROPE_PAIRS_MAX ||
	    c->qk_nope_head_dim > CONFIG_WIDTH_MAX)
		return config_check(c, e);
	rc = read_positive(root, "rope_theta", 0, &y.theta, e);
	if (!rc && present(scaling))
		rc = read_positive(scaling, "rope_theta", 0, &inner, e);
	if (rc)
		return rc;
	if (y.theta > 0 && inner > 0 && !(y.theta == inner))
		return refuse(e, "rope_theta", "differs from the one in rope_parameters");
	if (inner > 0)
		y.theta = inner;
	else if (!present(yyjson_obj_get(root, "rope_theta")))
		y.theta = 10000;
	if (!(y.theta > 1))
		return refuse(e, "rope_theta", "must be above 1");
	rc = present(scaling) ? read_block(scaling, &y, e) : 0;
	if (!rc)
		yarn_compute(&y, c);
	return rc;
}
