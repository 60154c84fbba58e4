// SPDX-License-Identifier: GPL-2.0
/*
 * Who has an array's reconfig_mutex and waits for somebody who wants it waits for
 * good, and nobody can be killed. After some of that no number can be opened that
 * is not there. So this is a program of its own, to be run last.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "stall.h"

/*
 * A member of a raid5 has failed: what is written waits until the array's thread
 * has recorded that, which takes the lock. The array is stopped just then, and
 * stopping waits for what is written.
 */
FIXTURE(md_failing) {
	struct disk disks[3];
	struct md_dev md;
	struct worker_stall workers;
	struct task writer, stopper;
	int fd;
	bool stuck;
};

static long write_block(struct task *task, void *arg)
{
	struct _test_data_md_failing *self = arg;
	void *direct;

	if (posix_memalign(&direct, 4096, 4096))
		return -ENOMEM;
	return pwrite(self->fd, direct, 4096, 0) < 0 ? -errno : 0;
}

static long stop(struct task *task, void *arg)
{
	struct _test_data_md_failing *self = arg;

	return md_stop(self->fd);
}

FIXTURE_SETUP(md_failing)
{
	const struct md_shape raid5 = { .level = 5 };
	const char *missing = md_missing("new_array") ?: task_missing() ?:
			      md_level_missing(5) ?: worker_stall_missing();
	int i;

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], 8, false));
	ASSERT_EQ(0, md_pick(&self->md));
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_start(&self->md, &raid5, self->disks, 3);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, O_DIRECT));
}

FIXTURE_TEARDOWN(md_failing)
{
	int i;

	worker_stall_end(&self->workers);
	task_end(&self->stopper);
	task_end(&self->writer);
	udev_resume();
	if (self->stuck)
		return;
	if (self->fd >= 0)
		close(self->fd);
	md_cleanup(&self->md);
	for (i = 0; i < 3; i++)
		disk_destroy(&self->disks[i]);
}

TEST_F(md_failing, B1_stopped_before_a_failure_is_recorded)
{
	pid_t thread = task_named("%s_raid5", self->md.name);
	char path[64], state[16];

	ASSERT_NE(0, thread);
	/* From the first write on it takes writes without the help of its thread. */
	ASSERT_EQ(0, md_attr_write(&self->md, "safe_mode_delay", "0"));
	ASSERT_EQ(0, write_block(NULL, self));
	ASSERT_EQ(0, file_read(state, sizeof(state), "/sys/block/%s/md/array_state",
			       self->md.name));
	ASSERT_STREQ("active", state);
	ASSERT_EQ(0, thread_asleep(thread));

	ASSERT_EQ(0, worker_stall_start(&self->workers));
	ASSERT_EQ(0, stay_on_cpu(thread, self->workers.cpu, 0));
	/* Its thread has to do these, and does not run. */
	ASSERT_EQ(0, task_start(&self->writer, "a write", write_block, self, self->fd));
	ASSERT_EQ(0, task_blocked(&self->writer));
	snprintf(path, sizeof(path), "dev-%s/state", self->disks[0].name);
	ASSERT_EQ(0, md_attr_write(&self->md, path, "faulty"));
	ASSERT_EQ(0, file_read(state, sizeof(state), "/sys/block/%s/md/array_state",
			       self->md.name));
	ASSERT_STREQ("write-pending", state);

	ASSERT_EQ(0, task_start(&self->stopper, "STOP_ARRAY", stop, self, self->fd));
	self->stuck = true;
	ASSERT_EQ(0, task_blocked_in(&self->stopper, "do_md_stop"));
	worker_stall_end(&self->workers);

	EXPECT_EQ(0, task_result(&self->stopper));
	EXPECT_EQ(0, task_result(&self->writer));
	self->stuck = !task_done(&self->stopper);
}

/*
 * The number of an array that is not there is added as a member to an array whose
 * sync work waits for the lock that the one who adds it has. Where adding makes
 * that array, it waits for all work of all arrays first.
 */
FIXTURE(md_deadlock) {
	struct disk disks[2];
	struct md_dev md, member;
	struct worker_stall workers;
	struct task adder;
	char old_create[8];
	int fd;
	bool stuck;
};

FIXTURE_VARIANT(md_deadlock) {
	bool by_ioctl;
};

FIXTURE_VARIANT_ADD(md_deadlock, new_dev) {};
FIXTURE_VARIANT_ADD(md_deadlock, add_new_disk) { .by_ioctl = true };

static long open_member(struct task *task, void *arg)
{
	struct _test_data_md_deadlock *self = arg;
	int fd = md_open(&self->member, O_RDONLY);

	if (fd < 0)
		return fd;
	md_touch(fd);
	close(fd);
	return 0;
}

FIXTURE_SETUP(md_deadlock)
{
	const struct md_shape mirror = { .level = 1 };
	const char *missing = md_missing("create_on_open") ?: task_missing() ?:
			      worker_stall_missing();
	int ret;

	self->fd = -1;
	self->stuck = true;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	ASSERT_EQ(0, md_pick(&self->md));
	ASSERT_EQ(0, md_pick(&self->member));
	ASSERT_EQ(0, task_start(&self->adder, "an open", open_member, self, -1));
	ret = task_result(&self->adder);
	task_end(&self->adder);
	if (ret == -ETIMEDOUT) {
		udev_resume();
		SKIP(return, "opens hang for good since the last test");
	}
	ASSERT_EQ(0, ret);
	self->stuck = false;
	ASSERT_STREQ("", md_left_in_the_end(&self->member));
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, false));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, false));
	self->fd = md_start(&self->md, &mirror, self->disks, 2);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(md_deadlock)
{
	worker_stall_end(&self->workers);
	task_end(&self->adder);
	udev_resume();

	/* Whoever touches that array is stuck, too. */
	if (self->stuck)
		return;
	if (self->fd >= 0)
		close(self->fd);
	md_cleanup(&self->md);
	md_cleanup(&self->member);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	md_param_set("create_on_open", self->old_create, NULL, 0);
}

static long add_member(struct task *task, void *arg)
{
	struct _test_data_md_deadlock *self = arg;
	mdu_disk_info_t info = {
		.number = 2, .raid_disk = -1, .major = MD_MAJOR,
		.minor = self->member.minor,
	};
	char dev[32];

	if (self->fd >= 0)
		return md_ioctl(self->fd, ADD_NEW_DISK, &info);
	snprintf(dev, sizeof(dev), "%u:%u", MD_MAJOR, self->member.minor);
	return md_attr_write(&self->md, "new_dev", dev);
}

TEST_F(md_deadlock, B11_member_that_is_not_there)
{
	pid_t thread = task_named("%s_raid1", self->md.name);
	int fd;

	ASSERT_NE(0, thread);
	/* The work that came with its start has ended; "check" would wait for it. */
	ASSERT_EQ(0, md_attr_write(&self->md, "sync_action", "frozen"));
	ASSERT_EQ(0, worker_stall_start(&self->workers));
	/*
	 * The array's thread gives the sync work to a worker, of its own CPU or of
	 * any: let it do so where no worker runs.
	 */
	ASSERT_EQ(0, stay_on_cpu(thread, self->workers.cpu, 2));

	/* From here to the end of the stall the sync work is queued. */
	ASSERT_EQ(0, md_attr_write(&self->md, "sync_action", "check"));
	ASSERT_EQ(0, thread_asleep(thread));
	fd = self->fd;
	if (!variant->by_ioctl) {
		self->fd = -1;
		ASSERT_EQ(0, task_start(&self->adder, "new_dev", add_member,
					self, -1));
		self->fd = fd;
	} else {
		ASSERT_EQ(0, task_start(&self->adder, "ADD_NEW_DISK", add_member,
					self, fd));
	}
	task_blocked(&self->adder);
	worker_stall_end(&self->workers);

	/* Nothing is made by adding it: a member has to be there. */
	EXPECT_EQ(-ENXIO, task_result(&self->adder));
	EXPECT_STREQ("", md_left(&self->member));
	self->stuck = !task_done(&self->adder);
	if (self->stuck) {
		pid_t worker = task_find("md_start_sync");

		TH_LOG("sync work of %s waits in pid %d", self->md.name, worker);
	}
}

TEST_HARNESS_MAIN
