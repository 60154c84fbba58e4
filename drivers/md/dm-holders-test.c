// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of dm-holders.h.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "dm-holders.h"

/* For waits on what is certain to happen; never a measure. */
#define DEADLINE	(10 * HZ)

/* How many lives, each ended by a put that races with the wait. */
#define LIVES		2000

static void zero_ends_the_wait(struct kunit *test)
{
	struct dm_holders holders;

	dm_holders_init(&holders);
	KUNIT_EXPECT_EQ(test, dm_holders_nr(&holders), 1);
	KUNIT_EXPECT_FALSE(test, dm_holders_wait(&holders, 0));
	dm_holders_put(&holders);
	KUNIT_EXPECT_EQ(test, dm_holders_nr(&holders), 0);
	KUNIT_EXPECT_TRUE(test, dm_holders_wait(&holders, DEADLINE));
}

static void only_the_last_put_ends_the_wait(struct kunit *test)
{
	struct dm_holders holders;
	int i;

	dm_holders_init(&holders);
	for (i = 0; i < 3; i++)
		dm_holders_get(&holders);
	for (i = 3; i > 0; i--) {
		dm_holders_put(&holders);
		KUNIT_EXPECT_EQ(test, dm_holders_nr(&holders), i);
		KUNIT_EXPECT_FALSE(test, dm_holders_wait(&holders, 0));
	}
	dm_holders_put(&holders);
	KUNIT_EXPECT_TRUE(test, dm_holders_wait(&holders, 0));
}

static void wait_gives_up_after_the_timeout(struct kunit *test)
{
	struct dm_holders holders;

	dm_holders_init(&holders);
	KUNIT_EXPECT_FALSE(test, dm_holders_wait(&holders, 2));
	KUNIT_EXPECT_EQ(test, dm_holders_nr(&holders), 1);
	dm_holders_put(&holders);
	KUNIT_EXPECT_TRUE(test, dm_holders_wait(&holders, DEADLINE));
}

static void one_put_ends_one_wait(struct kunit *test)
{
	struct dm_holders holders;

	dm_holders_init(&holders);
	dm_holders_put(&holders);
	KUNIT_EXPECT_TRUE(test, dm_holders_wait(&holders, 0));
	KUNIT_EXPECT_FALSE(test, dm_holders_wait(&holders, 0));
}

/* An object whose reference another context puts. */
struct object {
	struct dm_holders holders;
	struct irq_work work;
	bool in_hardirq;
	int used;		/* by the holder, before its put */
};

static struct object *new_object(struct kunit *test)
{
	struct object *object = kzalloc_obj(*object);

	KUNIT_ASSERT_NOT_NULL(test, object);
	dm_holders_init(&object->holders);
	dm_holders_get(&object->holders);
	return object;
}

/* As md is to go: nothing of it is used after the wait. */
static void destroy(struct kunit *test, struct object *object)
{
	dm_holders_put(&object->holders);
	KUNIT_ASSERT_TRUE(test, dm_holders_wait(&object->holders, DEADLINE));
	KUNIT_EXPECT_EQ(test, object->used, 1);
}

static void put_in_irq(struct irq_work *work)
{
	struct object *object = container_of(work, struct object, work);

	object->in_hardirq = in_hardirq();
	object->used = 1;
	dm_holders_put(&object->holders);
}

static void put_from_hard_irq(struct kunit *test)
{
	struct object *object = new_object(test);

	object->work = IRQ_WORK_INIT_HARD(put_in_irq);
	irq_work_queue(&object->work);
	destroy(test, object);
	KUNIT_EXPECT_TRUE(test, object->in_hardirq);
	irq_work_sync(&object->work);
	kfree(object);
}

static int put_in_thread(void *arg)
{
	struct object *object = arg;

	object->used = 1;
	dm_holders_put(&object->holders);
	return 0;
}

/*
 * The last put and the free can come as close as they like: with KASAN a put
 * that touches the object too late is seen.
 */
static void free_right_after_the_wait(struct kunit *test)
{
	struct task_struct *thread;
	struct object *object;
	int i;

	for (i = 0; i < LIVES; i++) {
		object = new_object(test);
		thread = kthread_create(put_in_thread, object, "dm-holders-test");
		KUNIT_ASSERT_FALSE(test, IS_ERR(thread));
		get_task_struct(thread);
		wake_up_process(thread);
		destroy(test, object);
		kfree(object);
		kthread_stop_put(thread);
	}
}

/* In these two refcount_t warns of what they do. */

static void put_too_many_saturates(struct kunit *test)
{
	struct dm_holders holders;

	dm_holders_init(&holders);
	dm_holders_put(&holders);
	kunit_warning_suppress(test) {
		dm_holders_put(&holders);
		KUNIT_EXPECT_EQ(test, dm_holders_nr(&holders),
				(unsigned int)REFCOUNT_SATURATED);
		dm_holders_put(&holders);
		KUNIT_EXPECT_EQ(test, dm_holders_nr(&holders),
				(unsigned int)REFCOUNT_SATURATED);
	}

	/* There was one zero, so there is one completion. */
	KUNIT_EXPECT_TRUE(test, dm_holders_wait(&holders, 0));
	KUNIT_EXPECT_FALSE(test, dm_holders_wait(&holders, 0));
}

static void no_resurrection(struct kunit *test)
{
	struct dm_holders holders;

	dm_holders_init(&holders);
	dm_holders_put(&holders);
	kunit_warning_suppress(test) {
		dm_holders_get(&holders);
		KUNIT_EXPECT_EQ(test, dm_holders_nr(&holders),
				(unsigned int)REFCOUNT_SATURATED);
		dm_holders_put(&holders);
	}

	/* Zero was final: what comes after it neither undoes nor repeats it. */
	KUNIT_EXPECT_TRUE(test, dm_holders_wait(&holders, 0));
	KUNIT_EXPECT_FALSE(test, dm_holders_wait(&holders, 0));
}

static struct kunit_case dm_holders_cases[] = {
	KUNIT_CASE(zero_ends_the_wait),
	KUNIT_CASE(only_the_last_put_ends_the_wait),
	KUNIT_CASE(wait_gives_up_after_the_timeout),
	KUNIT_CASE(one_put_ends_one_wait),
	KUNIT_CASE(put_from_hard_irq),
	KUNIT_CASE_SLOW(free_right_after_the_wait),
	KUNIT_CASE(put_too_many_saturates),
	KUNIT_CASE(no_resurrection),
	{}
};

static struct kunit_suite dm_holders_suite = {
	.name = "dm-holders",
	.test_cases = dm_holders_cases,
};

kunit_test_suite(dm_holders_suite);

MODULE_DESCRIPTION("KUnit tests of device mapper's references");
MODULE_LICENSE("GPL");
