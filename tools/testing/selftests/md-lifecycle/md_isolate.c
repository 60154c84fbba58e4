// SPDX-License-Identifier: GPL-2.0
/*
 * One array that cannot go on, and everything else that must: its sync work
 * waits for I/O that does not end, or its stop does, or its deletion waits for
 * a worker. Meanwhile other arrays are made, opened, run and stopped, and other
 * drivers' devices are opened.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/loop.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "stall.h"

#define LOOP_NR		50
#define LOOP_NODE	"/dev/.loop-lifecycle"

/* What does not go on; the devices are made before. */
enum stall { SYNC_WORK, WRITEBACK, DELETION };

struct sick {
	struct leg leg;
	struct disk disk;
	struct md_dev md;
	struct task writer, stopper;
	struct worker_stall workers;
	int fd;
};

FIXTURE(md_isolate) {
	struct sick sick;
	struct disk disks[2];
	struct md_dev other;
	struct task first, task;
	char old_create[8];
	int fd;
};

FIXTURE_VARIANT(md_isolate) {
	enum stall stall;
};

FIXTURE_VARIANT_ADD(md_isolate, sync_work) { .stall = SYNC_WORK };
FIXTURE_VARIANT_ADD(md_isolate, writeback) { .stall = WRITEBACK };
FIXTURE_VARIANT_ADD(md_isolate, deletion) { .stall = DELETION };

static const struct md_shape mirror = { .level = 1 };
static const char block[4096];

static long stop(struct task *task, void *arg)
{
	struct sick *sick = arg;

	return md_stop(sick->fd);
}

/* What has to be done after the stop is left to the stalled workers. */
static long stop_and_close(struct task *task, void *arg)
{
	struct sick *sick = arg;
	int ret = worker_stall_join(&sick->workers);

	ret = ret ?: md_stop(sick->fd);
	close(sick->fd);
	return ret;
}

/* A failed member cannot be taken out while a write to the other one is stuck. */
static void stall_sync_work(struct __test_metadata *_metadata, struct sick *sick)
{
	ASSERT_EQ(0, leg_stall(&sick->leg));
	ASSERT_EQ(0, task_start(&sick->writer, "a writer", task_write_node,
				sick->md.node, -1));
	ASSERT_EQ(0, task_blocked(&sick->writer));
	ASSERT_EQ(0, md_ioctl(sick->fd, SET_DISK_FAULTY,
			      (void *)makedev(sick->disk.major, sick->disk.minor)));
	ASSERT_NE(0, task_find("md_start_sync"));
}

static void stall_writeback(struct __test_metadata *_metadata, struct sick *sick)
{
	ASSERT_EQ(0, leg_stall(&sick->leg));
	ASSERT_EQ(4096, pwrite(sick->fd, block, sizeof(block), 0));
	ASSERT_EQ(0, task_start(&sick->stopper, "STOP_ARRAY", stop, sick, sick->fd));
	ASSERT_EQ(0, task_blocked_in(&sick->stopper, "md_ioctl"));
}

static void stall_deletion(struct __test_metadata *_metadata, struct sick *sick)
{
	static const char dying[] = "node sysfs number ";
	int ret;

	ASSERT_EQ(0, worker_stall_start(&sick->workers));
	ASSERT_EQ(0, task_start(&sick->stopper, "STOP_ARRAY", stop_and_close,
				sick, sick->fd));
	close(sick->fd);
	sick->fd = -1;
	ret = task_blocked(&sick->stopper);
	ASSERT_EQ(0, ret == -EALREADY ? task_result(&sick->stopper) : ret);
	/* It may have been waiting for something on the way there. */
	ASSERT_STREQ(dying, md_left_until(&sick->md, dying));
}

static void sick_setup(struct __test_metadata *_metadata, struct sick *sick)
{
	struct disk members[2];

	sick->fd = -1;
	ASSERT_EQ(0, disk_create(&sick->disk, 8, false));
	ASSERT_EQ(0, leg_create(&sick->leg, "leg", 8));
	members[0] = sick->disk;
	members[1] = sick->leg.disk;
	ASSERT_EQ(0, md_pick(&sick->md));
	sick->fd = md_start(&sick->md, &mirror, members, 2);
	ASSERT_LE(0, sick->fd);
}

static void sick_end(struct sick *sick)
{
	worker_stall_end(&sick->workers);
	leg_release(&sick->leg);
	task_end(&sick->writer);
	task_end(&sick->stopper);
	if (sick->fd >= 0)
		close(sick->fd);
	md_cleanup(&sick->md);
	leg_destroy(&sick->leg);
	disk_destroy(&sick->disk);
}

FIXTURE_SETUP(md_isolate)
{
	const char *missing = md_missing("create_on_open") ?: dm_missing() ?:
			      task_missing();

	self->fd = -1;
	self->sick.fd = -1;
	if (!missing && variant->stall == DELETION)
		missing = worker_stall_missing();
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	ASSERT_EQ(0, md_pick(&self->other));
	sick_setup(_metadata, &self->sick);
}

FIXTURE_TEARDOWN(md_isolate)
{
	int fd;

	sick_end(&self->sick);
	task_end(&self->first);
	task_end(&self->task);
	if (self->fd >= 0)
		close(self->fd);
	md_cleanup(&self->other);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	unlink(LOOP_NODE);
	fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		ioctl(fd, LOOP_CTL_REMOVE, LOOP_NR);
		close(fd);
	}
	md_param_set("create_on_open", self->old_create, NULL, 0);
	udev_resume();
}

static void fall_ill(struct __test_metadata *_metadata,
		     struct _test_data_md_isolate *self, enum stall stall)
{
	switch (stall) {
	case SYNC_WORK:
		stall_sync_work(_metadata, &self->sick);
		break;
	case WRITEBACK:
		stall_writeback(_metadata, &self->sick);
		break;
	case DELETION:
		stall_deletion(_metadata, &self->sick);
		break;
	}
}

/* What @fn returns while the array is stuck; it has to be done by then. */
static long meanwhile(struct _test_data_md_isolate *self, const char *what,
		      long (*fn)(struct task *task, void *arg))
{
	int ret = task_start(&self->task, what, fn, self, -1);

	return ret ?: task_result(&self->task);
}

static long open_other(struct task *task, void *arg)
{
	struct _test_data_md_isolate *self = arg;
	int fd = md_open(&self->other, O_RDWR);

	return fd < 0 ? fd : 0;
}

TEST_F(md_isolate, B11_open_of_another_number)
{
	fall_ill(_metadata, self, variant->stall);
	EXPECT_EQ(0, meanwhile(self, "open of another number", open_other));
}

static long new_other(struct task *task, void *arg)
{
	struct _test_data_md_isolate *self = arg;

	return md_new_array(&self->other);
}

TEST_F(md_isolate, B11_new_array_of_another_number)
{
	fall_ill(_metadata, self, variant->stall);
	EXPECT_EQ(0, meanwhile(self, "new_array of another number", new_other));
}

static long whole_life(struct task *task, void *arg)
{
	struct _test_data_md_isolate *self = arg;
	int fd, ret;

	fd = md_open(&self->other, O_RDWR);
	if (fd < 0)
		return fd;
	ret = md_build(fd, self->disks, 2) ?: md_stop(fd);
	close(fd);
	return ret;
}

TEST_F(md_isolate, B11_life_of_another_array)
{
	if (variant->stall == DELETION)
		SKIP(return, "its deletion needs the same workers");
	fall_ill(_metadata, self, variant->stall);
	EXPECT_EQ(0, meanwhile(self, "life of another array", whole_life));
}

static long stop_other(struct task *task, void *arg)
{
	struct _test_data_md_isolate *self = arg;
	int fd, ret;

	fd = md_open(&self->other, O_RDWR);
	if (fd < 0)
		return fd;
	ret = md_stop(fd);
	close(fd);
	return ret;
}

TEST_F(md_isolate, B11_open_and_stop_of_a_running_array)
{
	if (variant->stall == DELETION)
		SKIP(return, "its deletion needs the same workers");
	self->fd = md_start(&self->other, &mirror, self->disks, 2);
	ASSERT_LE(0, self->fd);
	close(self->fd);
	self->fd = -1;
	fall_ill(_metadata, self, variant->stall);
	EXPECT_EQ(0, meanwhile(self, "open and stop", stop_other));
}

static long open_loop(struct task *task, void *arg)
{
	int fd = open(LOOP_NODE, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : 0;
}

/*
 * A device of another driver, that an open makes; while an open that makes an
 * array goes on, or cannot.
 */
TEST_F(md_isolate, B11_open_makes_a_loop_device)
{
	if (!have_loop())
		SKIP(return, "no loop driver");
	if (path_exists("/sys/dev/block/7:%d", LOOP_NR))
		SKIP(return, "loop%d is there", LOOP_NR);
	unlink(LOOP_NODE);
	ASSERT_EQ(0, mknod(LOOP_NODE, S_IFBLK | 0600, makedev(7, LOOP_NR)));
	fall_ill(_metadata, self, variant->stall);
	ASSERT_EQ(0, task_start(&self->first, "open of another number",
				open_other, self, -1));
	task_blocked(&self->first);
	EXPECT_EQ(0, meanwhile(self, "open of a loop device", open_loop));
}

static long read_parameters(struct task *task, void *arg)
{
	char buf[32];
	int ret = 0;

	if (path_exists("/sys/module/loop/parameters/max_loop"))
		ret = file_read(buf, sizeof(buf),
				"/sys/module/loop/parameters/max_loop");
	if (!ret && path_exists("/sys/module/brd/parameters/rd_nr"))
		ret = file_read(buf, sizeof(buf),
				"/sys/module/brd/parameters/rd_nr");
	return ret ?: md_param_set("create_on_open", "Y", NULL, 0);
}

/*
 * The parameters of all that is built in share a lock, and new_array is one. It
 * must not be held while somebody waits; nor may it be held for long because an
 * array cannot be made at once.
 */
TEST_F(md_isolate, B11_parameters_of_other_drivers)
{
	fall_ill(_metadata, self, variant->stall);
	ASSERT_EQ(0, task_start(&self->first, "new_array of another number",
				new_other, self, -1));
	task_blocked(&self->first);
	EXPECT_EQ(0, meanwhile(self, "reading parameters", read_parameters));
}

/* --- the same number --- */

FIXTURE(md_isolate_number) {
	struct sick sick;
	struct md_dev other;
	struct task first, second, third;
	char old_create[8];
};

FIXTURE_SETUP(md_isolate_number)
{
	const char *missing = md_missing("create_on_open") ?: dm_missing() ?:
			      task_missing() ?: worker_stall_missing();

	self->sick.fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	ASSERT_EQ(0, md_pick(&self->other));
	sick_setup(_metadata, &self->sick);
	stall_deletion(_metadata, &self->sick);
}

FIXTURE_TEARDOWN(md_isolate_number)
{
	worker_stall_end(&self->sick.workers);
	task_end(&self->first);
	task_end(&self->second);
	task_end(&self->third);
	sick_end(&self->sick);
	md_cleanup(&self->other);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	udev_resume();
}

static long new_array(struct task *task, void *md)
{
	return md_new_array(md);
}

TEST_F(md_isolate_number, C6_new_array_waits_for_the_old_instance)
{
	long long old = md_diskseq(&self->sick.md);

	ASSERT_LT(0, old);
	ASSERT_EQ(0, task_start(&self->first, "new_array", new_array,
				&self->sick.md, -1));
	EXPECT_EQ(0, task_blocked(&self->first));
	worker_stall_end(&self->sick.workers);
	EXPECT_EQ(0, task_result(&self->first));
	EXPECT_LT(old, md_diskseq(&self->sick.md));
}

TEST_F(md_isolate_number, C6_waiting_new_array_can_be_killed)
{
	ASSERT_EQ(0, task_start(&self->first, "new_array", new_array,
				&self->sick.md, -1));
	ASSERT_EQ(0, task_blocked(&self->first));
	EXPECT_EQ(0, task_kill(&self->first));

	/* And has left nothing behind that the next one waits for. */
	ASSERT_EQ(0, task_start(&self->second, "new_array", new_array,
				&self->sick.md, -1));
	EXPECT_EQ(0, task_blocked(&self->second));
	worker_stall_end(&self->sick.workers);
	EXPECT_EQ(0, task_result(&self->second));
}

TEST_F(md_isolate_number, B11_new_array_of_others_while_one_waits)
{
	struct md_dev *other = &self->other;

	ASSERT_EQ(0, task_start(&self->first, "new_array", new_array,
				&self->sick.md, -1));
	EXPECT_EQ(0, task_blocked(&self->first));
	ASSERT_EQ(0, task_start(&self->second, "new_array of another number",
				new_array, other, -1));
	EXPECT_EQ(0, task_result(&self->second));
	ASSERT_EQ(0, task_start(&self->third, "reading parameters",
				read_parameters, self, -1));
	EXPECT_EQ(0, task_result(&self->third));
	EXPECT_FALSE(task_done(&self->first));
}

TEST_HARNESS_MAIN
