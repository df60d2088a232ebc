/*
 * Steps and rings (machinery 2, 3): a source of numbers, a server that turns each into a message of a ring, a server that takes them and keeps a
 * log. A step peeks, works and commits; taking the input and publishing the output are one store. Both servers may be killed before any statement,
 * and their successors know only what was committed. Asserted: every number is in the log once, in order, and no message is overwritten that has not
 * been taken. tests/spin/spin.t leaves out each crucial line in turn: TWO_COMMITS, TAIL_FIRST, NO_ROOM, POP_FIRST.
 */
#define N 4
#define ENTRIES 2
#define KILLS 2

byte entry[ENTRIES];
byte taken = 0, tail = 0;     /* the first server's record */
byte head = 0, logged = 0;    /* the second one's; the log only grows */
byte kills = 0;

#define MAY_DIE(successor) if :: kills < KILLS -> kills++; goto successor :: skip fi

active proctype first()
{
	byte number;

successor:
	do
	:: taken == N -> break
	:: taken < N ->
#ifndef NO_ROOM
		tail - head < ENTRIES; /* waits for room */
#endif
		number = taken + 1;
#ifdef TAIL_FIRST
		d_step { taken++; tail++ };
		MAY_DIE(successor);
		entry[(tail - 1) % ENTRIES] = number;
#else
		MAY_DIE(successor);
		entry[tail % ENTRIES] = number; /* nobody looks there yet */
		MAY_DIE(successor);
#ifdef TWO_COMMITS
		tail++;
		MAY_DIE(successor);
		taken++;
#else
		d_step { taken++; tail++ };
#endif
#endif
		MAY_DIE(successor)
	od
}

active proctype second()
{
	byte number;

successor:
	do
	:: logged == N -> break
	:: head < tail ->
#ifdef POP_FIRST
		number = entry[head % ENTRIES];
		head++;
		MAY_DIE(successor);
		assert(number == logged + 1);
		logged++;
#else
		number = entry[head % ENTRIES];
		MAY_DIE(successor);
		assert(number == logged + 1);
		d_step { head++; logged++ };
#endif
		MAY_DIE(successor)
	od
}
