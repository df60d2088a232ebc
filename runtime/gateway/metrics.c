/*
 * /metrics: every server's counters in Prometheus' text form, one line per role (machinery 25). See
 * gateway.h.
 */
#include "runtime/gateway/gateway.h"

#include <string.h>

static bool is_gauge(enum counter c)
{
	return c == COUNT_PAGES_FREE || c == COUNT_MTP_GAIN || c == COUNT_HALVES_GAIN ||
	       c == COUNT_SLOTS || c == COUNT_SLOTS_PINNED || c == COUNT_RUNNING ||
	       c == COUNT_QUEUED || c == COUNT_CONNECTIONS;
}

static void write_counter(const struct gateway *g, enum counter c, uint32_t roles, const char *name,
			  const char *help, struct out *o)
{
	const char *total = is_gauge(c) ? "" : "_total";

	out_format(o, "# HELP penstock_%s%s %s\n# TYPE penstock_%s%s %s\n", name, total, help, name,
		   total, is_gauge(c) ? "gauge" : "counter");
	for (unsigned k = OBJ_LOG_INIT; k <= OBJ_LOG_EXPERTS; k++) {
		const struct log_object *log =
			attach_at(&g->at, (enum object)k, sizeof(struct object_header));
		uint64_t v;

		if (!(roles >> graph_objects[k].writer & 1))
			continue;
		v = atomic_load_explicit(&log->counter[c], memory_order_relaxed);

		out_format(o, "penstock_%s%s{role=\"%s\"} %llu\n", name, total,
			   graph_roles[graph_objects[k].writer].program, (unsigned long long)v);
	}
}

/* Why which server was started again; init counts. */
static void write_restarts(const struct gateway *g, struct out *o)
{
#define NAME(cause, name) [RESTART_##cause] = name,
	static const char *const names[RESTART_CAUSES] = {RESTART_LIST(NAME)};
#undef NAME
	const struct log_object *log =
		attach_at(&g->at, OBJ_LOG_INIT, sizeof(struct object_header));

	out_text(o, "# HELP penstock_restarts_total servers started again\n"
		    "# TYPE penstock_restarts_total counter\n");
	for (unsigned role = ROLE_CLIENT; role <= ROLE_SCRIBE; role++) {
		for (unsigned k = 0; k < RESTART_CAUSES; k++)
			out_format(o, "penstock_restarts_total{server=\"%s\",cause=\"%s\"} %llu\n",
				   graph_roles[role].program, names[k],
				   (unsigned long long)atomic_load_explicit(&log->restarts[role][k],
									    memory_order_relaxed));
	}
}

/* Of the experts that were asked for, those that were in a slot. */
static void write_hit_rate(const struct gateway *g, struct out *o)
{
	const struct log_object *log =
		attach_at(&g->at, OBJ_LOG_EXPERTS, sizeof(struct object_header));
	uint64_t hits = atomic_load_explicit(&log->counter[COUNT_HITS], memory_order_relaxed),
		 asked = hits +
			 atomic_load_explicit(&log->counter[COUNT_MISSES], memory_order_relaxed);

	out_format(o,
		   "# HELP penstock_expert_hit_ratio experts found in slots, of those asked for\n"
		   "# TYPE penstock_expert_hit_ratio gauge\npenstock_expert_hit_ratio %.4f\n",
		   asked ? (double)hits / (double)asked : 0.0);
}

void metrics_write(const struct gateway *g, struct out *o)
{
#define WRITE(counter, roles, name, help) write_counter(g, COUNT_##counter, roles, name, help, o);
	COUNTER_LIST(WRITE)
#undef WRITE
	write_restarts(g, o);
	write_hit_rate(g, o);
	out_text(o, "# HELP penstock_build_info the build and the model\n"
		    "# TYPE penstock_build_info gauge\npenstock_build_info{fingerprint=");
	out_json(o, g->env.fingerprint, strlen(g->env.fingerprint));
	out_text(o, "} 1\n");
}
