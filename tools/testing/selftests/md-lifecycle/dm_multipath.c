// SPDX-License-Identifier: GPL-2.0
/*
 * Multipath tables: paths fail and come back, tables are reloaded in between,
 * and nobody who reads notices but by having to wait.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "task.h"

#define MIB		8
#define SECTORS		(MIB * 2048)
#define QUEUE		"1 queue_if_no_path"
#define FAIL		"0"
#define READERS		2
#define RELOADS		20

FIXTURE(dm_multipath) {
	struct disk disks[3];
	struct dm_dev dm;
	struct task readers[READERS];
};

struct call {
	struct dm_ioctl io;
	char data[1024];
};

static int do_call(const struct dm_dev *dm, unsigned long cmd, unsigned int flags,
		   const char *message)
{
	struct dm_target_msg *msg;
	struct call call = {};
	int fd, ret;

	call.io.version[0] = DM_VERSION_MAJOR;
	call.io.data_size = sizeof(call);
	call.io.data_start = offsetof(struct call, data);
	call.io.flags = flags;
	snprintf(call.io.name, sizeof(call.io.name), "%s", dm->name);
	if (message) {
		msg = (void *)call.data;
		snprintf(msg->message, sizeof(call.data) - sizeof(*msg), "%s", message);
	}
	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, cmd, &call) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int message(struct _test_data_dm_multipath *self, const char *text)
{
	return do_call(&self->dm, DM_TARGET_MSG, 0, text);
}

static int path_message(struct _test_data_dm_multipath *self, const char *verb, int path)
{
	char text[64];

	snprintf(text, sizeof(text), "%s %u:%u", verb, self->disks[path].major,
		 self->disks[path].minor);
	return message(self, text);
}

/* As multipathd resumes: I/O that waits for a path cannot be flushed. */
static int resume(struct _test_data_dm_multipath *self)
{
	return do_call(&self->dm, DM_DEV_SUSPEND, DM_NOFLUSH_FLAG | DM_SKIP_LOCKFS_FLAG, NULL);
}

/* A table with @nr paths from @first on. */
static int load(struct _test_data_dm_multipath *self, const char *features, int first, int nr)
{
	struct dm_row row = { .len = SECTORS, .type = "multipath" };
	size_t len;
	int i;

	if (!nr)
		snprintf(row.params, sizeof(row.params), "%s 0 0 0", features);
	else
		snprintf(row.params, sizeof(row.params), "%s 0 1 1 round-robin 0 %d 1",
			 features, nr);
	for (i = first; i < first + nr; i++) {
		len = strlen(row.params);
		snprintf(row.params + len, sizeof(row.params) - len, " %u:%u 1",
			 self->disks[i].major, self->disks[i].minor);
	}
	return dm_load(&self->dm, &row, 1);
}

FIXTURE_SETUP(dm_multipath)
{
	const char *missing = dm_missing() ?: task_missing();
	int i, ret;

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], MIB, false));
	ASSERT_EQ(0, dm_create(&self->dm, "multipath"));
	ret = load(self, QUEUE, 0, 2);
	if (ret == -EINVAL) {
		udev_resume();
		SKIP(return, "no dm-multipath");
	}
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, resume(self));
}

FIXTURE_TEARDOWN(dm_multipath)
{
	int i;

	message(self, "fail_if_no_path");
	for (i = 0; i < READERS; i++)
		task_end(&self->readers[i]);
	dm_remove_when_unused(&self->dm);
	for (i = 0; i < 3; i++)
		disk_destroy(&self->disks[i]);
	udev_resume();
}

static long read_one(int fd)
{
	char buf[8192];
	int ret = pread(fd, (void *)(((uintptr_t)buf + 4095) & ~4095UL), 4096, 0);

	return ret < 0 ? -errno : ret == 4096 ? 0 : -EPROTO;
}

static long read_once(struct task *task, void *arg)
{
	int fd = dm_open(arg, O_RDONLY | O_DIRECT);

	return fd < 0 ? fd : read_one(fd);
}

/* A reader's task->shared->out: how many reads it has done, and END to end it. */
#define END	0x8000000000000000ULL

static unsigned long long reads_done(const struct task *task)
{
	return __atomic_load_n(&task->shared->out, __ATOMIC_ACQUIRE);
}

static long read_on(struct task *task, void *arg)
{
	char node[96];
	long ret = 0;
	int fd;

	/* dm_open()'s node is one name for all: let the caller open it. */
	snprintf(node, sizeof(node), "/proc/self/fd/%ld", (long)arg);
	fd = open(node, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (!ret && !(reads_done(task) & END)) {
		ret = read_one(fd);
		__atomic_add_fetch(&task->shared->out, !ret, __ATOMIC_RELEASE);
	}
	close(fd);
	return ret;
}

static long read_no_more(struct task *task)
{
	__atomic_or_fetch(&task->shared->out, END, __ATOMIC_RELEASE);
	return task_result(task);
}

/* Has read once more from now on, or ended. */
static int reads_on(struct task *task)
{
	unsigned long long before = reads_done(task);
	uint64_t end = now_ms() + DEADLINE_MS;

	/* The read under way may have begun before. */
	while (reads_done(task) < before + 2) {
		if (task_done(task))
			return task->shared->ret ?: -ESRCH;
		if (now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

static int fail_paths(struct _test_data_dm_multipath *self)
{
	return path_message(self, "fail_path", 0) ?: path_message(self, "fail_path", 1);
}

/* All paths have failed, and a read waits for one. */
static int begin_waiting(struct _test_data_dm_multipath *self)
{
	int ret = fail_paths(self);

	if (!ret)
		ret = task_start(&self->readers[0], "a read without a path", read_once,
				 &self->dm, -1);
	return ret ?: task_blocked(&self->readers[0]);
}

static void remove_it(struct __test_metadata *_metadata, struct _test_data_dm_multipath *self)
{
	int i;

	for (i = 0; i < READERS; i++)
		task_end(&self->readers[i]);
	EXPECT_EQ(0, dm_remove(&self->dm));
	EXPECT_STREQ("", dm_left(&self->dm));
}

TEST_F(dm_multipath, C13_path_reinstated)
{
	ASSERT_EQ(0, begin_waiting(self));
	ASSERT_EQ(0, path_message(self, "reinstate_path", 1));
	EXPECT_EQ(0, task_result(&self->readers[0]));
	remove_it(_metadata, self);
}

/* The failed paths are in the new table, too: they need not be opened again. */
TEST_F(dm_multipath, C13_reload_with_all_paths_failed)
{
	ASSERT_EQ(0, begin_waiting(self));
	ASSERT_EQ(0, load(self, QUEUE, 0, 2));
	EXPECT_FALSE(task_done(&self->readers[0]));
	ASSERT_EQ(0, resume(self));
	EXPECT_EQ(0, task_result(&self->readers[0]));
	remove_it(_metadata, self);
}

/* The paths have failed because the disks are not there any more. */
TEST_F(dm_multipath, C13_reload_with_all_paths_gone)
{
	ASSERT_EQ(0, disk_power_off(&self->disks[0]));
	ASSERT_EQ(0, disk_power_off(&self->disks[1]));
	ASSERT_EQ(0, task_start(&self->readers[0], "a read without a path", read_once,
				&self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->readers[0]));

	ASSERT_EQ(0, load(self, QUEUE, 0, 2));
	ASSERT_EQ(0, resume(self));
	EXPECT_EQ(0, task_blocked(&self->readers[0]));

	/* And a path comes back. */
	ASSERT_EQ(0, load(self, QUEUE, 1, 2));
	ASSERT_EQ(0, resume(self));
	EXPECT_EQ(0, task_result(&self->readers[0]));
	remove_it(_metadata, self);
}

TEST_F(dm_multipath, C13_reload_with_no_paths)
{
	ASSERT_EQ(0, begin_waiting(self));
	ASSERT_EQ(0, load(self, QUEUE, 0, 0));
	ASSERT_EQ(0, resume(self));
	EXPECT_EQ(0, task_blocked(&self->readers[0]));
	ASSERT_EQ(0, load(self, QUEUE, 2, 1));
	ASSERT_EQ(0, resume(self));
	EXPECT_EQ(0, task_result(&self->readers[0]));
	remove_it(_metadata, self);
}

TEST_F(dm_multipath, C13_fail_if_no_path)
{
	ASSERT_EQ(0, begin_waiting(self));
	ASSERT_EQ(0, message(self, "fail_if_no_path"));
	EXPECT_EQ(-EIO, task_result(&self->readers[0]));
	task_end(&self->readers[0]);

	/* Until there is one. */
	ASSERT_EQ(0, path_message(self, "reinstate_path", 0));
	ASSERT_EQ(0, task_start(&self->readers[0], "a read", read_once, &self->dm, -1));
	EXPECT_EQ(0, task_result(&self->readers[0]));
	remove_it(_metadata, self);
}

/* A table that cannot be loaded changes nothing for who waits. */
TEST_F(dm_multipath, B14_failed_reload_with_all_paths_failed)
{
	struct dm_row row = { .len = SECTORS, .type = "multipath",
			      .params = "0 0 1 1 round-robin 0 1 1 259:1048575 1" };

	ASSERT_EQ(0, begin_waiting(self));
	EXPECT_EQ(-ENXIO, dm_load(&self->dm, &row, 1));
	EXPECT_EQ(0, task_blocked(&self->readers[0]));
	ASSERT_EQ(0, path_message(self, "reinstate_path", 0));
	EXPECT_EQ(0, task_result(&self->readers[0]));
	remove_it(_metadata, self);
}

/* Reads go on while tables come and go, with other paths, and paths fail. */
TEST_F(dm_multipath, C13_reload_under_reads)
{
	int fd, i, j;

	fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, fd);
	/* The node is gone; by the descriptor the device can be opened still. */
	for (i = 0; i < READERS; i++)
		ASSERT_EQ(0, task_start(&self->readers[i], "a reader", read_on,
					(void *)(long)fd, fd));
	close(fd);
	for (i = 0; i < RELOADS; i++) {
		for (j = 0; j < READERS; j++)
			ASSERT_EQ(0, reads_on(&self->readers[j]));
		ASSERT_EQ(0, load(self, QUEUE, i % 2, 2));
		if (i % 3 == 0)
			ASSERT_EQ(0, path_message(self, "fail_path", 1));
		ASSERT_EQ(0, resume(self));
	}
	EXPECT_EQ(-EBUSY, dm_remove(&self->dm));
	for (i = 0; i < READERS; i++) {
		ASSERT_EQ(0, reads_on(&self->readers[i]));
		EXPECT_EQ(0, read_no_more(&self->readers[i]));
	}
	remove_it(_metadata, self);
}

/* Nothing waits, and so nothing has to be failed first. */
TEST_F(dm_multipath, B12_remove_with_all_paths_gone)
{
	ASSERT_EQ(0, disk_power_off(&self->disks[0]));
	ASSERT_EQ(0, disk_power_off(&self->disks[1]));
	remove_it(_metadata, self);
}

/* Who waits for a path has the device open. */
TEST_F(dm_multipath, B9_remove_while_a_read_waits_for_a_path)
{
	ASSERT_EQ(0, begin_waiting(self));
	EXPECT_EQ(-EBUSY, dm_remove(&self->dm));
	ASSERT_EQ(0, message(self, "fail_if_no_path"));
	EXPECT_EQ(-EIO, task_result(&self->readers[0]));
	remove_it(_metadata, self);
}

TEST_HARNESS_MAIN
