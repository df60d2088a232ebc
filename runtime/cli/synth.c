/*
 * `penstock synth SHAPE DIR`: a random checkpoint of any shape, so that anybody can try one they
 * cannot download. Everything is made in a directory beside DIR that gets its name at the end:
 * there is a whole checkpoint or nothing.
 */
#include "runtime/cli/synth.h"

#include "runtime/cli/cli.h"
#include "runtime/cli/model.h"
#include "runtime/options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	FIXED_OPTIONS = 3,
	OPTIONS_MAX = 32
};

static _Atomic int interrupted; /* set by the handler; relaxed: a flag alone */

bool synth_interrupted(void)
{
	return atomic_load_explicit(&interrupted, memory_order_relaxed) != 0;
}

static void on_signal(int signal_number)
{
	(void)signal_number;
	atomic_store_explicit(&interrupted, 1, memory_order_relaxed);
}

/* Where things are made until they are whole. */
struct target {
	char path[4096];    /* DIR without trailing slashes */
	char partial[4096]; /* its neighbour */
	int fd;
};

static int target_make(struct target *t, const char *dir, struct err *e)
{
	size_t len = strlen(dir);
	struct stat st;

	while (len > 1 && dir[len - 1] == '/')
		len--;
	if (!len || len > sizeof(t->path) - 64)
		return err_exit(e, STATUS_USAGE, -EINVAL, "DIR is empty or too long");
	snprintf(t->path, sizeof(t->path), "%.*s", (int)len, dir);
	snprintf(t->partial, sizeof(t->partial), "%.4000s.partial-%ld", t->path, (long)getpid());
	/*
	 * rename(2) replaces an empty directory and nothing else; say so before the work, not after
	 * it.
	 */
	if (!stat(t->path, &st) && rmdir(t->path) < 0)
		return err_set(e, -EEXIST, "%s: is there already and is not an empty directory",
			       t->path);
	if (mkdir(t->partial, 0755) < 0)
		return err_set(e, -errno, "%s: cannot make the directory: %s", t->partial,
			       strerror(errno));
	t->fd = open(t->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return t->fd < 0 ? err_set(e, -errno, "%s: cannot open: %s", t->partial, strerror(errno))
			 : 0;
}

/* Removes what was made; every name that can be there is known. */
static void target_remove(struct target *t, const struct synth_plan *p)
{
	static const char *const names[] = {"config.json", "generation_config.json",
					    "tokenizer.json", "tokenizer_config.json",
					    "model.safetensors.index.json"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(t->fd, names[i], 0);
	for (size_t i = 0; i < p->n_shards; i++)
		unlinkat(t->fd, p->shard[i].name, 0);
	rmdir(t->partial);
}

static int check_space(const struct target *t, uint64_t bytes, struct err *e)
{
	const uint64_t others = (uint64_t)64 << 20; /* JSON files, the file system's own needs */
	struct statvfs v;
	uint64_t room;
	char need[32];
	char have[32];

	if (fstatvfs(t->fd, &v) < 0)
		return err_set(e, -errno, "%s: cannot ask for free space: %s", t->partial,
			       strerror(errno));
	room = (uint64_t)v.f_bavail * v.f_frsize;
	if (bytes + others <= room)
		return 0;
	return err_set(e, -ENOSPC,
		       "%s: %s are needed, %s are free. Make it smaller with --layers or "
		       "--experts",
		       t->path, cli_bytes(need, bytes), cli_bytes(have, room));
}

static int write_texts(const struct synth_shape *s, const struct synth_plan *p, int dirfd,
		       bool *tokenizer, struct err *e)
{
	char generation[128];
	int n = snprintf(generation, sizeof(generation),
			 "{\n  \"bos_token_id\": %u,\n  \"eos_token_id\": %u\n}\n",
			 s->config.bos_token_id, s->config.eos_token_id[0]);
	int rc = synth_write_text(dirfd, "config.json", s->config_json, s->config_len, e);

	if (!rc && s->config.n_eos && s->config.bos_token_id != UINT32_MAX)
		rc = synth_write_text(dirfd, "generation_config.json", generation, (size_t)n, e);
	if (!rc)
		rc = synth_write_index(p, dirfd, e);
	if (!rc)
		rc = synth_write_tokenizer(&s->config, dirfd, tokenizer, e);
	return rc;
}

static int write_model(const struct synth_shape *s, const struct synth_plan *p, const char *dir,
		       struct err *e)
{
	struct target t = {.fd = -1};
	double seconds = 0;
	bool tokenizer = false;
	int rc = target_make(&t, dir, e);

	if (rc)
		return rc;
	rc = check_space(&t, p->bytes, e);
	if (!rc)
		rc = write_texts(s, p, t.fd, &tokenizer, e);
	if (!rc)
		rc = synth_write(p, t.fd, &seconds, e);
	if (!rc && rename(t.partial, t.path) < 0)
		rc = err_set(e, -errno, "%s: cannot give it its name: %s", t.path, strerror(errno));
	if (rc)
		target_remove(&t, p);
	close(t.fd);
	if (rc)
		return rc;
	printf("%s: %zu tensors in %zu files, %.2f GB (%.2f GB/s)\n", t.path, p->n_tensors,
	       p->n_shards, (double)p->bytes * 1e-9,
	       seconds > 0 ? (double)p->bytes * 1e-9 / seconds : 0);
	if (tokenizer)
		printf("It has no chat template: chat with it by `penstock run --template v31`.\n");
	else
		printf("It has no tokenizer: its vocabulary is too small for one.\n");
	return 0;
}

static int synth(const char *shape, const char *dir, bool bf16, uint64_t seed, uint64_t shard_bytes,
		 struct err *e)
{
	const struct sigaction action = {.sa_handler = on_signal};
	struct synth_shape s;
	struct synth_plan p = {0};
	int rc = synth_shape_make(&s, shape, bf16, e);

	if (rc)
		return rc;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	rc = synth_plan_make(&p, &s.config, seed, shard_bytes, e);
	if (!rc)
		rc = write_model(&s, &p, dir, e);
	synth_plan_free(&p);
	free(s.config_json);
	return rc;
}

int cmd_synth(int argc, char **argv, struct err *e)
{
	bool bf16 = false;
	uint64_t seed = 0;
	uint64_t shard_bytes = (uint64_t)4 << 30;
	char about[320];
	struct opt table[OPTIONS_MAX] = {
		{"seed", OPT_U64, &seed, .value = "N",
		 .help = "the same seed gives the same bytes"},
		{"bf16", OPT_FLAG, &bf16, .help = "weights in BF16 even if the shape has FP8"},
		{"shards-bytes", OPT_SIZE, &shard_bytes, .value = "N",
		 .help = "size of a file, about (default 4G)", .min = 1, .max = 0x1p60},
	};
	struct options o = {.usage = "penstock synth SHAPE DIR",
			    .about = about,
			    .table = table,
			    .n = FIXED_OPTIONS,
			    .min_operands = 2,
			    .max_operands = 2};
	int rc;

	snprintf(about, sizeof(about),
		 "Writes a random checkpoint. SHAPE is one of %s, or the path of a config.json.",
		 synth_shape_names());
	for (size_t i = 0; i < synth_n_changes; i++)
		table[o.n++] =
			(struct opt){synth_changes[i].option, OPT_U64, &synth_changes[i].value,
				     .value = "N", .help = synth_changes[i].help};
	rc = options_parse(&o, argc, argv, e);
	if (rc < 0)
		return rc;
	if (o.help)
		return options_help(&o, stdout);
	return synth(argv[1], argv[2], bf16, seed, shard_bytes, e);
}
