/*
 * boot/plan.h and boot/memory.h: who gets how much memory, and when a node refuses to start.
 */
#include "boot/memory.h"
#include "boot/plan.h"

#include "tests/tap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GB 1000000000ull

/* DeepSeek-V3's widths. */
static const struct model_config v3 = {.family = FAMILY_V3,
				       .vocab_size = 129280,
				       .hidden_size = 7168,
				       .intermediate_size = 18432,
				       .moe_intermediate_size = 2048,
				       .num_hidden_layers = 61,
				       .num_nextn_predict_layers = 1,
				       .num_attention_heads = 128,
				       .q_lora_rank = 1536,
				       .kv_lora_rank = 512,
				       .qk_nope_head_dim = 128,
				       .qk_rope_head_dim = 64,
				       .v_head_dim = 128,
				       .n_routed_experts = 256,
				       .n_shared_experts = 1,
				       .num_experts_per_tok = 8,
				       .n_group = 8,
				       .topk_group = 4,
				       .first_k_dense_replace = 3,
				       .moe_layer_freq = 1,
				       .max_position_embeddings = 163840,
				       .quantised = 1};
static const struct model_config dense = {.family = FAMILY_V2,
					  .vocab_size = 1000,
					  .hidden_size = 256,
					  .intermediate_size = 512,
					  .num_hidden_layers = 2,
					  .num_attention_heads = 4,
					  .kv_lora_rank = 64,
					  .qk_nope_head_dim = 32,
					  .qk_rope_head_dim = 16,
					  .v_head_dim = 32,
					  .moe_layer_freq = 1,
					  .max_position_embeddings = 512};

static struct boot_options options;
static struct plan plan;
static struct plan_table table;

static int make(const struct model_config *c, uint64_t budget, struct err *e)
{
	struct plan_input in = {.options = &options,
				.config = c,
				.index_bytes = 3 << 20,
				.resident_bytes = c == &v3 ? 22 * GB : 1 << 20,
				.slot_bytes = c == &v3 ? 44052480 : 3 * 8192,
				.tokenizer_bytes = 8 << 20,
				.budget = budget,
				.cpus = 16};

	memset(e, 0, sizeof(*e));
	return plan_make(&plan, &table, &in, e);
}

static void reset(void)
{
	options = (struct boot_options){.parallel = 8};
}

static void check_sizes(void)
{
	struct err e;
	uint64_t sum = 0;

	reset();
	is_int(make(&v3, 64 * GB, &e), 0, "DeepSeek-V3 fits in 64 GB (%s)", e.text);
	for (unsigned i = 0; i < PLAN_PARTS; i++)
		sum += table.bytes[i];
	is_int((long long)table.total, (long long)sum, "the table adds up");
	ok(table.total <= 64 * GB && table.total > 62 * GB,
	   "the budget is used and not exceeded: %llu", (unsigned long long)table.total);
	is_int(plan.context, 8192, "the default context is 8192");
	is_int(plan.rows[BATCH_PREFILL], 512, "there is room for the largest chunk");
	ok(plan.slots > 500 && plan.slots < table.all_slots, "slots get most of it: %u",
	   plan.slots);
	is_int((long long)table.all_slots, 59 * 256, "MTP's experts count");
	ok(plan.piece_bytes <= 1ull << 30, "no piece is larger than 1 GiB");
	is_int((long long)plan.piece_bytes, (long long)(plan.slots_per_piece * plan.slot_bytes),
	       "no slot straddles two pieces");
	ok(plan.pages >= 33 && plan.pages <= table.kv_wanted,
	   "pages for a sequence and /health: %u", plan.pages);
	is_int(make(&v3, 2000 * GB, &e), 0, "with plenty of memory");
	is_int(plan.slots, (long long)table.all_slots, "every expert has a slot");
	is_int(plan.pages, (long long)table.kv_wanted, "and every place its pages");
	ok(table.total < 2000 * GB, "the rest is left alone");
}

static void check_least(void)
{
	struct err e;
	uint64_t need;

	reset();
	options.context = 1024;
	options.chunk = 16;
	options.parallel = 1;
	is_int(make(&v3, 1 * GB, &e), -ENOMEM, "1 GB is not enough");
	is_int(e.status, STATUS_MEMORY, "that is exit status 4");
	ok(strstr(e.text, "are missing") && strstr(e.text, "1.000 GB"), "the figure is named: %s",
	   e.text);
	need = table.total;
	is_int(plan.slots, 2, "what was tried is the smallest node");
	is_int(make(&v3, need, &e), 0, "exactly the figure named is enough (%s)", e.text);
	is_int(plan.slots, 2, "with two slots");
	is_int(plan.pages, 5, "four pages of context and one for /health");
	is_int(make(&v3, need - 1, &e), -ENOMEM, "a byte less is not");
	is_int(make(&v3, need + 50000000, &e), 0, "a slot's worth more");
	is_int(plan.slots, 3, "is a slot more");
}

static void check_bodies(void)
{
	static const struct body_case {
		uint64_t budget;
		unsigned mib, areas;
	} cases[] = {{100000000, 1, 2},
		     {130000000, 2, 2},
		     {300000000, 8, 2},
		     {GB / 2, 16, 8},
		     {64 * GB, 16, CLIENT_BODIES}};
	struct err e;
	uint64_t need;

	reset();
	options.context = 512;
	make(&dense, 1, &e);
	need = table.total;
	ok(need < 100000000, "the smallest node of a small model is small: %llu",
	   (unsigned long long)need);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		is_int(make(&dense, cases[i].budget, &e), 0, "%llu bytes are enough (%s)",
		       (unsigned long long)cases[i].budget, e.text);
		is_int((long long)plan.body_bytes, (long long)cases[i].mib << 20,
		       "and allow bodies of %u MiB", cases[i].mib);
		is_int((long long)(plan.body_pool / (plan.body_bytes + BODY_FRAME)), cases[i].areas,
		       "%u at once", cases[i].areas);
		ok(table.total <= cases[i].budget, "within the budget");
	}
	reset();
	is_int(make(&v3, 30 * GB, &e), 0, "V3 in 30 GB (%s)", e.text);
	ok(plan.body_bytes == BODY_MAX && plan.body_pool < GB, "takes the largest bodies");
	is_int(make(&v3, 2000 * GB, &e), 0, "V3 in 2 TB");
	is_int((long long)plan.body_pool, (long long)CLIENT_BODIES * CLIENT_BODY,
	       "no more than there are areas");
}

static void check_options(void)
{
	struct err e;

	reset();
	options.slots = 7;
	options.chunk = 1;
	options.threads = 3;
	is_int(make(&v3, 64 * GB, &e), 0, "options are taken (%s)", e.text);
	is_int(plan.slots, 7, "--slots");
	is_int(plan.rows[BATCH_PREFILL], 1, "--chunk");
	is_int(plan.workers, 3, "--threads");
	is_int(plan.pages, (long long)table.kv_wanted, "the rest is for pages");
	options.slots = 1000000;
	options.context = 100;
	is_int(make(&v3, 2000 * GB, &e), 0, "more slots than experts");
	is_int(plan.slots, (long long)table.all_slots, "are as many as experts");
	options.context = 163841;
	is_int(make(&v3, 64 * GB, &e), -EINVAL, "a context beyond the model's is refused: %s",
	       e.text);
	is_int(e.status, STATUS_USAGE, "as a wrong command line");
	reset();
	is_int(make(&dense, 100000000, &e), 0, "a dense model has a plan too (%s)", e.text);
	is_int(plan.context, 512, "its context is the model's");
	is_int(plan.slots, 2, "and two slots that nobody uses");
}

static void check_hostile(void)
{
	struct model_config c = v3;
	struct plan_input in = {
		.options = &options, .config = &c, .slot_bytes = 4096, .cpus = 1, .budget = GB};
	struct err e = {0};

	reset();
	in.resident_bytes = UINT64_MAX - 100;
	ok(plan_make(&plan, &table, &in, &e) < 0, "resident weights of 2^64 bytes are refused: %s",
	   e.text);
	in.resident_bytes = GB;
	in.slot_bytes = (1ull << 30) + 4096;
	e = (struct err){0};
	is_int(plan_make(&plan, &table, &in, &e), -EINVAL, "an expert beyond 1 GiB is refused: %s",
	       e.text);
}

static void put(const char *root, const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *p = full + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		mkdir(full, 0777);
		*p = '/';
	}
	f = fopen(full, "w");
	fputs(text, f);
	fclose(f);
}

static void check_memory(void)
{
	char root[] = "/tmp/t_plan.XXXXXX", command[64];
	struct memory_free m;

	if (!mkdtemp(root))
		return;
	put(root, "/proc/meminfo",
	    "MemTotal:  16000000 kB\nMemFree: 1 kB\nMemAvailable: 8000000 kB\n");
	put(root, "/proc/self/cgroup", "4:memory:/a/b\n0::/u/v\n");
	memory_look(&m, root);
	is_int((long long)m.available, 8000000ll * 1024, "MemAvailable is read");
	is_int((long long)memory_budget(&m), 7000000ll * 1024,
	       "a sixteenth of the total stays free");
	put(root, "/sys/fs/cgroup/u/v/memory.max", "max\n");
	put(root, "/sys/fs/cgroup/u/memory.max", "3000000000\n");
	put(root, "/sys/fs/cgroup/u/memory.current", "1500000000\n");
	put(root, "/sys/fs/cgroup/u/memory.stat", "anon 1\nfile 500000000\n");
	memory_look(&m, root);
	is_int((long long)m.total, 3000000000, "a limit above our cgroup counts");
	is_int((long long)m.available, 2000000000, "its page cache is free");
	put(root, "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "1000000000\n");
	put(root, "/sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "200000000\n");
	memory_look(&m, root);
	is_int((long long)m.available, 800000000, "so does one of version 1");
	is_int((long long)memory_budget(&m), 800000000 - (256 << 20),
	       "the reserve is 256 MiB at least");
	snprintf(command, sizeof(command), "rm -rf %s", root);
	ok(system(command) == 0, "the folder is removed");
}

int main(void)
{
	check_sizes();
	check_least();
	check_bodies();
	check_options();
	check_hostile();
	check_memory();
	return tap_done();
}
