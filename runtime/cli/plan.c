/*
 * `penstock plan MODEL`: tokens per second, time to the first token and hit rate of a model on a
 * machine; neither need exist. See plan.h.
 */
#include "runtime/cli/plan.h"

#include "runtime/cli/cli.h"
#include "runtime/cli/model.h"
#include "runtime/cli/synth.h"
#include "runtime/options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

struct plan_request {
	const char *machine, *drive, *memory_rate, *dot_rate, *gpu, *trace, *calibration;
	uint64_t ram, budget, cores, bits, context, prompt, slots;
	bool json;
};

/* The config of a shape by name, of a checkpoint's directory, or of a config.json. */
static int open_config(struct synth_shape *s, const char *name, struct err *e)
{
	char path[4096];
	struct stat st;

	if (!stat(name, &st) && S_ISDIR(st.st_mode)) {
		if (snprintf(path, sizeof(path), "%s/config.json", name) >= (int)sizeof(path))
			return err_exit(e, STATUS_USAGE, -ENAMETOOLONG, "the name is too long");
		name = path;
	}
	return synth_shape_make(s, name, false, e);
}

/* "32G,1600G,50G,200T" into a machine's GPU. */
static int read_gpu(struct machine *m, const char *text, struct err *e)
{
	double *const to[] = {&m->gpu_memory, &m->gpu_rate, &m->gpu_copy, &m->gpu_dot};
	char copy[128], *at = copy, *word;
	unsigned n = 0;

	if (strlen(text) < sizeof(copy)) {
		memcpy(copy, text, strlen(text) + 1);
		for (; n < 4 && (word = strsep(&at, ",")); n++) {
			if (parse_rate(word, to[n]) || !(*to[n] > 0))
				break;
		}
		if (n == 4 && !at)
			return 0;
	}
	return err_exit(e, STATUS_USAGE, -EINVAL,
			"--gpu %.60s: memory, its rate, the rate of copies to it, and its BF16 "
			"operations, such as 32G,1600G,50G,200T",
			text);
}

static int read_drives(struct machine *m, const char *text, struct err *e)
{
	char copy[256], *at = copy, *word;
	double rate;

	m->drive = 0;
	m->drives = 0;
	if (strlen(text) >= sizeof(copy))
		copy[0] = 0;
	else
		memcpy(copy, text, strlen(text) + 1);
	while ((word = strsep(&at, ","))) {
		if (parse_rate(word, &rate) || !(rate > 0))
			return err_exit(e, STATUS_USAGE, -EINVAL,
					"--drive %.60s: the rates of its drives, such as 7G,7G",
					text);
		m->drive += rate;
		m->drives++;
	}
	return 0;
}

static int read_rate(double *to, const char *option, const char *text, struct err *e)
{
	double v;

	if (!text)
		return 0;
	if (parse_rate(text, &v) || !(v > 0))
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"--%s %.40s: a rate per second, such as 80G", option, text);
	*to = v;
	return 0;
}

/* Changes what the options name. */
static int change_machine(struct machine *m, const struct plan_request *q, struct err *e)
{
	int rc = read_rate(&m->memory_rate, "memory-rate", q->memory_rate, e);

	if (!rc)
		rc = read_rate(&m->dot_rate, "dot-rate", q->dot_rate, e);
	if (!rc && q->drive)
		rc = read_drives(m, q->drive, e);
	if (!rc && q->gpu)
		rc = read_gpu(m, q->gpu, e);
	if (q->ram)
		m->ram = (double)q->ram;
	if (q->cores)
		m->cores = (uint32_t)q->cores;
	return rc;
}

/* ---- Calibration ---- */

static yyjson_val *at(yyjson_val *v, const char *key)
{
	return yyjson_obj_get(v, key);
}

static void take_share(double *to, double share)
{
	if (share > 0.05 && share <= 1.2)
		*to = share;
}

/*
 * What `penstock bench --json` has reached of this machine's limits: of memory in the run whose
 * experts were all in slots, of the drive in the one that streamed most.
 */
static int calibrate(struct efficiency *f, const char *path, struct err *e)
{
	yyjson_read_err why;
	yyjson_doc *doc = yyjson_read_file(path, 0, NULL, &why);
	yyjson_val *runs = at(yyjson_doc_get_root(doc), "runs"), *run;
	double most = 0.5, hits = 0.98;
	size_t i, n;

	if (!doc || !yyjson_is_arr(runs)) {
		yyjson_doc_free(doc);
		return err_exit(e, STATUS_USAGE, -EBADMSG,
				"%s: not a report of `penstock bench MODEL --json`", path);
	}
	yyjson_arr_foreach(runs, i, n, run)
	{
		yyjson_val *decode = at(run, "decode"), *prefill = at(run, "prefill");
		double hit = yyjson_get_num(at(decode, "hit_rate"));
		double busy = yyjson_get_num(at(decode, "drive_share"));

		if (hit >= hits) {
			hits = hit;
			take_share(&f->memory, yyjson_get_num(at(decode, "memory_share")));
			take_share(&f->dot, yyjson_get_num(at(prefill, "multiply_share")));
		} else if (busy > most) {
			most = busy;
			take_share(&f->drive, busy);
		}
	}
	yyjson_doc_free(doc);
	return 0;
}

/* ---- Printing ---- */

static void print_json(const struct plan_job *j, const struct plan_answer *a, bool first)
{
	const struct machine *m = j->machine;

	printf("%s{\"machine\": \"%s\", \"slots\": %" PRIu64 ", \"experts\": %" PRIu64
	       ", \"gpu_slots\": %" PRIu64 ", \"chunk\": %" PRIu64 ", \"expert_bytes\": %" PRIu64
	       ", \"resident_bytes\": %.0f,\n  \"hit_rate\": %.4f, \"gpu_hit_rate\": %.4f, "
	       "\"tokens_per_s\": %.4f, \"token_s\": %.6f, \"resident_s\": %.6f, "
	       "\"experts_s\": %.6f, \"drive_s\": %.6f, \"hand_over_s\": %.6f,\n  "
	       "\"first_token_s\": %.4f, \"start_s\": %.4f}",
	       first ? "" : ",\n ", m->name, a->slots, a->all_slots, a->gpu_slots, a->chunk,
	       a->expert_bytes, a->resident, a->hit_rate, a->gpu_hit_rate, a->tokens_per_s,
	       a->token_s, a->resident_s, a->experts_s, a->drive_s, a->layers_s, a->prompt_s,
	       a->start_s);
}

static void print_row(const struct plan_job *j, const struct plan_answer *a)
{
	const struct machine *m = j->machine;

	printf("| `%s` | %s | %.0f %% | %.0f %% | %.*f | %.0f | %.0f |\n", m->name, m->about,
	       100.0 * (double)a->slots / (double)a->all_slots, 100 * a->hit_rate,
	       a->tokens_per_s < 10 ? 2 : 1, a->tokens_per_s, a->prompt_s, a->start_s);
}

static void print_one(const struct plan_job *j, const struct plan_answer *a)
{
	const struct machine *m = j->machine;
	const double ms = 1e3;

	printf("machine         %s: %s\n", m->name, m->about);
	printf("resident        %.1f GB, loaded in %.1f s\n", a->resident / 1e9, a->start_s);
	printf("experts         %" PRIu64 " of %.1f MB; %" PRIu64 " in slots (%.1f %%)",
	       a->all_slots, (double)a->expert_bytes / 1e6, a->slots,
	       a->all_slots ? 100.0 * (double)a->slots / (double)a->all_slots : 100);
	if (a->gpu_slots)
		printf(", %" PRIu64 " of them on the GPU", a->gpu_slots);
	printf("\nhit rate        %.1f %% in decode", 100 * a->hit_rate);
	if (a->gpu_slots)
		printf(", %.1f %% on the GPU", 100 * a->gpu_hit_rate);
	printf("\ndecode          %.2f tokens/s: %.1f ms, of which resident weights and KV %.1f, "
	       "experts %.1f,\n                waiting for the drive %.1f, hand-over %.1f\n",
	       a->tokens_per_s, a->token_s * ms, a->resident_s * ms, a->experts_s * ms,
	       a->drive_s * ms, a->layers_s * ms);
	printf("first token     %.1f s after a prompt of %" PRIu64 " tokens (%.1f tokens/s, chunks "
	       "of %" PRIu64 ")\n",
	       a->prompt_s, j->prompt, (double)j->prompt / a->prompt_s, a->chunk);
}

/* One machine: false if the model does not fit there, which a table only says. */
static int answer(struct plan_job *j, const struct plan_request *q, bool table, bool first,
		  struct err *e)
{
	struct plan_answer a;
	int rc = plan_predict(&a, j, e);

	if (rc == -ENOMEM && table) {
		if (!q->json)
			printf("| `%s` | %s | does not fit | | | | |\n", j->machine->name,
			       j->machine->about);
		*e = (struct err){0};
		return first;
	}
	if (rc)
		return rc;
	if (q->json)
		print_json(j, &a, first);
	else if (table)
		print_row(j, &a);
	else
		print_one(j, &a);
	return 0;
}

/* m: where j->machine points. */
static int run_all(struct plan_job *j, struct machine *m, const struct plan_request *q,
		   struct err *e)
{
	bool table = !strcmp(q->machine, "all"), first = true;
	int rc = 0, found = 0;

	if (q->json)
		printf("[");
	else if (table)
		printf("| machine | is | experts in slots | hit rate | tokens/s | first token of "
		       "%" PRIu64 ", s | start, s |\n| --- | --- | --- | --- | --- | --- | --- |\n",
		       j->prompt);
	for (uint32_t i = 0; rc >= 0 && i < n_machines; i++) {
		if (!table && strcmp(q->machine, machines[i].name))
			continue;
		*m = machines[i];
		rc = change_machine(m, q, e);
		if (!rc)
			rc = answer(j, q, table, first, e);
		first = rc > 0;
		found++;
	}
	if (!found && !strcmp(q->machine, "")) {
		rc = change_machine(m, q, e);
		if (!rc && !(m->ram > 0 && m->memory_rate > 0 && m->dot_rate > 0 && m->drive > 0))
			rc = err_exit(e, STATUS_USAGE, -EINVAL,
				      "plan needs --machine, or --ram, --memory-rate, --dot-rate "
				      "and --drive");
		if (!rc)
			rc = answer(j, q, false, true, e);
	} else if (!found) {
		char names[256] = "";

		for (uint32_t i = 0; i < n_machines; i++) {
			strcat(names, " ");
			strcat(names, machines[i].name);
		}
		rc = err_exit(e, STATUS_USAGE, -EINVAL, "--machine %.40s: there are all%s",
			      q->machine, names);
	}
	if (rc >= 0 && q->json)
		printf("]\n");
	return rc < 0 ? rc : 0;
}

static int plan(const char *model, const struct plan_request *q, struct err *e)
{
	struct replay_trace t = {0};
	struct synth_shape shape;
	struct machine m = {.name = "machine", .about = "as the options say", .cores = 1};
	struct plan_job j = {.machine = &m,
			     .efficiency = efficiency_default,
			     .config = &shape.config,
			     .budget = q->budget,
			     .prompt = q->prompt,
			     .slots = q->slots,
			     .trace = &t};
	int rc = open_config(&shape, model, e);

	if (rc)
		return rc;
	j.fp8 = strstr(shape.config_json, "quantization_config") != NULL;
	j.bits = q->bits == 4 ? 4 : j.fp8 ? 8 : 16;
	j.context = q->context < shape.config.max_position_embeddings
			    ? q->context
			    : shape.config.max_position_embeddings;
	weigh_config(&j.weights, &shape.config, j.fp8);
	if (q->calibration)
		rc = calibrate(&j.efficiency, q->calibration, e);
	if (!rc && q->trace)
		rc = replay_read(&t, q->trace, e);
	else if (!rc && plan_trace(&t, &shape.config, q->prompt))
		rc = err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory for a trace");
	if (!rc)
		rc = run_all(&j, &m, q, e);
	replay_free(&t);
	free(shape.config_json);
	return rc;
}

int cmd_plan(int argc, char **argv, struct err *e)
{
	struct plan_request q = {.machine = "", .bits = 8, .context = 8192, .prompt = 512};
	struct opt table[] = {
		{"machine", OPT_STRING, &q.machine, .value = "NAME",
		 .help = "one of the list, or all; the options below change it"},
		{"ram", OPT_SIZE, &q.ram, .value = "N", .help = "memory", .min = 1 << 20,
		 .max = 1e15},
		{"memory-rate", OPT_STRING, &q.memory_rate, .value = "RATE",
		 .help = "bytes per second that reads reach, all cores"},
		{"dot-rate", OPT_STRING, &q.dot_rate, .value = "RATE",
		 .help = "operations per second of the BF16 dot, all cores"},
		{"drive", OPT_STRING, &q.drive, .value = "RATE,...",
		 .help = "bytes per second of each drive"},
		{"cores", OPT_U64, &q.cores, .value = "N", .help = "cores", .min = 1, .max = 1024},
		{"gpu", OPT_STRING, &q.gpu, .value = "N,RATE,RATE,RATE",
		 .help = "a GPU's memory, its rate, copies to it, its BF16 operations"},
		{"memory", OPT_SIZE, &q.budget, .value = "N",
		 .help = "budget of the node (92 % of --ram)", .min = 1 << 20, .max = 1e15},
		{"slots", OPT_U64, &q.slots, .value = "N", .help = "expert slots", .min = 2,
		 .max = 1e9},
		{"bits", OPT_U64, &q.bits, .value = "8|4",
		 .help = "of routed experts: as they are, or a packed store (8)", .min = 4,
		 .max = 8},
		{"context", OPT_U64, &q.context, .value = "N", .help = "positions (8192)", .min = 1,
		 .max = 1 << 24},
		{"prompt", OPT_U64, &q.prompt, .value = "N", .help = "tokens of a prompt (512)",
		 .min = 1, .max = 1 << 24},
		{"trace", OPT_STRING, &q.trace, .value = "FILE",
		 .help = "routes of --trace-routes, instead of made-up ones"},
		{"calibrate", OPT_STRING, &q.calibration, .value = "FILE",
		 .help = "a report of `penstock bench MODEL --json`"},
		{"json", OPT_FLAG, &q.json, .help = "print JSON"},
	};
	struct options o = {
		.usage = "penstock plan MODEL",
		.about = "Tokens per second, time to the first token and hit rate of a model on a "
			 "machine. MODEL is a shape\n(v3, kimi-k2, ...: penstock synth --help), a "
			 "config.json or a checkpoint. Rates take K, M, G, T (powers of 1000).",
		.table = table,
		.n = sizeof(table) / sizeof(table[0]),
		.min_operands = 1,
		.max_operands = 1};
	int rc = options_parse(&o, argc, argv, e);

	if (rc < 0)
		return rc;
	if (o.help) {
		rc = options_help(&o, stdout);
		puts("\nmachines:");
		for (uint32_t i = 0; i < n_machines; i++)
			printf("  %-14s %s\n", machines[i].name, machines[i].about);
		return rc;
	}
	if (q.bits != 8 && q.bits != 4)
		return err_exit(e, STATUS_USAGE, -EINVAL, "--bits is 8 or 4");
	return plan(argv[1], &q, e);
}
