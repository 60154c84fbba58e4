// SPDX-License-Identifier: GPL-2.0
/*
 * The end of an array, and somebody who got at the array before it, and wants
 * something else of it: to run it, to write to it no more, to have it as a member
 * of an array. Who has to wait for whom is settled before anybody goes on; nobody
 * may wait for good.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "stall.h"

struct array {
	struct leg leg;
	struct disk disks[2];
	struct md_dev md;
	struct task holder, other, stopper;
	int fd;
};

static const struct md_shape persistent = { .level = 1, .persistent = true };

static const char *races_missing(void)
{
	return md_missing("create_on_open") ?: dm_missing() ?: task_missing();
}

static void array_setup(struct __test_metadata *_metadata, struct array *array,
			const char *leg)
{
	ASSERT_EQ(0, disk_create(&array->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&array->disks[1], 8, false));
	ASSERT_EQ(0, leg_create(&array->leg, leg, 8));
	ASSERT_EQ(0, md_pick(&array->md));
	array->fd = md_open(&array->md, O_RDWR);
	ASSERT_LE(0, array->fd);
	ASSERT_EQ(0, md_configure_as(array->fd, &persistent, array->disks, 2));
}

static void array_close(struct array *array)
{
	if (array->fd >= 0)
		close(array->fd);
	array->fd = -1;
}

static void array_teardown(struct array *array)
{
	leg_release(&array->leg);
	task_end(&array->holder);
	task_end(&array->other);
	task_end(&array->stopper);
	array_close(array);
	md_cleanup(&array->md);
	leg_destroy(&array->leg);
	disk_destroy(&array->disks[0]);
	disk_destroy(&array->disks[1]);
}

static long add_leg(struct task *task, void *arg)
{
	struct array *array = arg;
	char dev[32];

	snprintf(dev, sizeof(dev), "%u:%u", array->leg.disk.major,
		 array->leg.disk.minor);
	return md_attr_write(&array->md, "new_dev", dev);
}

/*
 * Somebody reads the superblock of a disk that does not answer, and has the
 * array's lock. After him it goes to those who wait, in the order they came.
 */
static void hold_lock(struct __test_metadata *_metadata, struct array *array)
{
	ASSERT_EQ(0, leg_stall(&array->leg));
	ASSERT_EQ(0, task_start(&array->holder, "new_dev", add_leg, array, -1));
	ASSERT_EQ(0, task_blocked_in(&array->holder, "md_import_device"));
}

static long stop_and_close(struct task *task, void *arg)
{
	struct array *array = arg;
	int ret = md_stop(array->fd);

	close(array->fd);
	return ret;
}

static void let_stop_wait(struct __test_metadata *_metadata, struct array *array,
			  const char *where)
{
	ASSERT_EQ(0, task_start(&array->stopper, "the stop", stop_and_close,
				array, array->fd));
	array_close(array);
	ASSERT_EQ(0, task_blocked_in(&array->stopper, where));
}

/* --- to run it --- */

FIXTURE(md_races_run) {
	struct array array;
	char old_create[8];
};

FIXTURE_VARIANT(md_races_run) {
	const char *state;	/* NULL: RUN_ARRAY */
};

FIXTURE_VARIANT_ADD(md_races_run, run_array) {};
FIXTURE_VARIANT_ADD(md_races_run, active) { "active" };
FIXTURE_VARIANT_ADD(md_races_run, readonly) { "readonly" };
FIXTURE_VARIANT_ADD(md_races_run, read_auto) { "read-auto" };

FIXTURE_SETUP(md_races_run)
{
	self->array.fd = -1;
	if (races_missing())
		SKIP(return, "%s", races_missing());
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	array_setup(_metadata, &self->array, "leg");
}

FIXTURE_TEARDOWN(md_races_run)
{
	array_teardown(&self->array);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	udev_resume();
}

struct runner_arg {
	const struct md_dev *md;
	const char *state;
};

/* A second opener, which has it open when it is stopped. */
static long open_and_run(struct task *task, void *p)
{
	struct runner_arg *arg = p;
	int fd = md_open(arg->md, O_RDWR);

	if (fd < 0)
		return fd;
	if (!arg->state)
		return md_run(fd);
	return md_attr_write(arg->md, "array_state", arg->state);
}

/*
 * An array that does not run can be stopped however often it is open. So it must
 * not begin to run when that has been looked at.
 */
TEST_F(md_races_run, B14_run_while_a_stop_waits)
{
	struct array *array = &self->array;
	struct runner_arg arg = { &array->md, variant->state };

	hold_lock(_metadata, array);
	ASSERT_EQ(0, task_start(&array->other, "a second opener", open_and_run,
				&arg, -1));
	ASSERT_EQ(0, task_blocked(&array->other));
	let_stop_wait(_metadata, array, "md_ioctl");
	leg_release(&array->leg);
	EXPECT_EQ(-EBUSY, task_result(&array->other));
	EXPECT_EQ(0, task_result(&array->stopper));
	EXPECT_STREQ("", md_left_in_the_end(&array->md));
}

/* --- to run it, and before the stop --- */

FIXTURE(md_races_start) {
	struct array array;
	char old_create[8];
	int leg_fd;
};

FIXTURE_SETUP(md_races_start)
{
	struct array *array = &self->array;
	struct disk members[2];

	array->fd = -1;
	self->leg_fd = -1;
	if (races_missing())
		SKIP(return, "%s", races_missing());
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	ASSERT_EQ(0, disk_create(&array->disks[0], 8, false));
	ASSERT_EQ(0, leg_create(&array->leg, "leg", 8));
	self->leg_fd = dm_open(&array->leg.dm, O_RDWR);
	ASSERT_LE(0, self->leg_fd);
	ASSERT_EQ(0, md_pick(&array->md));
	array->fd = md_open(&array->md, O_RDWR);
	ASSERT_LE(0, array->fd);
	members[0] = array->disks[0];
	members[1] = array->leg.disk;
	ASSERT_EQ(0, md_configure_as(array->fd, &persistent, members, 2));
}

FIXTURE_TEARDOWN(md_races_start)
{
	leg_release(&self->array.leg);
	if (self->leg_fd >= 0)
		close(self->leg_fd);
	array_teardown(&self->array);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	udev_resume();
}

/*
 * Before an array runs, what others have written to its members is to be on disk:
 * here one does not answer. A stop that begins meanwhile has to see that it will
 * run, and that somebody has it open, who is told that it runs.
 */
TEST_F(md_races_start, B14_stop_while_it_is_started)
{
	static const char page[4096];
	struct array *array = &self->array;
	struct runner_arg arg = { .md = &array->md };
	int ret;

	ASSERT_EQ(0, leg_stall(&array->leg));
	ASSERT_EQ((ssize_t)sizeof(page),
		  pwrite(self->leg_fd, page, sizeof(page), 0));
	ASSERT_EQ(0, task_start(&array->other, "a second opener", open_and_run,
				&arg, -1));
	ASSERT_EQ(0, task_blocked_in(&array->other, "md_run"));

	ASSERT_EQ(0, task_start(&array->stopper, "the stop", stop_and_close,
				array, array->fd));
	/* It has looked at the openers by then. */
	ret = task_blocked(&array->stopper);
	ASSERT_TRUE(ret == 0 || ret == -EALREADY);
	leg_release(&array->leg);
	EXPECT_EQ(0, task_result(&array->other));
	EXPECT_EQ(-EBUSY, task_result(&array->stopper));
}

/* --- to set it read-only --- */

FIXTURE(md_races_readonly) {
	struct array array;
	struct worker_stall workers;
	char old_create[8];
};

FIXTURE_SETUP(md_races_readonly)
{
	const char *missing = races_missing() ?: worker_stall_missing();

	self->array.fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	array_setup(_metadata, &self->array, "leg");
}

FIXTURE_TEARDOWN(md_races_readonly)
{
	worker_stall_end(&self->workers);
	array_teardown(&self->array);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	udev_resume();
}

static long set_readonly(struct task *task, void *arg)
{
	struct array *array = arg;

	return md_attr_write(&array->md, "array_state", "readonly");
}

/* From now on the array's thread does not run: it is where a real time task is. */
static void stall_thread(struct __test_metadata *_metadata,
			 struct _test_data_md_races_readonly *self)
{
	pid_t thread = task_named("%s_raid1", self->array.md.name);

	ASSERT_NE(0, thread);
	ASSERT_EQ(0, thread_asleep(thread));
	ASSERT_EQ(0, worker_stall_start(&self->workers));
	ASSERT_EQ(0, stay_on_cpu(thread, self->workers.cpu, 0));
}

/*
 * Before an array is set read-only its superblocks are to be written, which is
 * waited for without the array's lock. An array that is read-only until the
 * first write can be stopped meanwhile: its openers cannot have written.
 *
 * There is something to be written when a member fails; but the array's thread,
 * which sees to that, does not run.
 */
TEST_F(md_races_readonly, B1_readonly_while_a_stop_waits)
{
	struct array *array = &self->array;
	char buf[64];

	ASSERT_EQ(0, md_run(array->fd));
	ASSERT_EQ(0, md_ioctl(array->fd, STOP_ARRAY_RO, NULL));
	ASSERT_EQ(0, md_attr_write(&array->md, "array_state", "read-auto"));
	ASSERT_EQ(0, file_read(buf, sizeof(buf), "/sys/block/%s/md/array_state",
			       array->md.name));
	ASSERT_STREQ("read-auto", buf);

	stall_thread(_metadata, self);
	ASSERT_EQ(0, md_ioctl(array->fd, SET_DISK_FAULTY,
			      (void *)makedev(array->disks[0].major,
					      array->disks[0].minor)));

	ASSERT_EQ(0, task_start(&array->other, "readonly", set_readonly, array,
				-1));
	ASSERT_EQ(0, task_blocked_in(&array->other, "array_state_store"));

	/* The stop has the lock now, and waits for the thread to end. */
	let_stop_wait(_metadata, array, "kthread_stop");
	EXPECT_FALSE(task_done(&array->other));
	worker_stall_end(&self->workers);
	EXPECT_EQ(-ENODEV, task_result(&array->other));
	EXPECT_EQ(0, task_result(&array->stopper));
	EXPECT_STREQ("", md_left_in_the_end(&array->md));
}

static long set_layout(struct task *task, void *arg)
{
	struct array *array = arg;

	return md_attr_write(&array->md, "layout", "0");
}

/* Who has waited for the lock behind the stop has nothing left to write to. */
TEST_F(md_races_readonly, B14_write_behind_a_stop)
{
	struct array *array = &self->array;

	ASSERT_EQ(0, md_run(array->fd));
	stall_thread(_metadata, self);
	let_stop_wait(_metadata, array, "kthread_stop");
	ASSERT_EQ(0, task_start(&array->other, "layout", set_layout, array, -1));
	ASSERT_EQ(0, task_blocked(&array->other));
	worker_stall_end(&self->workers);
	EXPECT_EQ(-ENODEV, task_result(&array->other));
	EXPECT_EQ(0, task_result(&array->stopper));
	EXPECT_STREQ("", md_left_in_the_end(&array->md));
}

/* --- to open it --- */

FIXTURE(md_races_closing) {
	struct array array;
	struct task opener, writer;
	char old_create[8];
};

FIXTURE_SETUP(md_races_closing)
{
	self->array.fd = -1;
	if (races_missing())
		SKIP(return, "%s", races_missing());
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	array_setup(_metadata, &self->array, "leg");
}

FIXTURE_TEARDOWN(md_races_closing)
{
	leg_release(&self->array.leg);
	task_end(&self->opener);
	task_end(&self->writer);
	array_teardown(&self->array);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	udev_resume();
}

static long clear(struct task *task, void *arg)
{
	struct array *array = arg;

	return md_attr_write(&array->md, "array_state", "clear");
}

static long open_readonly(struct task *task, void *arg)
{
	struct array *array = arg;

	return md_open(&array->md, O_RDONLY);
}

/* The first open of an array reads it, for partitions. */
static void open_once(struct __test_metadata *_metadata, struct array *array)
{
	int fd = md_open(&array->md, O_RDONLY);

	ASSERT_LE(0, fd);
	close(fd);
}

/* Somebody wants it read-only, which it is, and gives up: that opens nothing. */
TEST_F(md_races_closing, C7_only_who_closes_lets_open)
{
	struct array *array = &self->array;

	ASSERT_EQ(0, md_attr_write(&array->md, "array_state", "readonly"));
	open_once(_metadata, array);
	hold_lock(_metadata, array);
	let_stop_wait(_metadata, array, "md_ioctl");
	ASSERT_EQ(0, task_start(&self->writer, "readonly", set_readonly, array,
				-1));
	ASSERT_EQ(0, task_blocked_in(&self->writer, "array_state_store"));
	ASSERT_EQ(0, task_kill(&self->writer));

	ASSERT_EQ(0, task_start(&self->opener, "open", open_readonly, array, -1));
	EXPECT_EQ(0, task_blocked(&self->opener));
	leg_release(&array->leg);
	EXPECT_EQ(0, task_result(&array->stopper));
	EXPECT_LE(0, task_result(&self->opener));
}

/* Who has closed it lets it be opened again, even if he is killed. */
TEST_F(md_races_closing, C7_opened_after_a_clear_was_killed)
{
	struct array *array = &self->array;

	ASSERT_EQ(0, md_run(array->fd));
	array_close(array);
	open_once(_metadata, array);
	hold_lock(_metadata, array);
	ASSERT_EQ(0, task_start(&self->writer, "clear", clear, array, -1));
	ASSERT_EQ(0, task_blocked_in(&self->writer, "array_state_store"));
	ASSERT_EQ(0, task_kill(&self->writer));

	ASSERT_EQ(0, task_start(&self->opener, "open", open_readonly, array, -1));
	EXPECT_LE(0, task_result(&self->opener));
}

/* --- to have it as a member --- */

FIXTURE(md_races_member) {
	struct array arrays[2];
	struct dev_stall dev;
	char old_create[8];
};

FIXTURE_SETUP(md_races_member)
{
	self->arrays[0].fd = -1;
	self->arrays[1].fd = -1;
	if (races_missing())
		SKIP(return, "%s", races_missing());
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	ASSERT_EQ(0, leg_create(&self->dev.leg, "dev", 8));
	array_setup(_metadata, &self->arrays[0], "leg0");
	array_setup(_metadata, &self->arrays[1], "leg1");
}

FIXTURE_TEARDOWN(md_races_member)
{
	leg_release(&self->arrays[0].leg);
	leg_release(&self->arrays[1].leg);
	dev_stall_end(&self->dev);
	array_teardown(&self->arrays[0]);
	array_teardown(&self->arrays[1]);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	udev_resume();
}

struct adder_arg {
	int fd;
	unsigned int minor;
};

static long add_member(struct task *task, void *p)
{
	struct adder_arg *arg = p;
	mdu_disk_info_t info = {
		.number = 1, .raid_disk = 1, .major = MD_MAJOR,
		.minor = arg->minor,
		.state = 1 << MD_DISK_SYNC | 1 << MD_DISK_ACTIVE,
	};

	return md_ioctl(arg->fd, ADD_NEW_DISK, &info);
}

/* Before the stop; whoever adds it has the lock of the other array then. */
static void let_adder_wait(struct __test_metadata *_metadata,
			   struct array *array, const struct array *member)
{
	struct adder_arg arg = { array->fd, member->md.minor };

	ASSERT_EQ(0, task_start(&array->other, "ADD_NEW_DISK", add_member, &arg,
				array->fd));
	ASSERT_EQ(0, task_blocked(&array->other));
}

/* The open of the member must not wait for a stop that needs the adder's lock. */
TEST_F(md_races_member, B11_array_added_to_itself_while_a_stop_waits)
{
	struct array *array = &self->arrays[0];

	hold_lock(_metadata, array);
	let_adder_wait(_metadata, array, array);
	let_stop_wait(_metadata, array, "md_ioctl");
	leg_release(&array->leg);
	EXPECT_EQ(-EBUSY, task_result(&array->other));
	EXPECT_EQ(0, task_result(&array->stopper));
	EXPECT_STREQ("", md_left_in_the_end(&array->md));
}

/*
 * Nor for one that needs the lock of somebody who waits likewise. Whichever is
 * stopped first is not gone before both have been added or refused.
 */
TEST_F(md_races_member, B11_arrays_added_crosswise_while_their_stops_wait)
{
	struct array *arrays = self->arrays;
	int i;

	for (i = 0; i < 2; i++)
		hold_lock(_metadata, &arrays[i]);
	for (i = 0; i < 2; i++)
		let_adder_wait(_metadata, &arrays[i], &arrays[!i]);
	for (i = 0; i < 2; i++)
		let_stop_wait(_metadata, &arrays[i], "md_ioctl");
	ASSERT_EQ(0, dev_stall_start(&self->dev));
	for (i = 0; i < 2; i++)
		leg_release(&arrays[i].leg);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(-EBUSY, task_result(&arrays[i].other));
	dev_stall_release(&self->dev);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, task_result(&arrays[i].stopper));
		EXPECT_STREQ("", md_left_in_the_end(&arrays[i].md));
	}
}

TEST_HARNESS_MAIN
