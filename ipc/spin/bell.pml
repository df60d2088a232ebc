/*
 * Sleeping and waking (ipc/bell.h): a committer publishes N commits, a sleeper takes them all. The committer's
 * release store goes through a store buffer that drains when it likes; its fence waits for that. A lost wake-up is
 * a sleeper that waits for ever: SPIN reports an invalid end state. tests/spin/spin.t also leaves out each
 * crucial line in turn (NO_LOOK, NO_FENCE, NO_COMPARE) and demands that the bug is found.
 */
#define N 3
#define AWAKE 0
#define ASLEEP 1

byte version = 0;     /* what the sleeper can see of the record */
byte pending = 0;     /* commits in the committer's store buffer */
bit word = AWAKE;     /* the bell */
bool waiting = false; /* the sleeper is in FUTEX_WAIT */
bool over = false;

active proctype store_buffer()
{
	do
	:: pending > 0 -> d_step { pending--; version++ }
	:: over && pending == 0 -> break
	od
}

active proctype committer()
{
	byte i = 0;
	bit old;

	do
	:: i < N ->
		pending++; /* release store of the version */
#ifndef NO_FENCE
		pending == 0; /* seq_cst fence */
#endif
		d_step { old = word; word = AWAKE }; /* exchange */
		if
		:: old == ASLEEP -> waiting = false /* FUTEX_WAKE */
		:: else
		fi;
		i++
	:: else -> break
	od;
	over = true
}

active proctype sleeper()
{
	byte head = 0;

	do
	:: head == N -> break
	:: head < N && version > head -> head++ /* work; pop */
	:: head < N && version == head ->
		word = ASLEEP; /* exchange and fence */
#ifndef NO_LOOK
		if
		:: version > head -> word = AWAKE; goto again
		:: else
		fi;
#endif
#ifndef NO_COMPARE
		if
		:: atomic { word == ASLEEP -> waiting = true } /* FUTEX_WAIT compares */
		:: word == AWAKE -> goto again
		fi;
#else
		waiting = true;
#endif
		!waiting;
		word = AWAKE;
again:		skip
	od
}
