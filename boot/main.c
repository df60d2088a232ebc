/*
 * The program `init`: the one process that owns everything and moves everybody's bytes
 * (boot/README.md). Started by `penstock run` and `penstock score` in their own place, or by hand.
 */
#include "boot/init.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/*
 * What `penstock score` has left open for its client role; first of all, before a number could be
 * taken by something else.
 */
static void keep_client_fds(struct init *in)
{
	for (int i = 0; i < CLIENT_FDS; i++) {
		in->client_fd[i] = -1;
		if (!in->options.client)
			continue;
		in->client_fd[i] = fcntl(FD_PROMPTS + i, F_DUPFD_CLOEXEC, FD_OBJECT);
		close(FD_PROMPTS + i);
	}
}

static int die(struct init *in, const struct err *e)
{
	listen_close(&in->listen);
	listen_close(&in->counters);
	if (e->text[0])
		fprintf(stderr, "penstock: %s\n", e->text);
	return e->status ? e->status : STATUS_FAILED;
}

/* As on a host, from its command line. */
static int node(struct init *in, int argc, char **argv)
{
	struct err e = {0};
	int rc = boot_options_parse(&in->options, argc, argv, &e);

	if (rc)
		return rc > 0 ? STATUS_OK : die(in, &e);
	keep_client_fds(in);
	if (start_node(in, &e))
		return die(in, &e);
	rc = loop_run(in);
	if (in->error.text[0])
		fprintf(stderr, "penstock: %s\n", in->error.text);
	listen_close(&in->listen);
	listen_close(&in->counters);
	return rc; /* what still runs is killed by the kernel: PDEATHSIG */
}

/* The machine's own start and end around it. */
static int machine(struct init *in)
{
	struct err e = {0};
	struct machine *m = &in->machine;

	machine_end(machine_start(m, &e) ? die(in, &e) : node(in, m->argc, m->argv));
}

int main(int argc, char **argv)
{
	static struct init in; /* the node's one context: never freed, zero at start */

	return machine_is() ? machine(&in) : node(&in, argc, argv);
}
