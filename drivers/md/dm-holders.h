/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * References to an object, and a wait until the last of them has been put.
 *
 * Who destroys the object holds one of the references. First it sees to it
 * that nobody can get a new one from then on, then it puts its own, and then
 * it waits. So zero is reached once, and is final:
 *
 *	destroyer				holder
 *	...					dm_holders_get()
 *	forbid new references
 *	dm_holders_put()
 *	dm_holders_wait()			use the object
 *						dm_holders_put()
 *	free the object
 *
 * All that a holder does before its put happens before what the destroyer does
 * after its wait. A holder must not touch the object after its put; what
 * dm_holders_put() itself touches then it touches under a spinlock that the
 * waiter takes too, so the object can be freed at once.
 *
 * A put too many, or a get after the last put, warns once and saturates the
 * count, like any refcount_t. The wait ends at the first zero, whatever comes
 * after it.
 */
#ifndef DM_HOLDERS_H
#define DM_HOLDERS_H

#include <linux/completion.h>
#include <linux/refcount.h>

/**
 * struct dm_holders - who holds an object
 * @count: the references; zero is final
 * @gone: completed when the last of them has been put
 */
struct dm_holders {
	refcount_t count;
	struct completion gone;
};

/**
 * dm_holders_init - begin with one reference, for the caller
 * @holders: in an object that nobody else knows yet
 *
 * Context: any.
 */
static inline void dm_holders_init(struct dm_holders *holders)
{
	refcount_set(&holders->count, 1);
	init_completion(&holders->gone);
}

/**
 * dm_holders_get - get one more reference
 * @holders: in an object that cannot lose its last reference meanwhile
 *
 * Context: any.
 */
static inline void dm_holders_get(struct dm_holders *holders)
{
	refcount_inc(&holders->count);
}

/**
 * dm_holders_put - put a reference
 * @holders: in an object that the caller does not use any more
 *
 * Context: any, hard interrupts included, also with PREEMPT_RT: the only lock
 * is the raw one of the completion.
 */
static inline void dm_holders_put(struct dm_holders *holders)
{
	if (refcount_dec_and_test(&holders->count))
		complete(&holders->gone);
}

/**
 * dm_holders_nr - how many references are there?
 * @holders: in an object that cannot be freed meanwhile
 *
 * Context: any.
 * Return: a number to be printed; it may be another one already.
 */
static inline unsigned int dm_holders_nr(const struct dm_holders *holders)
{
	return refcount_read(&holders->count);
}

/**
 * dm_holders_wait - wait until the last reference has been put
 * @holders: in an object that nobody can get a new reference to
 * @timeout: jiffies to wait; 0 to have a look
 *
 * Only one task waits, and after it was told true never again.
 *
 * Context: process; sleeps, uninterruptibly, unless @timeout is 0.
 * Return: true if nobody holds the object, so that it can be freed; false if
 * the time has passed and somebody does.
 */
static inline bool dm_holders_wait(struct dm_holders *holders, unsigned long timeout)
{
	if (!timeout)
		return try_wait_for_completion(&holders->gone);
	return wait_for_completion_timeout(&holders->gone, timeout);
}

#endif /* DM_HOLDERS_H */
