/*
 * `penstock plan`: what is better hardware is never slower, and the figures add up.
 */
#include "runtime/cli/plan.h"
#include "runtime/cli/synth.h"
#include "tests/tap.h"

#include <stdlib.h>

struct setting {
	struct synth_shape shape;
	struct replay_trace trace;
	struct machine machine;
	struct plan_job job;
};

static void open_setting(struct setting *s, const char *shape)
{
	struct err e = {0};

	if (synth_shape_make(&s->shape, shape, false, &e) ||
	    plan_trace(&s->trace, &s->shape.config, 64))
		abort();
	s->machine = machines[0];
	s->job = (struct plan_job){.machine = &s->machine,
				   .efficiency = efficiency_default,
				   .config = &s->shape.config,
				   .fp8 = true,
				   .bits = 8,
				   .context = 4096,
				   .prompt = 64,
				   .trace = &s->trace};
	weigh_config(&s->job.weights, &s->shape.config, true);
}

static void close_setting(struct setting *s)
{
	replay_free(&s->trace);
	free(s->shape.config_json);
}

static struct plan_answer predict(const struct setting *s)
{
	struct plan_answer a;
	struct err e = {0};

	if (plan_predict(&a, &s->job, &e)) {
		diag("%s", e.text);
		abort();
	}
	return a;
}

static void test_more_memory(void)
{
	static struct setting s;
	double rate = 0, hits = 0;
	bool slower = false, fewer = false;

	open_setting(&s, "v2-lite");
	for (double ram = 4e9; ram < 24e9; ram += 2e9) {
		struct plan_answer a;

		s.machine.ram = ram;
		a = predict(&s);
		slower = slower || a.tokens_per_s < rate;
		fewer = fewer || a.hit_rate < hits;
		rate = a.tokens_per_s;
		hits = a.hit_rate;
	}
	ok(!slower, "more memory is never slower");
	ok(!fewer && hits > 0.999, "nor has it fewer hits, and at last every expert has its slot");
	close_setting(&s);
}

static void test_faster_parts(void)
{
	static struct setting s;
	struct plan_answer before, after;

	open_setting(&s, "v2-lite");
	s.machine.ram = 8e9;
	before = predict(&s);
	ok(before.drive_s > 0 && before.hit_rate < 1, "with little memory the drive is waited for");
	is_near(before.resident_s + before.experts_s + before.drive_s + before.layers_s,
		before.token_s, 1e-9, "the parts of a token add up");
	s.machine.drive *= 2;
	after = predict(&s);
	ok(after.tokens_per_s > before.tokens_per_s && after.prompt_s <= before.prompt_s,
	   "a faster drive is faster");
	before = after;
	s.machine.memory_rate *= 2;
	after = predict(&s);
	ok(after.tokens_per_s > before.tokens_per_s, "so is faster memory");
	s.job.context *= 4;
	ok(predict(&s).tokens_per_s < after.tokens_per_s, "a longer context is not free");
	s.job.bits = 4;
	ok(predict(&s).hit_rate > before.hit_rate, "half the bits are more slots and more hits");
	close_setting(&s);
}

static void test_limits(void)
{
	static struct setting s;
	struct plan_answer a, with_gpu;
	struct err e = {0};

	open_setting(&s, "v2-lite");
	a = predict(&s);
	ok(a.slots == a.all_slots && !(a.drive_s > 0),
	   "a model that fits waits for no drive: %llu slots", (unsigned long long)a.slots);
	s.machine.ram = 8e9;
	a = predict(&s);
	s.machine.gpu_memory = 6e9;
	s.machine.gpu_rate = 500e9;
	s.machine.gpu_copy = 25e9;
	s.machine.gpu_dot = 50e12;
	with_gpu = predict(&s);
	ok(with_gpu.gpu_slots && with_gpu.slots > a.slots && with_gpu.tokens_per_s > a.tokens_per_s,
	   "a GPU adds slots and speed");
	s.machine.gpu_memory = 1e9;
	ok(plan_predict(&a, &s.job, &e) < 0 && e.text[0],
	   "one that cannot hold the resident weights is refused: %s", e.text);
	e = (struct err){0};
	s.machine = machines[0];
	s.machine.ram = 1e9;
	ok(plan_predict(&a, &s.job, &e) < 0 && e.status == STATUS_MEMORY,
	   "so is too little memory: %s", e.text);
	close_setting(&s);
}

static void test_rates(void)
{
	double v = 0;

	ok(!parse_rate("7.5G", &v), "a rate may have a fraction and a unit");
	is_near(v, 7.5e9, 1, "of powers of 1000");
	ok(!parse_rate("250", &v) && parse_rate("7X", &v) && parse_rate("G", &v) &&
		   parse_rate("-1G", &v) && parse_rate("", &v),
	   "or none; what is not a rate is refused");
}

int main(void)
{
	test_more_memory();
	test_faster_parts();
	test_limits();
	test_rates();
	return tap_done();
}
