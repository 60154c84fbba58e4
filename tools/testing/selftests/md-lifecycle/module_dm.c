// SPDX-License-Identifier: GPL-2.0
/*
 * Device mapper and its targets as modules: what is used cannot be unloaded, and
 * what has been unloaded leaves nothing. See lib/module.h for what that is.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "module.h"
#include "stall.h"

#define SECTORS_PER_MIB	2048
#define MIB		8

/* Opening this loads device mapper. */
#define CONTROL		"/dev/.lc-control"
#define CONTROL_MINOR	236

#define WARM_UP		3

FIXTURE(module_dm) {
	struct disk disks[2];
	struct dm_dev dm, target;	/* ours, and the loader's */
	struct task tasks[3];
	struct worker_stall workers;
	struct inventory before;
	int fd;
};

FIXTURE_SETUP(module_dm)
{
	const char *missing = module_missing("dm_mod") ?: disk_missing() ?:
			      task_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	udev_hold_queue();
	if (module_unload_dm()) {
		udev_resume();
		SKIP(return, "device mapper is in use");
	}
	ASSERT_EQ(0, module_load("dm_mod"));
	ASSERT_EQ(0, disk_create(&self->disks[0], MIB, true));
	ASSERT_EQ(0, disk_create(&self->disks[1], MIB, true));
	unlink(CONTROL);
	ASSERT_EQ(0, mknod(CONTROL, S_IFCHR | 0600, makedev(MISC_MAJOR, CONTROL_MINOR)));
}

FIXTURE_TEARDOWN(module_dm)
{
	unsigned int i;

	worker_stall_end(&self->workers);
	if (self->fd >= 0)
		close(self->fd);
	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	for (i = 0; i < ARRAY_SIZE(self->tasks); i++)
		task_end(&self->tasks[i]);
	if (self->target.name[0])
		dm_remove_when_unused(&self->target);
	for (i = 0; i < 2; i++)
		disk_destroy(&self->disks[i]);
	inventory_drop(&self->before);
	unlink(CONTROL);
	udev_resume();
}

/* A row of any type that has a disk and an offset, or needs none. */
static struct dm_row row_of(struct _test_data_module_dm *self, const char *type)
{
	struct dm_row row = dm_linear(&self->disks[0], MIB * SECTORS_PER_MIB);
	const struct disk *disks = self->disks;

	row.type = type;
	if (!strcmp(type, "flakey"))
		strcat(row.params, " 3600 0");
	else if (!strcmp(type, "delay"))
		strcat(row.params, " 0");
	else if (!strcmp(type, "zero"))
		row.params[0] = '\0';
	else if (!strcmp(type, "striped"))
		snprintf(row.params, sizeof(row.params), "2 128 %u:%u 0 %u:%u 0",
			 disks[0].major, disks[0].minor, disks[1].major, disks[1].minor);
	else if (!strcmp(type, "raid"))
		snprintf(row.params, sizeof(row.params), "raid1 1 0 2 - %u:%u - %u:%u",
			 disks[0].major, disks[0].minor, disks[1].major, disks[1].minor);
	else if (!strcmp(type, "snapshot"))
		snprintf(row.params, sizeof(row.params), "%u:%u %u:%u N 16",
			 disks[0].major, disks[0].minor, disks[1].major, disks[1].minor);
	else if (!strcmp(type, "multipath"))
		row = dm_multipath(&disks[0], row.len);
	return row;
}

static int load(struct _test_data_module_dm *self, const char *type)
{
	struct dm_row row = row_of(self, type);

	return dm_load(&self->dm, &row, 1);
}

static int make(struct _test_data_module_dm *self, const char *type)
{
	return dm_create(&self->dm, "module") ?: load(self, type) ?:
	       dm_resume(&self->dm);
}

static void expect_gone(struct __test_metadata *_metadata,
			struct _test_data_module_dm *self)
{
	EXPECT_FALSE(module_loaded("dm_mod"));
	EXPECT_FALSE(path_exists("/sys/class/misc/device-mapper"));
	EXPECT_STREQ("", dm_left(&self->dm));
	EXPECT_EQ(0, open_and_close(self->disks[0].path, O_RDWR | O_EXCL));

	/* And it can be used again. */
	ASSERT_EQ(0, module_load("dm_mod"));
	ASSERT_EQ(0, make(self, "linear"));
	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_EQ(0, module_unload("dm_mod"));
	self->dm.name[0] = '\0';
}

/* From its creation on, whatever it has, until it has gone. */
TEST_F(module_dm, C8_mapped_device_keeps_it)
{
	ASSERT_EQ(0, dm_create(&self->dm, "module"));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_mod"));
	ASSERT_EQ(0, load(self, "linear"));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_mod"));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_mod"));
	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_EQ(0, module_unload("dm_mod"));
	expect_gone(_metadata, self);
}

TEST_F(module_dm, C8_control_file_keeps_it)
{
	self->fd = open(CONTROL, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_mod"));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, module_unload("dm_mod"));
	/* And opening it brings it back. */
	EXPECT_EQ(0, open_and_close(CONTROL, O_RDWR));
	EXPECT_TRUE(module_loaded("dm_mod"));
	EXPECT_EQ(0, module_unload("dm_mod"));
}

TEST_F(module_dm, C8_open_files_do_not_keep_it)
{
	static const char * const attrs[] = {
		"size", "dev", "dm/name", "dm/uuid", "dm/suspended",
	};
	int fds[ARRAY_SIZE(attrs)];
	char path[96], buf[64];
	unsigned int i;

	ASSERT_EQ(0, make(self, "linear"));
	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		snprintf(path, sizeof(path), "/sys/block/dm-%u/%s", self->dm.minor,
			 attrs[i]);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, fds[i]);
		ASSERT_LE(0, pread(fds[i], buf, sizeof(buf), 0));
	}
	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_EQ(0, module_unload("dm_mod"));
	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		errno = 0;
		EXPECT_GT(0, pread(fds[i], buf, sizeof(buf), 0));
		EXPECT_EQ(ENODEV, errno) {
			TH_LOG("%s", attrs[i]);
		}
		close(fds[i]);
	}
	expect_gone(_metadata, self);
}

/* The active table and the inactive one, until they are destroyed. */
TEST_F(module_dm, C8_table_keeps_its_target)
{
	if (module_missing("dm_flakey"))
		SKIP(return, "%s", module_missing("dm_flakey"));
	ASSERT_EQ(0, make(self, "flakey"));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_flakey"));
	ASSERT_EQ(0, load(self, "flakey"));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_flakey"));
	ASSERT_EQ(0, load(self, "linear"));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_flakey"));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(0, module_unload("dm_flakey"));
	ASSERT_EQ(0, load(self, "flakey"));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_flakey"));
	ASSERT_EQ(0, dm_clear(&self->dm));
	EXPECT_EQ(0, module_unload("dm_flakey"));
	ASSERT_EQ(0, load(self, "flakey"));
	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_EQ(0, module_unload("dm_flakey"));
	EXPECT_EQ(0, module_unload("dm_mod"));
	expect_gone(_metadata, self);
}

/* The last close leaves the removal to a worker: until then it is in use. */
TEST_F(module_dm, C8_deferred_removal_keeps_it)
{
	ASSERT_EQ(0, make(self, "linear"));
	self->fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dm_remove_deferred(&self->dm));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_mod"));
	if (worker_stall_start(&self->workers))
		SKIP(return, "workers cannot be kept from running");
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_mod"));
	worker_stall_end(&self->workers);
	EXPECT_EQ(0, module_unload_when_unused("dm_mod"));
	expect_gone(_metadata, self);
}

static long wait_for_event(struct task *task, void *name)
{
	struct dm_ioctl io = {
		.version = { DM_VERSION_MAJOR },
	};
	int fd = open(CONTROL, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	snprintf(io.name, sizeof(io.name), "%s", (char *)name);
	/* At once for the first time, as it does not know the number. */
	io.event_nr = -1;
	do {
		io.data_size = sizeof(io);
		io.dev = 0;
		io.uuid[0] = '\0';
	} while (!ioctl(fd, DM_DEV_WAIT, &io));
	close(fd);
	return 0;
}

/* Whoever waits for events has the control file, until a removal wakes him up. */
TEST_F(module_dm, C8_waiter_for_events_keeps_it)
{
	ASSERT_EQ(0, make(self, "linear"));
	ASSERT_EQ(0, task_start(&self->tasks[0], "DM_DEV_WAIT", wait_for_event,
				self->dm.name, -1));
	ASSERT_EQ(0, task_blocked(&self->tasks[0]));
	EXPECT_EQ(-EWOULDBLOCK, module_unload("dm_mod"));
	ASSERT_EQ(0, dm_remove(&self->dm));
	EXPECT_EQ(0, task_result(&self->tasks[0]));
	EXPECT_EQ(0, module_unload("dm_mod"));
	expect_gone(_metadata, self);
}

/* --- rounds --- */

static long open_control(struct task *task, void *arg)
{
	while (!task_done(task)) {
		if (!open_and_close(CONTROL, O_RDWR))
			task->shared->out++;
		usleep(500);
	}
	return 0;
}

static long read_files(struct task *task, void *arg)
{
	static const char * const paths[] = {
		"/sys/block/dm-0/dm/name", "/sys/block/dm-0/size", "/proc/devices",
		"/proc/misc", "/proc/diskstats",
	};
	unsigned int i;
	char buf[4096];

	while (!task_done(task)) {
		for (i = 0; i < ARRAY_SIZE(paths); i++)
			if (!file_read(buf, sizeof(buf), "%s", paths[i]))
				task->shared->out++;
		usleep(500);
	}
	return 0;
}

/*
 * A table with a target whose module comes and goes. It is loaded anew each time,
 * and nothing can be unloaded meanwhile: leave some time in between.
 */
static long load_targets(struct task *task, void *arg)
{
	struct dm_row row = { .len = 8, .type = "zero" };
	struct dm_dev dm;

	while (!task_done(task)) {
		if (!dm_create(&dm, "target")) {
			if (!dm_load(&dm, &row, 1) && !dm_resume(&dm))
				task->shared->out++;
			dm_remove_deferred(&dm);
		}
		usleep(50000);
	}
	return 0;
}

/* A device of each type that there is, also with a second table. */
static void use(struct __test_metadata *_metadata, struct _test_data_module_dm *self)
{
	static const char * const types[] = {
		"linear", "striped", "zero", "flakey", "delay", "snapshot", "raid",
		"multipath",
	};
	unsigned int i, used = 0;
	int fd, ret;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		ret = make(self, types[i]);
		/* That target is not built, or fails to initialise. */
		if (ret) {
			ASSERT_EQ(0, dm_remove_when_unused(&self->dm));
			continue;
		}
		used++;
		fd = dm_open(&self->dm, O_RDONLY);
		ASSERT_LE(0, fd);
		if (i & 1) {
			ASSERT_EQ(0, load(self, types[i]));
			ASSERT_EQ(0, dm_remove_deferred(&self->dm));
			close(fd);
		} else {
			close(fd);
			ASSERT_EQ(0, dm_remove_when_unused(&self->dm));
		}
		EXPECT_STREQ("", dm_left_in_the_end(&self->dm));
	}
	self->dm.name[0] = '\0';
	EXPECT_LT(1U, used);
	if (used < ARRAY_SIZE(types))
		ksft_print_msg("%u of %zu types of target\n", used, ARRAY_SIZE(types));
}

static void life(struct __test_metadata *_metadata, struct _test_data_module_dm *self,
		 int round)
{
	ASSERT_EQ(0, round & 1 ? module_load("dm_mod") :
				 open_and_close(CONTROL, O_RDWR));
	use(_metadata, self);
	ASSERT_EQ(0, module_unload_dm());
	ASSERT_EQ(0, module_unload_md());	/* dm_raid has loaded it */
}

TEST_F_TIMEOUT(module_dm, C8_nothing_left_after_rounds, 7200)
{
	int i, rounds = module_rounds();
	struct memory before;

	for (i = 0; i < WARM_UP; i++)
		life(_metadata, self, i);
	ASSERT_EQ(0, inventory_take(&self->before));
	before = memory_used();
	for (i = 0; i < rounds; i++) {
		life(_metadata, self, i);
		ASSERT_EQ(0, inventory_compare(&self->before)) {
			TH_LOG("after round %d", i);
		}
		if (i % 10 == 9)
			ksft_print_msg("%d rounds\n", i + 1);
	}
	if (!kernel_has("kasan_report"))	/* it keeps freed objects */
		EXPECT_FALSE(memory_grown(&before, rounds));
}

/* The last one: udevd is busy for long with what it sees here. */
TEST_F_TIMEOUT(module_dm, B24_unload_under_observers, 7200)
{
	static const struct {
		const char *what;
		long (*fn)(struct task *task, void *arg);
	} observers[] = {
		{ "an opener", open_control },
		{ "a reader", read_files },
		{ "a loader", load_targets },
	};
	int i, rounds = module_rounds(), used = 0;
	uint64_t end;

	ASSERT_EQ(0, make(self, "zero"));
	ASSERT_EQ(0, dm_remove(&self->dm));
	ASSERT_EQ(0, module_unload_dm());
	ASSERT_EQ(0, inventory_take(&self->before));

	for (i = 0; i < (int)ARRAY_SIZE(observers); i++)
		ASSERT_EQ(0, task_start(&self->tasks[i], observers[i].what,
					observers[i].fn, NULL, -1));
	snprintf(self->target.name, sizeof(self->target.name), "lc%d_target",
		 self->tasks[2].pid);
	for (i = 0; i < rounds; i++) {
		open_and_close(CONTROL, O_RDWR);
		if (!make(self, "linear"))
			used++;
		if (self->dm.name[0])
			EXPECT_EQ(0, dm_remove_when_unused(&self->dm));
		self->dm.name[0] = '\0';
		end = now_ms() + 6 * DEADLINE_MS;
		while (module_unload("dm_zero"), module_unload("dm_mod")) {
			ASSERT_GT(end, now_ms()) {
				TH_LOG("round %d: it is always in use", i);
			}
		}
		if (i % 10 == 9)
			ksft_print_msg("%d rounds\n", i + 1);
	}
	EXPECT_LT(0, used);
	ksft_print_msg("%d devices in %d rounds; opened: %llu, read: %llu, loaded: %llu\n",
		       used, rounds, self->tasks[0].shared->out,
		       self->tasks[1].shared->out, self->tasks[2].shared->out);
	for (i = 0; i < (int)ARRAY_SIZE(observers); i++) {
		EXPECT_LT(0ULL, self->tasks[i].shared->out);
		EXPECT_EQ(0, task_kill(&self->tasks[i]));
	}
	ASSERT_EQ(0, module_load("dm_mod"));
	dm_remove(&self->target);	/* it may have been killed before */
	self->target.name[0] = '\0';
	EXPECT_EQ(0, module_unload_dm());
	EXPECT_EQ(0, inventory_compare(&self->before));
}

TEST_HARNESS_MAIN
