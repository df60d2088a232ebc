/* Stages of a node; see stage.h. */
#include "boot/stage.h"

#include "boot/supervise.h"
#include "ipc/record.h"
#include "runtime/clock.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

enum {
	DRAIN_S = 30,     /* what running replies have (machinery 27) */
	DRAIN_MORE_S = 2, /* then the error events are written */
	STOP_MS = 300     /* what a group has to end by itself before it is killed */
};

/* What a service manager is told. */
static const char *const told[] = {
	[STAGE_SURVEY] = "STATUS=reading the model",
	[STAGE_LOADING] = "STATUS=loading weights",
	[STAGE_READY] = "READY=1\nSTATUS=ready",
	[STAGE_DRAINING] = "STOPPING=1\nSTATUS=finishing replies",
	[STAGE_STOPPING] = "STOPPING=1",
};

void stage_set(struct init *in, enum node_stage stage)
{
	in->stage = stage;
	in->stage_ns = clock_now_ns();
	if (stage == STAGE_LOADING)
		in->machine.at[AT_INDEX] = in->stage_ns;
	if (stage == STAGE_READY)
		in->machine.at[AT_LOADED] = in->stage_ns;
	/* release: what the stage stands for is visible with it */
	atomic_store_explicit(&in->node->stage, (uint32_t)stage, memory_order_release);
	log_write(in->log, 1, LOG_STAGE, (const uint64_t[5]){(uint64_t)stage, 0, 0, 0, 0});
	notify_tell(&in->notify, told[stage]);
	supervise_wake_all(in);
}

/* ---- Start ---- */

static const struct resident_header *resident_of(const struct init *in)
{
	return (const void *)((const char *)in->objects.map[OBJ_RESIDENT] +
			      sizeof(struct object_header));
}

static void loaded(struct init *in)
{
	if (object_seal(&in->objects, OBJ_RESIDENT, F_SEAL_WRITE, &in->error)) {
		supervise_end(in, STATUS_FAILED);
		return;
	}
	progress_load_end(&in->progress, in->index->load_bytes, clock_now_ns());
	stage_set(in, STAGE_READY);
	if (in->machine.here)
		fprintf(stderr, "penstock: ready\n");
	else if (!in->options.client)
		fprintf(stderr, "penstock: ready, %s%s\n", in->listen.path[0] ? "on " : "",
			in->listen.path[0] ? in->listen.path : "on the socket that was passed");
}

void stage_task_done(struct init *in, enum role role)
{
	if (role == ROLE_LOADER)
		loaded(in);
	else if (start_servers(in, &in->error))
		supervise_end(in, in->error.status ? in->error.status : STATUS_FAILED);
}

/* ---- End ---- */

static void drain(struct init *in, int signo)
{
	uint64_t until = clock_now_ns() + DRAIN_S * NS_PER_S;

	pump_unlisten(&in->pump);
	listen_close(&in->listen);
	listen_close(&in->counters);
	atomic_store_explicit(&in->node->stop_signal, (uint32_t)signo, memory_order_relaxed);
	atomic_store_explicit(&in->node->drain_until_ns, until, memory_order_relaxed);
	stage_set(in, STAGE_DRAINING);
	fprintf(stderr,
		"penstock: stopping; running replies have %d s. A second signal ends at once\n",
		DRAIN_S);
}

static int status_of(int signo)
{
	return signo == SIGINT ? STATUS_CTRL_C : STATUS_OK;
}

static void end_now(struct init *in, int signo)
{
	supervise_end(in, status_of(signo));
}

static void (*const on_signal[])(struct init *, int) = {
	[STAGE_SURVEY] = end_now,   [STAGE_LOADING] = end_now,  [STAGE_READY] = drain,
	[STAGE_DRAINING] = end_now, [STAGE_STOPPING] = end_now,
};

void stage_signal(struct init *in, int signo)
{
	/*
	 * `score` writes its files whole or not at all, so there is nothing to wait for; and it is
	 * not done
	 */
	if (in->options.client)
		supervise_end(in, signo == SIGINT ? STATUS_CTRL_C : STATUS_FAILED);
	else
		on_signal[in->stage](in, signo);
}

/* Who is stopped together, in this order: the client role and scribe last. */
static const uint32_t stop_groups[] = {
	BY(SURVEY) | BY(LOADER) | BY(ROUTER) | BY(MLA) | BY(EXPERTS) | BY(CUDA),
	BY(CLIENT),
	BY(SCRIBE),
};

enum {
	STOP_GROUPS = sizeof(stop_groups) / sizeof(stop_groups[0])
};

static bool any_alive(const struct init *in, uint32_t group)
{
	for (unsigned role = 0; role < ROLE_COUNT; role++) {
		if (group >> role & 1 && supervise_alive(in, (enum role)role))
			return true;
	}
	return false;
}

static void kill_group(struct init *in, uint32_t group)
{
	for (unsigned role = 0; role < ROLE_COUNT; role++) {
		if (group >> role & 1)
			supervise_kill(in, (enum role)role);
	}
}

/*
 * The computing servers have nothing to finish; the client role and scribe see the stage and may
 * end by themselves.
 */
static void stop_tick(struct init *in, uint64_t now)
{
	supervise_kill_spares(in);
	while (in->stopping < STOP_GROUPS) {
		uint32_t group = stop_groups[in->stopping];

		if (in->stopping == 0 || now >= in->stop_ns)
			kill_group(in, group);
		if (any_alive(in, group))
			return;
		in->stopping++;
		in->stop_ns = now + STOP_MS * NS_PER_MS;
	}
	/* relaxed: our own */
	supervise_end(in, status_of((int)atomic_load_explicit(&in->node->stop_signal,
							      memory_order_relaxed)));
}

static void drain_tick(struct init *in, uint64_t now)
{
	uint64_t until = atomic_load_explicit(&in->node->drain_until_ns, memory_order_relaxed);

	if ((pump_busy(&in->pump) || stage_in_flight(in)) && now < until + DRAIN_MORE_S * NS_PER_S)
		return;
	stage_set(in, STAGE_STOPPING);
	in->stop_ns = now + STOP_MS * NS_PER_MS;
}

/* ---- Time ---- */

bool stage_in_flight(const struct init *in)
{
	const char *router = in->objects.map[OBJ_ROUTER], *map = in->objects.map[OBJ_LOG_ROUTER];
	const struct log_object *log;
	struct router_head h;

	if (!router || !map)
		return false;
	log = (const void *)(map + sizeof(struct object_header));
	/* relaxed: nothing but a wake-up or the end of waiting depends on these counters */
	if (atomic_load_explicit(&log->counter[COUNT_RUNNING], memory_order_relaxed) ||
	    atomic_load_explicit(&log->counter[COUNT_QUEUED], memory_order_relaxed))
		return true;
	if (!record_read(router + in->layout.router_record, in->layout.router_record_size, 0, &h,
			 sizeof(h)))
		return true; /* it commits faster than we can look */
	return h.batch[0].pass || h.batch[1].pass;
}

void stage_tick(struct init *in)
{
	uint64_t now = clock_now_ns();

	if (in->stage == STAGE_LOADING && supervise_alive(in, ROLE_LOADER))
		/* acquire: pairs with the loader's release; only shown */
		progress_load(&in->progress,
			      atomic_load_explicit(&resident_of(in)->loaded, memory_order_acquire),
			      in->index->load_bytes, now);
	else if (in->stage == STAGE_DRAINING)
		drain_tick(in, now);
	if (in->stage == STAGE_STOPPING)
		stop_tick(in, now);
}

int stage_timeout(const struct init *in)
{
	static const int timeouts[] = {
		[STAGE_SURVEY] = -1,    [STAGE_LOADING] = 200, [STAGE_READY] = -1,
		[STAGE_DRAINING] = 100, [STAGE_STOPPING] = 20,
	};

	return timeouts[in->stage];
}
