/*
 * The loop of init's first thread: waits for signals, deaths, clients and servers, and for nothing
 * else. An idle node waits without a timeout.
 *
 * No wake-up of init is lost (the other side is gateway's: commit, fence, exchange(init_idle, 0),
 * write to FD_BELL if it was 1):
 *  1. init exchanges 1 into init_idle, passes a seq_cst fence, and looks at every record once more;
 *     only then it waits in epoll.
 *  2. If the gateway's exchange comes after ours, it finds 1 and writes: epoll_wait returns.
 *  3. If it comes before, its commit is visible to our second look.
 *  4. A gateway that dies between exchange and write is noticed by its pidfd, and then everything
 *     is looked at.
 */
#include "boot/ask.h"
#include "boot/stage.h"
#include "boot/supervise.h"

#include "ipc/watch.h"
#include "runtime/clock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	EVENTS = 64,
	DEADLINE_LOOK_MS = 250,
	WAKE_MS = 1000, /* bell.h 5; hang.h has init look more often */
	ACTIVE_S = 3    /* after a byte moved, a request may be on its way to the router */
};

static void read_signal(struct init *in)
{
	struct signalfd_siginfo si;

	if (read(in->signals, &si, sizeof(si)) == sizeof(si))
		stage_signal(in, (int)si.ssi_signo);
}

static void read_bell(struct init *in)
{
	uint64_t count;
	ssize_t n =
		read(in->bell, &count, sizeof(count)); /* cleared; the records say what is new */

	(void)n;
}

/* Somebody asks for the counters: gets them and is gone. */
static void give_counters(const struct init *in)
{
	int fd = accept4(in->counters.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	watch_send(fd, in->objects.read + OBJ_LOG_INIT);
	close(fd);
}

/* supervise_tick takes a new one, if somebody waits. */
static void see_rings(struct init *in)
{
	if (rings_seen(&in->rings, &in->error))
		supervise_end(in, in->error.status ? in->error.status : STATUS_FAILED);
}

static void dispatch(struct init *in, const struct epoll_event *ev)
{
	uint64_t tag = ev->data.u64;

	if (tag >= TAG_CONN)
		pump_event(&in->pump, (unsigned)(tag - TAG_CONN), ev->events);
	else if (tag >= TAG_SPARE)
		supervise_spare_died(in, (enum role)(tag - TAG_SPARE));
	else if (tag >= TAG_SERVER)
		supervise_died(in, (enum role)(tag - TAG_SERVER));
	else if (tag == TAG_COUNTERS)
		give_counters(in);
	else if (tag == TAG_LISTEN)
		pump_accept(&in->pump);
	else if (tag == TAG_SIGNAL)
		read_signal(in);
	else if (tag == TAG_BELL)
		read_bell(in);
	else if (tag == TAG_RINGS)
		see_rings(in);
	else if (tag == TAG_PORT)
		port_event(&in->machine.port);
	else if (tag == TAG_PROOF)
		ask_proof(in);
	else if (tag == TAG_BUTTON && machine_pressed(&in->machine))
		stage_signal(in, SIGTERM);
}

/* One look at everything. Returns whether something moved. */
static bool look(struct init *in)
{
	int rc = 0;

	supervise_tick(in);
	stage_tick(in);
	if (in->pump.in && !in->options.client)
		rc = pump_scan(&in->pump, false);
	if (rc < 0) {
		log_write(in->log, 1, LOG_BAD_MESSAGE,
			  (const uint64_t[5]){ROLE_CLIENT, 0, 0, 0, 0});
		supervise_kill_for(in, ROLE_CLIENT, RESTART_REFUSED);
	}
	return rc > 0;
}

static int sooner(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* How long epoll may wait; sets in->working. */
static int timeout_ms(struct init *in)
{
	int ms = stage_timeout(in);

	in->working =
		stage_in_flight(in) ||
		(in->pump.active_ns && clock_now_ns() - in->pump.active_ns < ACTIVE_S * NS_PER_S);
	ms = sooner(ms, hang_timeout(in));
	if (pump_timed(&in->pump))
		ms = sooner(ms, DEADLINE_LOOK_MS);
	return sooner(ms, supervise_timeout(in));
}

int loop_run(struct init *in)
{
	struct epoll_event ev[EVENTS];
	uint64_t woken_ns = clock_now_ns();

	while (in->exit_status < 0) {
		int ms = timeout_ms(in), n;

		if (in->working && clock_now_ns() - woken_ns >= WAKE_MS * NS_PER_MS) {
			supervise_wake_all(in);
			woken_ns = clock_now_ns();
		}
		atomic_exchange_explicit(&in->bells->init_idle, 1, memory_order_seq_cst);
		atomic_thread_fence(memory_order_seq_cst);
		if (look(in))
			ms = 0;
		if (in->machine.here && in->pump.in)
			ms = sooner(ms, ask_tick(in));
		if (in->exit_status >= 0)
			break;
		n = epoll_wait(in->epoll, ev, EVENTS, ms);
		/* relaxed: only whether a write is needed */
		atomic_store_explicit(&in->bells->init_idle, 0, memory_order_relaxed);
		for (int i = 0; i < n; i++)
			dispatch(in, &ev[i]);
	}
	return in->exit_status;
}
