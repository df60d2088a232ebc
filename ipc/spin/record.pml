/*
 * The double record (ipc/record.h): a writer that may be killed before any statement, a successor that starts from the committed copy, and a reader beside them. The
 * record holds two fields that change together. Asserted: no reader sees one without the other, no commit is lost. tests/spin/spin.t leaves out each crucial line in
 * turn: NO_RECHECK, NO_REPEAT, NO_ADOPT, IN_PLACE.
 */
#define COMMITS 3
#define KILLS 2

byte version = 0;
byte a[2], b[2];    /* the two copies */
byte kills = 0;
byte committed = 0; /* ghost: commits that have happened */
bool over = false;

#define MAY_DIE if :: kills < KILLS -> kills++; goto successor :: skip fi

active proctype writer()
{
	byte d; /* the draft's number */

successor:
	d = (version + 1) % 2;
#ifndef NO_ADOPT
	a[d] = a[version % 2];
	b[d] = b[version % 2];
#endif
	do
	:: committed < COMMITS ->
#ifdef IN_PLACE
		d = version % 2;
#endif
		MAY_DIE;
		a[d] = a[d] + 1;
		MAY_DIE;
		b[d] = b[d] + 1;
		MAY_DIE;
		d_step { version++; committed++ };
		assert(a[version % 2] == committed && b[version % 2] == committed);
		MAY_DIE;
		d = (version + 1) % 2;
#ifndef NO_REPEAT
		a[d] = a[version % 2];
		MAY_DIE;
		b[d] = b[version % 2]
#endif
	:: else -> break
	od;
	over = true
}

active proctype reader()
{
	byte seen, x, y;

	do
	:: over -> break
	:: seen = version;
	   x = a[seen % 2];
	   y = b[seen % 2];
#ifndef NO_RECHECK
	   if
	   :: version != seen -> goto again
	   :: else
	   fi;
#endif
	   assert(x == y);
again:	   skip
	od
}
