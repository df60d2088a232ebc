/*
 * Waiting across deaths (ipc/bell.h, boot/loop.c): a server commits N steps and rings its neighbour's bell and init, which sleeps in epoll behind a
 * flag; it may be killed before any statement, also between commit and bell, or between taking the flag down and writing. init reaps it, starts a
 * successor, rings all bells and looks at everything once more. Asserted by the absence of an invalid end: neighbour and init see all steps.
 * tests/spin/spin.t leaves out each crucial line in turn: NO_WAKE_ALL, WAKE_EARLY, LOOK_FIRST, NO_PIDFD.
 */
#define N 3
#define KILLS 2

byte version = 0;
bool asleep = false, idle = false; /* the neighbour's bell, and init_idle */
bool waiting = false;              /* the neighbour is in FUTEX_WAIT */
bool written = false;              /* init's eventfd */
bool dead = false;                 /* the pidfd is readable */
bool start = true;                 /* init starts a process */
byte kills = 0;

#ifdef NO_PIDFD
#define EVENT written
#else
#define EVENT written || dead /* epoll_wait */
#endif
#define MAY_DIE if :: kills < KILLS -> kills++; goto died :: skip fi

active proctype server()
{
	bool was;

born:
	start -> start = false;
	do
	:: version == N -> break
	:: version < N ->
		MAY_DIE;
		version++; /* the commit; fences: bell.pml */
		MAY_DIE;
		d_step { was = asleep; asleep = false };
		MAY_DIE;
		if
		:: was -> waiting = false
		:: else
		fi;
		MAY_DIE;
		d_step { was = idle; idle = false };
		MAY_DIE;
		if
		:: was -> written = true
		:: else
		fi
	od;
	goto done;
died:	skip;
#ifdef WAKE_EARLY
	/* init rings the bells when it has sent the signal, before the process is quiet */
	d_step { asleep = false; waiting = false };
	if :: version < N -> version++ :: skip fi;
#endif
	dead = true;
	goto born;
done:	skip
}

active proctype neighbour()
{
	byte head = 0;

	do
	:: head == N -> break
	:: head < version -> head++
	:: head == version && head < N ->
		asleep = true;
		if
		:: head < version -> asleep = false; goto again
		:: else
		fi;
		if
		:: atomic { asleep -> waiting = true }
		:: !asleep -> goto again
		fi;
		!waiting;
		asleep = false;
again:		skip
	od
}

active proctype init_()
{
	byte seen = 0;

	do
	:: true ->
#ifdef LOOK_FIRST
		seen = version;
		idle = true;
#else
		idle = true;
		seen = version;
#endif
		if
		:: seen == N ->
end:			EVENT /* it may sleep for ever */
		:: else -> EVENT
		fi;
		idle = false;
		written = false;
		if
		:: dead ->
			dead = false; /* reaped: it is quiet */
			start = true;
#if !defined(NO_WAKE_ALL) && !defined(WAKE_EARLY)
			d_step { asleep = false; waiting = false };
#endif
			skip
		:: else
		fi
	od
}
