/*
 * A connection's byte rings (machinery 14, ipc/conn.h) across deaths of the gateway: init moves bytes between a socket and the rings, the gateway
 * answers each byte by the same one, and commits what it took and what it produced together. Two clients have the connection one after the other; the
 * first may leave at any moment. Asserted: a client gets its own bytes, each once, in order. tests/spin/spin.t leaves out each crucial line in turn:
 * TAIL_FIRST, NO_ROOM, TWO_COMMITS, UNCOMMITTED, NO_FREE, NO_DROP.
 */
#define N 3     /* bytes of a client */
#define SIZE 2  /* of a ring */
#define KILLS 2

byte rx[SIZE], tx[SIZE];
byte rx_tail = 0, tx_head = 0, life = 1;   /* init's; bytes of client c are 10 * c + 1, + 2, ... */
bool gone = false;                         /* the socket of this life is closed */
byte rx_head = 0, tx_tail = 0, served = 1; /* the gateway's record */
bool is_free = false;                      /* of the life in `served` */
byte draft = 0;                            /* the tail that it has not committed yet: nobody's business */
byte kills = 0;

#ifdef NO_ROOM
#define ROOM true
#else
#define ROOM tx_tail - tx_head < SIZE
#endif
#ifdef UNCOMMITTED
#define TO_SEND draft
#else
#define TO_SEND tx_tail
#endif
#ifdef NO_FREE
#define FREED true
#else
#define FREED served == life && is_free
#endif
#define MAY_DIE if :: kills < KILLS -> kills++; goto successor :: skip fi

active proctype gateway()
{
successor:
	do
	:: life == 3 -> break
	:: served != life -> d_step { served = life; is_free = false }
	:: served == life && gone && !is_free -> /* drops what it has, as it sees it */
#ifdef NO_DROP
		is_free = true;
#else
		d_step { rx_head = rx_tail; tx_tail = tx_head; is_free = true };
#endif
		MAY_DIE
	:: served == life && !is_free && !gone && rx_head != rx_tail && ROOM ->
		tx[tx_tail % SIZE] = rx[rx_head % SIZE];
		draft = tx_tail + 1;
		MAY_DIE;
#ifdef TWO_COMMITS
		tx_tail++;
		MAY_DIE;
		rx_head++;
#else
		d_step { tx_tail++; rx_head++ };
#endif
		MAY_DIE
	od
}

/* The client is part of it: what recv gives and what send takes. */
active proctype init_()
{
	byte sent = 0, got = 0, b;

	do
	:: !gone && sent < N && rx_tail - rx_head < SIZE ->
#ifdef TAIL_FIRST
		rx_tail++;
		rx[(rx_tail - 1) % SIZE] = 10 * life + sent + 1;
#else
		rx[rx_tail % SIZE] = 10 * life + sent + 1;
		rx_tail++;
#endif
		sent++
	:: !gone && tx_head < TO_SEND ->
		b = tx[tx_head % SIZE];
		got++;
		assert(b == 10 * life + got);
		tx_head++
	:: !gone && (got == N || life == 1) -> gone = true
	:: gone && FREED && rx_head == rx_tail && tx_head == tx_tail ->
		if
		:: life == 2 -> life = 3; break
		:: life == 1 -> d_step { life = 2; gone = false; sent = 0; got = 0 }
		fi
	od
}
