// SPDX-License-Identifier: GPL-2.0
/*
 * What mdadm does with arrays, by the mdadm that is installed, whatever its
 * version, or by the one that MDADM in the environment names; with udevd if it
 * runs. However an array came to be: when mdadm --stop returns it is gone, and
 * it stays gone.
 */
#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lifecycle.h"

#define DISKS		4
#define CYCLES		20
#define ALL		"node sysfs number mdstat "

/* More than the space that the metadata of any format takes. */
#define DISK_MIB	64

/* A part of the disks, so that nothing that has to be copied takes long. */
#define SMALL		"--size=4M --assume-clean"

FIXTURE(md_mdadm) {
	struct disk disks[DISKS];
	struct md_dev md, md2;
	struct hog hog;
	struct observer observers[2];
	char loops[2][32];
	char dir[32], conf[64];
	char old_mode[8], old_create[8];
	pid_t monitor;
	int adds, removes;
};

FIXTURE_VARIANT(md_mdadm) {
	const char *mode;
};

FIXTURE_VARIANT_ADD(md_mdadm, async) { .mode = "Y" };
FIXTURE_VARIANT_ADD(md_mdadm, sync) { .mode = "N" };

/* The value of the switch under test. */
static const char *mdadm_mode;

static const char *mdadm_binary(void)
{
	return getenv("MDADM") ?: "mdadm";
}

static void __attribute__((constructor)) print_version(void)
{
	run("%s --version 2>&1 | sed 's/^/# /'", mdadm_binary());
}

/* mdadm itself sets the switch from 4.5 on: set it again before each call. */
static int __printf(1, 2) mdadm(const char *fmt, ...)
{
	char args[384];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	md_param_set("legacy_async_del_gendisk", mdadm_mode, NULL, 0);
	return run("%s %s --quiet </dev/null", mdadm_binary(), args);
}

/* Lines for mdadm's configuration; the disks of the test are the only ones. */
static int __printf(2, 3) conf_add(struct _test_data_md_mdadm *self,
				   const char *fmt, ...)
{
	va_list ap;
	FILE *f;

	f = fopen(self->conf, "ae");
	if (!f)
		return -errno;
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	return fclose(f) ? -errno : 0;
}

FIXTURE_SETUP(md_mdadm)
{
	const char *missing = md_missing("legacy_async_del_gendisk");
	int i;

	self->adds = -1;
	self->removes = -1;
	if (missing)
		SKIP(return, "%s", missing);
	if (!have_command(mdadm_binary()))
		SKIP(return, "no mdadm");
	if (hog_start(&self->hog))
		SKIP(return, "no real-time scheduling");
	hog_stop(&self->hog);
	for (i = 0; i < DISKS; i++)
		ASSERT_EQ(0, disk_create(&self->disks[i], DISK_MIB, true));
	snprintf(self->dir, sizeof(self->dir), "/tmp/md_mdadm.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	snprintf(self->conf, sizeof(self->conf), "%s/conf", self->dir);
	ASSERT_EQ(0, conf_add(self, "HOMEHOST <none>\nDEVICE"));
	for (i = 0; i < DISKS; i++)
		ASSERT_EQ(0, conf_add(self, " %s", self->disks[i].path));
	ASSERT_EQ(0, conf_add(self, "\n"));
	mdadm_mode = variant->mode;
	ASSERT_EQ(0, md_param_set("legacy_async_del_gendisk", variant->mode,
				  self->old_mode, sizeof(self->old_mode)));
	ASSERT_EQ(0, md_param_set("create_on_open", "Y", self->old_create,
				  sizeof(self->old_create)));
	ASSERT_EQ(0, md_pick(&self->md));
}

static void monitor_stop(struct _test_data_md_mdadm *self)
{
	if (self->monitor <= 0)
		return;
	kill(self->monitor, SIGKILL);
	waitpid(self->monitor, NULL, 0);
	self->monitor = 0;
}

/* What a failed test left: an array before the container that it is in. */
static void end(struct md_dev *md)
{
	if (md->name[0] && path_exists("/dev/%s", md->name))
		mdadm("--stop /dev/%s 2>/dev/null", md->name);
}

FIXTURE_TEARDOWN(md_mdadm)
{
	int i;

	hog_stop(&self->hog);
	monitor_stop(self);
	for (i = 0; i < 2; i++)
		observer_stop(&self->observers[i]);
	end(&self->md2);
	end(&self->md);
	md_cleanup(&self->md2);
	md_cleanup(&self->md);
	for (i = 0; i < 2; i++)
		if (self->loops[i][0])
			run("losetup -d %s", self->loops[i]);
	udev_settle();
	if (self->adds >= 0)
		close(self->adds);
	if (self->removes >= 0)
		close(self->removes);
	md_param_set("create_on_open", self->old_create, NULL, 0);
	md_param_set("legacy_async_del_gendisk", self->old_mode, NULL, 0);
	for (i = 0; i < DISKS; i++)
		disk_destroy(&self->disks[i]);
	if (self->dir[0])
		run("rm -rf %s", self->dir);
}

/* The paths of the first @nr disks, for a command. */
static const char *members(struct _test_data_md_mdadm *self, int nr)
{
	static char paths[DISKS * sizeof(self->disks[0].path)];
	int i, len = 0;

	for (i = 0; i < nr; i++)
		len += snprintf(paths + len, sizeof(paths) - len, "%s ",
				self->disks[i].path);
	return paths;
}

/* Create an array of the first @nr disks; @target may be a name. */
static int mdadm_create(struct _test_data_md_mdadm *self, const char *target,
			const char *level, int nr)
{
	bool small = strcmp(level, "raid0");	/* which has no choice of size */

	return mdadm("--create %s --config=%s --run --metadata=1.2 -l %s -n %d %s %s",
		     target, self->conf, level, nr, small ? SMALL : "",
		     members(self, nr));
}

static const char *node(const struct md_dev *md)
{
	static char path[64];

	snprintf(path, sizeof(path), "/dev/%s", md->name);
	return path;
}

/* Let mdadm find the array by its UUID. */
static int conf_add_array(struct _test_data_md_mdadm *self, const struct md_dev *md)
{
	return run("%s --detail --brief %s >>%s", mdadm_binary(), node(md), self->conf);
}

/* An array that mdadm has given its number. */
static int learn_number(struct md_dev *md)
{
	char buf[32];
	int ret;

	ret = file_read(buf, sizeof(buf), "/sys/block/%s/dev", md->name);
	if (ret)
		return ret;
	return sscanf(buf, "9:%u", &md->minor) == 1 ? 0 : -EINVAL;
}

static const char *state_of(const struct md_dev *md)
{
	static char buf[32];

	if (file_read(buf, sizeof(buf), "/sys/block/%s/md/array_state", md->name))
		buf[0] = '\0';
	return buf;
}

/* The words after the colon of the array's line in /proc/mdstat begin so. */
static bool mdstat_says(const struct md_dev *md, const char *words)
{
	return run("grep -q '^%s : %s' /proc/mdstat", md->name, words) == 0;
}

/*
 * Run the rest of an "mdadm" command line that stops the array, and look what
 * is left before any worker of the kernel, udevd or monitor gets a CPU. Then
 * let them all have their say: it stays gone.
 */
static void __printf(3, 4)
stop_by(struct __test_metadata *_metadata, struct _test_data_md_mdadm *self,
	const char *fmt, ...)
{
	char args[128], left[64];
	va_list ap;
	int ret;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	udev_settle();
	ASSERT_EQ(0, hog_start(&self->hog));
	ret = mdadm("%s", args);
	snprintf(left, sizeof(left), "%s", md_left(&self->md));
	hog_stop(&self->hog);
	ASSERT_EQ(0, ret);
	EXPECT_STREQ("", left);
	udev_settle();
	/* What was late has been told; it must not be there for good, too. */
	ASSERT_STREQ("", *left ? md_left_in_the_end(&self->md) : md_left(&self->md));
}

static void mdadm_stop(struct __test_metadata *_metadata, struct _test_data_md_mdadm *self)
{
	stop_by(_metadata, self, "--stop %s", node(&self->md));
}

static void mdadm_assemble(struct __test_metadata *_metadata,
			   struct _test_data_md_mdadm *self, int nr)
{
	ASSERT_EQ(0, mdadm("--assemble %s --config=%s --run %s", node(&self->md),
			   self->conf, members(self, nr)));
	ASSERT_STREQ(ALL, md_left(&self->md));
}

TEST_F(md_mdadm, B10_create_stop_assemble_stop)
{
	int i;

	ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
	for (i = 0; i < 3; i++) {
		mdadm_stop(_metadata, self);
		mdadm_assemble(_metadata, self, 2);
	}
	mdadm_stop(_metadata, self);
}

/* One socket for each count, as a count reads over all other events. */
TEST_F(md_mdadm, B8_one_add_and_one_remove)
{
	char name[sizeof(self->md.name)];

	snprintf(name, sizeof(name), "%s", self->md.name);
	self->adds = uevent_open();
	ASSERT_LE(0, self->adds);
	self->removes = uevent_open();
	ASSERT_LE(0, self->removes);
	ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
	mdadm_stop(_metadata, self);
	EXPECT_EQ(1, uevent_count(self->adds, &self->disks[0], name, "add"));
	EXPECT_EQ(1, uevent_count(self->removes, &self->disks[0], name, "remove"));
}

TEST_F(md_mdadm, B10_other_levels)
{
	static const struct { const char *level, *shown; int nr; } levels[] = {
		{ "raid0", "raid0", 2 },
		{ "raid5", "raid4", 3 },
		{ "raid10", "raid10", 2 },
	};
	unsigned int i, done = 0;

	run("modprobe -qa raid0 raid10 raid456");
	for (i = 0; i < ARRAY_SIZE(levels); i++) {
		if (run("grep -Fqw '[%s]' /proc/mdstat", levels[i].shown))
			continue;
		done++;
		TH_LOG("%s", levels[i].level);
		ASSERT_EQ(0, mdadm_create(self, node(&self->md), levels[i].level,
					  levels[i].nr));
		mdadm_stop(_metadata, self);
		mdadm_assemble(_metadata, self, levels[i].nr);
		mdadm_stop(_metadata, self);
	}
	if (!done)
		SKIP(return, "no other levels");
}

TEST_F(md_mdadm, B10_assemble_scan)
{
	ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
	ASSERT_EQ(0, conf_add_array(self, &self->md));
	mdadm_stop(_metadata, self);
	ASSERT_EQ(0, mdadm("--assemble --scan --config=%s", self->conf));
	EXPECT_STREQ(ALL, md_left(&self->md));
	EXPECT_TRUE(mdstat_says(&self->md, "active raid1"));
	mdadm_stop(_metadata, self);
}

/* Member by member, as udev does it; stopped with one, and with both. */
TEST_F(md_mdadm, B10_incremental)
{
	int i, nr;

	ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
	ASSERT_EQ(0, conf_add_array(self, &self->md));
	mdadm_stop(_metadata, self);
	for (nr = 1; nr <= 2; nr++) {
		for (i = 0; i < nr; i++)
			ASSERT_EQ(0, mdadm("--incremental --config=%s %s",
					   self->conf, self->disks[i].path));
		EXPECT_TRUE(mdstat_says(&self->md, nr == 1 ? "inactive" :
					"active raid1"));
		mdadm_stop(_metadata, self);
	}
}

TEST_F(md_mdadm, B10_stop_scan)
{
	if (run("grep -q '^md' /proc/mdstat") == 0)
		SKIP(return, "there are other arrays");
	ASSERT_EQ(0, md_pick(&self->md2));
	ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
	ASSERT_EQ(0, mdadm("--create %s --config=%s --run --level=raid1 --raid-devices=2 " SMALL
			   " %s %s", node(&self->md2), self->conf,
			   self->disks[2].path, self->disks[3].path));
	stop_by(_metadata, self, "--stop --scan");
	EXPECT_STREQ("", md_left_in_the_end(&self->md2));
}

/* Has a symbolic link in /dev/md beside all the rest. */
TEST_F(md_mdadm, B10_named)
{
	char link[64];
	int i;

	ASSERT_EQ(0, conf_add(self, "CREATE names=yes\n"));
	md_cleanup(&self->md);
	md_pick_name(&self->md);
	snprintf(link, sizeof(link), "/dev/md/%s", self->md.name + strlen("md_"));

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, i ? mdadm("--assemble %s --config=%s %s", link,
				       self->conf, members(self, 2)) :
			  mdadm_create(self, link, "raid1", 2));
		ASSERT_EQ(0, learn_number(&self->md));
		ASSERT_STREQ(ALL, md_left(&self->md));
		stop_by(_metadata, self, "--stop %s", link);
		EXPECT_FALSE(path_exists("%s", link));
	}
}

/* The new name is in the metadata, and the array is found by it. */
TEST_F(md_mdadm, B10_rename)
{
	ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
	mdadm_stop(_metadata, self);
	ASSERT_EQ(0, mdadm("--assemble %s --config=%s --update=name --name=other %s",
			   node(&self->md), self->conf, members(self, 2)));
	mdadm_stop(_metadata, self);
	ASSERT_EQ(0, mdadm("--assemble %s --config=%s --name=other",
			   node(&self->md), self->conf));
	EXPECT_STREQ(ALL, md_left(&self->md));
	EXPECT_EQ(0, run("%s --detail %s | grep -q 'Name : other'",
			 mdadm_binary(), node(&self->md)));
	mdadm_stop(_metadata, self);
}

TEST_F(md_mdadm, B10_grow)
{
	const char *md = node(&self->md);
	int i;

	ASSERT_EQ(0, mdadm_create(self, md, "raid1", 2));
	ASSERT_EQ(0, mdadm("%s --add %s", md, self->disks[2].path));
	ASSERT_EQ(0, mdadm("--grow %s --raid-devices=3", md));
	run("%s --wait %s", mdadm_binary(), md);
	EXPECT_TRUE(run("grep -q '\\[3/3\\] \\[UUU\\]' /proc/mdstat") == 0);
	ASSERT_EQ(0, mdadm("--grow %s --bitmap=internal", md));
	ASSERT_EQ(0, mdadm("--grow %s --bitmap=none", md));
	ASSERT_EQ(0, mdadm("--grow %s --size=8M", md));
	run("%s --wait %s", mdadm_binary(), md);
	for (i = 0; i < 2; i++) {
		mdadm_stop(_metadata, self);
		mdadm_assemble(_metadata, self, 3);
	}
	mdadm_stop(_metadata, self);
}

TEST_F(md_mdadm, B10_readonly_readwrite)
{
	ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
	udev_settle();
	ASSERT_EQ(0, mdadm("--readonly %s", node(&self->md)));
	EXPECT_STREQ("readonly", state_of(&self->md));
	ASSERT_EQ(0, mdadm("--readwrite %s", node(&self->md)));
	EXPECT_STREQ("clean", state_of(&self->md));
	mdadm_stop(_metadata, self);
	mdadm_assemble(_metadata, self, 2);
	udev_settle();
	ASSERT_EQ(0, mdadm("--readonly %s", node(&self->md)));
	EXPECT_STREQ("readonly", state_of(&self->md));
	mdadm_stop(_metadata, self);
}

/* How often the monitor has told @what of the array. */
static int times_told(struct _test_data_md_mdadm *self, const char *what)
{
	char line[256], want[128];
	int count = 0;
	FILE *f;

	snprintf(line, sizeof(line), "%s/events", self->dir);
	f = fopen(line, "re");
	if (!f)
		return 0;
	snprintf(want, sizeof(want), "%s /dev/%s\n", what, self->md.name);
	while (fgets(line, sizeof(line), f))
		count += !strcmp(line, want);
	fclose(f);
	return count;
}

static int told_wait(struct _test_data_md_mdadm *self, const char *what, int nr)
{
	uint64_t limit = now_ms() + DEADLINE_MS;

	while (times_told(self, what) < nr) {
		if (now_ms() > limit)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

/*
 * Every event of md has woken the monitor by the time the command that caused
 * it has ended: if it waits for events again, it has seen what there is.
 */
static int monitor_wait(struct _test_data_md_mdadm *self)
{
	uint64_t limit = now_ms() + DEADLINE_MS;
	char wchan[64];

	do {
		if (now_ms() > limit)
			return -ETIMEDOUT;
		usleep(1000);
		if (file_read(wchan, sizeof(wchan), "/proc/%d/wchan", self->monitor))
			return -ESRCH;
	} while (!strstr(wchan, "poll") && !strstr(wchan, "select"));
	return 0;
}

/*
 * mdadm --monitor of all arrays, which tells us by a program what it sees. It
 * would end with the last array, so give it one that stays.
 */
static int monitor_start(struct _test_data_md_mdadm *self)
{
	char script[64];
	int ret;

	ret = md_pick(&self->md2);
	if (!ret)
		ret = mdadm("--create %s --config=%s --run --level=raid1 --raid-devices=2 " SMALL
			    " %s missing", node(&self->md2),
			    self->conf, self->disks[3].path);
	snprintf(script, sizeof(script), "%s/event", self->dir);
	if (!ret)
		ret = run("printf '#!/bin/sh\\necho $1 $2 >>%s/events\\n' >%s; chmod 755 %s",
			  self->dir, script, script);
	if (ret)
		return ret;
	udev_settle();
	fflush(NULL);
	self->monitor = fork();
	if (self->monitor < 0)
		return -errno;
	if (!self->monitor) {
		char conf[96], program[96];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(conf, sizeof(conf), "--config=%s", self->conf);
		snprintf(program, sizeof(program), "--program=%s", script);
		if (freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr))
			execlp(mdadm_binary(), "mdadm", "--monitor", "--scan",
			       "--no-sharing", "--delay=60", conf, program, NULL);
		_exit(127);
	}
	return 0;
}

TEST_F(md_mdadm, B2_gone_under_the_monitor)
{
	int i;

	ASSERT_EQ(0, monitor_start(self));
	for (i = 1; i <= 5; i++) {
		ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
		udev_settle();
		ASSERT_EQ(0, monitor_wait(self));
		mdadm_stop(_metadata, self);
		ASSERT_EQ(0, told_wait(self, "DeviceDisappeared", i));
		ASSERT_EQ(0, monitor_wait(self));
		udev_settle();
		ASSERT_STREQ("", md_left(&self->md));
	}
}

/* mdmon removes its pid file last of all. */
static int mdmon_wait(struct _test_data_md_mdadm *self)
{
	uint64_t limit = now_ms() + DEADLINE_MS;

	while (path_exists("/run/mdadm/%s.pid", self->md.name)) {
		if (now_ms() > limit)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

/*
 * mdmon looks at the container by its number when the last array in it has
 * gone, and ends: here most likely when the container has been stopped, too.
 * That may bring back the number, but not the container, and not for long.
 */
static void stop_container(struct __test_metadata *_metadata,
			   struct _test_data_md_mdadm *self)
{
	long long array, container;
	int ret;

	ASSERT_STREQ(ALL, md_left(&self->md));
	ASSERT_STREQ(ALL, md_left(&self->md2));
	ASSERT_TRUE(path_exists("/run/mdadm/%s.pid", self->md.name));
	udev_settle();
	array = md_diskseq(&self->md2);
	container = md_diskseq(&self->md);
	ASSERT_LT(0, array);
	ASSERT_LT(0, container);

	ASSERT_EQ(0, hog_start(&self->hog));
	ret = mdadm("--stop %s", node(&self->md2));
	EXPECT_NE(array, md_diskseq(&self->md2));
	if (!ret)
		ret = mdadm("--stop %s", node(&self->md));
	EXPECT_NE(container, md_diskseq(&self->md));
	hog_stop(&self->hog);
	ASSERT_EQ(0, ret);

	ASSERT_EQ(0, mdmon_wait(self));
	udev_settle();
	ASSERT_STREQ("", md_left_in_the_end(&self->md2));
	ASSERT_STREQ("", md_left_in_the_end(&self->md));
}

TEST_F(md_mdadm, B10_container)
{
	char container[64];
	int i;

	ASSERT_EQ(0, md_pick(&self->md2));
	snprintf(container, sizeof(container), "%s", node(&self->md));
	ASSERT_EQ(0, mdadm("--create %s --config=%s --run --metadata=ddf --raid-devices=2 %s",
			   container, self->conf, members(self, 2)));
	ASSERT_EQ(0, mdadm("--create %s --config=%s --run --level=raid1 --raid-devices=2 " SMALL
			   " %s", node(&self->md2), self->conf, container));
	ASSERT_EQ(0, conf_add_array(self, &self->md));
	ASSERT_EQ(0, conf_add_array(self, &self->md2));
	stop_container(_metadata, self);

	/* Not by --assemble with disks, which mdadm 4.4 dies of. */
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, mdadm("--incremental --config=%s %s", self->conf,
				   self->disks[i].path));
	stop_container(_metadata, self);
}

/* Nothing can be written to the metadata any more: no reason not to stop. */
TEST_F(md_mdadm, B12_all_members_dead)
{
	int i;

	ASSERT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2));
	udev_settle();
	for (i = 0; i < 2; i++)
		disk_destroy(&self->disks[i]);
	EXPECT_NE(0, run("dd if=/dev/zero of=%s bs=4k count=1 oflag=direct 2>/dev/null",
			 node(&self->md)));
	mdadm_stop(_metadata, self);
}

/* Loop devices, because udev does not look into disks of unknown drivers. */
static int loop_create(struct _test_data_md_mdadm *self, int i)
{
	char file[64];
	int ret;

	snprintf(file, sizeof(file), "%s/loop%d", self->dir, i);
	ret = run("truncate -s 32M %s && losetup -f --show %s >%s.name", file, file, file);
	return ret ?: file_read(self->loops[i], sizeof(self->loops[i]), "%s.name", file);
}

TEST_F(md_mdadm, B10_udev_assembles)
{
	glob_t holder;
	int i;

	if (!path_exists("/run/udev/control"))
		SKIP(return, "no udevd");
	if (getenv("MDADM"))
		SKIP(return, "udevd uses the mdadm that is installed");
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, loop_create(self, i));
	ASSERT_EQ(0, mdadm("--create %s --run --level=raid1 --raid-devices=2 --assume-clean %s %s",
			   node(&self->md), self->loops[0], self->loops[1]));
	mdadm_stop(_metadata, self);

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, run("udevadm trigger --action=add /sys/block/%s",
				 basename(self->loops[i])));
	udev_settle();
	ASSERT_EQ(0, glob("/sys/block/loop*/holders/md*", 0, NULL, &holder));
	/* udev has no use for our configuration, and chooses a number. */
	snprintf(self->md.name, sizeof(self->md.name), "%s",
		 basename(holder.gl_pathv[0]));
	globfree(&holder);
	ASSERT_EQ(0, learn_number(&self->md));
	EXPECT_TRUE(mdstat_says(&self->md, "active"));
	mdadm_stop(_metadata, self);
}

/*
 * Lives under everybody who looks at arrays: udevd, the monitor, and observers.
 * Which of the races they meet is chance here; what is left in the end is not.
 */
static void start_watching(struct __test_metadata *_metadata,
			   struct _test_data_md_mdadm *self)
{
	ASSERT_EQ(0, monitor_start(self));
	ASSERT_EQ(0, observer_start(&self->observers[0], node(&self->md)));
}

static void live(struct __test_metadata *_metadata,
		 struct _test_data_md_mdadm *self, int nr)
{
	/* This says little with mdadm's own retries, but they must be enough. */
	EXPECT_EQ(0, mdadm_create(self, node(&self->md), "raid1", 2))
		TH_LOG("life %d", nr);
	EXPECT_EQ(0, mdadm("--stop %s", node(&self->md)))
		TH_LOG("life %d", nr);
}

/* Nobody has looked for the array but by a node that goes with it. */
TEST_F_TIMEOUT(md_mdadm, B2_no_ghost_by_name, 600)
{
	int i;

	start_watching(_metadata, self);
	for (i = 1; i <= CYCLES; i++) {
		live(_metadata, self, i);
		udev_settle();
		ASSERT_STREQ("", md_left_in_the_end(&self->md))
			TH_LOG("life %d", i);
	}
	observer_stop(&self->observers[0]);
	ASSERT_EQ(0, monitor_wait(self));
	udev_settle();
	EXPECT_STREQ("", md_left(&self->md));
}

/* A node that no deletion takes away: to open it makes a device, for a while. */
TEST_F_TIMEOUT(md_mdadm, B2_no_ghost_by_number, 600)
{
	int i;

	start_watching(_metadata, self);
	ASSERT_EQ(0, observer_start(&self->observers[1], self->md.node));
	for (i = 1; i <= CYCLES; i++)
		live(_metadata, self, i);
	EXPECT_EQ(0, observer_wait(&self->observers[1]));
	/* One that is killed before its ioctl leaves what it has just opened (C3). */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, observer_finish(&self->observers[i]));
		observer_stop(&self->observers[i]);
	}
	ASSERT_EQ(0, monitor_wait(self));
	/*
	 * udevd may be behind by all the devices that there have been. Without
	 * it mdadm makes the node where it finds none: that one is not the
	 * kernel's, and stays.
	 */
	ASSERT_EQ(0, run("[ ! -e /run/udev/control ] || udevadm settle --timeout=100"));
	if (!path_exists("/run/udev/control"))
		unlink(node(&self->md));
	EXPECT_STREQ("", md_left_in_the_end(&self->md));
	udev_settle();
	EXPECT_STREQ("", md_left(&self->md));
}

TEST_HARNESS_MAIN
