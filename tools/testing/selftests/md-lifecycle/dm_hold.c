// SPDX-License-Identifier: GPL-2.0
/*
 * References to a mapped device, and its removal, which waits for them: who
 * waits for an event does not hold it up, who is at work on the device does, and
 * no other device has to wait meanwhile.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/loop.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "stall.h"
#include "trace.h"

#define SECTORS_PER_MIB	2048

/* A removal that waits says so after 30 s; slow machines take their time. */
#define SAYS_SO_MS	45000

FIXTURE(dm_hold) {
	struct disk disk;
	struct leg leg;
	struct dm_dev dm, other;
	struct task waiter, remover, task;
	int fd, kmsg;
};

FIXTURE_SETUP(dm_hold)
{
	const char *missing = dm_missing() ?: task_missing();

	self->fd = -1;
	self->kmsg = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	ASSERT_EQ(0, leg_create(&self->leg, "leg", 8));
	ASSERT_EQ(0, dm_create(&self->dm, "hold"));
	ASSERT_EQ(0, dm_create(&self->other, "other"));
}

FIXTURE_TEARDOWN(dm_hold)
{
	leg_release(&self->leg);
	task_end(&self->waiter);
	task_end(&self->task);
	task_end(&self->remover);
	if (self->fd >= 0)
		close(self->fd);
	if (self->kmsg >= 0)
		close(self->kmsg);
	dm_remove_when_unused(&self->dm);
	dm_remove_when_unused(&self->other);
	leg_destroy(&self->leg);
	disk_destroy(&self->disk);
	udev_resume();
}

static int load_linear(const struct dm_dev *dm, const struct disk *disk)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "linear" };

	snprintf(row.params, sizeof(row.params), "%u:%u 0", disk->major, disk->minor);
	return dm_load(dm, &row, 1);
}

static long wait_for_event(struct task *task, void *arg)
{
	const struct dm_dev *dm = arg;
	struct dm_ioctl io = {
		.version = { DM_VERSION_MAJOR }, .data_size = sizeof(io),
	};
	int fd, ret;

	snprintf(io.name, sizeof(io.name), "%s", dm->name);
	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	/* The number of the last event: to be read in the same way. */
	ret = ioctl(fd, DM_DEV_STATUS, &io) < 0 ? -errno : 0;
	if (!ret) {
		io.dev = 0;
		io.uuid[0] = '\0';
		io.data_size = sizeof(io);
		ret = ioctl(fd, DM_DEV_WAIT, &io) < 0 ? -errno : 0;
	}
	close(fd);
	return ret;
}

static void let_one_wait(struct __test_metadata *_metadata,
			 struct _test_data_dm_hold *self)
{
	ASSERT_EQ(0, task_start(&self->waiter, "DM_DEV_WAIT", wait_for_event,
				&self->dm, -1));
	ASSERT_EQ(0, task_blocked_in(&self->waiter, "dev_wait"));
}

static long remove_it(struct task *task, void *dm)
{
	return dm_remove(dm);
}

/*
 * Where the removal waits for the waiter, signals do not end it; so end the
 * waiter, whatever has been seen.
 */
static void remove_and_look(struct __test_metadata *_metadata,
			    struct _test_data_dm_hold *self)
{
	ASSERT_EQ(0, task_start(&self->remover, "DM_DEV_REMOVE", remove_it,
				&self->dm, -1));
	EXPECT_EQ(0, task_result(&self->remover));
	EXPECT_EQ(0, task_result(&self->waiter));
	task_end(&self->waiter);
	ASSERT_EQ(0, task_result(&self->remover));
	EXPECT_EQ(-ENXIO, dm_info(&self->dm, NULL, NULL));
	EXPECT_STREQ("", dm_left(&self->dm));
}

TEST_F(dm_hold, B21_remove_while_one_waits_without_a_table)
{
	let_one_wait(_metadata, self);
	remove_and_look(_metadata, self);
}

/* There is a disk and a node then, but still no table to send an event through. */
TEST_F(dm_hold, B21_remove_while_one_waits_with_an_inactive_table)
{
	ASSERT_EQ(0, load_linear(&self->dm, &self->disk));
	let_one_wait(_metadata, self);
	remove_and_look(_metadata, self);
}

TEST_F(dm_hold, B21_remove_while_one_waits_with_a_table)
{
	ASSERT_EQ(0, load_linear(&self->dm, &self->disk));
	ASSERT_EQ(0, dm_resume(&self->dm));
	let_one_wait(_metadata, self);
	remove_and_look(_metadata, self);
}

TEST_F(dm_hold, B21_remove_while_one_waits_and_it_is_suspended)
{
	ASSERT_EQ(0, load_linear(&self->dm, &self->disk));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_EQ(0, dm_suspend(&self->dm));
	let_one_wait(_metadata, self);
	remove_and_look(_metadata, self);
}

static void defer(struct __test_metadata *_metadata,
		  struct _test_data_dm_hold *self, const struct dm_dev *dm, int *fd)
{
	ASSERT_EQ(0, load_linear(dm, &self->disk));
	*fd = dm_open(dm, O_RDONLY);
	ASSERT_LE(0, *fd);
	ASSERT_EQ(0, dm_remove_deferred(dm));
}

/* On base one worker does all deferred removals, one after the other. */
TEST_F(dm_hold, B21_deferred_removes_while_one_waits)
{
	int fd = -1;

	defer(_metadata, self, &self->dm, &self->fd);
	defer(_metadata, self, &self->other, &fd);
	let_one_wait(_metadata, self);
	close(self->fd);
	self->fd = -1;
	EXPECT_STREQ("", dm_left_in_the_end(&self->dm));
	close(fd);
	EXPECT_STREQ("", dm_left_in_the_end(&self->other));
	EXPECT_EQ(0, task_result(&self->waiter));
	task_end(&self->waiter);
	EXPECT_STREQ("", dm_left_in_the_end(&self->dm));
	EXPECT_STREQ("", dm_left_in_the_end(&self->other));
}

/* --- a constructor that hangs --- */

static long load_snapshot(struct task *task, void *arg)
{
	struct _test_data_dm_hold *self = arg;
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "snapshot" };

	snprintf(row.params, sizeof(row.params), "%u:%u %u:%u P 8",
		 self->disk.major, self->disk.minor,
		 self->leg.disk.major, self->leg.disk.minor);
	return dm_load(&self->dm, &row, 1);
}

/* The load reads from a disk that does not answer; the removal waits for it. */
static void let_remove_wait(struct __test_metadata *_metadata,
			    struct _test_data_dm_hold *self)
{
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->task, "DM_TABLE_LOAD", load_snapshot, self, -1));
	ASSERT_EQ(0, task_blocked_in(&self->task, "table_load"));
	ASSERT_EQ(0, task_start(&self->remover, "DM_DEV_REMOVE", remove_it,
				&self->dm, -1));
}

static void let_remove_go_on(struct __test_metadata *_metadata,
			     struct _test_data_dm_hold *self)
{
	EXPECT_FALSE(task_done(&self->remover));
	leg_release(&self->leg);
	EXPECT_EQ(-ENXIO, task_result(&self->task));
	EXPECT_EQ(0, task_result(&self->remover));
}

/* It sleeps until the last reference is put: it does not look every now and then. */
TEST_F(dm_hold, C10_remove_sleeps_until_a_load_is_done)
{
	if (!dm_has_target("snapshot"))
		SKIP(return, "no snapshot target");
	let_remove_wait(_metadata, self);
	EXPECT_EQ(0, task_blocked_in(&self->remover, "dm_destroy"));
	let_remove_go_on(_metadata, self);
}

TEST_F(dm_hold, C10_remove_that_waits_says_so)
{
	uint64_t end = now_ms() + SAYS_SO_MS;
	char text[64];
	int said = 0;

	if (!dm_has_target("snapshot"))
		SKIP(return, "no snapshot target");
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	snprintf(text, sizeof(text), "%u:%u: removal is waiting for 1 reference",
		 self->dm.major, self->dm.minor);
	let_remove_wait(_metadata, self);
	while (!said && now_ms() < end) {
		usleep(100000);
		said = kmsg_count(self->kmsg, text);
		ASSERT_LE(0, said);
	}
	EXPECT_EQ(1, said);
	let_remove_go_on(_metadata, self);
}

/* Its name is free at once, and it cannot be found any more. */
TEST_F(dm_hold, B3_name_is_free_while_a_removal_waits)
{
	struct dm_dev again;

	if (!dm_has_target("snapshot"))
		SKIP(return, "no snapshot target");
	let_remove_wait(_metadata, self);
	task_blocked(&self->remover);
	ASSERT_TRUE(task_is_in(&self->remover, "dm_destroy"));
	EXPECT_EQ(-ENXIO, dm_info(&self->dm, NULL, NULL));
	EXPECT_EQ(-ENXIO, dm_remove(&self->dm));
	EXPECT_EQ(0, dm_create(&again, "hold"));
	EXPECT_NE(self->dm.minor, again.minor);
	let_remove_go_on(_metadata, self);
	EXPECT_EQ(0, dm_info(&again, NULL, NULL));
}

static long whole_life(struct task *task, void *arg)
{
	struct _test_data_dm_hold *self = arg;
	struct dm_dev dm;

	return dm_create(&dm, "life") ?: load_linear(&dm, &self->disk) ?:
	       dm_resume(&dm) ?: dm_remove(&dm);
}

TEST_F(dm_hold, B11_life_of_another_device_while_a_removal_waits)
{
	struct task life = {};

	if (!dm_has_target("snapshot"))
		SKIP(return, "no snapshot target");
	let_remove_wait(_metadata, self);
	EXPECT_EQ(0, task_start(&life, "life of another device", whole_life, self, -1));
	EXPECT_EQ(0, task_result(&life));
	let_remove_go_on(_metadata, self);
	task_end(&life);
}

/* --- a request in flight --- */

/* Request-based dm wants a lower device that has a queue of requests. */
FIXTURE(dm_hold_rq) {
	struct disk disk;
	struct leg leg;
	struct dm_dev dm, other;
	struct task reader, task;
	int loop;
	unsigned int loop_minor;
};

static int loop_over(const struct dm_dev *dm, unsigned int *nr)
{
	struct loop_config config = { .fd = dm_open(dm, O_RDWR) };
	int control, loop = -1, ret;
	char path[32];

	if ((int)config.fd < 0)
		return config.fd;
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	ret = control < 0 ? -errno : ioctl(control, LOOP_CTL_GET_FREE);
	if (ret < 0)
		goto out;
	*nr = ret;
	snprintf(path, sizeof(path), "/dev/loop%u", *nr);
	loop = open(path, O_RDWR | O_CLOEXEC);
	ret = loop < 0 ? -errno : ioctl(loop, LOOP_CONFIGURE, &config) ? -errno : 0;
	if (ret && loop >= 0)
		close(loop);
out:
	if (control >= 0)
		close(control);
	close(config.fd);
	return ret ?: loop;
}

FIXTURE_SETUP(dm_hold_rq)
{
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "multipath" };
	const char *missing = dm_missing() ?: task_missing();

	self->loop = -1;
	if (!missing && !have_loop())
		missing = "no loop driver";
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	ASSERT_EQ(0, leg_create(&self->leg, "leg", 8));
	self->loop = loop_over(&self->leg.dm, &self->loop_minor);
	ASSERT_LE(0, self->loop);
	ASSERT_EQ(0, dm_create(&self->dm, "rq"));
	snprintf(row.params, sizeof(row.params), "0 0 1 1 round-robin 0 1 1 7:%u 1",
		 self->loop_minor);
	ASSERT_EQ(0, dm_load(&self->dm, &row, 1));
	ASSERT_EQ(0, dm_resume(&self->dm));
	ASSERT_TRUE(path_exists("/sys/block/dm-%u/mq", self->dm.minor));
	ASSERT_EQ(0, dm_create(&self->other, "other"));
	ASSERT_EQ(0, load_linear(&self->other, &self->disk));
	ASSERT_EQ(0, dm_resume(&self->other));
}

FIXTURE_TEARDOWN(dm_hold_rq)
{
	leg_release(&self->leg);
	task_end(&self->reader);
	task_end(&self->task);
	dm_remove_when_unused(&self->dm);
	dm_remove_when_unused(&self->other);
	if (self->loop >= 0) {
		ioctl(self->loop, LOOP_CLR_FD);
		close(self->loop);
	}
	leg_destroy(&self->leg);
	disk_destroy(&self->disk);
	udev_resume();
}

static long read_direct(struct task *task, void *dm)
{
	int fd = dm_open(dm, O_RDONLY | O_DIRECT);
	void *block;

	if (fd < 0)
		return fd;
	if (posix_memalign(&block, 4096, 4096))
		return -ENOMEM;
	return pread(fd, block, 4096, 0) < 0 ? -errno : 0;
}

static void let_request_wait(struct __test_metadata *_metadata,
			     struct _test_data_dm_hold_rq *self)
{
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->reader, "a reader", read_direct, &self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->reader));
	ASSERT_FALSE(task_done(&self->reader));
}

/* Who waits for a request has the device open; killed he still does. */
TEST_F(dm_hold_rq, C10_busy_while_a_request_is_in_flight)
{
	let_request_wait(_metadata, self);
	EXPECT_EQ(-EBUSY, dm_remove(&self->dm));
	kill(self->reader.pid, SIGKILL);
	EXPECT_EQ(-EBUSY, dm_remove(&self->dm));
	leg_release(&self->leg);
	task_end(&self->reader);
	EXPECT_EQ(0, dm_remove(&self->dm));
	EXPECT_STREQ("", dm_left(&self->dm));
}

TEST_F(dm_hold_rq, C10_deferred_goes_after_the_request)
{
	let_request_wait(_metadata, self);
	ASSERT_EQ(0, dm_remove_deferred(&self->dm));
	kill(self->reader.pid, SIGKILL);
	EXPECT_STREQ("node sysfs number ", dm_left(&self->dm));
	leg_release(&self->leg);
	EXPECT_STREQ("", dm_left_in_the_end(&self->dm));
}

TEST_F(dm_hold_rq, B11_remove_another_while_a_request_is_in_flight)
{
	let_request_wait(_metadata, self);
	ASSERT_EQ(0, dm_remove_deferred(&self->dm));
	ASSERT_EQ(0, task_start(&self->task, "DM_DEV_REMOVE", remove_it,
				&self->other, -1));
	EXPECT_EQ(0, task_result(&self->task));
	EXPECT_STREQ("", dm_left(&self->other));
	EXPECT_STREQ("node sysfs number ", dm_left(&self->dm));
}

/* --- trace events --- */

struct seen {
	char dev[24];
	unsigned int nr;
	long long holders;
};

static void note_event(void *arg, pid_t tid, const char *fields)
{
	struct seen *seen = arg;

	if (strncmp(fields, seen->dev, strlen(seen->dev)))
		return;
	seen->nr++;
	seen->holders = event_field(fields, "holders");
}

TEST_F(dm_hold, B18_removal_is_traced)
{
	static const char * const names[] = {
		"dm/dm_remove_start", "dm/dm_remove_wait", "dm/dm_remove_end",
	};
	static const long long holders[] = { 2, 1, 0 };
	struct events events[ARRAY_SIZE(names)];
	struct seen seen;
	unsigned int i;

	if (!dm_has_target("snapshot"))
		SKIP(return, "no snapshot target");
	for (i = 0; i < ARRAY_SIZE(names); i++)
		ASSERT_EQ(0, events_start(&events[i], names[i]));
	let_remove_wait(_metadata, self);
	EXPECT_EQ(0, task_blocked(&self->remover));
	let_remove_go_on(_metadata, self);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		memset(&seen, 0, sizeof(seen));
		snprintf(seen.dev, sizeof(seen.dev), "%u,%u ", self->dm.major,
			 self->dm.minor);
		EXPECT_LE(0, events_read(&events[i], note_event, &seen));
		EXPECT_EQ(1U, seen.nr) {
			TH_LOG("%s", names[i]);
		}
		EXPECT_EQ(holders[i], seen.holders);
		events_stop(&events[i]);
	}
}

TEST_HARNESS_MAIN
