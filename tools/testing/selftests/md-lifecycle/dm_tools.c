// SPDX-License-Identifier: GPL-2.0
/*
 * What dmsetup and lvm do with mapped devices; with udevd if it runs, and
 * without it if not. Whatever was done, nothing is left in the end: no device,
 * node, link, entry of sysfs or of udev's database, and no cookie.
 */
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"
#include "dm.h"
#include "task.h"

#define ALL		"node sysfs number "
#define VOLUMES		64

/* All that there is of mapped devices on this machine. */
struct world {
	char text[8192];
};

static int popen_read(char *buf, size_t len, const char *cmd)
{
	FILE *f = popen(cmd, "r");

	if (!f)
		return -errno;
	buf[fread(buf, 1, len - 1, f)] = '\0';
	return pclose(f) ? -EIO : 0;
}

static void world_look(struct world *world)
{
	/* udevd may be behind by a lot of devices here. */
	if (path_exists("/run/udev/control"))
		run("udevadm settle --timeout=60");
	popen_read(world->text, sizeof(world->text),
		   "exec 2>/dev/null\n"
		   "major=$(sed -n 's/ device-mapper$//p' /proc/devices)\n"
		   "ls -d /sys/block/dm-* /dev/dm-* /dev/mapper/* /dev/lc_*\n"
		   "ls -d /run/udev/data/b$major:*\n"
		   "find /dev/disk -lname '*/dm-*'\n"
		   "dmsetup udevcookies\n");
}

/* Without udevd there is nobody else who makes nodes. */
static void use_udev(void)
{
	if (!path_exists("/run/udev/control"))
		setenv("DM_DISABLE_UDEV", "1", 1);
}

static int __printf(1, 2) dmsetup(const char *fmt, ...)
{
	char args[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	return run("dmsetup %s </dev/null", args);
}

/* --- dmsetup --- */

FIXTURE(dmsetup) {
	struct world before;
	struct disk disk;
	struct dm_dev dm, dm2;
	pid_t waiter;
	int fd;
};

FIXTURE_SETUP(dmsetup)
{
	const char *missing = dm_missing() ?: task_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (!have_command("dmsetup"))
		SKIP(return, "no dmsetup");
	use_udev();
	ASSERT_EQ(0, disk_create(&self->disk, 8, false));
	world_look(&self->before);
}

FIXTURE_TEARDOWN(dmsetup)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->waiter > 0) {
		kill(self->waiter, SIGKILL);
		waitpid(self->waiter, NULL, 0);
	}
	if (self->dm2.name[0])
		run("dmsetup remove --retry %s 2>/dev/null", self->dm2.name);
	if (self->dm.name[0])
		run("dmsetup remove --retry %s 2>/dev/null", self->dm.name);
	disk_destroy(&self->disk);
}

/* A name, and the number that the device of that name has. */
static int learn_number(struct dm_dev *dm)
{
	char cmd[160], seen[32];

	snprintf(cmd, sizeof(cmd), "dmsetup info -c --noheadings -o major,minor %s", dm->name);
	if (popen_read(seen, sizeof(seen), cmd))
		return -ENODEV;
	return sscanf(seen, "%u:%u", &dm->major, &dm->minor) == 2 ? 0 : -EINVAL;
}

static int create_on(struct dm_dev *dm, const char *suffix, const char *below)
{
	int ret;

	snprintf(dm->name, sizeof(dm->name), "lc_%d_%s", getpid(), suffix);
	ret = dmsetup("create %s --table '0 2048 linear %s 0'", dm->name, below);
	return ret ?: learn_number(dm);
}

static int create(struct _test_data_dmsetup *self, struct dm_dev *dm, const char *suffix)
{
	return create_on(dm, suffix, self->disk.path);
}

static void nothing_left(struct __test_metadata *_metadata, const struct world *before)
{
	struct world after;

	world_look(&after);
	EXPECT_STREQ(before->text, after.text);
}

TEST_F(dmsetup, B1_create_and_remove)
{
	ASSERT_EQ(0, create(self, &self->dm, "x"));
	EXPECT_STREQ(ALL, dm_left(&self->dm));
	EXPECT_TRUE(path_exists("/dev/mapper/%s", self->dm.name));
	ASSERT_EQ(0, dmsetup("remove %s", self->dm.name));
	EXPECT_STREQ("", dm_left(&self->dm));
	EXPECT_FALSE(path_exists("/dev/mapper/%s", self->dm.name));
	nothing_left(_metadata, &self->before);
}

TEST_F(dmsetup, B3_ten_lives)
{
	int i;

	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, create(self, &self->dm, "x"));
		ASSERT_EQ(0, dmsetup("remove %s", self->dm.name));
		ASSERT_STREQ("", dm_left(&self->dm));
	}
	nothing_left(_metadata, &self->before);
}

TEST_F(dmsetup, C10_deferred)
{
	uint32_t flags;

	ASSERT_EQ(0, create(self, &self->dm, "x"));
	udev_settle();
	self->fd = dm_open(&self->dm, O_RDONLY);
	ASSERT_LE(0, self->fd);
	EXPECT_NE(0, dmsetup("remove %s 2>/dev/null", self->dm.name));
	ASSERT_EQ(0, dmsetup("remove --deferred %s", self->dm.name));
	ASSERT_EQ(0, dm_info(&self->dm, &flags, NULL));
	EXPECT_EQ((uint32_t)DM_DEFERRED_REMOVE, flags & DM_DEFERRED_REMOVE);

	ASSERT_EQ(0, dmsetup("message %s 0 @cancel_deferred_remove", self->dm.name));
	ASSERT_EQ(0, dm_info(&self->dm, &flags, NULL));
	EXPECT_EQ(0U, flags & DM_DEFERRED_REMOVE);

	ASSERT_EQ(0, dmsetup("remove --deferred %s", self->dm.name));
	close(self->fd);
	self->fd = -1;
	EXPECT_STREQ("", dm_left_in_the_end(&self->dm));
	/* There is nobody but udev who could know that it has gone. */
	if (!path_exists("/run/udev/control"))
		run("rm -f /dev/mapper/%s", self->dm.name);
	nothing_left(_metadata, &self->before);
}

TEST_F(dmsetup, B9_rename)
{
	char old[64];

	ASSERT_EQ(0, create(self, &self->dm, "x"));
	ASSERT_EQ(0, create(self, &self->dm2, "y"));
	snprintf(old, sizeof(old), "%s", self->dm.name);
	EXPECT_NE(0, dmsetup("rename %s %s 2>/dev/null", old, self->dm2.name));
	EXPECT_TRUE(path_exists("/dev/mapper/%s", old));

	snprintf(self->dm.name, sizeof(self->dm.name), "lc_%d_z", getpid());
	ASSERT_EQ(0, dmsetup("rename %s %s", old, self->dm.name));
	EXPECT_TRUE(path_exists("/dev/mapper/%s", self->dm.name));
	EXPECT_FALSE(path_exists("/dev/mapper/%s", old));

	/* The old name is free. */
	ASSERT_EQ(0, dmsetup("remove %s", self->dm2.name));
	ASSERT_EQ(0, create(self, &self->dm2, "x"));
	ASSERT_EQ(0, dmsetup("remove %s", self->dm2.name));
	ASSERT_EQ(0, dmsetup("remove %s", self->dm.name));
	nothing_left(_metadata, &self->before);
}

TEST_F(dmsetup, B9_mknodes)
{
	ASSERT_EQ(0, create(self, &self->dm, "x"));
	udev_settle();
	ASSERT_EQ(0, run("rm /dev/mapper/%s", self->dm.name));
	ASSERT_EQ(0, dmsetup("mknodes %s", self->dm.name));
	EXPECT_TRUE(path_exists("/dev/mapper/%s", self->dm.name));
	ASSERT_EQ(0, dmsetup("remove %s", self->dm.name));
	nothing_left(_metadata, &self->before);
}

/* A load that fails leaves a device that takes a good one. */
TEST_F(dmsetup, B14_failed_create)
{
	ASSERT_EQ(0, dmsetup("create lc_%d_x --notable", getpid()));
	snprintf(self->dm.name, sizeof(self->dm.name), "lc_%d_x", getpid());
	ASSERT_EQ(0, learn_number(&self->dm));
	EXPECT_NE(0, dmsetup("load %s --table '0 2048 linear /dev/.none 0' 2>/dev/null",
			     self->dm.name));
	EXPECT_NE(0, dmsetup("load %s --table '0 2048 linear %s' 2>/dev/null", self->dm.name,
			     self->disk.path));
	ASSERT_EQ(0, dmsetup("load %s --table '0 2048 linear %s 0'", self->dm.name,
			     self->disk.path));
	ASSERT_EQ(0, dmsetup("resume %s", self->dm.name));
	EXPECT_EQ(0, run("dd if=/dev/mapper/%s of=/dev/null bs=64k count=1 2>/dev/null",
			 self->dm.name));
	ASSERT_EQ(0, dmsetup("remove %s", self->dm.name));
	nothing_left(_metadata, &self->before);

	/* A create that fails takes away what it has made. */
	EXPECT_NE(0, dmsetup("create lc_%d_x --table '0 2048 linear /dev/.none 0' 2>/dev/null",
			     getpid()));
	nothing_left(_metadata, &self->before);
}

TEST_F(dmsetup, B21_removed_under_dmsetup_wait)
{
	int status;

	ASSERT_EQ(0, create(self, &self->dm, "x"));
	udev_settle();
	fflush(NULL);
	self->waiter = fork();
	ASSERT_LE(0, self->waiter);
	if (!self->waiter) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("dmsetup", "dmsetup", "wait", self->dm.name, NULL);
		_exit(127);
	}
	ASSERT_EQ(self->waiter, task_find("dm_wait_event"));
	EXPECT_EQ(0, dmsetup("remove %s", self->dm.name));
	EXPECT_STREQ("", dm_left(&self->dm));
	ASSERT_EQ(self->waiter, waitpid(self->waiter, &status, 0));
	self->waiter = 0;
	EXPECT_EQ(0, status);
	nothing_left(_metadata, &self->before);
}

/* On a stack, and with one that is open. Not where there are others' devices. */
TEST_F(dmsetup, B1_remove_all)
{
	char path[96];

	if (run("dmsetup ls | grep -qv '^No devices'") == 0)
		SKIP(return, "there are other mapped devices");
	ASSERT_EQ(0, create(self, &self->dm, "x"));
	snprintf(path, sizeof(path), "/dev/mapper/%s", self->dm.name);
	ASSERT_EQ(0, create_on(&self->dm2, "y", path));
	ASSERT_EQ(0, dmsetup("create lc_%d_z --notable", getpid()));
	udev_settle();

	self->fd = dm_open(&self->dm2, O_RDONLY);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, dmsetup("remove_all"));
	EXPECT_STREQ(ALL, dm_left(&self->dm));
	EXPECT_STREQ(ALL, dm_left(&self->dm2));
	EXPECT_NE(0, dmsetup("info lc_%d_z >/dev/null 2>&1", getpid()));
	close(self->fd);
	self->fd = -1;

	ASSERT_EQ(0, dmsetup("remove_all"));
	EXPECT_STREQ("", dm_left(&self->dm2));
	EXPECT_STREQ("", dm_left(&self->dm));
	ASSERT_EQ(0, dmsetup("mknodes"));
	nothing_left(_metadata, &self->before);
}

/* --- lvm --- */

FIXTURE(lvm) {
	struct world before;
	char dir[32], loop[64], vg[32];
};

/* An lvm that sees our disk only, and keeps what it notes in our directory. */
static int configure(struct _test_data_lvm *self)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/lvm.conf", self->dir);
	f = fopen(path, "we");
	if (!f)
		return -errno;
	fprintf(f, "devices {\n"
		"use_devicesfile = 0\n"
		"filter = [ \"a|^%s$|\", \"r|.*|\" ]\n"
		"global_filter = [ \"a|^%s$|\", \"r|.*|\" ]\n"
		"multipath_component_detection = 0\n"
		"md_component_detection = 0\n"
		"hints = \"none\"\n"
		"}\n", self->loop, self->loop);
	fprintf(f, "global {\nlocking_dir = \"%s/lock\"\nuse_lvmpolld = 0\n"
		"event_activation = 0\n}\n", self->dir);
	fprintf(f, "backup {\nbackup = 0\narchive = 0\n}\n"
		"activation {\nmonitoring = 0\npolling_interval = 1\n}\n");
	return fclose(f) ? -errno : 0;
}

/* lvm knows loop devices, and does not know null_blk. */
static int loop_create(struct _test_data_lvm *self)
{
	int ret = run("truncate -s 256M %s/disk && losetup -f --show %s/disk >%s/name",
		      self->dir, self->dir, self->dir);

	return ret ?: file_read(self->loop, sizeof(self->loop), "%s/name", self->dir);
}

static int __printf(1, 2) lvm(const char *fmt, ...)
{
	char args[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	return run("lvm %s </dev/null >/dev/null", args);
}

FIXTURE_SETUP(lvm)
{
	const char *missing = dm_missing();

	if (missing)
		SKIP(return, "%s", missing);
	if (!have_command("lvm") || !have_command("dmsetup") || !have_command("losetup"))
		SKIP(return, "no lvm, no dmsetup or no losetup");
	snprintf(self->dir, sizeof(self->dir), "/tmp/lc-lvm.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	ASSERT_EQ(0, loop_create(self));
	ASSERT_EQ(0, configure(self));
	snprintf(self->vg, sizeof(self->vg), "lc_%d", getpid());
	use_udev();
	setenv("LVM_SYSTEM_DIR", self->dir, 1);
	setenv("LVM_SUPPRESS_FD_WARNINGS", "1", 1);
	world_look(&self->before);
	ASSERT_EQ(0, lvm("pvcreate -qq %s", self->loop));
	ASSERT_EQ(0, lvm("vgcreate -qq -s 1m --setautoactivation n %s %s", self->vg, self->loop));
}

FIXTURE_TEARDOWN(lvm)
{
	if (self->vg[0])
		run("lvm vgremove -qq -f %s 2>/dev/null", self->vg);
	if (self->loop[0])
		run("losetup -d %s", self->loop);
	if (self->dir[0])
		run("rm -r %s", self->dir);
}

/* What is done with a volume's first 64 KiB. */
static int fill(struct _test_data_lvm *self, const char *text)
{
	int ret = run("yes %s | head -c 65536 >%s/data", text, self->dir);

	return ret ?: run("dd if=%s/data of=/dev/%s/a bs=64k oflag=direct status=none",
			  self->dir, self->vg);
}

static int holds(struct _test_data_lvm *self, const char *volume, const char *text)
{
	return run("dd if=/dev/%s/%s bs=64k count=1 iflag=direct status=none | grep -qxm1 %s",
		   self->vg, volume, text);
}

/* The snapshot in the middle is of the second text, the origin has the third. */
TEST_F_TIMEOUT(lvm, B1_snapshot_merge_and_extend, 300)
{
	ASSERT_EQ(0, lvm("lvcreate -qq -Zy -Wn -L 8m -n a %s", self->vg));
	ASSERT_EQ(0, fill(self, "first"));
	ASSERT_EQ(0, lvm("lvcreate -qq -s -L 4m -n s %s/a", self->vg));
	ASSERT_EQ(0, fill(self, "second"));
	EXPECT_EQ(0, holds(self, "a", "second"));
	EXPECT_EQ(0, holds(self, "s", "first"));

	/* Back to the first. */
	ASSERT_EQ(0, lvm("lvconvert -qq -i 1 --merge %s/s", self->vg));
	EXPECT_EQ(0, holds(self, "a", "first"));
	EXPECT_NE(0, lvm("lvs %s/s 2>/dev/null", self->vg));

	/* A snapshot that is thrown away. */
	ASSERT_EQ(0, lvm("lvcreate -qq -s -L 4m -n s %s/a", self->vg));
	ASSERT_EQ(0, fill(self, "third"));
	ASSERT_EQ(0, lvm("lvremove -qq -f %s/s", self->vg));
	EXPECT_EQ(0, holds(self, "a", "third"));

	ASSERT_EQ(0, lvm("lvextend -qq -L 16m %s/a", self->vg));
	EXPECT_EQ(0, run("test $(blockdev --getsize64 /dev/%s/a) = 16777216", self->vg));
	EXPECT_EQ(0, holds(self, "a", "third"));

	ASSERT_EQ(0, lvm("vgchange -qq -an %s", self->vg));
	nothing_left(_metadata, &self->before);
	ASSERT_EQ(0, lvm("vgchange -qq -ay %s", self->vg));
	EXPECT_EQ(0, holds(self, "a", "third"));
	ASSERT_EQ(0, lvm("vgremove -qq -f %s", self->vg));
	nothing_left(_metadata, &self->before);
}

/* So many that in a VM they are made by one lvm, which reads its commands. */
TEST_F_TIMEOUT(lvm, B1_64_volumes, 600)
{
	char nodes[64];
	int i;

	ASSERT_EQ(0, run("seq -f 'lvcreate -qq -an -Zn -Wn -l 1 -n v%%g %s' %d >%s/commands",
			 self->vg, VOLUMES, self->dir));
	ASSERT_EQ(0, run("lvm <%s/commands >/dev/null 2>&1", self->dir));
	nothing_left(_metadata, &self->before);
	snprintf(nodes, sizeof(nodes), "test $(ls /dev/%s | wc -l) = %d", self->vg, VOLUMES);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, lvm("vgchange -qq -ay %s", self->vg));
		EXPECT_EQ(0, run("%s", nodes));
		EXPECT_EQ(0, run("dd if=/dev/%s/v%d of=/dev/null bs=64k count=1 2>/dev/null",
				 self->vg, VOLUMES));
		ASSERT_EQ(0, lvm("vgchange -qq -an %s", self->vg));
		nothing_left(_metadata, &self->before);
	}
	ASSERT_EQ(0, lvm("vgremove -qq -f %s", self->vg));
	nothing_left(_metadata, &self->before);
}

TEST_HARNESS_MAIN
