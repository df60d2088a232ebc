/*
 * Where the node stands: survey, loading, ready, draining, stopping; and what leads from one to the
 * next. Called by the loop and by supervise.c.
 */
#ifndef BOOT_STAGE_H
#define BOOT_STAGE_H

#include "boot/init.h"

void stage_set(struct init *in, enum node_stage stage);

/* The survey or the loader has done its work. */
void stage_task_done(struct init *in, enum role role);

/* SIGTERM, SIGINT or SIGHUP has come (machinery 27). */
void stage_signal(struct init *in, int signo);

/* Progress lines, the end of a drain, who is stopped next. */
void stage_tick(struct init *in);

/* Whether requests are queued or rows in flight, as far as router's record and counters say. */
bool stage_in_flight(const struct init *in);

/* Milliseconds after which stage_tick wants to be called; -1: no need. */
int stage_timeout(const struct init *in);

#endif
