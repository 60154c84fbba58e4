// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KUnit tests of md-lifecycle.c.
 *
 * Most of the devices here have a disk that was never added.  What would delete
 * it is replaced, and so is the queueing of the work item: a test runs it when it
 * wants to.  The second suite has real disks and the real workqueue.
 *
 * Not seen here: no memory; a claim that finds none of the million numbers free;
 * a hold that ends between the two looks that md_life_touch() has at it.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/major.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "md.h"
#include "md-lifecycle.h"

/* For waits on what is certain to happen; never a measure. */
#define DEADLINE	(10 * HZ)

/* A number that no array has, and one of a partitionable array: any other major. */
#define UNIT		MKDEV(MD_MAJOR, 300)
#define PART_UNIT	MKDEV(MD_MAJOR + 1, 30 << MdpMinorShift)

/* An md device of a test: outlives the mddev. */
struct device_of_test {
	struct kunit *test;
	struct mddev *mddev;		/* NULL when it was freed */
	struct gendisk *disk;
	atomic_t queued;		/* how often its work item was */
	struct completion released;	/* its kobject */

	/* How often it was hidden, and as what it was found then. */
	int hidden;
	enum md_life_state state_then;
	bool closing_then, gone_then;
};

static struct device_of_test *of(struct mddev *mddev)
{
	return mddev->private;
}

static bool is_closing(struct device_of_test *dev)
{
	return !list_empty(&dev->disk->closing);
}

static bool is_listed(struct mddev *wanted)
{
	struct mddev *mddev;

	guard(spinlock)(&all_mddevs_lock);
	list_for_each_entry(mddev, &all_mddevs, all_mddevs)
		if (mddev == wanted)
			return true;
	return false;
}

static int queued(struct device_of_test *dev)
{
	return atomic_read(&dev->queued);
}

static int active(struct device_of_test *dev)
{
	return atomic_read(&dev->mddev->active);
}

/* In place of the outside world. */

static void count_queued(struct mddev *mddev)
{
	atomic_inc(&of(mddev)->queued);
}

static void pretend_to_hide(struct mddev *mddev)
{
	struct device_of_test *dev = of(mddev);

	dev->hidden++;
	dev->state_then = mddev->life.state;
	dev->closing_then = is_closing(dev);
	dev->gone_then = completion_done(&mddev->life.gone);
}

static void release(struct kobject *kobj)
{
	struct mddev *mddev = container_of(kobj, struct mddev, kobj);

	complete_all(&of(mddev)->released);
}

static const struct kobj_type ktype = {
	.release	= release,
	.sysfs_ops	= &kobj_sysfs_ops,
};

/* What a caller in md.c does. */

static struct mddev *claim(struct device_of_test *dev, dev_t unit,
			   enum md_life_reason why)
{
	guard(mutex)(&md_create_mutex);
	return md_life_claim(dev->mddev, unit, why);
}

static void unclaim(struct device_of_test *dev)
{
	guard(mutex)(&md_create_mutex);
	md_life_unclaim(dev->mddev);
}

static void publish(struct device_of_test *dev)
{
	guard(mutex)(&md_create_mutex);
	guard(mutex)(&dev->mddev->reconfig_mutex);
	md_life_publish(dev->mddev);
}

static void reset(struct device_of_test *dev, enum md_life_reason why)
{
	guard(mutex)(&dev->mddev->reconfig_mutex);
	md_life_reset(dev->mddev, why);
}

static void kill(struct device_of_test *dev)
{
	guard(mutex)(&dev->mddev->reconfig_mutex);
	md_life_kill(dev->mddev);
}

static struct mddev *get(struct device_of_test *dev)
{
	guard(spinlock)(&all_mddevs_lock);
	return mddev_get(dev->mddev);
}

static void put_locked(struct device_of_test *dev)
{
	guard(spinlock)(&all_mddevs_lock);
	mddev_put_locked(dev->mddev);
}

static void run_work(struct device_of_test *dev)
{
	dev->mddev->life.work.func(&dev->mddev->life.work);
}

static void free_mddev(struct device_of_test *dev)
{
	struct mddev *mddev = dev->mddev;

	mddev_destroy(mddev);
	dev->mddev = NULL;
	md_life_free(mddev);
}

/* Wherever a failed assertion has left it. */
static void clean_up(void *data)
{
	struct device_of_test *dev = data;
	struct mddev *mddev = dev->mddev;

	if (mddev) {
		if (mddev->life.state == MD_LIFE_NASCENT)
			unclaim(dev);
		if (mddev->life.state == MD_LIFE_LIVE)
			kill(dev);
		if (mddev->life.state == MD_LIFE_DYING)
			run_work(dev);
		if (!completion_done(&dev->released))
			kobject_put(&mddev->kobj);
		wait_for_completion(&dev->released);
		if (mddev->life.state == MD_LIFE_GONE) {
			free_mddev(dev);
		} else {
			mddev_destroy(mddev);
			kfree(mddev);
		}
	}
	put_disk(dev->disk);
}

/* Not known to anybody, with one reference, as md_alloc() makes it. */
static struct device_of_test *new_device(struct kunit *test, const char *name)
{
	struct device_of_test *dev = kunit_kzalloc(test, sizeof(*dev), GFP_KERNEL);
	struct mddev *mddev = kzalloc_obj(*mddev);

	KUNIT_ASSERT_NOT_NULL(test, dev);
	KUNIT_ASSERT_NOT_NULL(test, mddev);
	if (mddev_init(mddev)) {
		kfree(mddev);
		mddev = NULL;
	}
	KUNIT_ASSERT_NOT_NULL(test, mddev);

	dev->test = test;
	dev->disk = blk_alloc_disk(NULL, NUMA_NO_NODE);
	if (IS_ERR(dev->disk)) {
		mddev_destroy(mddev);
		kfree(mddev);
		mddev = NULL;
	}
	KUNIT_ASSERT_NOT_NULL(test, mddev);
	dev->mddev = mddev;
	strscpy(dev->disk->disk_name, name);
	dev->disk->private_data = mddev;
	init_completion(&dev->released);
	mddev->private = dev;
	mddev->gendisk = dev->disk;
	kobject_init(&mddev->kobj, &ktype);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, clean_up, dev), 0);

	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_NONE);
	KUNIT_EXPECT_EQ(test, mddev->life.hold, MD_HOLD_NONE);
	KUNIT_EXPECT_EQ(test, active(dev), 1);
	return dev;
}

static void go_on_to(struct device_of_test *dev, enum md_life_state state)
{
	struct kunit *test = dev->test;

	if (state >= MD_LIFE_NASCENT)
		KUNIT_ASSERT_NULL(test, claim(dev, UNIT, MD_LIFE_NEW_ARRAY));
	if (state >= MD_LIFE_LIVE)
		publish(dev);
	if (state >= MD_LIFE_DYING)
		kill(dev);
	if (state >= MD_LIFE_GONE)
		run_work(dev);
	KUNIT_ASSERT_EQ(test, dev->mddev->life.state, state);
}

static struct device_of_test *new_device_in(struct kunit *test,
					    enum md_life_state state)
{
	struct device_of_test *dev = new_device(test, "md300");

	go_on_to(dev, state);
	return dev;
}

/* Somebody else who waits. */
struct waiter {
	struct kunit *test;
	struct mddev *mddev;
	int (*wait)(struct mddev *mddev);
	struct task_struct *task;
	struct completion done;
	int ret;
};

static int waiter_thread(void *data)
{
	struct waiter *waiter = data;

	allow_kernel_signal(SIGKILL);
	current->kunit_test = waiter->test;
	waiter->ret = waiter->wait(waiter->mddev);
	current->kunit_test = NULL;
	complete_all(&waiter->done);
	return 0;
}

static void end_waiter(void *data)
{
	struct waiter *waiter = data;

	if (!completion_done(&waiter->done))
		send_sig(SIGKILL, waiter->task, 1);
	/* What has failed then is said already: rather a leak than no end. */
	if (!wait_for_completion_timeout(&waiter->done, DEADLINE))
		return;
	kthread_stop_put(waiter->task);
	kfree(waiter);
}

static struct waiter *start_waiter(struct kunit *test, int (*wait)(struct mddev *mddev),
				   struct mddev *mddev)
{
	struct waiter *waiter = kzalloc_obj(*waiter);

	KUNIT_ASSERT_NOT_NULL(test, waiter);
	waiter->test = test;
	waiter->mddev = mddev;
	waiter->wait = wait;
	init_completion(&waiter->done);
	waiter->task = kthread_create(waiter_thread, waiter, "md-lifecycle-test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(waiter->task));
	get_task_struct(waiter->task);
	wake_up_process(waiter->task);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, end_waiter, waiter), 0);
	return waiter;
}

static void expect_end(struct waiter *waiter, int ret)
{
	struct kunit *test = waiter->test;

	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&waiter->done, DEADLINE), 0);
	KUNIT_EXPECT_EQ(test, waiter->ret, ret);
}

static bool falls_asleep(struct task_struct *task)
{
	unsigned long end = jiffies + DEADLINE;

	while (!(READ_ONCE(task->__state) & TASK_NORMAL) && time_before(jiffies, end))
		schedule_timeout_uninterruptible(1);
	return READ_ONCE(task->__state) & TASK_NORMAL;
}

/* How many wait for it to be GONE. */
static int nr_waiting(struct mddev *mddev)
{
	guard(raw_spinlock_irq)(&mddev->life.gone.wait.lock);
	return list_count_nodes(&mddev->life.gone.wait.task_list);
}

static void must_wait(struct device_of_test *dev, int nr)
{
	unsigned long end = jiffies + DEADLINE;

	while (nr_waiting(dev->mddev) != nr && time_before(jiffies, end))
		schedule_timeout_uninterruptible(1);
	KUNIT_ASSERT_EQ(dev->test, nr_waiting(dev->mddev), nr);
}

/* The states in order, and what each of them means. */

static void from_claim_to_free(struct kunit *test)
{
	struct device_of_test *dev = new_device(test, "md300");
	struct mddev *mddev = dev->mddev;

	KUNIT_ASSERT_NULL(test, claim(dev, UNIT, MD_LIFE_PROBE));
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_NASCENT);
	KUNIT_EXPECT_EQ(test, mddev->unit, UNIT);
	KUNIT_EXPECT_EQ(test, mddev->md_minor, 300);
	KUNIT_EXPECT_FALSE(test, is_listed(mddev));
	KUNIT_EXPECT_FALSE(test, md_life_is_over(&mddev->life));

	publish(dev);
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_LIVE);
	KUNIT_EXPECT_EQ(test, mddev->life.hold, MD_HOLD_UNTIL_IOCTL);
	KUNIT_EXPECT_TRUE(test, is_listed(mddev));
	KUNIT_EXPECT_FALSE(test, md_life_is_over(&mddev->life));
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
	KUNIT_EXPECT_EQ(test, active(dev), 1);

	kill(dev);
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_DYING);
	KUNIT_EXPECT_EQ(test, mddev->life.hold, MD_HOLD_NONE);
	KUNIT_EXPECT_TRUE(test, is_listed(mddev));
	KUNIT_EXPECT_TRUE(test, md_life_is_over(&mddev->life));
	KUNIT_EXPECT_TRUE(test, is_closing(dev));
	KUNIT_EXPECT_EQ(test, active(dev), 2);
	/* That is for who has killed it, when it can. */
	KUNIT_EXPECT_EQ(test, queued(dev), 0);

	run_work(dev);
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_GONE);
	KUNIT_EXPECT_TRUE(test, is_listed(mddev));
	KUNIT_EXPECT_TRUE(test, md_life_is_over(&mddev->life));
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
	KUNIT_EXPECT_EQ(test, active(dev), 1);
	KUNIT_EXPECT_EQ(test, queued(dev), 0);

	mddev_put(mddev);
	KUNIT_EXPECT_EQ(test, queued(dev), 1);
	KUNIT_EXPECT_FALSE(test, completion_done(&dev->released));
	run_work(dev);
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&dev->released, DEADLINE), 0);
	KUNIT_EXPECT_EQ(test, dev->hidden, 1);
	KUNIT_EXPECT_TRUE(test, is_listed(mddev));

	free_mddev(dev);
	KUNIT_EXPECT_FALSE(test, is_listed(mddev));
}

/* What the deletion finds, and that it comes before all that it leads to. */
static void hidden_while_dying(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_DYING);

	KUNIT_EXPECT_EQ(test, dev->hidden, 0);
	KUNIT_EXPECT_FALSE(test, completion_done(&dev->mddev->life.gone));
	run_work(dev);
	KUNIT_EXPECT_EQ(test, dev->hidden, 1);
	KUNIT_EXPECT_EQ(test, dev->state_then, MD_LIFE_DYING);
	KUNIT_EXPECT_TRUE(test, dev->closing_then);
	KUNIT_EXPECT_FALSE(test, dev->gone_then);
	KUNIT_EXPECT_TRUE(test, completion_done(&dev->mddev->life.gone));
}

/* Claims. */

static void number_is_taken_until_it_is_gone(struct kunit *test)
{
	struct device_of_test *old = new_device(test, "md300");
	struct device_of_test *new = new_device(test, "md300");

	KUNIT_ASSERT_NULL(test, claim(old, UNIT, MD_LIFE_PROBE));
	KUNIT_EXPECT_PTR_EQ(test, claim(new, UNIT, MD_LIFE_PROBE), ERR_PTR(-EEXIST));
	publish(old);
	KUNIT_EXPECT_PTR_EQ(test, claim(new, UNIT, MD_LIFE_PROBE), ERR_PTR(-EEXIST));
	KUNIT_EXPECT_EQ(test, active(old), 1);

	/* Something to wait for. */
	kill(old);
	KUNIT_EXPECT_PTR_EQ(test, claim(new, UNIT, MD_LIFE_PROBE), old->mddev);
	KUNIT_EXPECT_EQ(test, active(old), 3);
	KUNIT_EXPECT_EQ(test, new->mddev->life.state, MD_LIFE_NONE);
	KUNIT_EXPECT_EQ(test, new->mddev->life.hold, MD_HOLD_NONE);

	run_work(old);
	KUNIT_EXPECT_EQ(test, md_life_wait_gone(old->mddev), 0);
	mddev_put(old->mddev);
	KUNIT_EXPECT_EQ(test, active(old), 1);

	/* Its memory stays: that is of no matter. */
	KUNIT_EXPECT_NULL(test, claim(new, UNIT, MD_LIFE_PROBE));
	publish(new);
	KUNIT_EXPECT_TRUE(test, is_listed(old->mddev));
	KUNIT_EXPECT_TRUE(test, is_listed(new->mddev));

	/* Nor does its end take the number away from the new one. */
	mddev_put(old->mddev);
	run_work(old);
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&old->released, DEADLINE), 0);
	free_mddev(old);
	old = new_device(test, "md300");
	KUNIT_EXPECT_PTR_EQ(test, claim(old, UNIT, MD_LIFE_PROBE), ERR_PTR(-EEXIST));
}

static void other_numbers_are_free(struct kunit *test)
{
	struct device_of_test *one = new_device_in(test, MD_LIFE_LIVE);
	struct device_of_test *two = new_device(test, "md301");

	KUNIT_EXPECT_NULL(test, claim(two, UNIT + 1, MD_LIFE_PROBE));
	KUNIT_EXPECT_EQ(test, two->mddev->unit, UNIT + 1);
	KUNIT_EXPECT_EQ(test, one->mddev->unit, UNIT);
}

static void named_ones_get_numbers_that_no_node_opens(struct kunit *test)
{
	struct device_of_test *one = new_device(test, "md_one");
	struct device_of_test *two = new_device(test, "md_two");
	dev_t last;

	KUNIT_ASSERT_NULL(test, claim(one, 0, MD_LIFE_NEW_ARRAY));
	KUNIT_ASSERT_NULL(test, claim(two, 0, MD_LIFE_NEW_ARRAY));
	KUNIT_EXPECT_EQ(test, MAJOR(one->mddev->unit), MD_MAJOR);
	KUNIT_EXPECT_GE(test, MINOR(one->mddev->unit), 512);
	KUNIT_EXPECT_EQ(test, one->mddev->md_minor, MINOR(one->mddev->unit));
	KUNIT_EXPECT_NE(test, one->mddev->unit, two->mddev->unit);

	/* Not the same at once, if there are others. */
	last = two->mddev->unit;
	unclaim(two);
	KUNIT_ASSERT_NULL(test, claim(two, 0, MD_LIFE_NEW_ARRAY));
	KUNIT_EXPECT_NE(test, two->mddev->unit, last);
}

static void name_is_taken_until_it_is_gone(struct kunit *test)
{
	struct device_of_test *old = new_device(test, "md_one");
	struct device_of_test *new = new_device(test, "md_one");

	KUNIT_ASSERT_NULL(test, claim(old, 0, MD_LIFE_NEW_ARRAY));
	KUNIT_EXPECT_PTR_EQ(test, claim(new, 0, MD_LIFE_NEW_ARRAY), ERR_PTR(-EEXIST));
	publish(old);
	KUNIT_EXPECT_PTR_EQ(test, claim(new, 0, MD_LIFE_NEW_ARRAY), ERR_PTR(-EEXIST));
	kill(old);
	KUNIT_EXPECT_PTR_EQ(test, claim(new, 0, MD_LIFE_NEW_ARRAY), old->mddev);
	run_work(old);
	mddev_put(old->mddev);
	KUNIT_EXPECT_NULL(test, claim(new, 0, MD_LIFE_NEW_ARRAY));
}

static void name_of_a_number_may_be_taken(struct kunit *test)
{
	struct device_of_test *named = new_device(test, "md_d30");
	struct device_of_test *numbered = new_device(test, "md_d30");

	KUNIT_ASSERT_NULL(test, claim(named, 0, MD_LIFE_NEW_ARRAY));
	KUNIT_EXPECT_PTR_EQ(test, claim(numbered, PART_UNIT, MD_LIFE_PROBE), ERR_PTR(-EEXIST));
	unclaim(named);
	KUNIT_ASSERT_NULL(test, claim(numbered, PART_UNIT, MD_LIFE_PROBE));
	KUNIT_EXPECT_EQ(test, numbered->mddev->unit, PART_UNIT);
	KUNIT_EXPECT_EQ(test, numbered->mddev->md_minor, 30);
	KUNIT_EXPECT_PTR_EQ(test, claim(named, 0, MD_LIFE_NEW_ARRAY), ERR_PTR(-EEXIST));
	KUNIT_EXPECT_PTR_EQ(test, claim(named, PART_UNIT, MD_LIFE_PROBE), ERR_PTR(-EEXIST));
}

static void unclaimed_number_is_free(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_NASCENT);
	struct device_of_test *other = new_device(test, "md300");

	unclaim(dev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_NONE);
	KUNIT_EXPECT_FALSE(test, is_listed(dev->mddev));
	KUNIT_EXPECT_NULL(test, claim(other, UNIT, MD_LIFE_PROBE));
	unclaim(other);
	KUNIT_EXPECT_NULL(test, claim(dev, UNIT, MD_LIFE_PROBE));
}

/* Holds, and what ends them. */

static const struct hold_param {
	const char *name;
	enum md_life_reason why;
	enum md_hold hold;
	bool touch_ends_it;
} hold_params[] = {
	{ "probe", MD_LIFE_PROBE, MD_HOLD_UNTIL_IOCTL, true },
	{ "new_array", MD_LIFE_NEW_ARRAY, MD_HOLD_UNTIL_STOP, false },
	{ "boot", MD_LIFE_BOOT, MD_HOLD_UNTIL_STOP, false },
};

KUNIT_ARRAY_PARAM_DESC(hold, hold_params, name);

static struct device_of_test *new_held(struct kunit *test)
{
	const struct hold_param *param = test->param_value;
	struct device_of_test *dev = new_device(test, "md300");

	KUNIT_ASSERT_NULL(test, claim(dev, UNIT, param->why));
	KUNIT_EXPECT_EQ(test, dev->mddev->life.hold, param->hold);
	publish(dev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.hold, param->hold);
	return dev;
}

static void hold_keeps_it(struct kunit *test)
{
	struct device_of_test *dev = new_held(test);

	mddev_put(dev->mddev);
	KUNIT_EXPECT_EQ(test, active(dev), 0);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_LIVE);
	KUNIT_EXPECT_EQ(test, queued(dev), 0);

	/* So it can be used again, and again. */
	KUNIT_ASSERT_NOT_NULL(test, get(dev));
	put_locked(dev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_LIVE);
	KUNIT_EXPECT_EQ(test, queued(dev), 0);
	KUNIT_EXPECT_NOT_NULL(test, get(dev));
}

static void touch_ends_the_hold_of_a_probe(struct kunit *test)
{
	const struct hold_param *param = test->param_value;
	struct device_of_test *dev = new_held(test);
	enum md_hold left = param->touch_ends_it ? MD_HOLD_NONE : param->hold;

	md_life_touch(dev->mddev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.hold, left);
	md_life_touch(dev->mddev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.hold, left);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_LIVE);

	mddev_put(dev->mddev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state,
			param->touch_ends_it ? MD_LIFE_DYING : MD_LIFE_LIVE);
}

static void reset_ends_every_hold(struct kunit *test)
{
	struct device_of_test *dev = new_held(test);

	reset(dev, MD_LIFE_STOP);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.hold, MD_HOLD_NONE);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_LIVE);
	KUNIT_EXPECT_EQ(test, active(dev), 1);
	reset(dev, MD_LIFE_STOP);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.hold, MD_HOLD_NONE);

	mddev_put(dev->mddev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_DYING);
}

static void kill_ends_every_hold(struct kunit *test)
{
	struct device_of_test *dev = new_held(test);

	kill(dev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.hold, MD_HOLD_NONE);
}

/* The last put, in every state. */

static void last_put_kills_what_nobody_needs(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);

	reset(dev, MD_LIFE_STOP);
	KUNIT_ASSERT_NOT_NULL(test, get(dev));
	mddev_put(dev->mddev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_LIVE);
	KUNIT_EXPECT_EQ(test, queued(dev), 0);

	mddev_put(dev->mddev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_DYING);
	KUNIT_EXPECT_TRUE(test, is_closing(dev));
	KUNIT_EXPECT_EQ(test, active(dev), 1);
	KUNIT_EXPECT_EQ(test, queued(dev), 1);

	/* The first time it deletes, the second time it frees. */
	run_work(dev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_GONE);
	KUNIT_EXPECT_EQ(test, active(dev), 0);
	KUNIT_EXPECT_EQ(test, queued(dev), 2);
	KUNIT_EXPECT_FALSE(test, completion_done(&dev->released));
	run_work(dev);
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&dev->released, DEADLINE), 0);
	KUNIT_EXPECT_EQ(test, dev->hidden, 1);
	KUNIT_EXPECT_EQ(test, queued(dev), 2);
}

static void last_put_under_the_lock_kills_too(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);

	reset(dev, MD_LIFE_STOP);
	KUNIT_ASSERT_NOT_NULL(test, get(dev));
	put_locked(dev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_LIVE);
	put_locked(dev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_DYING);
	KUNIT_EXPECT_EQ(test, queued(dev), 1);
}

static void last_put_leaves_an_array_alone(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);
	struct mddev *mddev = dev->mddev;
	LIST_HEAD(member);

	reset(dev, MD_LIFE_STOP);
	KUNIT_EXPECT_TRUE(test, md_is_unconfigured(mddev));

	mddev->raid_disks = 1;
	mddev_put(mddev);
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_LIVE);
	KUNIT_ASSERT_NOT_NULL(test, get(dev));
	mddev->raid_disks = 0;

	mddev->ctime = 1;
	mddev_put(mddev);
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_LIVE);
	KUNIT_ASSERT_NOT_NULL(test, get(dev));
	mddev->ctime = 0;

	list_add(&member, &mddev->disks);
	mddev_put(mddev);
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_LIVE);
	KUNIT_ASSERT_NOT_NULL(test, get(dev));
	list_del(&member);

	KUNIT_EXPECT_EQ(test, queued(dev), 0);
	mddev_put(mddev);
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_DYING);
}

static void put_of_a_dying_one_queues_nothing(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_DYING);

	mddev_put(dev->mddev);
	KUNIT_EXPECT_EQ(test, active(dev), 1);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_DYING);
	KUNIT_EXPECT_EQ(test, queued(dev), 0);
}

static void gets_only_what_is_not_over(struct kunit *test)
{
	struct device_of_test *dev = new_device(test, "md300");

	KUNIT_EXPECT_PTR_EQ(test, get(dev), dev->mddev);
	KUNIT_ASSERT_NULL(test, claim(dev, UNIT, MD_LIFE_PROBE));
	KUNIT_EXPECT_PTR_EQ(test, get(dev), dev->mddev);
	publish(dev);
	KUNIT_EXPECT_PTR_EQ(test, get(dev), dev->mddev);
	KUNIT_EXPECT_EQ(test, active(dev), 4);

	kill(dev);
	KUNIT_EXPECT_EQ(test, active(dev), 5);
	KUNIT_EXPECT_NULL(test, get(dev));
	KUNIT_EXPECT_EQ(test, active(dev), 5);
	run_work(dev);
	KUNIT_EXPECT_EQ(test, active(dev), 4);
	KUNIT_EXPECT_NULL(test, get(dev));
	KUNIT_EXPECT_EQ(test, active(dev), 4);
}

/* Openers. */

static void expect_openers(struct device_of_test *dev, int openers, int users)
{
	struct kunit *test = dev->test;

	KUNIT_EXPECT_EQ(test, atomic_read(&dev->mddev->openers), openers);
	KUNIT_EXPECT_EQ(test, active(dev), users);
}

static void openers_are_users(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);

	KUNIT_EXPECT_EQ(test, md_life_open(dev->mddev, BLK_OPEN_READ), 0);
	expect_openers(dev, 1, 2);
	KUNIT_EXPECT_EQ(test, md_life_open(dev->mddev, BLK_OPEN_READ), 0);
	expect_openers(dev, 2, 3);
	md_life_release(dev->mddev);
	expect_openers(dev, 1, 2);
	md_life_release(dev->mddev);
	expect_openers(dev, 0, 1);
}

static void opens_wait_for_the_rest_of_it(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_NASCENT);

	KUNIT_EXPECT_TRUE(test, is_closing(dev));
	KUNIT_EXPECT_EQ(test, md_life_open(dev->mddev, BLK_OPEN_READ), -EOPENSTALE);
	expect_openers(dev, 0, 1);
	KUNIT_EXPECT_EQ(test, md_life_open(dev->mddev, BLK_OPEN_READ | BLK_OPEN_NDELAY), 0);
	expect_openers(dev, 1, 2);

	publish(dev);
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
	KUNIT_EXPECT_EQ(test, md_life_open(dev->mddev, BLK_OPEN_READ), 0);
	expect_openers(dev, 2, 3);
	md_life_release(dev->mddev);
	md_life_release(dev->mddev);
}

static void last_release_kills_what_nobody_needs(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);

	reset(dev, MD_LIFE_STOP);
	KUNIT_ASSERT_EQ(test, md_life_open(dev->mddev, BLK_OPEN_READ), 0);
	mddev_put(dev->mddev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_LIVE);
	md_life_release(dev->mddev);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_DYING);
	expect_openers(dev, 0, 1);
	KUNIT_EXPECT_EQ(test, queued(dev), 1);
}

static void closing_keeps_openers_out(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);
	struct mddev *mddev = dev->mddev;

	KUNIT_ASSERT_EQ(test, md_life_begin_closing(mddev, 0), 0);
	KUNIT_EXPECT_TRUE(test, is_closing(dev));
	KUNIT_EXPECT_TRUE(test, test_bit(MD_CLOSING, &mddev->flags));
	KUNIT_EXPECT_EQ(test, md_life_open(mddev, BLK_OPEN_READ), -EOPENSTALE);
	expect_openers(dev, 0, 1);

	/* One task at a time. */
	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 0), -EBUSY);
	KUNIT_EXPECT_TRUE(test, is_closing(dev));

	md_life_end_closing(mddev);
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
	KUNIT_EXPECT_FALSE(test, test_bit(MD_CLOSING, &mddev->flags));
	KUNIT_EXPECT_EQ(test, md_life_open(mddev, BLK_OPEN_READ), 0);
	md_life_release(mddev);

	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 0), 0);
	md_life_end_closing(mddev);
}

static void closing_begins_before_it_is_complete(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_NASCENT);
	struct mddev *mddev = dev->mddev;

	/* Ended before: opens go on to wait for its creator. */
	KUNIT_ASSERT_EQ(test, md_life_begin_closing(mddev, 0), 0);
	md_life_end_closing(mddev);
	KUNIT_EXPECT_TRUE(test, is_closing(dev));

	KUNIT_ASSERT_EQ(test, md_life_begin_closing(mddev, 0), 0);
	publish(dev);
	KUNIT_EXPECT_TRUE(test, is_closing(dev));
	KUNIT_EXPECT_EQ(test, md_life_open(mddev, BLK_OPEN_READ), -EOPENSTALE);
	md_life_end_closing(mddev);
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
}

/* Of a run and a stop that begin at the same time one sees the other. */
static void run_and_stop_exclude_each_other(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);
	struct mddev *mddev = dev->mddev;

	KUNIT_ASSERT_EQ(test, md_life_open(mddev, BLK_OPEN_READ), 0);
	mutex_lock(&mddev->reconfig_mutex);
	KUNIT_EXPECT_EQ(test, md_life_begin_run(mddev), 0);
	KUNIT_EXPECT_TRUE(test, test_bit(MD_NOT_READY, &mddev->flags));
	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 0), -EBUSY);
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
	clear_bit(MD_NOT_READY, &mddev->flags);

	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 0), 0);
	KUNIT_EXPECT_EQ(test, md_life_begin_run(mddev), -EBUSY);
	KUNIT_EXPECT_FALSE(test, test_bit(MD_NOT_READY, &mddev->flags));
	md_life_end_closing(mddev);
	mutex_unlock(&mddev->reconfig_mutex);
	md_life_release(mddev);
}

static void other_openers_keep_a_running_array(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);
	struct md_personality pers = {};
	struct mddev *mddev = dev->mddev;

	KUNIT_ASSERT_EQ(test, md_life_open(mddev, BLK_OPEN_READ), 0);
	KUNIT_ASSERT_EQ(test, md_life_open(mddev, BLK_OPEN_READ), 0);
	mddev->pers = &pers;
	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 0), -EBUSY);
	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 1), -EBUSY);
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
	KUNIT_EXPECT_FALSE(test, test_bit(MD_CLOSING, &mddev->flags));
	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 2), 0);
	KUNIT_EXPECT_TRUE(test, is_closing(dev));
	md_life_end_closing(mddev);

	/* What does not run may be stopped however often it is open. */
	mddev->pers = NULL;
	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 1), 0);
	md_life_end_closing(mddev);
}

static void nothing_opens_or_closes_what_is_over(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_DYING);
	struct mddev *mddev = dev->mddev;

	KUNIT_EXPECT_EQ(test, md_life_open(mddev, BLK_OPEN_READ), -EOPENSTALE);
	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 0), -ENODEV);
	KUNIT_EXPECT_FALSE(test, test_bit(MD_CLOSING, &mddev->flags));
	expect_openers(dev, 0, 2);

	run_work(dev);
	KUNIT_EXPECT_EQ(test, md_life_open(mddev, BLK_OPEN_READ), -EOPENSTALE);
	KUNIT_EXPECT_EQ(test, md_life_begin_closing(mddev, 0), -ENODEV);
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
	expect_openers(dev, 0, 1);
}

static void deletion_ends_the_closing_of_what_is_over(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);

	KUNIT_ASSERT_EQ(test, md_life_begin_closing(dev->mddev, 0), 0);
	kill(dev);
	md_life_end_closing(dev->mddev);
	/* Or opens would not wait for its number to be free. */
	KUNIT_EXPECT_TRUE(test, is_closing(dev));
	run_work(dev);
	KUNIT_EXPECT_FALSE(test, is_closing(dev));
}

/* Those who wait. */

static void everybody_waits_until_it_is_gone(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_DYING);
	struct waiter *waiter[3];
	int i;

	waiter[0] = start_waiter(test, md_life_delete, dev->mddev);
	waiter[1] = start_waiter(test, md_life_wait_gone, dev->mddev);
	waiter[2] = start_waiter(test, md_life_wait_gone, dev->mddev);
	must_wait(dev, 3);
	KUNIT_EXPECT_EQ(test, queued(dev), 1);
	run_work(dev);
	for (i = 0; i < ARRAY_SIZE(waiter); i++)
		expect_end(waiter[i], 0);
	/* Nobody waits for what has been. */
	KUNIT_EXPECT_EQ(test, md_life_wait_gone(dev->mddev), 0);
	KUNIT_EXPECT_EQ(test, queued(dev), 1);
}

static void deletion_goes_on_without_who_is_killed(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_DYING);
	struct waiter *killed, *other;

	killed = start_waiter(test, md_life_delete, dev->mddev);
	other = start_waiter(test, md_life_wait_gone, dev->mddev);
	must_wait(dev, 2);
	send_sig(SIGKILL, killed->task, 1);
	expect_end(killed, -ERESTARTSYS);
	KUNIT_EXPECT_FALSE(test, completion_done(&other->done));
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_DYING);
	KUNIT_EXPECT_EQ(test, queued(dev), 1);
	run_work(dev);
	expect_end(other, 0);
}

/* What no state allows: everybody is told, and nothing is changed by it. */

static void expect_refused(struct device_of_test *dev,
			   void (*call)(struct device_of_test *dev))
{
	enum md_life_state state = dev->mddev->life.state;
	enum md_hold hold = dev->mddev->life.hold;
	int users = active(dev), items = queued(dev);
	bool listed = is_listed(dev->mddev), closing = is_closing(dev);
	dev_t unit = dev->mddev->unit;
	struct kunit *test = dev->test;

	kunit_warning_suppress(test) {
		call(dev);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, state);
	KUNIT_EXPECT_EQ(test, dev->mddev->life.hold, hold);
	KUNIT_EXPECT_EQ(test, dev->mddev->unit, unit);
	KUNIT_EXPECT_EQ(test, active(dev), users);
	KUNIT_EXPECT_EQ(test, queued(dev), items);
	KUNIT_EXPECT_EQ(test, is_listed(dev->mddev), listed);
	KUNIT_EXPECT_EQ(test, is_closing(dev), closing);
}

static void claim_again(struct device_of_test *dev)
{
	KUNIT_EXPECT_PTR_EQ(dev->test, claim(dev, UNIT + 1, MD_LIFE_PROBE), ERR_PTR(-EINVAL));
}

static void delete(struct device_of_test *dev)
{
	KUNIT_EXPECT_EQ(dev->test, md_life_delete(dev->mddev), -EINVAL);
}

static void free_only(struct device_of_test *dev)
{
	md_life_free(dev->mddev);
}

static const struct state_param {
	const char *name;
	enum md_life_state state;
} state_params[] = {
	{ "none", MD_LIFE_NONE },
	{ "nascent", MD_LIFE_NASCENT },
	{ "live", MD_LIFE_LIVE },
	{ "dying", MD_LIFE_DYING },
	{ "gone", MD_LIFE_GONE },
};

KUNIT_ARRAY_PARAM_DESC(state, state_params, name);

static void refused_in_the_wrong_state(struct kunit *test)
{
	const struct state_param *param = test->param_value;
	struct device_of_test *dev = new_device_in(test, param->state);
	enum md_life_state state = param->state;

	if (state != MD_LIFE_NONE)
		expect_refused(dev, claim_again);
	if (state != MD_LIFE_NASCENT) {
		expect_refused(dev, unclaim);
		expect_refused(dev, publish);
	}
	if (state != MD_LIFE_LIVE)
		expect_refused(dev, kill);
	if (state != MD_LIFE_DYING)
		expect_refused(dev, delete);
	if (state != MD_LIFE_GONE)
		expect_refused(dev, free_only);
}

/* The number is that of another device. */
static void unclaim_of_another_ones_number_is_refused(struct kunit *test)
{
	struct device_of_test *wrong = new_device(test, "md300");
	struct device_of_test *other = new_device(test, "md300");

	new_device_in(test, MD_LIFE_LIVE);
	wrong->mddev->unit = UNIT;
	expect_refused(wrong, unclaim);
	KUNIT_EXPECT_PTR_EQ(test, claim(other, UNIT, MD_LIFE_PROBE), ERR_PTR(-EEXIST));
}

/* Nobody has the number that was not claimed. */
static void refused_claim_takes_no_number(struct kunit *test)
{
	struct device_of_test *dev = new_device_in(test, MD_LIFE_LIVE);
	struct device_of_test *other = new_device(test, "md301");

	expect_refused(dev, claim_again);
	KUNIT_EXPECT_NULL(test, claim(other, UNIT + 1, MD_LIFE_PROBE));
}

static void last_put_of_what_does_not_live_is_refused(struct kunit *test)
{
	struct device_of_test *dev = new_device(test, "md300");

	kunit_warning_suppress(test) {
		mddev_put(dev->mddev);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_NONE);
	KUNIT_EXPECT_EQ(test, queued(dev), 0);

	KUNIT_ASSERT_NOT_NULL(test, get(dev));
	KUNIT_ASSERT_NULL(test, claim(dev, UNIT, MD_LIFE_PROBE));
	reset(dev, MD_LIFE_STOP);
	kunit_warning_suppress(test) {
		mddev_put(dev->mddev);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, dev->mddev->life.state, MD_LIFE_NASCENT);
	KUNIT_EXPECT_EQ(test, queued(dev), 0);
}

/* md is loaded and goes. */

static int end(struct mddev *unused)
{
	md_life_end();
	return 0;
}

static void end_waits_for_the_last_memory(struct kunit *test)
{
	struct device_of_test *one = new_device_in(test, MD_LIFE_GONE);
	struct device_of_test *two = new_device(test, "md301");
	struct waiter *waiter;

	KUNIT_ASSERT_NULL(test, claim(two, UNIT + 1, MD_LIFE_PROBE));
	publish(two);
	kill(two);
	run_work(two);

	waiter = start_waiter(test, end, NULL);
	KUNIT_ASSERT_TRUE(test, falls_asleep(waiter->task));
	KUNIT_EXPECT_FALSE(test, completion_done(&waiter->done));

	free_mddev(one);
	/* It has been woken, looks, and waits on, or it would be done soon. */
	KUNIT_ASSERT_TRUE(test, falls_asleep(waiter->task));
	KUNIT_EXPECT_FALSE(test, completion_done(&waiter->done));

	free_mddev(two);
	expect_end(waiter, 0);

	one = new_device(test, "md300");
	KUNIT_EXPECT_PTR_EQ(test, claim(one, UNIT, MD_LIFE_PROBE), ERR_PTR(-ENODEV));
	KUNIT_ASSERT_EQ(test, md_life_start(), 0);
	KUNIT_EXPECT_NULL(test, claim(one, UNIT, MD_LIFE_PROBE));
}

/*
 * With real disks, and the real work item.  What of the device is freed is all
 * done when its gendisk goes, as in md.c.
 */
static void release_disk(struct kobject *kobj)
{
	struct mddev *mddev = container_of(kobj, struct mddev, kobj);

	put_disk(mddev->gendisk);
}

static const struct kobj_type disk_ktype = {
	.release	= release_disk,
	.sysfs_ops	= &kobj_sysfs_ops,
};

static void free_disk(struct gendisk *disk)
{
	struct device_of_test *dev = of(disk->private_data);

	free_mddev(dev);
	complete_all(&dev->released);
}

static const struct block_device_operations fops = {
	.owner		= THIS_MODULE,
	.submit_bio	= bio_io_error,
	.free_disk	= free_disk,
};

static void clean_up_disk(void *data)
{
	struct device_of_test *dev = data;
	struct mddev *mddev = dev->mddev;

	/* What has failed then is said already: rather a leak than no end. */
	if (!mddev || mddev->life.state != MD_LIFE_LIVE)
		return;
	kill(dev);
	md_life_delete(mddev);
	mddev_put(mddev);
	wait_for_completion(&dev->released);
}

/* LIVE, with a disk of another major, so that nobody comes to open it. */
static struct device_of_test *new_disk(struct kunit *test)
{
	struct device_of_test *dev = new_device(test, "md_lifecycle_test");
	struct mddev *mddev = dev->mddev;
	int major = (long)test->priv;

	KUNIT_ASSERT_NULL(test, claim(dev, MKDEV(major, 0), MD_LIFE_NEW_ARRAY));
	dev->disk->major = major;
	dev->disk->first_minor = 0;
	dev->disk->minors = 1 << MdpMinorShift;
	dev->disk->fops = &fops;
	KUNIT_ASSERT_EQ(test, add_disk(dev->disk), 0);
	kunit_remove_action(test, clean_up, dev);
	mddev->kobj.ktype = &disk_ktype;
	KUNIT_EXPECT_EQ(test, kobject_add(&mddev->kobj, &disk_to_dev(dev->disk)->kobj, "md"), 0);
	publish(dev);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, clean_up_disk, dev), 0);
	return dev;
}

static void expect_free(struct device_of_test *dev)
{
	struct kunit *test = dev->test;

	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&dev->released, DEADLINE), 0);
	KUNIT_EXPECT_NULL(test, dev->mddev);
}

static void nothing_is_seen_after_the_deletion(struct kunit *test)
{
	struct device_of_test *old = new_disk(test), *new;
	struct mddev *mddev = old->mddev;

	KUNIT_EXPECT_TRUE(test, disk_live(old->disk));
	kill(old);
	KUNIT_EXPECT_TRUE(test, disk_live(old->disk));
	KUNIT_EXPECT_TRUE(test, mddev->kobj.state_in_sysfs);

	expect_end(start_waiter(test, md_life_delete, mddev), 0);
	KUNIT_EXPECT_EQ(test, mddev->life.state, MD_LIFE_GONE);
	KUNIT_EXPECT_FALSE(test, disk_live(old->disk));
	KUNIT_EXPECT_FALSE(test, mddev->kobj.state_in_sysfs);

	/* Number and names are free, though there is still a user. */
	new = new_disk(test);
	mddev_put(mddev);
	expect_free(old);
	KUNIT_EXPECT_TRUE(test, disk_live(new->disk));
}

static void last_put_deletes_and_frees(struct kunit *test)
{
	struct device_of_test *dev = new_disk(test);

	reset(dev, MD_LIFE_STOP);
	mddev_put(dev->mddev);
	expect_free(dev);
}

/* It has no directory "md" if that could not be made. */
static void deleted_without_a_kobject_in_sysfs(struct kunit *test)
{
	struct device_of_test *dev = new_disk(test);

	kobject_del(&dev->mddev->kobj);
	reset(dev, MD_LIFE_ERROR);
	mddev_put(dev->mddev);
	expect_free(dev);
}

struct slow_work {
	struct work_struct work;
	struct completion running, go_on;
	struct device_of_test *dev;
	bool was_live;
};

static struct slow_work *slow_work;

/* In place of what registers a sync thread. */
static void work_slowly(struct work_struct *work)
{
	complete_all(&slow_work->running);
	wait_for_completion(&slow_work->go_on);
	slow_work->was_live = disk_live(slow_work->dev->disk);
}

static int run_work_here(struct mddev *mddev)
{
	run_work(of(mddev));
	return 0;
}

static void let_work_go_on(void *unused)
{
	complete_all(&slow_work->go_on);
}

static void deletion_waits_for_sync_work(struct kunit *test)
{
	struct device_of_test *dev = new_disk(test);
	struct mddev *mddev = dev->mddev;
	struct waiter *waiter;

	slow_work = kunit_kzalloc(test, sizeof(*slow_work), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, slow_work);
	slow_work->dev = dev;
	init_completion(&slow_work->running);
	init_completion(&slow_work->go_on);
	INIT_WORK(&mddev->sync_work, work_slowly);
	schedule_work(&mddev->sync_work);
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&slow_work->running, DEADLINE), 0);

	/* Run by a thread that can be seen to wait. */
	kill(dev);
	waiter = start_waiter(test, run_work_here, mddev);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, let_work_go_on, NULL), 0);
	KUNIT_EXPECT_TRUE(test, falls_asleep(waiter->task));
	KUNIT_EXPECT_FALSE(test, completion_done(&waiter->done));
	complete_all(&slow_work->go_on);
	expect_end(waiter, 0);
	KUNIT_EXPECT_TRUE(test, slow_work->was_live);
	KUNIT_EXPECT_FALSE(test, disk_live(dev->disk));
	mddev_put(mddev);
	expect_free(dev);
}

static int skip_with_arrays(struct kunit *test)
{
	bool empty;

	scoped_guard(spinlock, &all_mddevs_lock)
		empty = list_empty(&all_mddevs);
	if (!empty)
		kunit_skip(test, "there are md devices");
	return 0;
}

static int init(struct kunit *test)
{
	kunit_activate_static_stub(test, md_life_queue, count_queued);
	kunit_activate_static_stub(test, md_life_hide, pretend_to_hide);
	return skip_with_arrays(test);
}

static struct kunit_case md_lifecycle_cases[] = {
	KUNIT_CASE(from_claim_to_free),
	KUNIT_CASE(hidden_while_dying),
	KUNIT_CASE(number_is_taken_until_it_is_gone),
	KUNIT_CASE(other_numbers_are_free),
	KUNIT_CASE(named_ones_get_numbers_that_no_node_opens),
	KUNIT_CASE(name_is_taken_until_it_is_gone),
	KUNIT_CASE(name_of_a_number_may_be_taken),
	KUNIT_CASE(unclaimed_number_is_free),
	KUNIT_CASE_PARAM(hold_keeps_it, hold_gen_params),
	KUNIT_CASE_PARAM(touch_ends_the_hold_of_a_probe, hold_gen_params),
	KUNIT_CASE_PARAM(reset_ends_every_hold, hold_gen_params),
	KUNIT_CASE_PARAM(kill_ends_every_hold, hold_gen_params),
	KUNIT_CASE(last_put_kills_what_nobody_needs),
	KUNIT_CASE(last_put_under_the_lock_kills_too),
	KUNIT_CASE(last_put_leaves_an_array_alone),
	KUNIT_CASE(put_of_a_dying_one_queues_nothing),
	KUNIT_CASE(gets_only_what_is_not_over),
	KUNIT_CASE(openers_are_users),
	KUNIT_CASE(opens_wait_for_the_rest_of_it),
	KUNIT_CASE(last_release_kills_what_nobody_needs),
	KUNIT_CASE(closing_keeps_openers_out),
	KUNIT_CASE(closing_begins_before_it_is_complete),
	KUNIT_CASE(run_and_stop_exclude_each_other),
	KUNIT_CASE(other_openers_keep_a_running_array),
	KUNIT_CASE(nothing_opens_or_closes_what_is_over),
	KUNIT_CASE(deletion_ends_the_closing_of_what_is_over),
	KUNIT_CASE(everybody_waits_until_it_is_gone),
	KUNIT_CASE(deletion_goes_on_without_who_is_killed),
	KUNIT_CASE_PARAM(refused_in_the_wrong_state, state_gen_params),
	KUNIT_CASE(unclaim_of_another_ones_number_is_refused),
	KUNIT_CASE(refused_claim_takes_no_number),
	KUNIT_CASE(last_put_of_what_does_not_live_is_refused),
	KUNIT_CASE(end_waits_for_the_last_memory),
	{}
};

static struct kunit_suite md_lifecycle_suite = {
	.name = "md-lifecycle",
	.init = init,
	.test_cases = md_lifecycle_cases,
};

static void unregister(void *priv)
{
	unregister_blkdev((long)priv, "md-life-test");
}

static int init_disks(struct kunit *test)
{
	int major = register_blkdev(0, "md-life-test");

	KUNIT_ASSERT_GT(test, major, 0);
	test->priv = (void *)(long)major;
	return kunit_add_action_or_reset(test, unregister, test->priv) ?:
	       skip_with_arrays(test);
}

static struct kunit_case md_lifecycle_disk_cases[] = {
	KUNIT_CASE(nothing_is_seen_after_the_deletion),
	KUNIT_CASE(last_put_deletes_and_frees),
	KUNIT_CASE(deleted_without_a_kobject_in_sysfs),
	KUNIT_CASE(deletion_waits_for_sync_work),
	{}
};

static struct kunit_suite md_lifecycle_disk_suite = {
	.name = "md-lifecycle-disk",
	.init = init_disks,
	.test_cases = md_lifecycle_disk_cases,
};

kunit_test_suites(&md_lifecycle_suite, &md_lifecycle_disk_suite);

MODULE_DESCRIPTION("KUnit tests of the life of md devices");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
