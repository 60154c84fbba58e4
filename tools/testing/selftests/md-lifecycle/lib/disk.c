// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lifecycle.h"

#define NULLB "/sys/kernel/config/nullb"

const char *disk_missing(void)
{
	if (geteuid())
		return "must be root";
	if (!path_exists(NULLB))
		run("modprobe -q null_blk nr_devices=0");
	if (!path_exists(NULLB))
		run("mount -t configfs none /sys/kernel/config");
	return path_exists(NULLB) ? NULL : "no null_blk with configfs";
}

bool have_loop(void)
{
	static const char control[] = "/dev/loop-control";

	return !open_and_close(control, O_RDWR) ||
	       (!run("modprobe -q loop") && !open_and_close(control, O_RDWR));
}

bool disk_data_for_requests(void)
{
	return !path_exists("/proc/lockdep");
}

int disk_power_on(struct disk *disk)
{
	char buf[32];
	int ret;

	ret = file_write("1", NULLB "/%s/power", disk->name);
	if (ret)
		return ret;

	/* Since 6.11 the disk has the name of the configfs directory. */
	if (!path_exists("/sys/block/%s", disk->name))
		return -ENOENT;
	ret = file_read(buf, sizeof(buf), "/sys/block/%s/dev", disk->name);
	if (ret)
		return ret;
	if (sscanf(buf, "%u:%u", &disk->major, &disk->minor) != 2)
		return -EINVAL;
	snprintf(disk->path, sizeof(disk->path), "/dev/%s", disk->name);
	return 0;
}

int disk_create(struct disk *disk, unsigned int mib, bool data)
{
	char path[128], size[32];
	static int serial;
	int ret;

	snprintf(disk->name, sizeof(disk->name), "lc%d_%d", getpid(), serial++);
	snprintf(path, sizeof(path), NULLB "/%s", disk->name);
	if (mkdir(path, 0755)) {
		ret = -errno;
		disk->name[0] = '\0';
		return ret;
	}
	snprintf(size, sizeof(size), "%u", mib);
	ret = file_write(size, NULLB "/%s/size", disk->name);
	if (!ret && data)
		ret = file_write("1", NULLB "/%s/memory_backed", disk->name);
	if (!ret)
		ret = disk_power_on(disk);
	if (ret)
		disk_destroy(disk);
	return ret;
}

int disk_power_off(const struct disk *disk)
{
	return file_write("0", NULLB "/%s/power", disk->name);
}

int disk_break(const struct disk *disk)
{
	/* The first 64 MiB of it: there are only so many bad blocks. */
	return file_write("+0-131071", NULLB "/%s/badblocks", disk->name);
}

int disk_mend(const struct disk *disk)
{
	return file_write("-0-131071", NULLB "/%s/badblocks", disk->name);
}

void disk_destroy(struct disk *disk)
{
	char path[128];

	if (!disk->name[0])
		return;
	disk_power_off(disk);
	snprintf(path, sizeof(path), NULLB "/%s", disk->name);
	if (rmdir(path))
		fprintf(stderr, "# cannot remove %s: %m\n", path);
	disk->name[0] = '\0';
}
