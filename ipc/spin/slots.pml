/*
 * Slots and late DMA (machinery 10, runtime/experts/slots.c): experts reads experts into slots through the io_uring of its generation. It may be killed
 * before any statement; a read that was in flight then still lands, in two halves, or fails, whenever it likes. A slot's word {state, generation,
 * expert} is written before the read is submitted; init says that a generation's io_uring is empty when its last read has ended. Asserted: what is
 * computed with is the expert that was asked for, whole. tests/spin/spin.t leaves out each crucial line in turn: WORD_LATE, NO_WAIT, READY_EARLY,
 * EMPTY_EARLY, TAKE_FAILED.
 */
#define SLOTS 2
#define EXPERTS 2
#define USES 2
#define GENERATIONS 3

mtype = { FREE, LOADING, READY };

mtype state[SLOTS] = FREE; /* the words, in memory that survives */
byte word_generation[SLOTS], expert[SLOTS];
byte low[SLOTS], high[SLOTS]; /* the bytes */

/* Reads in flight: one per slot and generation; 0: none. */
byte flight[SLOTS * GENERATIONS]; /* the expert that is being read */
bool landed[SLOTS * GENERATIONS], failed[SLOTS * GENERATIONS];
byte generation = 0;  /* of the living process */
byte drained = 0;     /* generations below have an empty io_uring; init publishes it */

#define AT(slot, g) ((slot) * GENERATIONS + (g))
#ifdef NO_WAIT
#define MAY_TAKE(slot) true
#else
#define MAY_TAKE(slot) state[slot] != LOADING || word_generation[slot] < drained
#endif
#define MAY_DIE if :: generation + 1 < GENERATIONS -> goto died :: skip fi

active proctype experts_()
{
	byte uses = 0, want, slot;

successor:
	do
	:: uses == USES -> break
	:: uses < USES ->
		select (want : 1 .. EXPERTS);
		/* is it in a slot that is ready? those of a predecessor stay ready */
		if
		:: state[0] == READY && expert[0] == want -> slot = 0
		:: state[1] == READY && expert[1] == want -> slot = 1
		:: else ->
			/* another slot: one in which no read can still land; else it waits */
			if
			:: MAY_TAKE(0) -> slot = 0
			:: MAY_TAKE(1) -> slot = 1
			fi;
#ifdef WORD_LATE
			flight[AT(slot, generation)] = want;
			MAY_DIE;
			d_step { state[slot] = LOADING; word_generation[slot] = generation; expert[slot] = want };
#else
			d_step { state[slot] = LOADING; word_generation[slot] = generation; expert[slot] = want };
			MAY_DIE;
			flight[AT(slot, generation)] = want; /* io_uring_enter */
#endif
			MAY_DIE;
#ifndef READY_EARLY
			landed[AT(slot, generation)] || failed[AT(slot, generation)]; /* the completion */
#endif
			MAY_DIE;
			if
			:: failed[AT(slot, generation)] ->
#ifndef TAKE_FAILED
				d_step { failed[AT(slot, generation)] = false; state[slot] = FREE };
				goto next
#else
				d_step { failed[AT(slot, generation)] = false; state[slot] = READY }
#endif
			:: else ->
				d_step { landed[AT(slot, generation)] = false; state[slot] = READY }
			fi
		fi;
		MAY_DIE;
		assert(low[slot] == want);
		MAY_DIE;
		assert(high[slot] == want);
next:		uses++
	od;
	goto done;
died:
	generation++;
	goto successor;
done:	skip
}

/* The drive, one for each place of a read: it goes on at any time, whether its process lives or not. */
active [SLOTS * GENERATIONS] proctype drive()
{
	byte i = _pid - 1, slot = (_pid - 1) / GENERATIONS;

end:	do
	:: flight[i] ->
		if
		:: d_step { failed[i] = true; flight[i] = 0 }
		:: low[slot] = flight[i];
		   high[slot] = flight[i];
		   d_step { landed[i] = true; flight[i] = 0 } /* the completion */
		fi
	od
}

active proctype init_()
{
end:	do
	:: drained < generation ->
#ifndef EMPTY_EARLY
		flight[AT(0, drained)] == 0 && flight[AT(1, drained)] == 0;
#endif
		drained++
	od
}
