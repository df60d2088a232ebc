/*
 * `penstock pack MODEL OUT...`: makes a packed store of a checkpoint (model/store/pack_format.h).
 * See pack.h for how, and for what a kill costs: nothing that is on the drive.
 */
#include "runtime/cli/pack.h"

#include "runtime/cli/cli.h"
#include "runtime/options.h"
#include "runtime/sha256.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t interrupted; /* a signal handler's; nothing else can be told */

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

bool pack_interrupted(void)
{
	return interrupted;
}

static void take_signals(void)
{
	const struct sigaction action = {.sa_handler = on_signal};
	const struct sigaction ignore = {.sa_handler = SIG_IGN};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGXFSZ, &ignore, NULL); /* a limit on file sizes is an error like a full disk */
}

static void print_result(const struct pack_plan *p, double seconds, uint64_t bytes,
			 const uint8_t root[PACK_HASH], bool json)
{
	const double rate = seconds > 0 ? (double)bytes / seconds : 0;
	char hex[65];

	sha256_hex(root, hex);
	if (json)
		printf("{\"bytes\": %" PRIu64 ", \"written\": %" PRIu64
		       ", \"seconds\": %.3f, \"bytes_per_second\": %.0f, \"experts\": %" PRIu64
		       ", \"expert_bytes\": %" PRIu64 ", \"pieces\": %" PRIu64
		       ", \"root\": \"%s\"}\n",
		       p->g.end, bytes, seconds, rate, p->g.area[PACK_EXPERTS].count,
		       p->g.area[PACK_EXPERTS].bytes, p->g.leaves, hex);
	else
		printf("packed: %.2f GB in %.1f s (%.2f GB/s), %" PRIu64 " experts of %" PRIu64
		       " bytes\nroot %s\n",
		       (double)p->g.end * 1e-9, seconds, rate * 1e-9, p->g.area[PACK_EXPERTS].count,
		       p->g.area[PACK_EXPERTS].bytes, hex);
}

static int pack(const struct pack_plan *p, const char *const *path, bool force, bool json,
		struct err *e)
{
	uint8_t root[PACK_HASH];
	double seconds = 0;
	uint64_t bytes = 0;
	struct pack_out o;
	int rc = pack_out_open(&o, p, path, force, e);

	if (!rc && o.complete)
		fprintf(stderr, "penstock: %s is complete already: nothing to do\n", path[0]);
	if (!rc && !o.complete)
		rc = pack_write(&o, &seconds, &bytes, e);
	if (!rc && !o.complete)
		rc = pack_out_finish(&o, root, e);
	if (!rc && !o.complete)
		print_result(p, seconds, bytes, root, json);
	pack_out_close(&o);
	return rc;
}

int cmd_pack(int argc, char **argv, struct err *e)
{
	bool force = false, json = false;
	unsigned bits = 0, entries = PACK_TABLE_FITTED;
	struct opt table[] = {
		{"bits", OPT_ENUM, &bits, .value = "8|4",
		 .help = "8 (as the model has them) or 4 for routed experts"},
		{"table", OPT_ENUM, &entries, .value = "fitted|gaussian|linear",
		 .help = "4 bits: what codes stand for; fitted to the model's weights is best"},
		{"force", OPT_FLAG, &force, .help = "write over what is there, and start anew"},
		{"json", OPT_FLAG, &json, .help = "print JSON"},
	};
	struct options o = {.usage = "penstock pack MODEL OUT...",
			    .about = "Makes a packed store of a checkpoint's directory. OUT is a "
				     "file or a block "
				     "device; several, on a drive each, hold it striped. "
				     "Interrupted or killed, it "
				     "goes on when it is started again.",
			    .table = table,
			    .n = sizeof(table) / sizeof(table[0]),
			    .min_operands = 2,
			    .max_operands = 1 + PACK_PARTS_MAX};
	const char *path[PACK_PARTS_MAX];
	struct pack_options how;
	struct pack_plan p;
	struct cli_model m;
	int n = options_parse(&o, argc, argv, e), rc;

	if (n < 0)
		return n;
	if (o.help)
		return options_help(&o, stdout);
	for (int i = 1; i < n; i++)
		path[i - 1] = argv[1 + i];
	take_signals();
	rc = cli_model_open(&m, argv[1], e);
	if (rc)
		return rc;
	how = (struct pack_options){
		.parts = (uint32_t)n - 1, .bits = bits ? 4 : 8, .table = (enum pack_table)entries};
	rc = pack_plan_make(&p, &m, &how, e);
	if (!rc)
		rc = pack(&p, path, force, json, e);
	pack_plan_free(&p);
	cli_model_close(&m);
	return rc;
}
