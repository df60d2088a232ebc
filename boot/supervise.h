/*
 * Starts the servers, notices their deaths and starts successors (machinery 9). One table says what
 * each server gets, another what each kind of end leads to. Called by the loop and by stage.c.
 */
#ifndef BOOT_SUPERVISE_H
#define BOOT_SUPERVISE_H

#include "boot/init.h"

/* The role shall run: starts it, or waits for an io_uring. */
void supervise_want(struct init *in, enum role role);

/* The pidfd of a role, or of its spare, is readable. */
void supervise_died(struct init *in, enum role role);
void supervise_spare_died(struct init *in, enum role role);

/* Starts who waits, makes spares and looks after io_urings that are still draining. */
void supervise_tick(struct init *in);
/* In how many ms supervise_tick wants to be called; -1: it does not. */
int supervise_timeout(const struct init *in);

/* The log object that a role writes; NULL: it has none, or init does not see it yet. */
const struct log_object *supervise_log(const struct init *in, enum role role);

/* The same as supervise_kill, and the death is counted under this cause. */
void supervise_kill_for(struct init *in, enum role role, enum restart_cause cause);
/*
 * SIGKILL by pidfd. A role that waits for its start goes on waiting, unless the node is stopping.
 */
void supervise_kill(struct init *in, enum role role);
/* The node is stopping: nobody will need them. */
void supervise_kill_spares(struct init *in);
bool supervise_alive(const struct init *in, enum role role);

/*
 * Exchanges and wakes every futex word: after deaths, stages, and once a second while there is work
 * (bell.h 5).
 */
void supervise_wake_all(struct init *in);

/* The node ends with this status; the first one counts. */
void supervise_end(struct init *in, int status);

#endif
