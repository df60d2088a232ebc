/* The option table of a node; see options.h. */
#include "boot/options.h"

#include "drivers/cpu/kernels.h"
#include "ipc/layout.h"
#include "model/config.h"
#include "model/text/template.h"
#include "model/text/utf8.h"
#include "runtime/options.h"
#include "runtime/team.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MTP "auto|on|off" /* enum mtp_mode */
#define WORDS_ISA "auto|scalar|avx2|avx512|avx512bf16"

static bool is_template(const char *name)
{
	char between[40];

	if (strlen(name) > 31 || strchr(name, '|'))
		return false;
	snprintf(between, sizeof(between), "|%s|", name);
	return strstr("|" TEMPLATE_NAMES "|", between) != NULL;
}

static bool is_utf8(const char *s)
{
	return utf8_valid_prefix((const uint8_t *)s, strlen(s)) == strlen(s);
}

static int check(const struct boot_options *o, unsigned isa, struct err *e)
{
	if (o->client && (strchr(o->client, '/') || !o->client[0]))
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"--client: it is the name of a program beside init");
	if (o->name && (!o->name[0] || strlen(o->name) > 200 || !is_utf8(o->name)))
		return err_exit(e, STATUS_USAGE, -EINVAL, "--name: 1 to 200 bytes of UTF-8");
	if (o->template_name && !is_template(o->template_name))
		return err_exit(e, STATUS_USAGE, -EINVAL, "--template: \"%.60s\" is none of %s",
				o->template_name, TEMPLATE_NAMES);
	if (o->root && (strlen(o->root) != 64 || o->root[strspn(o->root, "0123456789abcdef")]))
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"--root: 64 digits, as `penstock pack` prints them");
	if (isa && !cpu_isa_usable((enum cpu_isa)(isa - 1)))
		return err_exit(e, STATUS_MEMORY, -ENOTSUP,
				"--isa: this CPU has no %s; leave the option out to use %s",
				cpu_isa_name((enum cpu_isa)(isa - 1)),
				cpu_isa_name(cpu_isa_best()));
	return 0;
}

/* --gpu: a word, or a number. */
static int set_gpu(struct boot_options *o, const char *gpu, struct err *e)
{
	if (!gpu || !strcmp(gpu, "off")) {
		o->gpu = GPU_OFF;
	} else if (!strcmp(gpu, "cpu")) {
		o->gpu = GPU_CPU;
	} else if (gpu[0] >= '0' && gpu[0] <= '9' && !gpu[1]) {
		o->gpu = GPU_CUDA;
		o->gpu_ordinal = (unsigned)(gpu[0] - '0');
	} else {
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"--gpu: \"%.30s\" is none of 0 to 9, cpu, off", gpu);
	}
	return 0;
}

int boot_options_parse(struct boot_options *o, int argc, char **argv, struct err *e)
{
	unsigned isa = 0;
	const char *gpu = NULL;
	struct opt table[] = {
		{"socket", OPT_STRING, &o->socket, .value = "PATH",
		 .help = "where to listen (/run/penstock/penstock.sock, else $XDG_RUNTIME_DIR)"},
		{"memory", OPT_SIZE, &o->memory, .value = "N",
		 .help = "everything the node may hold (what is free, less a reserve)",
		 .min = 1 << 20, .max = 1e18},
		{"context", OPT_U64, &o->context, .value = "N",
		 .help = "positions of one sequence (8192, or the model's if less)", .min = 2,
		 .max = CONFIG_POSITIONS_MAX},
		{"parallel", OPT_U64, &o->parallel, .value = "N",
		 .help = "sequences running at once (8)", .min = 1, .max = CONNS},
		{"chunk", OPT_U64, &o->chunk, .value = "N",
		 .help = "prompt tokens of one pass (as memory allows, up to 512)", .min = 1,
		 .max = 65536},
		{"slots", OPT_U64, &o->slots, .value = "N",
		 .help = "routed experts kept in memory (as many as fit)", .min = 2, .max = 1e9},
		{"threads", OPT_U64, &o->threads, .value = "N",
		 .help = "workers of each computing server (one per core)", .min = 1,
		 .max = TEAM_MAX},
		{"isa", OPT_ENUM, &isa, .value = WORDS_ISA,
		 .help = "instructions; the answers are the same bits"},
		{"mtp", OPT_ENUM, &o->mtp, .value = WORDS_MTP,
		 .help = "draft tokens with the model's MTP module (auto: where it is seen to "
			 "pay)"},
		{"gpu", OPT_STRING, &gpu, .value = "N|cpu|off",
		 .help = "passes run on GPU N (off; cpu: a stand-in, for tests)"},
		{"gpu-slots", OPT_U64, &o->gpu_slots, .value = "N",
		 .help = "routed experts kept in the GPU's memory (as many as fit)", .max = 1e9},
		{"libcuda", OPT_STRING, &o->libcuda, .value = "FILE",
		 .help = "the driver's library (libcuda.so.1, where the system has it)"},
		{"name", OPT_STRING, &o->name, .value = "NAME",
		 .help = "the model's name to clients (the folder's name)"},
		{"template", OPT_STRING, &o->template_name, .value = TEMPLATE_NAMES,
		 .help = "instead of the model's own"},
		{"client", OPT_STRING, &o->client, .value = "PROGRAM",
		 .help = "what runs in the gateway's place, without a socket (score)"},
		{"trace-routes", OPT_STRING, &o->trace_routes, .value = "FILE",
		 .help = "write the experts of every row (format: ipc/trace.h)"},
		{"recorder", OPT_STRING, &o->recorder, .value = "FILE",
		 .help = "write what a server was doing when it died, for `penstock replay`"},
		{"root", OPT_STRING, &o->root, .value = "HASH",
		 .help = "refuse a packed store whose root is another"},
		{"sandbox", OPT_ENUM, &o->sandbox, .value = "strict|best-effort",
		 .help = "best-effort: start where the kernel lacks a part of it (strict)"},
		{"verbose", OPT_FLAG, &o->verbose, .help = "print details of every request"},
	};
	struct options t = {.usage = "penstock run MODEL",
			    .about = "Starts a node on a checkpoint directory, in the foreground.",
			    .table = table,
			    .n = sizeof(table) / sizeof(table[0]),
			    .min_operands = 1,
			    .max_operands = 1};
	int rc;

	*o = (struct boot_options){
		.parallel = PLACES_DEFAULT, .mtp = MTP_DEFAULT, .gpu_slots = SLOTS_AUTO};
	rc = options_parse(&t, argc, argv, e);
	if (rc < 0)
		return rc;
	if (t.help)
		return options_help(&t, stdout) ? -EIO : 1;
	o->model = argv[1];
	rc = check(o, isa, e);
	if (!rc)
		rc = set_gpu(o, gpu, e);
	o->isa = isa ? isa - 1 : (unsigned)cpu_isa_best();
	return rc;
}
