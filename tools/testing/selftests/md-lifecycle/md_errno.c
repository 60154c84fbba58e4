// SPDX-License-Identifier: GPL-2.0
/*
 * What each operation on an md device says in each state of its life. This is
 * the table of Documentation/md-lifecycle.rst: change both or neither.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"

#define NODE	"/dev/.md-errno"

/*
 * NONE		no such device
 * CREATED	by new_array, and open: never assembled
 * CONFIGURED	has members, is open, and was not run
 * RUNNING	runs and is open
 * SHARED	the same, and somebody else has it open too
 * READONLY	runs, is read-only and open
 * RO_SHARED	the same, and somebody else has it open too
 * INACTIVE	ran, was set "inactive", and is open
 * STOPPING	runs, and STOP_ARRAY waits for what has to be written
 * GONE		was stopped, and is still open
 */
enum state {
	NONE, CREATED, CONFIGURED, RUNNING, SHARED, READONLY, RO_SHARED, INACTIVE,
	STOPPING, GONE, STATES
};

static const char * const states[STATES] = {
	"none", "created", "configured", "running", "shared", "readonly",
	"ro_shared", "inactive", "stopping", "gone",
};

FIXTURE(md_errno) {
	struct disk disks[3];
	struct disk leg;		/* a member that can be stalled */
	struct dm_dev dm;
	struct md_dev md;
	char old_create[8];
	int fd;				/* who operates */
	int fd2;			/* somebody else */
	int node_fd;			/* O_PATH, from before the state */
	int attr_fd;			/* array_state, from before the state */
	pid_t stopper;
	enum state state;
	bool autoload;
};

FIXTURE_VARIANT(md_errno) {
	enum state state;
};

FIXTURE_VARIANT_ADD(md_errno, none) { .state = NONE };
FIXTURE_VARIANT_ADD(md_errno, created) { .state = CREATED };
FIXTURE_VARIANT_ADD(md_errno, configured) { .state = CONFIGURED };
FIXTURE_VARIANT_ADD(md_errno, running) { .state = RUNNING };
FIXTURE_VARIANT_ADD(md_errno, shared) { .state = SHARED };
FIXTURE_VARIANT_ADD(md_errno, readonly) { .state = READONLY };
FIXTURE_VARIANT_ADD(md_errno, ro_shared) { .state = RO_SHARED };
FIXTURE_VARIANT_ADD(md_errno, inactive) { .state = INACTIVE };
FIXTURE_VARIANT_ADD(md_errno, stopping) { .state = STOPPING };
FIXTURE_VARIANT_ADD(md_errno, gone) { .state = GONE };

/* --- The operations: 0 or a negative errno. --- */

struct row {
	const char *name;
	int (*op)(struct _test_data_md_errno *self, const struct row *row);
	int flags;		/* of open */
	const char *word;	/* what is written */
	bool query;		/* changes nothing, but may create */
	int want[STATES];	/* an errno */
};

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int open_devtmpfs(struct _test_data_md_errno *self, const struct row *row)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", self->md.name);
	return open_and_close(path, row->flags);
}

static int open_node(struct _test_data_md_errno *self, const struct row *row)
{
	return open_and_close(self->md.node, row->flags);
}

static int open_node_no_create(struct _test_data_md_errno *self, const struct row *row)
{
	int ret;

	md_param_set("create_on_open", "N", NULL, 0);
	ret = open_node(self, row);
	md_param_set("create_on_open", "Y", NULL, 0);
	return ret;
}

static int open_node_claimed(struct _test_data_md_errno *self, const struct row *row)
{
	int fd, ret;

	fd = md_open(&self->md, O_RDONLY | O_EXCL);
	if (fd < 0)
		return fd;
	ret = open_node(self, row);
	close(fd);
	return ret;
}

static int open_old_node(struct _test_data_md_errno *self, const struct row *row)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->node_fd);
	return open_and_close(path, row->flags);
}

static int open_high_number(struct _test_data_md_errno *self, const struct row *row)
{
	int ret;

	unlink(NODE);
	if (mknod(NODE, S_IFBLK | 0600, makedev(MD_MAJOR, 100000)))
		return -errno;
	ret = open_and_close(NODE, row->flags);
	unlink(NODE);
	return ret;
}

static int new_array(struct _test_data_md_errno *self, const struct row *row)
{
	return md_new_array(&self->md);
}

static int new_array_word(struct _test_data_md_errno *self, const struct row *row)
{
	return file_write(row->word, MD_PARAM "new_array");
}

/* A name that an array has, which has nothing to do with the one under test. */
static int new_array_same_name(struct _test_data_md_errno *self, const struct row *row)
{
	struct md_dev other = {}, again;
	int ret;

	md_pick_name(&other);
	ret = md_new_array(&other);
	if (ret)
		return ret;
	again = other;
	ret = md_new_array(&again);
	md_cleanup(&other);
	return ret;
}

/* "md_d7" may be a name like any other, or be made by a number of "mdp". */
static int new_array_partitionable(struct _test_data_md_errno *self,
				   const struct row *row)
{
	struct md_dev other = {};
	int fd, ret;

	ret = md_pick_partitionable(&other);
	if (ret)
		return ret;
	fd = md_open(&other, O_RDWR);
	if (fd < 0)
		return fd;
	ret = file_write(other.name, MD_PARAM "new_array");
	close(fd);
	md_cleanup(&other);
	return ret;
}

static int open_partitionable_named(struct _test_data_md_errno *self,
				    const struct row *row)
{
	struct md_dev other = {}, named = {};
	int kmsg, ret;

	ret = md_pick_partitionable(&other);
	if (ret)
		return ret;
	unlink(NODE);
	if (mknod(NODE, S_IFBLK | 0600, makedev(other.major, other.minor)))
		return -errno;
	snprintf(named.name, sizeof(named.name), "%s", other.name);
	ret = md_new_array(&named);
	if (ret)
		return ret;
	kmsg = kmsg_open();
	ret = open_and_close(NODE, row->flags);
	/* Refused before sysfs has to say so. */
	if (kmsg_count(kmsg, "duplicate filename"))
		ret = -ENOTUNIQ;
	close(kmsg);
	unlink(NODE);
	md_cleanup(&named);
	return ret;
}

static int stop_array(struct _test_data_md_errno *self, const struct row *row)
{
	return md_stop(self->fd);
}

static int stop_array_open_elsewhere(struct _test_data_md_errno *self,
				     const struct row *row)
{
	int fd = md_open(&self->md, O_RDONLY);
	int ret;

	if (fd < 0)
		return fd;
	ret = md_stop(self->fd);
	close(fd);
	return ret;
}

static int stop_array_ro(struct _test_data_md_errno *self, const struct row *row)
{
	return md_ioctl(self->fd, STOP_ARRAY_RO, NULL);
}

static int set_array_info(struct _test_data_md_errno *self, const struct row *row)
{
	return md_configure(self->fd, NULL, 0);
}

static int add_new_disk(struct _test_data_md_errno *self, const struct row *row)
{
	mdu_disk_info_t spare = {
		.number = 2,
		.raid_disk = -1,
		.major = self->disks[2].major,
		.minor = self->disks[2].minor,
	};

	return md_ioctl(self->fd, ADD_NEW_DISK, &spare);
}

static int run_array(struct _test_data_md_errno *self, const struct row *row)
{
	return md_run(self->fd);
}

static int get_array_info(struct _test_data_md_errno *self, const struct row *row)
{
	mdu_array_info_t info;

	return md_ioctl(self->fd, GET_ARRAY_INFO, &info);
}

/* Who writes to sysfs has not got it open himself, or nothing would be stopped. */
static int array_state(struct _test_data_md_errno *self, const struct row *row)
{
	if (self->state != GONE)
		shut(&self->fd);
	return md_attr_write(&self->md, "array_state", strchr(row->name, '=') + 1);
}

static int array_state_opened_before(struct _test_data_md_errno *self,
				     const struct row *row)
{
	if (self->state != GONE)
		shut(&self->fd);
	return write(self->attr_fd, row->word, strlen(row->word)) < 0 ? -errno : 0;
}

/* --- The table. --- */

/* Not applicable; waits, which md_window tests. */
#define NA	(-1)
#define WAITS	(-2)

#define OPEN(what, fn, how, ...) \
	{ .name = "open " what, .op = fn, .flags = how, .query = true, \
	  .want = { __VA_ARGS__ } }
#define NEW_ARRAY(what, fn, text, ...) \
	{ .name = "new_array " what, .op = fn, .word = text, .query = true, \
	  .want = { __VA_ARGS__ } }
#define NEW_ARRAY_BAD(what, text, err) \
	NEW_ARRAY(what, new_array_word, text, err, NA, NA, NA, NA, NA, NA, NA, NA, NA)
#define IOCTL(what, fn, ...) \
	{ .name = what, .op = fn, .want = { __VA_ARGS__ } }
#define STATE(what, ...) \
	{ .name = what, .op = array_state, .want = { __VA_ARGS__ } }

/* None, created, configured, running, shared, readonly, ro_shared, inactive, stopping, gone */
static const struct row rows[] = {
	OPEN("/dev/mdN", open_devtmpfs, O_RDWR,
	     ENOENT, 0, 0, 0, 0, 0, 0, 0, WAITS, ENOENT),
	OPEN("a node of mknod", open_node, O_RDWR,
	     0, 0, 0, 0, 0, 0, 0, 0, WAITS, 0),
	OPEN("a node of mknod, create_on_open=N", open_node_no_create, O_RDWR,
	     ENXIO, 0, 0, 0, 0, 0, 0, 0, WAITS, ENXIO),
	OPEN("O_EXCL", open_node, O_RDONLY | O_EXCL,
	     0, 0, 0, 0, 0, 0, 0, 0, WAITS, 0),
	OPEN("O_EXCL, with another O_EXCL", open_node_claimed, O_RDONLY | O_EXCL,
	     EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, EBUSY, WAITS, EBUSY),
	OPEN("O_NONBLOCK", open_node, O_RDONLY | O_NONBLOCK,
	     0, 0, 0, 0, 0, 0, 0, 0, ENXIO, 0),
	OPEN("O_NONBLOCK, create_on_open=N", open_node_no_create,
	     O_RDONLY | O_NONBLOCK,
	     ENXIO, 0, 0, 0, 0, 0, 0, 0, ENXIO, ENXIO),
	OPEN("/proc/self/fd/N, O_PATH from before", open_old_node, O_RDONLY,
	     ESTALE, 0, 0, 0, 0, 0, 0, 0, WAITS, ESTALE),
	OPEN("a node of mknod, minor 512 and up", open_high_number, O_RDONLY,
	     ENXIO, NA, NA, NA, NA, NA, NA, NA, NA, NA),

	NEW_ARRAY("mdN", new_array, NULL,
		  0, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, 0),
	NEW_ARRAY("md_NAME of another", new_array_same_name, NULL,
		  EEXIST, NA, NA, NA, NA, NA, NA, NA, NA, NA),
	NEW_ARRAY("md_dN, made by opening it", new_array_partitionable, NULL,
		  EEXIST, NA, NA, NA, NA, NA, NA, NA, NA, NA),
	OPEN("md_dN, made by new_array", open_partitionable_named, O_RDONLY,
	     ENXIO, NA, NA, NA, NA, NA, NA, NA, NA, NA),
	NEW_ARRAY_BAD("of no name", "\n", EINVAL),
	NEW_ARRAY_BAD("md", "md", EINVAL),
	NEW_ARRAY_BAD("mdx", "mdx", EINVAL),
	NEW_ARRAY_BAD("sda", "sda", EINVAL),
	NEW_ARRAY_BAD("md1048576, too high", "md1048576", EINVAL),
	NEW_ARRAY_BAD("of 32 characters", "md_4567890123456789012345678901x", E2BIG),

	IOCTL("STOP_ARRAY", stop_array,
	      NA, 0, 0, 0, EBUSY, 0, EBUSY, 0, EBUSY, ENODEV),
	IOCTL("STOP_ARRAY, open elsewhere", stop_array_open_elsewhere,
	      NA, 0, 0, EBUSY, EBUSY, EBUSY, EBUSY, 0, NA, NA),
	IOCTL("STOP_ARRAY_RO", stop_array_ro,
	      NA, ENODEV, 0, 0, EBUSY, ENXIO, EBUSY, 0, EBUSY, ENODEV),
	IOCTL("SET_ARRAY_INFO", set_array_info,
	      NA, 0, EBUSY, EINVAL, EINVAL, EINVAL, EINVAL, EBUSY, NA, ENODEV),
	IOCTL("ADD_NEW_DISK", add_new_disk,
	      NA, EINVAL, 0, 0, 0, EROFS, EROFS, 0, NA, ENODEV),
	IOCTL("RUN_ARRAY", run_array,
	      NA, EINVAL, 0, EBUSY, EBUSY, EROFS, EROFS, 0, EBUSY, ENODEV),
	{ .name = "GET_ARRAY_INFO", .op = get_array_info, .query = true,
	  .want = { NA, ENODEV, 0, 0, 0, 0, 0, 0, 0, ENODEV } },

	STATE("array_state=clear",
	      ENOENT, 0, 0, 0, EBUSY, 0, EBUSY, 0, EBUSY, ENOENT),
	STATE("array_state=inactive",
	      ENOENT, 0, 0, 0, EBUSY, 0, EBUSY, 0, EBUSY, ENOENT),
	STATE("array_state=active",
	      ENOENT, EINVAL, 0, 0, 0, 0, 0, 0, 0, ENOENT),
	STATE("array_state=clean",
	      ENOENT, EINVAL, EINVAL, 0, 0, 0, 0, EINVAL, NA, ENOENT),
	STATE("array_state=readonly",
	      ENOENT, EINVAL, 0, 0, EBUSY, ENXIO, ENXIO, 0, EBUSY, ENOENT),
	STATE("array_state=read-auto",
	      ENOENT, EINVAL, 0, 0, EBUSY, 0, 0, 0, EBUSY, ENOENT),
	STATE("array_state=suspended",
	      ENOENT, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	      ENOENT),
	STATE("array_state=nonsense",
	      ENOENT, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL,
	      ENOENT),
	{ .name = "array_state=clear, a file open from before",
	  .op = array_state_opened_before, .word = "clear",
	  .want = { NA, 0, 0, 0, EBUSY, 0, EBUSY, 0, EBUSY, ENODEV } },
};

/* --- The states. --- */

FIXTURE_SETUP(md_errno)
{
	const char *missing = md_missing("create_on_open") ?: dm_missing();
	int i;

	self->fd = -1;
	self->fd2 = -1;
	self->node_fd = -1;
	self->attr_fd = -1;
	self->state = variant->state;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], 8, false));
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	self->autoload = !md_autoload_missing();
}

/* What opening a node gets where there is nothing depends on the kernel, too. */
static int expected(const struct _test_data_md_errno *self, const struct row *row)
{
	int want = row->want[self->state];

	if (want < 0 || self->autoload || (self->state != NONE && self->state != GONE))
		return want;
	if (row->op == open_node || row->op == open_node_claimed ||
	    row->op == new_array_partitionable)
		want = ENXIO;
	return want;
}

static void leave(struct _test_data_md_errno *self)
{
	if (self->leg.name[0])
		dm_resume(&self->dm);
	if (self->stopper > 0)
		waitpid(self->stopper, NULL, 0);
	self->stopper = 0;
	shut(&self->fd);
	shut(&self->fd2);
	shut(&self->node_fd);
	shut(&self->attr_fd);
	md_cleanup(&self->md);
	if (self->leg.name[0])
		dm_remove_when_unused(&self->dm);
	self->leg.name[0] = '\0';
}

FIXTURE_TEARDOWN(md_errno)
{
	int i;

	leave(self);
	if (self->old_create[0])
		md_param_set("create_on_open", self->old_create, NULL, 0);
	for (i = 0; i < 3; i++)
		disk_destroy(&self->disks[i]);
	udev_resume();
}

/* A node that is no longer there when it is opened by its O_PATH descriptor. */
static int open_and_unlink_node(struct _test_data_md_errno *self)
{
	unlink(NODE);
	if (mknod(NODE, S_IFBLK | 0600, makedev(MD_MAJOR, self->md.minor)))
		return -errno;
	self->node_fd = open(NODE, O_PATH | O_CLOEXEC);
	unlink(NODE);
	return self->node_fd < 0 ? -errno : 0;
}

static int open_before(struct _test_data_md_errno *self)
{
	char path[96];

	snprintf(path, sizeof(path), "/dev/%s", self->md.name);
	self->node_fd = open(path, O_PATH | O_CLOEXEC);
	snprintf(path, sizeof(path), "/sys/block/%s/md/array_state", self->md.name);
	self->attr_fd = open(path, O_WRONLY | O_CLOEXEC);
	return self->node_fd < 0 || self->attr_fd < 0 ? -errno : 0;
}

/* The first disk of the array is a mapped device, through which writes can stop. */
static int make_leg(struct _test_data_md_errno *self)
{
	struct dm_row row = { .len = 16384, .type = "linear" };
	int ret;

	snprintf(row.params, sizeof(row.params), "%u:%u 0", self->disks[0].major,
		 self->disks[0].minor);
	ret = dm_create(&self->dm, "leg");
	if (ret)
		return ret;
	self->leg.major = self->dm.major;
	self->leg.minor = self->dm.minor;
	snprintf(self->leg.name, sizeof(self->leg.name), "%.31s", self->dm.name);
	return dm_load(&self->dm, &row, 1) ?: dm_resume(&self->dm);
}

/* A stop writes back what is dirty, and here it waits for a disk. */
static int begin_stop(struct _test_data_md_errno *self)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	unsigned int reads, writes = 0;
	char buf[4096] = "dirty";
	int ret;

	if (pwrite(self->fd, buf, sizeof(buf), 65536) != sizeof(buf))
		return -errno;
	ret = dm_suspend(&self->dm);
	if (ret)
		return ret;
	self->stopper = fork();
	if (self->stopper < 0)
		return -errno;
	if (!self->stopper) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(md_stop(self->fd) ? 1 : 0);
	}
	while (!writes) {
		if (now_ms() > end)
			return -ETIMEDOUT;
		ret = file_read(buf, sizeof(buf), "/sys/block/%s/inflight",
				self->md.name);
		if (ret)
			return ret;
		if (sscanf(buf, "%u %u", &reads, &writes) != 2)
			return -EINVAL;
		usleep(1000);
	}
	return 0;
}

static int enter_readonly(struct _test_data_md_errno *self)
{
	int ret;

	shut(&self->fd);
	ret = md_attr_write(&self->md, "array_state", "readonly");
	if (ret)
		return ret;
	self->fd = md_open(&self->md, O_RDONLY);
	return self->fd < 0 ? self->fd : 0;
}

static int enter_inactive(struct _test_data_md_errno *self)
{
	int ret;

	shut(&self->fd);
	ret = md_attr_write(&self->md, "array_state", "inactive");
	if (ret)
		return ret;
	self->fd = md_open(&self->md, O_RDWR);
	return self->fd < 0 ? self->fd : 0;
}

static int open_elsewhere(struct _test_data_md_errno *self)
{
	self->fd2 = md_open(&self->md, O_RDONLY);
	return self->fd2 < 0 ? self->fd2 : 0;
}

static int enter(struct _test_data_md_errno *self)
{
	struct disk members[2] = { self->disks[0], self->disks[1] };
	int ret;

	ret = md_pick(&self->md);
	if (ret)
		return ret;
	if (self->state == NONE)
		return open_and_unlink_node(self);

	ret = md_new_array(&self->md) ?: open_before(self);
	if (ret)
		return ret;
	self->fd = md_open(&self->md, O_RDWR);
	if (self->fd < 0)
		return self->fd;
	if (self->state == CREATED)
		return 0;

	if (self->state == STOPPING) {
		ret = make_leg(self);
		if (ret)
			return ret;
		members[0] = self->leg;
	}
	ret = md_configure(self->fd, members, 2);
	if (ret || self->state == CONFIGURED)
		return ret;
	ret = md_run(self->fd);
	if (ret)
		return ret;

	switch (self->state) {
	case SHARED:
		return open_elsewhere(self);
	case READONLY:
		return enter_readonly(self);
	case RO_SHARED:
		return enter_readonly(self) ?: open_elsewhere(self);
	case INACTIVE:
		return enter_inactive(self);
	case STOPPING:
		return begin_stop(self);
	case GONE:
		return md_stop(self->fd);
	default:
		return 0;
	}
}

static const char *errno_name(int err)
{
	static const char * const names[] = {
		[0] = "0", [ENOENT] = "ENOENT", [EIO] = "EIO", [ENXIO] = "ENXIO",
		[E2BIG] = "E2BIG", [EACCES] = "EACCES", [EBUSY] = "EBUSY",
		[EEXIST] = "EEXIST", [ENODEV] = "ENODEV", [EINVAL] = "EINVAL",
		[EROFS] = "EROFS", [ENOTUNIQ] = "ENOTUNIQ", [ESTALE] = "ESTALE",
	};

	if (err < 0 || err >= (int)ARRAY_SIZE(names) || !names[err])
		return "another errno";
	return names[err];
}

TEST_F(md_errno, B9_one_errno_per_state_and_operation)
{
	bool entered = false;
	const struct row *row;
	int want, seen;

	for (row = rows; row < rows + ARRAY_SIZE(rows); row++) {
		want = expected(self, row);
		if (want < 0)
			continue;
		if (!entered) {
			ASSERT_EQ(0, enter(self)) {
				TH_LOG("no state \"%s\" for \"%s\"",
				       states[self->state], row->name);
			}
		}
		seen = -row->op(self, row);
		ksft_print_msg("%-10s %-44s %s\n", states[self->state], row->name,
			       errno_name(seen));
		EXPECT_EQ(want, seen) {
			TH_LOG("%s, %s: expected %s, seen %s", states[self->state],
			       row->name, errno_name(want), errno_name(seen));
		}

		/* Whatever else the operation was, it may be another state now. */
		entered = row->query && seen == want &&
			  (seen || (self->state != NONE && self->state != GONE));
		if (!entered)
			leave(self);
	}
}

TEST_HARNESS_MAIN
