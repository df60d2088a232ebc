/*
 * `penstock score`: runs a node with the `score` program in the gateway's place over a file of
 * prompts, prints log-probabilities, and writes raw outputs in the layout of
 * shared/golden/README.md. Outputs are written under temporary names and get their own when
 * everything is there, so a failed run leaves none.
 */
#include "ipc/graph.h"
#include "runtime/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <yyjson.h>

enum {
	OUTPUTS = 3
};

struct job {
	const char *model, *prompts;
	const char *out[OUTPUTS]; /* --logits, --routes, --mtp-logits */
	char *temporary[OUTPUTS];
	bool unnamed[OUTPUTS]; /* it does not have even its temporary name yet */
	bool json, help;
	char **argv; /* of init */
	int argc;
};

static volatile sig_atomic_t node; /* its pid, for forward_signal */

static const char *const out_name[OUTPUTS] = {"--logits", "--routes", "--mtp-logits"};

static int usage(void)
{
	printf("usage: penstock score MODEL PROMPTS [options]\n"
	       "Log-probabilities of prompts, and the raw outputs of the model.\n"
	       "PROMPTS is a file {\"prompts\": [[ids], ...]} or plain text.\n\n"
	       "  --logits FILE       float32 [rows, vocabulary], every position of every prompt\n"
	       "  --routes FILE       uint16 [rows, MoE layers, experts per token], ids ascending\n"
	       "  --mtp-logits FILE   float32 [rows - prompts, vocabulary]\n"
	       "  --json              a line of JSON per prompt\n\n"
	       "and the options of `penstock run`: --memory --context --parallel --chunk --slots "
	       "--threads --isa\n");
	return 0;
}

/*
 * The value of option `name` at argv[*i], as "--x V" or "--x=V"; NULL if argv[*i] is another one.
 */
static const char *value_of(const char *name, char **argv, int *i, struct err *e)
{
	size_t n = strlen(name);

	if (strncmp(argv[*i], name, n) != 0)
		return NULL;
	if (argv[*i][n] == '=')
		return argv[*i] + n + 1;
	if (argv[*i][n] != 0)
		return NULL;
	if (!argv[*i + 1]) {
		err_exit(e, STATUS_USAGE, -EINVAL, "%s: a file name is missing", name);
		return NULL;
	}
	return argv[++*i];
}

/* Options of `penstock run` that mean nothing without a socket. */
static bool is_node_only(const char *argument)
{
	static const char *const names[] = {"--socket", "--name", "--template", "--client"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t n = strlen(names[i]);

		if (!strncmp(argument, names[i], n) && (!argument[n] || argument[n] == '='))
			return true;
	}
	return false;
}

/* One argument that is not an output: an operand, or an option that goes to init with its value. */
static int other_argument(struct job *j, char **argv, int *i, struct err *e)
{
	if (strcmp(argv[*i], "--json") == 0) {
		j->json = true;
	} else if (strcmp(argv[*i], "--help") == 0 || strcmp(argv[*i], "-h") == 0) {
		j->help = true;
	} else if (is_node_only(argv[*i])) {
		return err_exit(e, STATUS_USAGE, -EINVAL, "score has no option %.20s: see --help",
				argv[*i]);
	} else if (argv[*i][0] == '-' && argv[*i][1]) {
		j->argv[j->argc++] = argv[*i];
		if (!strchr(argv[*i], '=') && strcmp(argv[*i], "--verbose") != 0 && argv[*i + 1])
			j->argv[j->argc++] = argv[++*i];
	} else if (!j->model) {
		j->model = argv[*i];
	} else if (!j->prompts) {
		j->prompts = argv[*i];
	} else {
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"score takes MODEL and PROMPTS; \"%.100s\" is one too many",
				argv[*i]);
	}
	return 0;
}

static int parse(struct job *j, int argc, char **argv, struct err *e)
{
	j->argv = calloc((size_t)argc + 8, sizeof(*j->argv));
	if (!j->argv) {
		err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
		return -ENOMEM;
	}
	j->argc = 2; /* init MODEL */
	for (int i = 1; i < argc; i++) {
		const char *value = NULL;
		int rc = 0;

		for (unsigned o = 0; o < OUTPUTS && !value && !e->code; o++) {
			value = value_of(out_name[o], argv, &i, e);
			if (value)
				j->out[o] = value;
		}
		if (!value && !e->code)
			rc = other_argument(j, argv, &i, e);
		if (rc || e->code)
			return e->code;
	}
	if (!j->help && !j->prompts)
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"score needs MODEL and PROMPTS. Try `penstock score --help`");
	return 0;
}

/* A file without a name in the folder of `path`: whatever ends us, nothing is left of it. */
static int open_unnamed(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	int fd = folder ? open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666) : -1;

	free(folder);
	return fd;
}

/*
 * Opens output o without a name, or, where the file system cannot do that, under a temporary one
 * beside its own; /dev/null if it is not wanted.
 */
static int open_output(struct job *j, unsigned o, struct err *e)
{
	struct stat st;
	int fd;

	if (!j->out[o])
		return open("/dev/null", O_WRONLY | O_CLOEXEC);
	/* a rename would put a file in the place of /dev/null, too */
	if (!stat(j->out[o], &st) && !S_ISREG(st.st_mode))
		return err_exit(e, STATUS_USAGE, -EINVAL,
				"%s: %s is there and no regular file. Name another", out_name[o],
				j->out[o]);
	if (asprintf(&j->temporary[o], "%s.%d.part", j->out[o], (int)getpid()) < 0)
		return err_exit(e, STATUS_MEMORY, -ENOMEM, "no memory");
	fd = open_unnamed(j->out[o]);
	j->unnamed[o] = fd >= 0;
	if (fd < 0)
		fd = open(j->temporary[o], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_set(e, -errno, "%s: cannot create %s: %s", out_name[o], j->temporary[o],
			       strerror(errno));
	return fd;
}

/* In the child: descriptors to their numbers, then init. Only returns on an error. */
static int exec_init(const struct job *j, const int fds[5], struct err *e)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 8);
	char *slash;
	int high[5];

	if (n < 0)
		return err_set(e, -errno, "cannot find the folder of this program: %s",
			       strerror(errno));
	path[n] = 0;
	slash = strrchr(path, '/');
	memcpy(slash + 1, "init", 5);
	for (int i = 0; i < 5; i++) {
		high[i] = fcntl(fds[i], F_DUPFD, 64);
		if (high[i] < 0)
			return err_set(e, -errno, "cannot duplicate a descriptor: %s",
				       strerror(errno));
	}
	for (int i = 0; i < 5; i++) {
		dup2(high[i], FD_PROMPTS + i);
		close(high[i]);
	}
	j->argv[0] = path;
	execv(path, j->argv);
	return err_set(e, -errno, "cannot start %s: %s", path, strerror(errno));
}

static void print_line(const char *line, size_t len, bool json, uint64_t *tokens, double *logprob,
		       uint32_t *prompts)
{
	yyjson_doc *doc = yyjson_read(line, len, 0);
	yyjson_val *o = yyjson_doc_get_root(doc);

	if (o) {
		uint64_t n = yyjson_get_uint(yyjson_obj_get(o, "tokens"));

		*tokens += n - 1;
		*logprob += yyjson_get_num(yyjson_obj_get(o, "logprob"));
		++*prompts;
		if (json)
			printf("%.*s\n", (int)len, line);
		else
			printf("prompt %llu: %llu tokens, log-probability %.6f, %.6f per token\n",
			       (unsigned long long)yyjson_get_uint(yyjson_obj_get(o, "prompt")),
			       (unsigned long long)n, yyjson_get_num(yyjson_obj_get(o, "logprob")),
			       yyjson_get_num(yyjson_obj_get(o, "mean_logprob")));
	}
	yyjson_doc_free(doc);
}

/* Prints what the score program reports until it closes its end. */
static void print_report(int fd, bool json)
{
	FILE *in = fdopen(fd, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	uint64_t tokens = 0;
	uint32_t prompts = 0;
	double logprob = 0;

	while (in && (n = getline(&line, &cap, in)) > 0)
		print_line(line, (size_t)n - (line[n - 1] == '\n'), json, &tokens, &logprob,
			   &prompts);
	if (!json && tokens)
		printf("%u prompts, %llu predicted tokens, mean log-probability %.6f\n", prompts,
		       (unsigned long long)tokens, logprob / (double)tokens);
	free(line);
	if (in)
		fclose(in);
}

/* A link cannot replace a file, a rename can: so each gets its temporary name first. */
static int name_outputs(struct job *j, const int fds[5], struct err *e)
{
	char path[32];

	for (unsigned o = 0; o < OUTPUTS; o++) {
		if (!j->temporary[o])
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[1 + o]);
		if ((j->unnamed[o] &&
		     linkat(AT_FDCWD, path, AT_FDCWD, j->temporary[o], AT_SYMLINK_FOLLOW) < 0) ||
		    rename(j->temporary[o], j->out[o]) < 0)
			return err_set(e, -errno, "%s: cannot name %s: %s", out_name[o], j->out[o],
				       strerror(errno));
	}
	return 0;
}

/* The node ends with status 1, and then what is unfinished is removed. */
static void forward_signal(int number)
{
	if (node > 0)
		kill(node, number);
}

/*
 * Ctrl-C reaches the node by itself and ends it with 130; other signals are passed on. This process
 * lives on to remove what is unfinished.
 */
static void take_signals(void)
{
	struct sigaction forward = {.sa_handler = forward_signal, .sa_flags = SA_RESTART}, hup;

	signal(SIGINT, SIG_IGN);
	sigaction(SIGTERM, &forward, NULL);
	if (!sigaction(SIGHUP, NULL, &hup) && hup.sa_handler != SIG_IGN)
		sigaction(SIGHUP, &forward, NULL);
}

/* Starts the node and waits for it. Returns its exit status, or a negative errno. */
static int run(struct job *j, const int fds[5], int report, struct err *e)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return err_set(e, -errno, "cannot start a node: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* a node without us has nobody to work for */
		exec_init(j, fds, e);
		fprintf(stderr, "penstock: %s\n", e->text);
		_exit(STATUS_FAILED);
	}
	node = pid;
	take_signals();
	close(fds[0]);
	close(fds[4]); /* the report ends with the node */
	print_report(report, j->json);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		return err_set(e, -EIO, "the node was killed by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

int cmd_score(int argc, char **argv, struct err *e)
{
	struct job j = {0};
	int fds[5], pipe_fd[2], rc = parse(&j, argc, argv, e);

	if (rc || j.help)
		return rc ? rc : usage();
	j.argv[1] = (char *)(uintptr_t)j.model;
	j.argv[j.argc++] = (char *)(uintptr_t) "--client";
	j.argv[j.argc++] = (char *)(uintptr_t) "score";
	fds[0] = open(j.prompts, O_RDONLY | O_CLOEXEC);
	if (fds[0] < 0)
		return err_exit(e, STATUS_USAGE, -errno, "cannot open the prompts %s: %s",
				j.prompts, strerror(errno));
	for (unsigned o = 0; o < OUTPUTS; o++) {
		fds[1 + o] = open_output(&j, o, e);
		if (fds[1 + o] < 0)
			goto out;
	}
	if (pipe2(pipe_fd, O_CLOEXEC) < 0) {
		err_set(e, -errno, "cannot make a pipe: %s", strerror(errno));
		goto out;
	}
	fds[4] = pipe_fd[1];
	rc = run(&j, fds, pipe_fd[0], e);
	if (rc == 0)
		rc = name_outputs(&j, fds, e);
out:
	for (unsigned o = 0; o < OUTPUTS; o++) {
		if (j.temporary[o] && (rc || e->code))
			unlink(j.temporary[o]);
		free(j.temporary[o]);
	}
	free(j.argv);
	return e->code ? e->code : rc;
}
