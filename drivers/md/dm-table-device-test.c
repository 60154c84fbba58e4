// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of dm-table-device.c, and of how a table finds its devices.
 *
 * The disks here are real, but nothing is opened and nothing is linked in sysfs:
 * that is replaced by what counts, fails or waits as a test wants it to.  One test
 * does without.  Not seen here: no memory.
 */
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/kernfs.h>
#include <linux/kthread.h>
#include <linux/log2.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "dm-core.h"
#include "dm-table-device.h"

/* For waits on what is certain to happen; never a measure. */
#define DEADLINE	(10 * HZ)

#define RO		BLK_OPEN_READ
#define WO		BLK_OPEN_WRITE
#define RW		(BLK_OPEN_READ | BLK_OPEN_WRITE)

#define NR_DISKS	4

/* Something that waits when it is called, until a test lets it go on. */
struct gate {
	bool shut;
	struct completion reached, open;
};

/* What a test sees of the outside world, and makes of it. */
struct world {
	struct kunit *test;
	int major;
	struct gendisk *disk[NR_DISKS];		/* as they are found by number */
	struct gendisk **many;			/* or these instead, never added */
	struct mapped_device md;
	struct kobject slave_dir;

	int opens, closes, links, unlinks;
	unsigned long compared, visited;
	blk_mode_t last_mode;			/* of an open, with all its flags */
	int open_error, link_error;
	struct gate open_gate, close_gate, unlink_gate;
};

/* An open file, as far as anybody looks into it. */
struct fake_file {
	struct file file;
	struct world *world;
};

static struct world *here(void)
{
	return kunit_get_current_test()->priv;
}

static void init_gate(struct gate *gate)
{
	gate->shut = false;
	init_completion(&gate->reached);
	init_completion(&gate->open);
}

static void pass(struct gate *gate)
{
	if (!READ_ONCE(gate->shut))
		return;
	complete_all(&gate->reached);
	wait_for_completion(&gate->open);
}

static void shut(struct gate *gate)
{
	WRITE_ONCE(gate->shut, true);
}

static void let_go_on(struct gate *gate)
{
	WRITE_ONCE(gate->shut, false);
	complete_all(&gate->open);
}

static struct file *fake_open(dev_t dev, blk_mode_t mode)
{
	struct world *world = here();
	struct fake_file *fake;
	struct gendisk *disk;

	world->last_mode = mode;
	pass(&world->open_gate);
	if (world->open_error)
		return ERR_PTR(world->open_error);
	disk = world->many ? world->many[MINOR(dev)] : world->disk[MINOR(dev) % NR_DISKS];
	if (!disk)
		return ERR_PTR(-ENXIO);
	fake = kzalloc_obj(*fake);
	if (!fake)
		return ERR_PTR(-ENOMEM);
	fake->world = world;
	fake->file.f_mapping = disk->part0->bd_mapping;
	world->opens++;
	return &fake->file;
}

static void fake_close(struct file *file)
{
	struct fake_file *fake = container_of(file, struct fake_file, file);

	pass(&fake->world->close_gate);
	fake->world->closes++;
	kfree(fake);
}

static int fake_link(struct block_device *bdev, struct gendisk *disk)
{
	struct world *world = here();

	KUNIT_EXPECT_PTR_EQ(world->test, disk, world->md.disk);
	if (world->link_error)
		return world->link_error;
	world->links++;
	return 0;
}

static void fake_unlink(struct block_device *bdev, struct gendisk *disk)
{
	struct world *world = here();

	KUNIT_EXPECT_PTR_EQ(world->test, disk, world->md.disk);
	pass(&world->unlink_gate);
	world->unlinks++;
}

static int count_comparison(u64 a, u64 b)
{
	here()->compared++;
	return a < b ? -1 : a > b;
}

static dev_t count_number(const struct rb_node *node)
{
	here()->visited++;
	return rb_entry(node, struct dm_dev_internal, node)->dm_dev->bdev->bd_dev;
}

/* Without it there is no disk; nobody opens one and submits any. */
static const struct block_device_operations fops = {
	.owner		= THIS_MODULE,
	.submit_bio	= bio_io_error,
};

static dev_t number(struct world *world, int i)
{
	return MKDEV(world->major, i);
}

static int add_numbered(struct world *world, struct gendisk *disk, int i)
{
	disk->major = world->major;
	disk->first_minor = i;
	disk->minors = 1;
	disk->fops = &fops;
	snprintf(disk->disk_name, sizeof(disk->disk_name), "dm_td_test%d", i);
	return add_disk(disk);
}

static void add(struct world *world, int i)
{
	struct gendisk *disk = blk_alloc_disk(NULL, NUMA_NO_NODE);
	struct kunit *test = world->test;
	int err;

	KUNIT_ASSERT_FALSE(test, IS_ERR(disk));
	err = add_numbered(world, disk, i);
	if (err)
		put_disk(disk);
	KUNIT_ASSERT_EQ(test, err, 0);
	world->disk[i] = disk;
}

static void put_disk_action(void *disk)
{
	put_disk(disk);
}

/* Something with a number of its own, for more of them than one wants to add. */
static void alloc_many(struct world *world, unsigned int nr)
{
	struct kunit *test = world->test;
	struct gendisk *disk;
	unsigned int i;

	world->many = kunit_kcalloc(test, nr, sizeof(*world->many), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, world->many);
	for (i = 0; i < nr; i++) {
		disk = blk_alloc_disk(NULL, NUMA_NO_NODE);
		KUNIT_ASSERT_FALSE(test, IS_ERR(disk));
		KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, put_disk_action, disk), 0);
		disk->part0->bd_dev = number(world, i);
		world->many[i] = disk;
	}
}

static void delete(struct world *world, int i)
{
	struct gendisk *disk = world->disk[i];

	world->disk[i] = NULL;
	del_gendisk(disk);
	/* Its memory stays, as that of a disk that is open. */
	KUNIT_ASSERT_EQ(world->test,
			kunit_add_action_or_reset(world->test, put_disk_action, disk), 0);
}

/* From now on there is a disk that can be shown to be made of devices. */
static void show(struct world *world)
{
	world->md.disk->slave_dir = &world->slave_dir;
}

static int get(struct world *world, int i, blk_mode_t mode, struct dm_dev **result)
{
	guard(mutex)(&world->md.type_lock);
	return dm_get_table_device(&world->md, number(world, i), mode, result);
}

static struct dm_dev *must_get(struct world *world, int i, blk_mode_t mode)
{
	struct dm_dev *dev = NULL;

	KUNIT_ASSERT_EQ(world->test, get(world, i, mode, &dev), 0);
	KUNIT_ASSERT_NOT_NULL(world->test, dev);
	return dev;
}

static void put(struct world *world, struct dm_dev *dev)
{
	dm_put_table_device(&world->md, dev);
}

static int link(struct world *world, struct dm_dev *dev)
{
	guard(mutex)(&world->md.type_lock);
	return dm_link_table_device(&world->md, dev);
}

static void expect_open(struct world *world, int opens, int closes)
{
	KUNIT_EXPECT_EQ(world->test, world->opens, opens);
	KUNIT_EXPECT_EQ(world->test, world->closes, closes);
}

static void expect_linked(struct world *world, int links, int unlinks)
{
	KUNIT_EXPECT_EQ(world->test, world->links, links);
	KUNIT_EXPECT_EQ(world->test, world->unlinks, unlinks);
}

static void expect_empty(struct world *world)
{
	KUNIT_EXPECT_TRUE(world->test, RB_EMPTY_ROOT(&world->md.table_devices.tree));
	KUNIT_EXPECT_EQ(world->test, world->md.table_devices.unlinking, 0);
	KUNIT_EXPECT_EQ(world->test, world->opens, world->closes);
	KUNIT_EXPECT_EQ(world->test, world->links, world->unlinks);
}

/* Somebody else who loads or destroys a table. */
struct other {
	struct world *world;
	int i;
	blk_mode_t mode;
	struct dm_dev *dev;		/* to put, or what it has got */
	int ret;
	struct task_struct *task;
	struct completion done;
};

static int getter(void *data)
{
	struct other *other = data;

	current->kunit_test = other->world->test;
	other->ret = get(other->world, other->i, other->mode, &other->dev);
	complete_all(&other->done);
	return 0;
}

static int putter(void *data)
{
	struct other *other = data;

	current->kunit_test = other->world->test;
	put(other->world, other->dev);
	complete_all(&other->done);
	return 0;
}

static void end_other(void *data)
{
	struct other *other = data;

	let_go_on(&other->world->open_gate);
	let_go_on(&other->world->close_gate);
	let_go_on(&other->world->unlink_gate);
	/* What has failed then is said already: rather a leak than no end. */
	if (!wait_for_completion_timeout(&other->done, DEADLINE))
		return;
	kthread_stop_put(other->task);
	kfree(other);
}

static struct other *start(struct world *world, int (*fn)(void *data), int i,
			   blk_mode_t mode, struct dm_dev *dev)
{
	struct kunit *test = world->test;
	struct other *other = kzalloc_obj(*other);

	KUNIT_ASSERT_NOT_NULL(test, other);
	other->world = world;
	other->i = i;
	other->mode = mode;
	other->dev = dev;
	init_completion(&other->done);
	other->task = kthread_create(fn, other, "dm-table-device-test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(other->task));
	get_task_struct(other->task);
	wake_up_process(other->task);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, end_other, other), 0);
	return other;
}

#define must_end(what)									\
	KUNIT_ASSERT_NE(kunit_get_current_test(),					\
			wait_for_completion_timeout(what, DEADLINE), 0)

static bool falls_asleep(struct task_struct *task)
{
	unsigned long end = jiffies + DEADLINE;

	while (!(READ_ONCE(task->__state) & TASK_NORMAL) && time_before(jiffies, end))
		schedule_timeout_uninterruptible(1);
	return READ_ONCE(task->__state) & TASK_NORMAL;
}

/* Sharing. */

static void shared_in_the_same_mode(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *one, *two;

	one = must_get(world, 0, RO);
	KUNIT_EXPECT_EQ(test, (__force u32)world->last_mode, (__force u32)RO);
	KUNIT_EXPECT_EQ(test, (__force u32)one->mode, (__force u32)RO);
	KUNIT_EXPECT_PTR_EQ(test, one->bdev, world->disk[0]->part0);
	KUNIT_EXPECT_PTR_EQ(test, file_bdev(one->bdev_file), one->bdev);
	two = must_get(world, 0, RO);
	KUNIT_EXPECT_PTR_EQ(test, one, two);
	expect_open(world, 1, 0);

	put(world, one);
	expect_open(world, 1, 0);
	two = must_get(world, 0, RO);
	expect_open(world, 1, 0);
	put(world, one);
	put(world, two);
	expect_open(world, 1, 1);
	expect_empty(world);
}

static void not_shared_after_the_last_put(struct kunit *test)
{
	struct world *world = test->priv;

	put(world, must_get(world, 0, RO));
	put(world, must_get(world, 0, RO));
	expect_open(world, 2, 2);
	expect_empty(world);
}

static void each_mode_has_an_open_of_its_own(struct kunit *test)
{
	static const blk_mode_t modes[] = { RW, RO, WO };
	struct world *world = test->priv;
	struct dm_dev *dev[3];
	int i;

	for (i = 0; i < 3; i++) {
		dev[i] = must_get(world, 0, modes[i]);
		KUNIT_EXPECT_EQ(test, (__force u32)world->last_mode, (__force u32)modes[i]);
	}
	expect_open(world, 3, 0);
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_PTR_EQ(test, must_get(world, 0, modes[i]), dev[i]);
		KUNIT_EXPECT_EQ(test, (__force u32)dev[i]->mode, (__force u32)modes[i]);
		put(world, dev[i]);
	}
	for (i = 0; i < 3; i++) {
		put(world, dev[i]);
		expect_open(world, 3, i + 1);
	}
	expect_empty(world);
}

static void each_number_has_an_open_of_its_own(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev[NR_DISKS];
	int i;

	for (i = 0; i < NR_DISKS; i++) {
		dev[i] = must_get(world, i, RO);
		KUNIT_EXPECT_PTR_EQ(test, dev[i]->bdev, world->disk[i]->part0);
	}
	expect_open(world, NR_DISKS, 0);
	for (i = 0; i < NR_DISKS; i++) {
		KUNIT_EXPECT_PTR_EQ(test, must_get(world, i, RO), dev[i]);
		put(world, dev[i]);
		put(world, dev[i]);
	}
	expect_empty(world);
}

static void warns_of_what_is_left(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev = must_get(world, 0, RO);

	kunit_warning_suppress(test) {
		dm_table_devices_exit(&world->md.table_devices);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	put(world, dev);
	kunit_warning_suppress(test) {
		dm_table_devices_exit(&world->md.table_devices);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
	}
}

/* Failures. */

static void failed_open_leaves_nothing(struct kunit *test)
{
	static const int errors[] = { -ENXIO, -ENODEV, -EACCES, -EBUSY, -ENOMEM };
	struct world *world = test->priv;
	struct dm_dev *dev = NULL;
	int i;

	show(world);
	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		world->open_error = errors[i];
		KUNIT_EXPECT_EQ(test, get(world, 0, RO, &dev), errors[i]);
		KUNIT_EXPECT_NULL(test, dev);
		expect_empty(world);
	}
	expect_open(world, 0, 0);
	world->open_error = 0;
	put(world, must_get(world, 0, RO));
	expect_open(world, 1, 1);
}

static void what_cannot_be_linked_is_closed(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev = NULL;

	show(world);
	world->link_error = -ENOMEM;
	KUNIT_EXPECT_EQ(test, get(world, 0, RO, &dev), -ENOMEM);
	KUNIT_EXPECT_NULL(test, dev);
	expect_open(world, 1, 1);
	expect_empty(world);
	world->link_error = 0;
	put(world, must_get(world, 0, RO));
	expect_open(world, 2, 2);
	expect_linked(world, 1, 1);
}

/* Links. */

static void linked_once_while_open(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev;

	show(world);
	dev = must_get(world, 0, RO);
	expect_linked(world, 1, 0);
	must_get(world, 0, RO);
	KUNIT_EXPECT_EQ(test, link(world, dev), 0);
	expect_linked(world, 1, 0);
	put(world, dev);
	expect_linked(world, 1, 0);
	put(world, dev);
	expect_linked(world, 1, 1);
	expect_empty(world);
}

static void not_linked_before_there_is_a_disk(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev, *other;

	dev = must_get(world, 0, RO);
	other = must_get(world, 1, RO);
	expect_linked(world, 0, 0);
	/* What was not linked is not unlinked. */
	put(world, other);
	expect_linked(world, 0, 0);
	KUNIT_EXPECT_EQ(test, link(world, dev), 0);
	expect_linked(world, 1, 0);
	put(world, dev);
	expect_linked(world, 1, 1);
}

static void linked_when_it_is_shared(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev = must_get(world, 0, RO);

	show(world);
	KUNIT_EXPECT_PTR_EQ(test, must_get(world, 0, RO), dev);
	expect_linked(world, 1, 0);
	put(world, dev);
	put(world, dev);
	expect_linked(world, 1, 1);
	expect_empty(world);
}

static void not_shared_if_it_cannot_be_linked(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev = must_get(world, 0, RO), *other = NULL;

	show(world);
	world->link_error = -ENOMEM;
	KUNIT_EXPECT_EQ(test, get(world, 0, RO, &other), -ENOMEM);
	KUNIT_EXPECT_NULL(test, other);
	KUNIT_EXPECT_EQ(test, link(world, dev), -ENOMEM);
	expect_open(world, 1, 0);

	/* It dies just now. */
	world->link_error = -ENODEV;
	KUNIT_EXPECT_PTR_EQ(test, must_get(world, 0, RO), dev);
	put(world, dev);
	expect_open(world, 1, 0);
	put(world, dev);
	expect_linked(world, 0, 0);
	expect_empty(world);
}

/* The dead. */

static void dead_one_is_shared_if_nothing_is_in_its_place(struct kunit *test)
{
	static const int errors[] = { -ENXIO, -ENODEV };
	struct world *world = test->priv;
	struct dm_dev *dev = must_get(world, 0, RO);
	int i;

	delete(world, 0);
	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		world->open_error = errors[i];
		KUNIT_EXPECT_PTR_EQ(test, must_get(world, 0, RO), dev);
		KUNIT_EXPECT_EQ(test, (__force u32)world->last_mode,
				(__force u32)(RO | BLK_OPEN_EXISTING));
		put(world, dev);
	}
	expect_open(world, 1, 0);
	put(world, dev);
	expect_open(world, 1, 1);
	expect_empty(world);
}

static void dead_one_is_not_shared_if_another_cannot_be_opened(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev = must_get(world, 0, RO), *other = NULL;

	delete(world, 0);
	world->open_error = -EBUSY;
	KUNIT_EXPECT_EQ(test, get(world, 0, RO, &other), -EBUSY);
	KUNIT_EXPECT_NULL(test, other);
	expect_open(world, 1, 0);
	put(world, dev);
	expect_open(world, 1, 1);
	expect_empty(world);
}

static void dead_one_gives_way_to_the_one_with_its_number(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dead, *dev;

	show(world);
	dead = must_get(world, 0, RO);
	delete(world, 0);
	add(world, 0);
	dev = must_get(world, 0, RO);
	KUNIT_EXPECT_PTR_NE(test, dev, dead);
	KUNIT_EXPECT_PTR_EQ(test, dev->bdev, world->disk[0]->part0);
	/* The new one has a place for its link. */
	expect_linked(world, 2, 1);
	expect_open(world, 2, 0);

	/* That is the one that is found from now on. */
	KUNIT_EXPECT_PTR_EQ(test, must_get(world, 0, RO), dev);
	put(world, dead);
	expect_open(world, 2, 1);
	expect_linked(world, 2, 1);
	KUNIT_EXPECT_PTR_EQ(test, must_get(world, 0, RO), dev);
	expect_open(world, 2, 1);

	put(world, dev);
	put(world, dev);
	put(world, dev);
	expect_linked(world, 2, 2);
	expect_empty(world);
}

static void dead_one_stays_if_the_new_one_cannot_be_linked(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dead, *dev = NULL;

	show(world);
	dead = must_get(world, 0, RO);
	delete(world, 0);
	add(world, 0);
	world->link_error = -ENOMEM;
	KUNIT_EXPECT_EQ(test, get(world, 0, RO, &dev), -ENOMEM);
	KUNIT_EXPECT_NULL(test, dev);
	expect_open(world, 2, 1);
	put(world, dead);
	expect_open(world, 2, 2);
	expect_empty(world);
}

static void link_of_the_dead_goes_in_every_mode(struct kunit *test)
{
	static const blk_mode_t modes[] = { RO, WO, RW };
	struct world *world = test->priv;
	struct dm_dev *dead, *dev;
	int i, j;

	show(world);
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		for (j = 0; j < ARRAY_SIZE(modes); j++) {
			world->links = 0;
			world->unlinks = 0;
			dead = must_get(world, 0, modes[i]);
			delete(world, 0);
			add(world, 0);
			dev = must_get(world, 0, modes[j]);
			expect_linked(world, 2, 1);
			put(world, dead);
			expect_linked(world, 2, 1);
			put(world, dev);
			expect_linked(world, 2, 2);
			expect_empty(world);
		}
	}
}

static void link_of_the_living_stays(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *one, *two;

	show(world);
	one = must_get(world, 0, RO);
	two = must_get(world, 0, RW);
	expect_linked(world, 2, 0);
	put(world, one);
	put(world, two);
	expect_empty(world);
}

/* Others at the same time. */

static void two_openers_share_one_open(struct kunit *test)
{
	struct world *world = test->priv;
	struct other *first, *second;

	shut(&world->open_gate);
	first = start(world, getter, 0, RO, NULL);
	must_end(&world->open_gate.reached);
	second = start(world, getter, 0, RO, NULL);
	KUNIT_ASSERT_TRUE(test, falls_asleep(second->task));
	KUNIT_EXPECT_FALSE(test, completion_done(&second->done));

	let_go_on(&world->open_gate);
	must_end(&first->done);
	must_end(&second->done);
	KUNIT_EXPECT_EQ(test, first->ret, 0);
	KUNIT_EXPECT_EQ(test, second->ret, 0);
	KUNIT_EXPECT_PTR_EQ(test, first->dev, second->dev);
	expect_open(world, 1, 0);
	put(world, first->dev);
	put(world, second->dev);
	expect_empty(world);
}

/* A path that hangs delays nobody who puts. */
static void puts_do_not_wait_for_an_open(struct kunit *test)
{
	struct world *world = test->priv;
	struct other *opener, *closer;
	struct dm_dev *dev, *same;

	show(world);
	dev = must_get(world, 1, RO);
	same = must_get(world, 0, RW);
	shut(&world->open_gate);
	opener = start(world, getter, 0, RO, NULL);
	must_end(&world->open_gate.reached);

	closer = start(world, putter, 0, 0, dev);
	must_end(&closer->done);
	expect_open(world, 2, 1);
	closer = start(world, putter, 0, 0, same);
	must_end(&closer->done);
	expect_open(world, 2, 2);
	KUNIT_EXPECT_FALSE(test, completion_done(&opener->done));

	let_go_on(&world->open_gate);
	must_end(&opener->done);
	KUNIT_EXPECT_EQ(test, opener->ret, 0);
	put(world, opener->dev);
	expect_empty(world);
}

/* Nor does one whose close hangs delay an open, even of the same device. */
static void opens_do_not_wait_for_a_close(struct kunit *test)
{
	struct world *world = test->priv;
	struct other *closer, *opener;
	struct dm_dev *dev;

	show(world);
	dev = must_get(world, 0, RO);
	shut(&world->close_gate);
	closer = start(world, putter, 0, 0, dev);
	must_end(&world->close_gate.reached);
	expect_linked(world, 1, 1);

	opener = start(world, getter, 0, RO, NULL);
	must_end(&opener->done);
	KUNIT_EXPECT_EQ(test, opener->ret, 0);
	KUNIT_EXPECT_PTR_NE(test, opener->dev, dev);
	expect_open(world, 2, 0);
	expect_linked(world, 2, 1);

	let_go_on(&world->close_gate);
	must_end(&closer->done);
	expect_open(world, 2, 1);
	put(world, opener->dev);
	expect_empty(world);
}

/* The link has the same name. */
static void link_waits_until_the_old_one_is_gone(struct kunit *test)
{
	struct world *world = test->priv;
	struct other *closer, *opener;

	show(world);
	shut(&world->unlink_gate);
	closer = start(world, putter, 0, 0, must_get(world, 0, RO));
	must_end(&world->unlink_gate.reached);
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&world->md.table_devices.tree));

	opener = start(world, getter, 0, RO, NULL);
	KUNIT_ASSERT_TRUE(test, falls_asleep(opener->task));
	KUNIT_EXPECT_FALSE(test, completion_done(&opener->done));
	/* It has it open, if it sleeps where it should. */
	expect_open(world, 2, 0);
	expect_linked(world, 1, 0);

	let_go_on(&world->unlink_gate);
	must_end(&opener->done);
	must_end(&closer->done);
	KUNIT_EXPECT_EQ(test, opener->ret, 0);
	expect_linked(world, 2, 1);
	put(world, opener->dev);
	expect_empty(world);
}

/* The real outside world. */

static bool is_slave(struct world *world, const char *name)
{
	struct kernfs_node *kn = kernfs_find_and_get(world->md.disk->slave_dir->sd, name);

	kernfs_put(kn);
	return kn;
}

static void opened_and_linked_for_real(struct kunit *test)
{
	struct world *world = test->priv;
	struct dm_dev *dev, *other = NULL;

	kunit_deactivate_static_stub(test, dm_open_bdev);
	kunit_deactivate_static_stub(test, dm_close_bdev);
	kunit_deactivate_static_stub(test, dm_link_bdev);
	kunit_deactivate_static_stub(test, dm_unlink_bdev);
	KUNIT_ASSERT_EQ(test, add_numbered(world, world->md.disk, NR_DISKS), 0);

	dev = must_get(world, 0, RO);
	KUNIT_EXPECT_PTR_EQ(test, dev->bdev, world->disk[0]->part0);
	KUNIT_EXPECT_EQ(test, disk_openers(world->disk[0]), 1);
	KUNIT_EXPECT_TRUE(test, is_slave(world, "dm_td_test0"));
	KUNIT_EXPECT_FALSE(test, is_slave(world, "dm_td_test1"));
	KUNIT_EXPECT_EQ(test, get(world, NR_DISKS + 1, RO, &other), -ENXIO);

	put(world, dev);
	KUNIT_EXPECT_EQ(test, disk_openers(world->disk[0]), 0);
	KUNIT_EXPECT_FALSE(test, is_slave(world, "dm_td_test0"));
	expect_empty(world);
}

/* As many steps as a look-up may take in a red-black tree of that many. */
static unsigned long steps(unsigned int nr)
{
	return 2 * (ilog2(nr) + 1);
}

static const struct nr_param {
	const char *name;
	unsigned int nr;
} nr_params[] = {
	{ "1024 devices", 1024 },
	{ "4096 devices", 4096 },
};

KUNIT_ARRAY_PARAM_DESC(nr, nr_params, name);

static struct dm_dev **alloc_devs(struct kunit *test, unsigned int nr)
{
	struct dm_dev **dev = kunit_kcalloc(test, nr, sizeof(*dev), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, dev);
	return dev;
}

static void found_without_looking_at_all_of_them(struct kunit *test)
{
	unsigned int nr = ((const struct nr_param *)test->param_value)->nr, i;
	struct dm_dev **dev = alloc_devs(test, nr);
	struct world *world = test->priv;

	kunit_activate_static_stub(test, dm_table_device_key_cmp, count_comparison);

	/* Load one table: a look-up that finds nothing, and one to insert it. */
	for (i = 0; i < nr; i++)
		dev[i] = must_get(world, i, RO);
	expect_open(world, nr, 0);
	kunit_info(test, "load: %lu comparisons", world->compared);
	KUNIT_EXPECT_GT(test, world->compared, 0);
	KUNIT_EXPECT_LE(test, world->compared, 2 * nr * steps(nr));

	/* Another one, which shares, in another order. */
	world->compared = 0;
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_PTR_EQ(test, must_get(world, nr - 1 - i, RO), dev[nr - 1 - i]);
	expect_open(world, nr, 0);
	kunit_info(test, "reload: %lu comparisons", world->compared);
	KUNIT_EXPECT_GT(test, world->compared, 0);
	KUNIT_EXPECT_LE(test, world->compared, nr * steps(nr));

	/* Nobody looks for what is put. */
	world->compared = 0;
	for (i = 0; i < nr; i++) {
		put(world, dev[i]);
		put(world, dev[i]);
	}
	KUNIT_EXPECT_EQ(test, world->compared, 0);
	expect_open(world, nr, nr);
	expect_empty(world);
}

/* The devices of one table. */

struct table {
	struct world *world;
	struct dm_table table;
	struct dm_target target;
};

static struct table *new_table(struct kunit *test)
{
	struct table *table = kunit_kzalloc(test, sizeof(*table), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, table);
	table->world = test->priv;
	table->table.md = &table->world->md;
	INIT_LIST_HEAD(&table->table.devices);
	INIT_LIST_HEAD(&table->table.superseded_devices);
	table->table.devices_by_number = RB_ROOT;
	table->target.table = &table->table;
	return table;
}

static int table_get(struct table *table, int i, blk_mode_t mode, struct dm_dev **result)
{
	dev_t dev = number(table->world, i);
	char path[24];

	snprintf(path, sizeof(path), "%u:%u", MAJOR(dev), MINOR(dev));
	guard(mutex)(&table->world->md.type_lock);
	return dm_get_device(&table->target, path, mode, result);
}

static struct dm_dev *table_must_get(struct table *table, int i, blk_mode_t mode)
{
	struct dm_dev *dev = NULL;

	KUNIT_ASSERT_EQ(table->world->test, table_get(table, i, mode, &dev), 0);
	return dev;
}

static void table_put(struct table *table, struct dm_dev *dev)
{
	dm_put_device(&table->target, dev);
}

/* What DM_TABLE_DEPS would show. */
static void expect_shown(struct table *table, struct dm_dev *dev)
{
	struct kunit *test = table->world->test;
	struct dm_dev_internal *dd;

	dd = list_first_entry_or_null(&table->table.devices, struct dm_dev_internal, list);
	KUNIT_ASSERT_NOT_NULL(test, dd);
	KUNIT_EXPECT_PTR_EQ(test, dd->dm_dev, dev);
	KUNIT_EXPECT_TRUE(test, list_is_singular(&table->table.devices));
}

static void expect_empty_table(struct table *table)
{
	struct kunit *test = table->world->test;

	KUNIT_EXPECT_TRUE(test, list_empty(&table->table.devices));
	KUNIT_EXPECT_TRUE(test, list_empty(&table->table.superseded_devices));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&table->table.devices_by_number));
	expect_empty(table->world);
}

static void targets_share_what_has_enough_access(struct kunit *test)
{
	struct table *table = new_table(test);
	struct dm_dev *dev;

	dev = table_must_get(table, 0, RW);
	KUNIT_EXPECT_PTR_EQ(test, table_must_get(table, 0, RO), dev);
	KUNIT_EXPECT_PTR_EQ(test, table_must_get(table, 0, RW), dev);
	expect_open(table->world, 1, 0);
	expect_shown(table, dev);
	table_put(table, dev);
	table_put(table, dev);
	expect_open(table->world, 1, 0);
	expect_shown(table, dev);
	table_put(table, dev);
	expect_empty_table(table);
}

static void more_access_supersedes(struct kunit *test)
{
	struct table *table = new_table(test);
	struct dm_dev *weak, *strong;

	weak = table_must_get(table, 0, RO);
	strong = table_must_get(table, 0, WO);
	KUNIT_EXPECT_PTR_NE(test, weak, strong);
	KUNIT_EXPECT_EQ(test, (__force u32)weak->mode, (__force u32)RO);
	KUNIT_EXPECT_EQ(test, (__force u32)strong->mode, (__force u32)RW);
	expect_open(table->world, 2, 0);
	expect_shown(table, strong);
	KUNIT_EXPECT_PTR_EQ(test, table_must_get(table, 0, RO), strong);

	/* In the order in which the targets are destroyed. */
	table_put(table, weak);
	expect_open(table->world, 2, 1);
	expect_shown(table, strong);
	table_put(table, strong);
	table_put(table, strong);
	expect_empty_table(table);
}

static void weaker_one_takes_its_place_again(struct kunit *test)
{
	struct table *table = new_table(test);
	struct dm_dev *weak, *strong;

	weak = table_must_get(table, 0, RO);
	strong = table_must_get(table, 0, RW);
	table_put(table, strong);
	expect_open(table->world, 2, 1);
	expect_shown(table, weak);
	KUNIT_EXPECT_TRUE(test, list_empty(&table->table.superseded_devices));
	KUNIT_EXPECT_PTR_EQ(test, table_must_get(table, 0, RO), weak);
	table_put(table, weak);
	table_put(table, weak);
	expect_empty_table(table);
}

static void table_has_nothing_of_what_failed(struct kunit *test)
{
	struct table *table = new_table(test);
	struct dm_dev *dev = NULL;

	table->world->open_error = -EACCES;
	KUNIT_EXPECT_EQ(test, table_get(table, 0, RO, &dev), -EACCES);
	KUNIT_EXPECT_NULL(test, dev);
	expect_empty_table(table);

	/* Nor itself: the number of a disk that was not added yet is 0:0. */
	table->world->open_error = 0;
	scoped_guard(mutex, &table->world->md.type_lock)
		KUNIT_EXPECT_EQ(test, dm_get_device(&table->target, "0:0", RO, &dev), -EINVAL);
	expect_open(table->world, 0, 0);
	expect_empty_table(table);
}

static void put_of_what_the_table_has_not_is_ignored(struct kunit *test)
{
	struct table *table = new_table(test), *other = new_table(test);
	struct dm_dev *dev = table_must_get(table, 0, RO);

	table_put(other, dev);
	expect_open(table->world, 1, 0);
	expect_shown(table, dev);
	table_put(table, dev);
	expect_empty_table(table);
}

static void table_finds_without_looking_at_all_of_them(struct kunit *test)
{
	unsigned int nr = ((const struct nr_param *)test->param_value)->nr, i;
	struct dm_dev **dev = alloc_devs(test, nr);
	struct table *table = new_table(test);
	struct world *world = table->world;

	alloc_many(world, nr);
	kunit_activate_static_stub(test, dm_table_node_number, count_number);
	for (i = 0; i < nr; i++)
		dev[i] = table_must_get(table, i, RO);
	expect_open(world, nr, 0);
	kunit_info(test, "get: %lu nodes looked at", world->visited);
	KUNIT_EXPECT_GT(test, world->visited, 0);
	/* To compare two nodes is to look at both. */
	KUNIT_EXPECT_LE(test, world->visited, 3 * nr * steps(nr));

	world->visited = 0;
	for (i = 0; i < nr; i++)
		table_put(table, dev[nr - 1 - i]);
	kunit_info(test, "put: %lu nodes looked at", world->visited);
	/* It looks at more than the first with that number: at the next one, too. */
	KUNIT_EXPECT_GT(test, world->visited, 0);
	KUNIT_EXPECT_LE(test, world->visited, nr * (steps(nr) + 1));
	expect_empty_table(table);
}

static void free_world(void *data)
{
	struct world *world = data;
	int i;

	for (i = 0; i < NR_DISKS; i++) {
		if (!world->disk[i])
			continue;
		del_gendisk(world->disk[i]);
		put_disk(world->disk[i]);
	}
	if (!IS_ERR_OR_NULL(world->md.disk)) {
		if (disk_live(world->md.disk))
			del_gendisk(world->md.disk);
		world->md.disk->slave_dir = NULL;
		put_disk(world->md.disk);
	}
	unregister_blkdev(world->major, "dm-td-test");
}

static int init(struct kunit *test)
{
	struct world *world = kunit_kzalloc(test, sizeof(*world), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, world);
	test->priv = world;
	world->test = test;
	init_gate(&world->open_gate);
	init_gate(&world->close_gate);
	init_gate(&world->unlink_gate);
	world->md.numa_node_id = NUMA_NO_NODE;
	mutex_init(&world->md.type_lock);
	dm_table_devices_init(&world->md.table_devices);

	world->major = register_blkdev(0, "dm-td-test");
	KUNIT_ASSERT_GT(test, world->major, 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, free_world, world), 0);
	world->md.disk = blk_alloc_disk(NULL, NUMA_NO_NODE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(world->md.disk));
	for (i = 0; i < NR_DISKS; i++)
		add(world, i);

	kunit_activate_static_stub(test, dm_open_bdev, fake_open);
	kunit_activate_static_stub(test, dm_close_bdev, fake_close);
	kunit_activate_static_stub(test, dm_link_bdev, fake_link);
	kunit_activate_static_stub(test, dm_unlink_bdev, fake_unlink);
	return 0;
}

static struct kunit_case dm_table_device_cases[] = {
	KUNIT_CASE(shared_in_the_same_mode),
	KUNIT_CASE(not_shared_after_the_last_put),
	KUNIT_CASE(each_mode_has_an_open_of_its_own),
	KUNIT_CASE(each_number_has_an_open_of_its_own),
	KUNIT_CASE(warns_of_what_is_left),
	KUNIT_CASE(failed_open_leaves_nothing),
	KUNIT_CASE(what_cannot_be_linked_is_closed),
	KUNIT_CASE(linked_once_while_open),
	KUNIT_CASE(not_linked_before_there_is_a_disk),
	KUNIT_CASE(linked_when_it_is_shared),
	KUNIT_CASE(not_shared_if_it_cannot_be_linked),
	KUNIT_CASE(dead_one_is_shared_if_nothing_is_in_its_place),
	KUNIT_CASE(dead_one_is_not_shared_if_another_cannot_be_opened),
	KUNIT_CASE(dead_one_gives_way_to_the_one_with_its_number),
	KUNIT_CASE(dead_one_stays_if_the_new_one_cannot_be_linked),
	KUNIT_CASE(link_of_the_dead_goes_in_every_mode),
	KUNIT_CASE(link_of_the_living_stays),
	KUNIT_CASE(two_openers_share_one_open),
	KUNIT_CASE(puts_do_not_wait_for_an_open),
	KUNIT_CASE(opens_do_not_wait_for_a_close),
	KUNIT_CASE(link_waits_until_the_old_one_is_gone),
	KUNIT_CASE(opened_and_linked_for_real),
	KUNIT_CASE_PARAM(found_without_looking_at_all_of_them, nr_gen_params),
	{}
};

static struct kunit_suite dm_table_device_suite = {
	.name = "dm-table-device",
	.init = init,
	.test_cases = dm_table_device_cases,
};

static struct kunit_case dm_table_cases[] = {
	KUNIT_CASE(targets_share_what_has_enough_access),
	KUNIT_CASE(more_access_supersedes),
	KUNIT_CASE(weaker_one_takes_its_place_again),
	KUNIT_CASE(table_has_nothing_of_what_failed),
	KUNIT_CASE(put_of_what_the_table_has_not_is_ignored),
	KUNIT_CASE_PARAM(table_finds_without_looking_at_all_of_them, nr_gen_params),
	{}
};

static struct kunit_suite dm_table_suite = {
	.name = "dm-table",
	.init = init,
	.test_cases = dm_table_cases,
};

kunit_test_suites(&dm_table_device_suite, &dm_table_suite);

MODULE_DESCRIPTION("KUnit tests of device mapper's table devices");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
