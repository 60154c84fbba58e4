// SPDX-License-Identifier: GPL-2.0
/*
 * Why is it still there? What md-why.sh, the files it reads and the kernel's log
 * tell of a device in each state, and of whoever keeps it.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/loop.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "stall.h"

#define SECTORS_PER_MIB	2048

static const struct md_shape mirror = { .level = 1 };
static char said[16384];

/* Installed beside the tests, or in the tree. */
static const char *tool(void)
{
	return access("./md-why.sh", X_OK) ? "../../../md/md-why.sh" : "./md-why.sh";
}

/* What it says goes to @said, and its exit status is returned. */
static int __printf(1, 2) why(const char *fmt, ...)
{
	char cmd[256], args[128];
	va_list ap;
	int status;
	size_t n;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	snprintf(cmd, sizeof(cmd), "%s %s 2>&1", tool(), args);
	f = popen(cmd, "re");
	if (!f)
		return -errno;
	n = fread(said, 1, sizeof(said) - 1, f);
	said[n] = '\0';
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* Is there a line that starts with these words, or (@in) has them in it? */
static bool look_for(bool in, const char *fmt, va_list ap)
{
	char text[256], *at;

	vsnprintf(text, sizeof(text), fmt, ap);
	for (at = said; (at = strstr(at, text)); at++)
		if (in || at == said || at[-1] == '\n')
			return true;
	printf("# md-why.sh did not say \"%s\", but:\n# %s\n", text, said);
	fflush(stdout);
	return false;
}

static bool __printf(1, 2) says(const char *fmt, ...)
{
	va_list ap;
	bool ret;

	va_start(ap, fmt);
	ret = look_for(false, fmt, ap);
	va_end(ap);
	return ret;
}

static bool __printf(1, 2) mentions(const char *fmt, ...)
{
	va_list ap;
	bool ret;

	va_start(ap, fmt);
	ret = look_for(true, fmt, ap);
	va_end(ap);
	return ret;
}

static const char *tool_missing(void)
{
	if (access(tool(), X_OK))
		return "no md-why.sh: run this where it was installed";
	if (!path_exists("/sys/kernel/debug/sleep_time"))
		mount("debug", "/sys/kernel/debug", "debugfs", 0, NULL);
	return task_missing();
}

/* --- md --- */

FIXTURE(md_why) {
	struct disk disks[2];
	struct md_dev md, other;
	struct dm_dev dm;
	struct leg leg;
	struct dev_stall dev;
	struct worker_stall workers;
	struct task task;
	char dir[32];
	int fd, fd2, loop, kmsg;
};

FIXTURE_SETUP(md_why)
{
	const char *missing = md_missing("new_array") ?: dm_missing() ?: tool_missing();

	self->fd = -1;
	self->fd2 = -1;
	self->loop = -1;
	self->kmsg = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disks[0], 8, true));
	ASSERT_EQ(0, disk_create(&self->disks[1], 8, true));
	ASSERT_EQ(0, md_pick(&self->md));
	snprintf(self->dir, sizeof(self->dir), "/tmp/md-why.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
}

FIXTURE_TEARDOWN(md_why)
{
	int *fds[] = { &self->fd, &self->fd2, &self->kmsg };
	unsigned int i;

	worker_stall_end(&self->workers);
	dev_stall_end(&self->dev);
	leg_release(&self->leg);
	task_end(&self->task);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		if (*fds[i] >= 0)
			close(*fds[i]);
	if (self->loop >= 0) {
		ioctl(self->loop, LOOP_CLR_FD);
		close(self->loop);
	}
	swapoff(self->md.node);
	if (self->dir[0]) {
		umount(self->dir);
		rmdir(self->dir);
	}
	if (self->dm.name[0])
		dm_remove_when_unused(&self->dm);
	md_cleanup(&self->other);
	md_cleanup(&self->md);
	leg_destroy(&self->leg);
	disk_destroy(&self->disks[0]);
	disk_destroy(&self->disks[1]);
	udev_resume();
}

/* An array that runs, open as self->fd. */
static void start(struct __test_metadata *_metadata, struct _test_data_md_why *self)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_start(&self->md, &mirror, self->disks, 2);
	ASSERT_LE(0, self->fd);
}

static void start_and_close(struct __test_metadata *_metadata,
			    struct _test_data_md_why *self)
{
	start(_metadata, self);
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, why(self->md.name));
}

static void expect_free(struct __test_metadata *_metadata,
			struct _test_data_md_why *self)
{
	EXPECT_EQ(0, why(self->md.name));
	EXPECT_TRUE(says("%s (9:%u): live for ", self->md.name, self->md.minor));
	EXPECT_TRUE(says("nothing keeps it"));
}

TEST_F(md_why, B18_nothing_is_there)
{
	EXPECT_EQ(0, why(self->md.name));
	EXPECT_TRUE(says("%s: there is no such device", self->md.name));
	EXPECT_EQ(0, why("9:%u", self->md.minor));
	EXPECT_TRUE(says("9:%u: there is no such device", self->md.minor));
}

TEST_F(md_why, B18_it_cannot_be_told)
{
	EXPECT_EQ(2, why("%s", ""));
	EXPECT_TRUE(says("Usage: "));
	EXPECT_EQ(2, why("--colour %s", self->md.name));
	EXPECT_EQ(2, why(self->disks[0].name));
	EXPECT_TRUE(mentions("is neither an md device nor"));
	EXPECT_EQ(2, why("/proc/self/exe"));
	EXPECT_EQ(0, why("--help"));
	EXPECT_TRUE(says("Usage: "));
}

TEST_F(md_why, B18_made_by_its_name)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	expect_free(_metadata, self);
	EXPECT_TRUE(mentions("references 0, opened 0, hold until_stop"));
	EXPECT_TRUE(says("stays: made by its name, until it is stopped"));
}

/* Until @ms later, as now_ms() tells. */
static uint64_t later(unsigned int ms)
{
	uint64_t end = now_ms() + ms, now;

	do
		now = now_ms();
	while (now < end);
	return now;
}

/* For how many milliseconds it is gone, as debugfs tells, or -1. */
static long long gone_for_ms(const struct md_dev *md)
{
	char line[256], words[48];
	unsigned int sec, ms;
	long long age = -1;
	const char *at;
	FILE *f;

	snprintf(words, sizeof(words), " %s state=gone ", md->name);
	f = fopen("/sys/kernel/debug/md/devices", "re");
	while (f && fgets(line, sizeof(line), f)) {
		at = strstr(line, words) ? strstr(line, " seconds=") : NULL;
		if (at && sscanf(at, " seconds=%u.%3u ", &sec, &ms) == 2)
			age = sec * 1000LL + ms;
	}
	if (f)
		fclose(f);
	return age;
}

/* Of its state, and not of its making, which is well before that. */
TEST_F(md_why, B18_since_when)
{
	long long stopping, stopped, asking, age;

	start(_metadata, self);
	stopping = later(50);
	ASSERT_EQ(0, md_stop(self->fd));
	stopped = now_ms();
	asking = later(2);
	age = gone_for_ms(&self->md);
	/* All of these are cut to milliseconds. */
	EXPECT_LE(asking - stopped - 1, age);
	EXPECT_LE(age, (long long)now_ms() - stopping + 1);
}

TEST_F(md_why, B18_made_by_an_open)
{
	const char *missing = md_autoload_missing();

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, open_and_close(self->md.node, O_RDONLY));
	expect_free(_metadata, self);
	EXPECT_TRUE(says("stays: made by an open, until it is used or stopped"));
}

TEST_F(md_why, B18_an_array)
{
	start_and_close(_metadata, self);
	expect_free(_metadata, self);
	EXPECT_TRUE(says("stays: it is an array ("));
}

TEST_F(md_why, B18_by_any_name)
{
	ASSERT_EQ(0, md_new_array(&self->md));
	ASSERT_EQ(0, why("9:%u", self->md.minor));
	EXPECT_TRUE(says("%s (9:%u): live", self->md.name, self->md.minor));
	ASSERT_EQ(0, why("/dev/%s", self->md.name));
	EXPECT_TRUE(says("%s (9:%u): live", self->md.name, self->md.minor));
	ASSERT_EQ(0, why(self->md.node));
	EXPECT_TRUE(says("%s (9:%u): live", self->md.name, self->md.minor));
}

TEST_F(md_why, B18_open_here)
{
	start(_metadata, self);
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(mentions("opened 1,"));
	EXPECT_TRUE(says("kept: process %d (md_why) has it open as %d, %s", getpid(),
			 self->fd, self->md.node));
	close(self->fd);
	self->fd = -1;
	expect_free(_metadata, self);
}

static long open_it(struct task *task, void *md)
{
	return md_open(md, O_RDONLY);
}

TEST_F(md_why, B18_open_by_another_process)
{
	start_and_close(_metadata, self);
	ASSERT_EQ(0, task_start(&self->task, "an opener", open_it, &self->md, -1));
	ASSERT_LE(0, task_result(&self->task));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: process %d (md_why) has it open", self->task.pid));
	task_end(&self->task);
	expect_free(_metadata, self);
}

static void make_fs(struct __test_metadata *_metadata, struct _test_data_md_why *self)
{
	start_and_close(_metadata, self);
	ASSERT_EQ(0, run("mkfs.ext4 -q -F %s >/dev/null 2>&1", self->md.node));
}

TEST_F(md_why, B18_mounted)
{
	if (!have_command("mkfs.ext4"))
		SKIP(return, "no mkfs.ext4");
	make_fs(_metadata, self);
	ASSERT_EQ(0, mount(self->md.node, self->dir, "ext4", 0, NULL));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: mounted on %s (ext4)", self->dir));
	ASSERT_EQ(0, umount(self->dir));
	expect_free(_metadata, self);
}

static long mount_it(struct task *task, void *arg)
{
	struct _test_data_md_why *self = arg;

	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount(self->md.node, self->dir, "ext4", 0, NULL))
		return -errno;
	return 0;
}

TEST_F(md_why, B18_mounted_in_another_namespace)
{
	if (!have_command("mkfs.ext4"))
		SKIP(return, "no mkfs.ext4");
	make_fs(_metadata, self);
	ASSERT_EQ(0, task_start(&self->task, "a namespace", mount_it, self, -1));
	ASSERT_EQ(0, task_result(&self->task));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: mounted on %s (ext4), as process %d sees it",
			 self->dir, self->task.pid));
}

TEST_F(md_why, B18_mounted_nowhere)
{
	if (!have_command("mkfs.ext4"))
		SKIP(return, "no mkfs.ext4");
	make_fs(_metadata, self);
	ASSERT_EQ(0, mount(self->md.node, self->dir, "ext4", 0, NULL));
	self->fd = open(self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, umount2(self->dir, MNT_DETACH));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: a file system (ext4) is on %s", self->md.name));
}

TEST_F(md_why, B18_part_of_another_array)
{
	struct disk members[2] = { self->disks[0] };

	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_start(&self->md, &mirror, &self->disks[1], 1);
	ASSERT_LE(0, self->fd);
	close(self->fd);
	members[1].major = MD_MAJOR;
	members[1].minor = self->md.minor;
	ASSERT_EQ(0, md_pick(&self->other));
	ASSERT_EQ(0, md_new_array(&self->other));
	self->fd = md_open(&self->other, O_RDWR);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_configure(self->fd, members, 2));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: %s is on %s", self->other.name, self->md.name));
}

static int load_linear(const struct dm_dev *dm, unsigned int major, unsigned int minor,
		       uint64_t len)
{
	struct dm_row row = { .len = len, .type = "linear" };

	snprintf(row.params, sizeof(row.params), "%u:%u 0", major, minor);
	return dm_load(dm, &row, 1);
}

TEST_F(md_why, B18_part_of_a_mapped_device)
{
	start_and_close(_metadata, self);
	ASSERT_EQ(0, dm_create(&self->dm, "why"));
	ASSERT_EQ(0, load_linear(&self->dm, MD_MAJOR, self->md.minor, 8));
	ASSERT_EQ(0, dm_resume(&self->dm));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: dm-%u (%s) is on %s", self->dm.minor, self->dm.name,
			 self->md.name));
	ASSERT_EQ(0, dm_remove(&self->dm));
	self->dm.name[0] = '\0';
	expect_free(_metadata, self);
}

TEST_F(md_why, B18_under_a_loop_device)
{
	struct loop_config config = {};
	char path[32];
	int fd, nr;

	start_and_close(_metadata, self);
	if (!have_loop())
		SKIP(return, "no loop driver");
	fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	nr = ioctl(fd, LOOP_CTL_GET_FREE);
	close(fd);
	ASSERT_LE(0, nr);
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	self->loop = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->loop);
	fd = md_open(&self->md, O_RDWR);
	ASSERT_LE(0, fd);
	config.fd = fd;
	ASSERT_EQ(0, ioctl(self->loop, LOOP_CONFIGURE, &config));
	close(fd);
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: loop%d is on it", nr));
}

TEST_F(md_why, B18_swap)
{
	if (!path_exists("/proc/swaps") || !have_command("mkswap"))
		SKIP(return, "no swap");
	start_and_close(_metadata, self);
	ASSERT_EQ(0, run("mkswap %s >/dev/null", self->md.node));
	ASSERT_EQ(0, swapon(self->md.node, 0));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: swap is on it"));
	ASSERT_EQ(0, swapoff(self->md.node));
	expect_free(_metadata, self);
}

/* As io_uring or a message on its way between processes has it open. */
TEST_F(md_why, B18_open_by_nobody_to_be_seen)
{
	struct msghdr msg = {};
	char control[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct cmsghdr *cmsg;
	int pair[2];

	start(_metadata, self);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = control;
	msg.msg_controllen = sizeof(control);
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &self->fd, sizeof(int));
	ASSERT_EQ(1, sendmsg(pair[0], &msg, 0));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("kept: opened 1 time(s), by nobody who can be seen"));
	close(pair[0]);
	close(pair[1]);
}

/* --- what a stop waits for --- */

static long stop(struct task *task, void *arg)
{
	struct _test_data_md_why *self = arg;

	return md_stop(self->fd);
}

static void stop_and_wait(struct __test_metadata *_metadata,
			  struct _test_data_md_why *self,
			  long (*fn)(struct task *task, void *arg))
{
	ASSERT_EQ(0, task_start(&self->task, "STOP_ARRAY", fn, self, self->fd));
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, task_blocked(&self->task));
}

TEST_F(md_why, B18_dying)
{
	start(_metadata, self);
	ASSERT_EQ(0, dev_stall_start(&self->dev));
	stop_and_wait(_metadata, self, stop);
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("%s (9:%u): dying for ", self->md.name, self->md.minor));
	EXPECT_TRUE(says("waits: worker "));
	EXPECT_TRUE(mentions("+md_del-%s): ", self->md.name));
	EXPECT_TRUE(mentions("del_gendisk < md_life_"));
	EXPECT_TRUE(says("waits: task %d (md_why): ", self->task.pid));
	dev_stall_release(&self->dev);
	EXPECT_EQ(0, task_result(&self->task));
}

static long stop_without_workers(struct task *task, void *arg)
{
	struct _test_data_md_why *self = arg;

	return worker_stall_join(&self->workers) ?: md_stop(self->fd);
}

TEST_F(md_why, B18_dying_without_a_worker)
{
	start(_metadata, self);
	if (worker_stall_start(&self->workers))
		SKIP(return, "workers cannot be kept from running");
	stop_and_wait(_metadata, self, stop_without_workers);
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("%s (9:%u): dying for ", self->md.name, self->md.minor));
	EXPECT_TRUE(says("waits: for a worker"));
	worker_stall_end(&self->workers);
	EXPECT_EQ(0, task_result(&self->task));
}

static void build_on_leg(struct __test_metadata *_metadata,
			 struct _test_data_md_why *self)
{
	struct disk members[2] = { self->disks[0] };

	ASSERT_EQ(0, leg_create(&self->leg, "leg", 8));
	members[1] = self->leg.disk;
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd = md_start(&self->md, &mirror, members, 2);
	ASSERT_LE(0, self->fd);
}

/* What was written through the page cache has to be written back first. */
TEST_F(md_why, B18_a_stop_that_waits_for_a_member)
{
	static const char block[4096];

	build_on_leg(_metadata, self);
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(4096, pwrite(self->fd, block, sizeof(block), 0));
	stop_and_wait(_metadata, self, stop);
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("%s (9:%u): live for ", self->md.name, self->md.minor));
	EXPECT_TRUE(mentions(" s, closing, diskseq "));
	EXPECT_TRUE(says("waits: task %d (md_why): ", self->task.pid));
	EXPECT_TRUE(mentions(" < md_ioctl < "));
	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->task));
}

static long make(struct task *task, void *md)
{
	return md_new_array(md);
}

TEST_F(md_why, B18_nascent)
{
	ASSERT_EQ(0, dev_stall_start(&self->dev));
	ASSERT_EQ(0, task_start(&self->task, "new_array", make, &self->md, -1));
	ASSERT_EQ(0, task_blocked(&self->task));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("%s (9:%u): nascent for ", self->md.name, self->md.minor));
	EXPECT_TRUE(says("waits: task %d (md_why): ", self->task.pid));
	EXPECT_TRUE(mentions(" < md_alloc < "));
	dev_stall_release(&self->dev);
	EXPECT_EQ(0, task_result(&self->task));
}

/* --- gone, but for an open file descriptor --- */

TEST_F(md_why, B18_gone)
{
	start(_metadata, self);
	ASSERT_EQ(0, md_stop(self->fd));
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("%s (9:%u): gone for ", self->md.name, self->md.minor));
	EXPECT_TRUE(says("kept: process %d (md_why) has it open", getpid()));
	EXPECT_EQ(1, why("9:%u", self->md.minor));
	EXPECT_TRUE(says("%s (9:%u): gone for ", self->md.name, self->md.minor));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, why(self->md.name));
	EXPECT_TRUE(says("%s: there is no such device", self->md.name));
}

TEST_F(md_why, B18_gone_and_made_again)
{
	char node[48];

	ASSERT_EQ(0, md_new_array(&self->md));
	snprintf(node, sizeof(node), "/dev/%s", self->md.name);
	self->fd = open(node, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, md_build(self->fd, self->disks, 2));
	ASSERT_EQ(0, md_stop(self->fd));
	ASSERT_EQ(0, md_new_array(&self->md));
	self->fd2 = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, self->fd2);
	EXPECT_EQ(1, why(self->md.name));
	EXPECT_TRUE(says("%s (9:%u): live for ", self->md.name, self->md.minor));
	EXPECT_TRUE(says("%s (9:%u): gone for ", self->md.name, self->md.minor));
	EXPECT_TRUE(mentions("diskseq %lld, ", md_diskseq(&self->md)));
	EXPECT_TRUE(says("kept: process %d (md_why) has it open as %d, %s (deleted), maybe an",
			 getpid(), self->fd, node));
	EXPECT_TRUE(says("kept: process %d (md_why) has it open as %d, %s\n",
			 getpid(), self->fd2, self->md.node));
}

/* --- what the kernel's log says when a stop is refused --- */

static void expect_said(struct __test_metadata *_metadata,
			struct _test_data_md_why *self, const char *reason)
{
	char text[128];

	snprintf(text, sizeof(text), "md: %s still in use: %s", self->md.name, reason);
	EXPECT_EQ(1, kmsg_count(self->kmsg, text)) {
		TH_LOG("the kernel's log has no \"%s\"", text);
	}
}

TEST_F(md_why, B18_log_of_a_stop_while_open)
{
	start(_metadata, self);
	self->fd2 = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, self->fd2);
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	EXPECT_EQ(-EBUSY, md_stop(self->fd));
	expect_said(_metadata, self, "opened 1 time(s), unclaimed");
	EXPECT_EQ(-EBUSY, md_attr_write(&self->md, "array_state", "clear"));
	expect_said(_metadata, self, "opened 2 time(s), unclaimed");
}

TEST_F(md_why, B18_log_of_an_exclusive_stop_while_open)
{
	start(_metadata, self);
	close(self->fd);
	self->fd = md_open(&self->md, O_RDWR | O_EXCL);
	ASSERT_LE(0, self->fd);
	self->fd2 = md_open(&self->md, O_RDONLY);
	ASSERT_LE(0, self->fd2);
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	EXPECT_EQ(-EBUSY, md_stop(self->fd));
	expect_said(_metadata, self, "opened 1 time(s), claimed by the caller");
}

TEST_F(md_why, B18_log_of_a_stop_while_mounted)
{
	if (!have_command("mkfs.ext4"))
		SKIP(return, "no mkfs.ext4");
	make_fs(_metadata, self);
	ASSERT_EQ(0, mount(self->md.node, self->dir, "ext4", 0, NULL));
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	EXPECT_EQ(-EBUSY, md_attr_write(&self->md, "array_state", "clear"));
	expect_said(_metadata, self, "opened 1 time(s), claimed by a file system");
}

TEST_F(md_why, B18_log_of_a_stop_under_a_mapped_device)
{
	start_and_close(_metadata, self);
	ASSERT_EQ(0, dm_create(&self->dm, "why"));
	ASSERT_EQ(0, load_linear(&self->dm, MD_MAJOR, self->md.minor, 8));
	ASSERT_EQ(0, dm_resume(&self->dm));
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	EXPECT_EQ(-EBUSY, md_attr_write(&self->md, "array_state", "readonly"));
	expect_said(_metadata, self, "opened 1 time(s), claimed, but not by a file system");
}

TEST_F(md_why, B18_log_of_a_stop_during_another)
{
	static const char block[4096];

	build_on_leg(_metadata, self);
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(4096, pwrite(self->fd, block, sizeof(block), 0));
	ASSERT_EQ(0, task_start(&self->task, "STOP_ARRAY", stop, self, self->fd));
	ASSERT_EQ(0, task_blocked(&self->task));
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
	EXPECT_EQ(-EBUSY, md_stop(self->fd));
	expect_said(_metadata, self, "another task is stopping it");
	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->task));
}

/* --- device mapper --- */

FIXTURE(dm_why) {
	struct disk disk;
	struct leg leg;
	struct dev_stall dev;
	struct dm_dev dm, upper;
	struct task task, remover;
	int fd;
};

FIXTURE_SETUP(dm_why)
{
	const char *missing = dm_missing() ?: tool_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, udev_pause());
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	ASSERT_EQ(0, leg_create(&self->leg, "leg", 8));
	ASSERT_EQ(0, dm_create(&self->dm, "why"));
}

FIXTURE_TEARDOWN(dm_why)
{
	dev_stall_end(&self->dev);
	leg_release(&self->leg);
	task_end(&self->task);
	task_end(&self->remover);
	if (self->fd >= 0)
		close(self->fd);
	if (self->upper.name[0])
		dm_remove_when_unused(&self->upper);
	dm_remove_when_unused(&self->dm);
	leg_destroy(&self->leg);
	disk_destroy(&self->disk);
	udev_resume();
}

static void make_linear(struct __test_metadata *_metadata,
			struct _test_data_dm_why *self)
{
	ASSERT_EQ(0, load_linear(&self->dm, self->disk.major, self->disk.minor,
				 SECTORS_PER_MIB));
	ASSERT_EQ(0, dm_resume(&self->dm));
}

TEST_F(dm_why, B18_without_a_table)
{
	if (!have_command("dmsetup"))
		SKIP(return, "no dmsetup");
	EXPECT_EQ(0, why(self->dm.name));
	EXPECT_TRUE(says("stays: device mapper has it, without a table"));
}

TEST_F(dm_why, B18_not_removed)
{
	make_linear(_metadata, self);
	EXPECT_EQ(0, why(self->dm.name));
	EXPECT_TRUE(says("dm-%u (%u:%u, %s): live", self->dm.minor, self->dm.major,
			 self->dm.minor, self->dm.name));
	EXPECT_TRUE(says("stays: until it is removed: dmsetup remove %s", self->dm.name));
	EXPECT_TRUE(says("nothing keeps it"));
	ASSERT_EQ(0, dm_suspend(&self->dm));
	EXPECT_EQ(0, why("dm-%u", self->dm.minor));
	EXPECT_TRUE(mentions("%s): suspended", self->dm.name));
}

TEST_F(dm_why, B18_open_here)
{
	make_linear(_metadata, self);
	self->fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, self->fd);
	EXPECT_EQ(1, why("%u:%u", self->dm.major, self->dm.minor));
	EXPECT_TRUE(says("kept: process %d (md_why) has it open as %d, ", getpid(),
			 self->fd));
	if (have_command("dmsetup"))
		EXPECT_TRUE(mentions("): live, opened 1\n"));
}

TEST_F(dm_why, B18_to_be_removed_at_the_last_close)
{
	if (!have_command("dmsetup"))
		SKIP(return, "no dmsetup");
	make_linear(_metadata, self);
	self->fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dm_remove_deferred(&self->dm));
	EXPECT_EQ(1, why(self->dm.name));
	EXPECT_TRUE(says("stays: until the last close, which removes it"));
}

TEST_F(dm_why, B18_part_of_another)
{
	make_linear(_metadata, self);
	ASSERT_EQ(0, dm_create(&self->upper, "upper"));
	ASSERT_EQ(0, load_linear(&self->upper, self->dm.major, self->dm.minor, 8));
	EXPECT_EQ(1, why(self->dm.name));
	EXPECT_TRUE(says("kept: dm-%u (%s) is on dm-%u", self->upper.minor,
			 self->upper.name, self->dm.minor));
}

static long load_snapshot(struct task *task, void *arg)
{
	struct _test_data_dm_why *self = arg;
	struct dm_row row = { .len = SECTORS_PER_MIB, .type = "snapshot" };

	snprintf(row.params, sizeof(row.params), "%u:%u %u:%u P 8",
		 self->disk.major, self->disk.minor,
		 self->leg.disk.major, self->leg.disk.minor);
	return dm_load(&self->dm, &row, 1);
}

static long remove_it(struct task *task, void *dm)
{
	return dm_remove(dm);
}

/* A load reads from a disk that does not answer. */
static void let_a_load_hang(struct __test_metadata *_metadata,
			    struct _test_data_dm_why *self)
{
	ASSERT_EQ(0, leg_stall(&self->leg));
	ASSERT_EQ(0, task_start(&self->task, "DM_TABLE_LOAD", load_snapshot, self, -1));
	ASSERT_EQ(0, task_blocked_in(&self->task, "table_load"));
}

static void expect_removing(struct __test_metadata *_metadata,
			    struct _test_data_dm_why *self)
{
	EXPECT_EQ(1, why("dm-%u", self->dm.minor));
	EXPECT_TRUE(says("dm-%u (%u:%u, no name any more): removing", self->dm.minor,
			 self->dm.major, self->dm.minor));
	EXPECT_TRUE(says("waits: task %d (md_why): ", self->task.pid));
	EXPECT_TRUE(mentions(" < table_load < "));
}

TEST_F(dm_why, B18_a_removal_that_waits_for_a_load)
{
	if (!dm_has_target("snapshot"))
		SKIP(return, "no snapshot target");
	make_linear(_metadata, self);
	let_a_load_hang(_metadata, self);
	ASSERT_EQ(0, task_start(&self->remover, "DM_DEV_REMOVE", remove_it,
				&self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->remover));
	expect_removing(_metadata, self);
	EXPECT_TRUE(says("waits: task %d (md_why): ", self->remover.pid));
	EXPECT_EQ(0, why(self->dm.name));
	EXPECT_TRUE(says("dm-%u is being removed, and has no name any more",
			 self->dm.minor));
	leg_release(&self->leg);
	EXPECT_EQ(0, task_result(&self->remover));
}

/* Its directory dm in sysfs has gone before its node. */
TEST_F(dm_why, B18_a_removal_that_waits_for_its_node)
{
	make_linear(_metadata, self);
	ASSERT_EQ(0, dev_stall_start(&self->dev));
	ASSERT_EQ(0, task_start(&self->remover, "DM_DEV_REMOVE", remove_it,
				&self->dm, -1));
	ASSERT_EQ(0, task_blocked(&self->remover));
	EXPECT_EQ(1, why("%u:%u", self->dm.major, self->dm.minor));
	EXPECT_TRUE(says("dm-%u (%u:%u, no name any more): removing", self->dm.minor,
			 self->dm.major, self->dm.minor));
	EXPECT_TRUE(says("waits: task %d (md_why): ", self->remover.pid));
	dev_stall_release(&self->dev);
	EXPECT_EQ(0, task_result(&self->remover));
}

TEST_F(dm_why, B18_a_deferred_removal_that_waits_for_a_load)
{
	if (!dm_has_target("snapshot"))
		SKIP(return, "no snapshot target");
	make_linear(_metadata, self);
	self->fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dm_remove_deferred(&self->dm));
	let_a_load_hang(_metadata, self);
	close(self->fd);
	self->fd = -1;
	ASSERT_NE(0, task_find("dm_wait_for_holders") ?: task_find("dm_destroy"));
	expect_removing(_metadata, self);
	EXPECT_TRUE(mentions("+dm_remove-%u:%u): ", self->dm.major, self->dm.minor));
	leg_release(&self->leg);
	EXPECT_STREQ("", dm_left_in_the_end(&self->dm));
}

TEST_HARNESS_MAIN
