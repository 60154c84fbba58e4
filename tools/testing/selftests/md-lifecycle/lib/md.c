// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lifecycle.h"

/* On a devtmpfs, as other file systems may be mounted nodev. */
#define MD_NODES "/dev/.md-lifecycle"

const char *md_missing(const char *param)
{
	if (!path_exists(MD_PARAM "%s", param))
		run("modprobe -q md_mod; modprobe -q raid1");
	if (!path_exists(MD_PARAM "new_array"))
		return "no md driver";
	if (!path_exists(MD_PARAM "%s", param))
		return "this md has no such module parameter";
	return disk_missing();
}

const char *md_level_missing(int level)
{
	static char text[32];

	snprintf(text, sizeof(text), level < 0 ? "linear" : "raid%d", level);
	if (run("modprobe -q md-level-%d; grep -q '^Personalities.*\\[%s\\]' /proc/mdstat",
		level, text))
		return "no personality for this level";
	return NULL;
}

static int md_mknod(struct md_dev *md)
{
	mkdir(MD_NODES, 0700);
	snprintf(md->node, sizeof(md->node), MD_NODES "/%s", md->name);
	unlink(md->node);
	if (mknod(md->node, S_IFBLK | 0600,
		  makedev(md->major ?: MD_MAJOR, md->minor)))
		return -errno;
	return 0;
}

int md_pick(struct md_dev *md)
{
	/* Below 512, or opening the node would not make a device. */
	static unsigned int last;
	unsigned int i;

	for (i = 0; i < 256; i++) {
		md->minor = 200 + (last + getpid() + i) % 256;
		snprintf(md->name, sizeof(md->name), "md%u", md->minor);
		if (!*md_left(md)) {
			last += i + 1;
			return md_mknod(md);
		}
	}
	return -EBUSY;
}

/* The number of the driver called "mdp". */
static int mdp_major(void)
{
	int major = -ENOENT, nr;
	char line[64], name[32];
	FILE *f;

	f = fopen("/proc/devices", "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%d %31s", &nr, name) == 2 && !strcmp(name, "mdp"))
			major = nr;
	fclose(f);
	return major;
}

int md_pick_partitionable(struct md_dev *md)
{
	int major = mdp_major(), i;

	if (major < 0)
		return major;
	for (i = 0; i < 64; i++) {
		md->major = major;
		md->minor = i << MdpMinorShift;
		snprintf(md->name, sizeof(md->name), "md_d%d", i);
		if (!*md_left(md))
			return md_mknod(md);
	}
	return -EBUSY;
}

int md_pick_name(struct md_dev *md)
{
	static unsigned int serial;

	md->major = 0;
	md->minor = 0;
	md->node[0] = '\0';
	snprintf(md->name, sizeof(md->name), "md_lc%d_%u", getpid(), serial++);
	return 0;
}

int md_new_array(struct md_dev *md)
{
	return file_write(md->name, MD_PARAM "new_array") ?: md_make_node(md);
}

int md_make_node(struct md_dev *md)
{
	char buf[32];
	int ret;

	ret = file_read(buf, sizeof(buf), "/sys/block/%s/dev", md->name);
	if (ret)
		return ret;
	if (sscanf(buf, "9:%u", &md->minor) != 1)
		return -EINVAL;
	return md_mknod(md);
}

int md_open(const struct md_dev *md, int flags)
{
	int fd = open(md->node, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

const char *md_autoload_missing(void)
{
	struct md_dev md = {};
	char val[8];
	int fd;

	if (!file_read(val, sizeof(val), MD_PARAM "create_on_open") && val[0] == 'N')
		return "create_on_open=0: opening a node makes no device";
	if (md_pick(&md))
		return "all numbers are in use";
	fd = md_open(&md, O_RDONLY);
	if (fd >= 0)
		close(fd);
	md_cleanup(&md);
	if (fd == -ENXIO)
		return "no BLOCK_LEGACY_AUTOLOAD: opening a node makes no device";
	return NULL;
}

int md_ioctl(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

int md_set_info(int fd, const struct md_shape *shape, int nr)
{
	mdu_array_info_t array = {
		.major_version = 0,
		.minor_version = 90,
		.level = shape->level,
		.nr_disks = nr,
		.raid_disks = nr,
		.active_disks = nr,
		.working_disks = nr,
		.not_persistent = !shape->persistent,
		.state = 1 << MD_SB_CLEAN,
		/* raid10: two copies, near; raid5: left-symmetric */
		.layout = shape->level == 10 ? 0x102 : shape->level == 5 ? 2 : 0,
		.chunk_size = shape->level == 1 ? 0 : 65536,
		.size = 1024,
	};

	return md_ioctl(fd, SET_ARRAY_INFO, &array);
}

int md_add_disk(int fd, int nr, const struct disk *disk)
{
	mdu_disk_info_t info = {
		.number = nr,
		.raid_disk = nr,
		.state = 1 << MD_DISK_SYNC | 1 << MD_DISK_ACTIVE,
		.major = disk->major,
		.minor = disk->minor,
	};

	return md_ioctl(fd, ADD_NEW_DISK, &info);
}

int md_configure_as(int fd, const struct md_shape *shape,
		    const struct disk *disks, int nr)
{
	int i, ret;

	ret = md_set_info(fd, shape, nr);
	for (i = 0; !ret && i < nr; i++)
		ret = md_add_disk(fd, i, &disks[i]);
	return ret;
}

int md_configure(int fd, const struct disk *disks, int nr)
{
	const struct md_shape mirror = { .level = 1 };

	return md_configure_as(fd, &mirror, disks, nr);
}

int md_run(int fd)
{
	mdu_param_t param = {};

	return md_ioctl(fd, RUN_ARRAY, &param);
}

int md_build(int fd, const struct disk *disks, int nr)
{
	return md_configure(fd, disks, nr) ?: md_run(fd);
}

int md_start(const struct md_dev *md, const struct md_shape *shape,
	     const struct disk *disks, int nr)
{
	int fd, fd2, ret;

	fd = md_open(md, O_RDWR);
	if (fd < 0)
		return fd;
	ret = md_configure_as(fd, shape, disks, nr) ?: md_run(fd);
	fd2 = ret ?: md_open(md, O_RDONLY);
	if (fd2 < 0) {
		close(fd);
		return fd2;
	}
	close(fd2);
	return fd;
}

int md_stop(int fd)
{
	return md_ioctl(fd, STOP_ARRAY, NULL);
}

int md_stop_when_unused(int fd)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	int ret;

	do {
		ret = md_stop(fd);
	} while (ret == -EBUSY && now_ms() < end);
	return ret;
}

void md_close(int *fd)
{
	udev_settle();
	close(*fd);
	*fd = -1;
}

int md_touch(int fd)
{
	return md_ioctl(fd, HOT_REMOVE_DISK, NULL);
}

int md_attr_write(const struct md_dev *md, const char *attr, const char *val)
{
	return file_write(val, "/sys/block/%s/md/%s", md->name, attr);
}

static bool in_mdstat(const char *name)
{
	size_t len = strlen(name);
	bool found = false;
	char line[512];
	FILE *f;

	f = fopen("/proc/mdstat", "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, name, len) && line[len] == ' ';
	fclose(f);
	return found;
}

const char *md_left(const struct md_dev *md)
{
	static char left[64];

	snprintf(left, sizeof(left), "%s%s%s%s",
		 path_exists("/dev/%s", md->name) ? "node " : "",
		 path_exists(VIRTUAL_BLOCK "%s", md->name) ? "sysfs " : "",
		 (md->major || md->minor) &&
		 path_exists("/sys/dev/block/%u:%u", md->major ?: MD_MAJOR,
			     md->minor) ? "number " : "",
		 in_mdstat(md->name) ? "mdstat " : "");
	return left;
}

const char *md_left_until(const struct md_dev *md, const char *what)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	/* Nothing tells of the last step, the release of the number. */
	while (strcmp(md_left(md), what) && now_ms() < end)
		usleep(2000);
	return md_left(md);
}

const char *md_left_in_the_end(const struct md_dev *md)
{
	return md_left_until(md, "");
}

long long md_diskseq(const struct md_dev *md)
{
	char buf[32];
	int ret;

	ret = file_read(buf, sizeof(buf), "/sys/block/%s/diskseq", md->name);
	return ret ?: atoll(buf);
}

void md_cleanup(struct md_dev *md)
{
	if (!md->name[0])
		return;
	if (path_exists("/sys/block/%s/md", md->name))
		md_attr_write(md, "array_state", "clear");
	if (*md_left_in_the_end(md))
		fprintf(stderr, "# %s cannot be removed: %s\n", md->name,
			md_left(md));
	if (md->node[0])
		unlink(md->node);
	rmdir(MD_NODES);
	md->name[0] = '\0';
}

int md_param_set(const char *param, const char *val, char *old, size_t len)
{
	int ret = 0;

	if (old)
		ret = file_read(old, len, MD_PARAM "%s", param);
	return ret ?: file_write(val, MD_PARAM "%s", param);
}
