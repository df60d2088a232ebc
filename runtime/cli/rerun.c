/*
 * `penstock replay FILE MODEL`: runs the step again in which a server died, from the flight
 * recorder's file (`run --recorder FILE`, ipc/recorder.h), on any machine: every token of the
 * sequences before the pass, then the pass itself. A row's bits depend on nothing else, so what the
 * step had to read must come out as it lay in the dead node's memory; that is compared, and the
 * bits of what the step gives are printed. The whole model is held in memory.
 */
#include "runtime/cli/cli.h"

#include "ipc/recorder.h"
#include "runtime/forward/forward.h"
#include "runtime/options.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CHUNK = 64 /* rows of a pass over what came before */
};

struct rerun_request {
	const char *file, *model;
	uint64_t entry, threads;
	unsigned isa; /* 0: the best, else enum cpu_isa + 1 */
};

/* ---- The file ---- */

static int open_file(FILE **f, const struct rerun_request *q, uint64_t *entries, struct err *e)
{
	struct recorder_file head;
	struct stat st;

	*f = fopen(q->file, "rbe");
	if (!*f)
		return err_exit(e, STATUS_USAGE, -errno, "%s: %s", q->file, strerror(errno));
	if (fread(&head, sizeof(head), 1, *f) != 1 || head.magic != RECORDER_MAGIC ||
	    fstat(fileno(*f), &st))
		return err_exit(e, STATUS_USAGE, -EINVAL, "%s is no file of a flight recorder",
				q->file);
	if (head.version != RECORDER_VERSION || head.entry_bytes != sizeof(struct recorder_entry))
		return err_exit(e, STATUS_USAGE, -EINVAL, "%s was written by another version",
				q->file);
	*entries = ((uint64_t)st.st_size - sizeof(head)) / sizeof(struct recorder_entry);
	return *entries ? 0
			: err_exit(e, STATUS_USAGE, -ENODATA, "%s: no server has died", q->file);
}

/* Numbers of an entry that are used as such. */
static bool is_sound(const struct recorder_entry *x)
{
	uint64_t tokens = 0;

	if (x->role >= ROLE_COUNT || x->rows > RECORDER_ROWS || x->hashed > x->rows ||
	    x->hashed > RECORDER_HASHED || x->sequences > RECORDER_SEQUENCES ||
	    x->tokens > RECORDER_TOKENS || x->layers > CONFIG_LAYERS_MAX || x->batch > 1 ||
	    x->top_k > 1024)
		return false;
	for (uint32_t i = 0; i < x->sequences; i++)
		tokens += x->sequence[i].tokens;
	return tokens == x->tokens;
}

static int read_entry(struct recorder_entry *x, const struct rerun_request *q, struct err *e)
{
	uint64_t entries = 0, n;
	FILE *f = NULL;
	int rc = open_file(&f, q, &entries, e);

	n = q->entry ? q->entry : entries;
	if (!rc && n > entries)
		rc = err_exit(e, STATUS_USAGE, -EINVAL, "--entry: %s has %" PRIu64, q->file,
			      entries);
	if (!rc &&
	    (fseeko(f, (off_t)(sizeof(struct recorder_file) + (n - 1) * sizeof(*x)), SEEK_SET) ||
	     fread(x, sizeof(*x), 1, f) != 1 || !is_sound(x)))
		rc = err_exit(e, STATUS_USAGE, -EBADMSG, "%s: entry %" PRIu64 " is damaged",
			      q->file, n);
	if (f)
		fclose(f);
	return rc;
}

static int check_entry(const struct recorder_entry *x, struct err *e)
{
	if (x->partial & RECORDER_NO_STEP)
		return err_exit(e, STATUS_FAILED, -ENODATA,
				"it died between two steps: there is nothing to run again");
	if (x->kind == PASS_MTP)
		return err_exit(e, STATUS_FAILED, -ENOTSUP,
				"it died in a pass of the MTP module, which is not run again");
	if (x->partial)
		return err_exit(e, STATUS_FAILED, -ENODATA,
				"the recorder had no room for all of its rows and tokens");
	return 0;
}

/* ---- The step ---- */

struct rerun {
	const struct recorder_entry *entry;
	struct forward f;
	struct team *team;
	unsigned workers;
	uint32_t layer; /* of the step */
	enum forward_hop in, out;
	uint64_t input, output; /* hashes: of the rows that were hashed, of all rows */
	bool met;
};

/* Where the rows are that a step of this role reads, and those that it gives. */
static void find_hops(struct rerun *r)
{
	const struct recorder_entry *x = r->entry;
	uint64_t hop = x->seq % (x->layers + 2);

	r->layer = hop > 1 ? (uint32_t)hop - 1 : 0;
	if (x->role == ROLE_MLA) {
		r->in = FORWARD_BEFORE;
		r->out = FORWARD_ATTENDED;
	} else if (x->role == ROLE_ROUTER && hop > x->layers) {
		r->layer = r->f.model.config->num_hidden_layers - 1;
		r->in = r->out = FORWARD_FED;
	} else {
		r->in = FORWARD_ATTENDED;
		r->out = x->role == ROLE_ROUTER ? FORWARD_ATTENDED : FORWARD_FED;
	}
}

static void look(void *context, uint32_t layer, enum forward_hop hop, const float *h)
{
	struct rerun *r = context;
	const struct model_config *c = r->f.model.config;

	if (layer != r->layer)
		return;
	for (uint32_t i = 0; hop == r->in && i < r->entry->hashed; i++)
		r->input =
			recorder_hash(r->input, h + i * model_width(c), (uint32_t)c->hidden_size);
	for (uint32_t i = 0; hop == r->out && i < r->entry->rows; i++)
		r->output =
			recorder_hash(r->output, h + i * model_width(c), (uint32_t)c->hidden_size);
	r->met |= hop == r->in;
}

static uint32_t sequence_of(const struct recorder_entry *x, uint32_t conn)
{
	uint32_t i = 0;

	while (i < x->sequences && x->sequence[i].conn != conn)
		i++;
	return i;
}

/* Whether every row can be computed: its token is one, and its place is that behind the last. */
static int fill_rows(const struct rerun *r, struct forward_row *row, struct err *e)
{
	const struct recorder_entry *x = r->entry;
	uint32_t next[RECORDER_SEQUENCES];

	for (uint32_t i = 0; i < x->sequences; i++)
		next[i] = x->sequence[i].tokens;
	for (uint32_t i = 0; i < x->rows; i++) {
		uint32_t s = sequence_of(x, x->row[i].conn);

		if (s == x->sequences || x->row[i].position != next[s]++ ||
		    x->row[i].token >= r->f.model.config->vocab_size)
			return err_exit(e, STATUS_FAILED, -EBADMSG, "row %u of the pass is damaged",
					i);
		row[i] = (struct forward_row){s, x->row[i].position, x->row[i].token};
	}
	return 0;
}

static int run_before(struct rerun *r, struct err *e)
{
	const struct recorder_entry *x = r->entry;
	const uint32_t *token = x->token;
	struct forward_row row[CHUNK];

	for (uint32_t s = 0; s < x->sequences; token += x->sequence[s++].tokens) {
		for (uint32_t at = 0; at < x->sequence[s].tokens;) {
			uint32_t n = 0;

			for (; n < CHUNK && at < x->sequence[s].tokens; n++, at++) {
				if (token[at] >= r->f.model.config->vocab_size)
					return err_exit(e, STATUS_FAILED, -EBADMSG,
							"a token of the recorder is damaged");
				row[n] = (struct forward_row){s, at, token[at]};
			}
			forward_main(&r->f, r->team, r->workers, row, n, &(struct forward_out){0});
		}
	}
	return 0;
}

/* The routes of the hashed rows in the layers that had been routed. */
static uint32_t count_routes(const struct rerun *r, const uint16_t *routes, uint32_t *same)
{
	const struct recorder_entry *x = r->entry;
	const struct model_config *c = r->f.model.config;
	uint32_t k = x->top_k, moe = config_moe_index(c, c->num_hidden_layers), n = 0;

	*same = 0;
	for (uint32_t layer = 0; layer < r->layer; layer++) {
		size_t at = (size_t)layer * x->hashed * k;

		if (!config_is_moe(c, layer) || at + x->hashed * k > RECORDER_ROUTES)
			continue;
		for (uint32_t i = 0; i < x->hashed; i++, n++)
			*same +=
				!memcmp(x->route + at + i * k,
					routes + ((size_t)i * moe + config_moe_index(c, layer)) * k,
					k * sizeof(*routes));
	}
	return n;
}

static void describe(const struct recorder_entry *x, uint32_t layer)
{
	uint64_t hop = x->seq % (x->layers + 2);

	printf("%s, generation %u, ended by %s %u%s%s\n", graph_roles[x->role].program,
	       x->generation, x->by_signal ? "signal" : "exit status", x->status,
	       x->by_signal ? ": " : "", x->by_signal ? strsignal((int)x->status) : "");
	printf("pass %" PRIu64 " of the %s batch, ", x->pass, x->batch ? "prefill" : "decode");
	if (hop > x->layers)
		printf("head");
	else
		printf("layer %u", layer);
	printf(", %u rows of %u sequences behind %u tokens\n", x->rows, x->sequences, x->tokens);
}

static int run(struct rerun *r, struct err *e)
{
	const struct recorder_entry *x = r->entry;
	const struct model_config *c = r->f.model.config;
	struct forward_row *row = forward_alloc(x->rows * sizeof(*row) + 1);
	uint16_t *routes = forward_alloc(((size_t)x->rows + 1) * (CONFIG_LAYERS_MAX + 1) *
					 x->top_k * sizeof(*routes));
	struct forward_out out = {.routes = routes, .seen = look, .context = r};
	uint32_t routed, same;
	int rc;

	find_hops(r);
	describe(x, r->layer);
	rc = fill_rows(r, row, e);
	if (!rc && x->top_k != (c->n_routed_experts ? c->num_experts_per_tok : 1))
		rc = err_exit(e, STATUS_MODEL, -EINVAL, "the model has another number of experts");
	if (!rc)
		rc = run_before(r, e);
	if (!rc) {
		forward_main(&r->f, r->team, r->workers, row, x->rows, &out);
		routed = count_routes(r, routes, &same);
		printf("its input: %s\n", r->met && r->input == x->input_hash
						  ? "the same bits"
						  : "other bits than in the node");
		printf("routes before it: %u of %u the same\n", same, routed);
		printf("its output: %016" PRIx64 "\n", r->output);
		if (!r->met || r->input != x->input_hash || same != routed)
			rc = err_exit(e, STATUS_VERIFY, -EBADMSG,
				      "the step that was run again is not the one that was kept");
	}
	free(row);
	free(routes);
	return rc;
}

static int rerun(const struct rerun_request *q, const struct recorder_entry *x, struct err *e)
{
	struct rerun r = {.entry = x, .workers = q->threads ? (unsigned)q->threads : 1};
	uint32_t last = 0;
	int rc;

	cpu_thread_init();
	for (uint32_t i = 0; i < x->rows; i++)
		last = x->row[i].position > last ? x->row[i].position : last;
	rc = forward_open(&r.f, q->model, x->sequences, last / KV_PAGE_ROWS + 1, e);
	if (rc)
		return rc;
	cpu_kernels_init(&r.f.kernels, q->isa ? (enum cpu_isa)(q->isa - 1) : cpu_isa_best());
	if (memcmp(r.f.index->model_hash, x->model_hash, sizeof(x->model_hash)) != 0)
		rc = err_exit(e, STATUS_MODEL, -EINVAL, "%s is not the model of that node",
			      q->model);
	if (!rc) {
		r.team = team_start(r.workers, NULL, 0, e);
		rc = r.team ? run(&r, e) : -ENOMEM;
	}
	forward_close(&r.f);
	return rc;
}

int cmd_rerun(int argc, char **argv, struct err *e)
{
	static struct recorder_entry entry; /* too large for a stack */
	struct rerun_request q = {0};
	struct opt table[] = {
		{.name = "entry",
		 .type = OPT_U64,
		 .to = &q.entry,
		 .value = "N",
		 .help = "which death, from 1 (the last)",
		 .min = 1,
		 .max = 1e9},
		{.name = "threads",
		 .type = OPT_U64,
		 .to = &q.threads,
		 .value = "N",
		 .help = "workers; the bits are the same (1)",
		 .min = 1,
		 .max = TEAM_MAX},
		{.name = "isa",
		 .type = OPT_ENUM,
		 .to = &q.isa,
		 .value = "auto|scalar|avx2|avx512|avx512bf16",
		 .help = "instructions; the bits are the same"},
	};
	struct options t = {.usage = "penstock replay FILE MODEL",
			    .about = "Runs the step again in which a server died; FILE is that of "
				     "`penstock run --recorder FILE`.\nExit status 5: it did not "
				     "come out with the same bits.",
			    .table = table,
			    .n = sizeof(table) / sizeof(table[0]),
			    .min_operands = 2,
			    .max_operands = 2};
	int rc = options_parse(&t, argc, argv, e);

	if (rc < 0)
		return rc;
	if (t.help)
		return options_help(&t, stdout) ? -EIO : STATUS_OK;
	q.file = argv[1];
	q.model = argv[2];
	if (q.isa && !cpu_isa_usable((enum cpu_isa)(q.isa - 1)))
		return err_exit(e, STATUS_MEMORY, -ENOTSUP, "--isa: this CPU cannot run these");
	rc = read_entry(&entry, &q, e);
	if (!rc)
		rc = check_entry(&entry, e);
	if (!rc)
		rc = rerun(&q, &entry, e);
	return rc ? rc : STATUS_OK;
}
