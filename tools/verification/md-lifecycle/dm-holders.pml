/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of drivers/md/dm-holders.h on a machine with weak memory order, as
 * dm_get_md(), dm_put() and dm_destroy() use it.
 *
 * A processor here performs its accesses in any order that neither a fence nor a
 * dependency forbids: each is a branch of a loop that is entered once, as soon
 * as what has to be before it has been done.  So loads are early, stores and
 * loads are late, and what is not said to be ordered is not.  A branch orders
 * stores that come after it, but not loads.  What has been performed is seen by
 * all at once, as on ARMv8 and RISC-V; for machines where it is not, and for the
 * memory model of Linux, there is dm-holders.litmus.
 *
 * What is checked:
 *   use_after_free   no holder reads or writes, or puts, what has been freed
 *   stale            who frees it has seen all that the holders have written
 *   zero_twice       the last reference is put once
 * and, by SPIN itself, that everybody ends.
 *
 *   OLD		how 7.3.4 did it: atomic_dec(), and poll for zero
 *   WITHOUT=x		leave out one thing, see below
 *
 * Not here: refcount_dec_and_test() is an acquire, too, if it gets to zero.  That
 * is not needed: what follows is ordered by the lock of the completion.
 */

#define NOTHING		0
#define RELEASE		1	/* of the put */
#define ACQUIRE		2	/* of the lock that the waiter takes */
#define WAITER_LOCK	3	/* the waiter takes it, and does not only look */
#define FORBID		4	/* no new references before the destroyer's put */
#define OWN_REFERENCE	5	/* of the destroyer: so that zero is final */
#ifndef WITHOUT
#define WITHOUT NOTHING
#endif
#ifdef OLD
#define with(x) (x == FORBID)
#else
#define with(x) (WITHOUT != x)
#endif

#define HOLDERS 2		/* with a reference from the start */
#define LOOKERS 1		/* who may find it: dm_get_md(), dm_hold() */

mtype = { holder_, looker_, destroyer_ };

/* The object, a struct mapped_device. */
byte count;			/* ->holders.count */
bit lock, all_put;		/* ->holders.gone */
bit freeing;			/* DMF_FREEING */
byte data;			/* one bit for each holder, who sets it */
bit freed;

byte needed;			/* those who have had a reference */

bit zero;			/* there has been none */
bit use_after_free, stale, zero_twice;

inline claim(ok, name) { name = !(ok); assert(!name) }
inline use() { claim(!freed, use_after_free) }

/* The first half of dm_holders_put() */
inline dec()
{
	use();
	count--;
	put = 1;
	last = (count == 0);
	claim(!last || !zero, zero_twice);
	zero = zero || last;
	printf("%e %d: puts, %d left\n", me, nr, count)
}

/* The other half: complete() of the last one.  @before: what is before it. */
#define complete(before)							\
	:: atomic { put && last && !locked && !lock -> use(); lock = 1; locked = 1 }	\
	:: atomic { locked && !told -> use(); all_put = 1; told = 1;	\
		printf("%e %d: completes\n", me, nr) }	\
	:: atomic { told && !unlocked && (before) -> use(); lock = 0; unlocked = 1;	\
		printf("%e %d: unlocks\n", me, nr) }

#ifdef OLD
#define completed 1
#else
#define completed (!last || unlocked)
#endif

/* Somebody with a reference: uses the object, puts the reference. */
inline hold()
{
	do
	:: atomic { !wrote -> use(); data = data | (1 << nr); wrote = 1;
		printf("%e %d: writes\n", me, nr) }
	:: atomic { !looked -> use(); looked = 1; printf("%e %d: reads\n", me, nr) }
	:: atomic { !put && (wrote && looked || !with(RELEASE)) -> dec() }
#ifndef OLD
	complete(wrote && looked)
#endif
	:: atomic { wrote && looked && put && completed -> break }
	od
}

proctype holder(byte nr)
{
	mtype me = holder_;
	bit wrote, looked, put, last, locked, told, unlocked;

	hold()
}

/* dm_get_md(): under _minor_lock, so nothing of the use is before */
proctype looker(byte nr)
{
	mtype me = looker_;
	bit wrote, looked, put, last, locked, told, unlocked;

	if
	:: atomic { freeing }
	:: atomic { !freeing ->
		use();
		count++;
		needed = needed | (1 << nr);
		printf("%e %d: gets, %d now\n", me, nr, count) };
		hold()
	fi
}

/* dm_destroy() */
proctype destroyer()
{
	mtype me = destroyer_;
	byte nr = HOLDERS + LOOKERS, seen;
	bit forbidden, put, last, locked, told, unlocked, waited, saw;

	do
	/* dm_start_destroy(): under _minor_lock */
	:: atomic { !forbidden && (with(FORBID) || waited) ->
		freeing = 1; forbidden = 1; printf("%e %d: forbids\n", me, nr) }
	/* dm_put() */
	:: atomic { !put && with(OWN_REFERENCE) &&
		(forbidden || !with(RELEASE) || !with(FORBID)) -> dec() }
#ifndef OLD
	complete(forbidden || !with(FORBID))
#endif
	/* dm_holders_wait() */
#ifdef OLD
	:: atomic { !waited && forbidden && count == 0 -> waited = 1 }
#else
	:: atomic { !waited && (put && completed || !with(OWN_REFERENCE)) &&
		(forbidden || !with(FORBID)) && all_put && (!lock || !with(WAITER_LOCK)) ->
		all_put = 0; waited = 1; printf("%e %d: need not wait\n", me, nr) }
#endif
	/* A load: it can be before the branch that the wait is. */
	:: atomic { !saw && (waited || !with(ACQUIRE)) ->
		seen = data; saw = 1; printf("%e %d: looks\n", me, nr) }
	/* A store */
	:: atomic { waited && saw && forbidden && !freed ->
		claim((seen & needed) == needed, stale);
		freed = 1; printf("%e %d: frees\n", me, nr) }
	:: atomic { freed -> break }
	od
}

init
{
	byte n;

	atomic {
		count = HOLDERS + (with(OWN_REFERENCE) -> 1 : 0);
		needed = (1 << HOLDERS) - 1;
		do :: n < HOLDERS -> run holder(n); n++ :: else -> break od;
		do :: n < HOLDERS + LOOKERS -> run looker(n); n++ :: else -> break od;
		run destroyer()
	}
}
