// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dm.h"

#define DM_CONTROL "/dev/mapper/control"

/* One ioctl's buffer: the header, and what goes in or comes out after it. */
struct dm_buf {
	struct dm_ioctl io;
	char data[4096];
};

static void dm_prepare(struct dm_buf *buf, const struct dm_dev *dev)
{
	memset(buf, 0, sizeof(*buf));
	buf->io.version[0] = DM_VERSION_MAJOR;
	buf->io.data_size = sizeof(*buf);
	buf->io.data_start = offsetof(struct dm_buf, data);
	snprintf(buf->io.name, sizeof(buf->io.name), "%s", dev->name);
}

static int dm_do(struct dm_buf *buf, unsigned long cmd)
{
	int fd, ret;

	fd = open(DM_CONTROL, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, cmd, buf) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int dm_simple(const struct dm_dev *dev, unsigned long cmd, uint32_t flags)
{
	struct dm_buf buf;

	dm_prepare(&buf, dev);
	buf.io.flags = flags;
	return dm_do(&buf, cmd);
}

const char *dm_missing(void)
{
	if (!path_exists(DM_CONTROL))
		run("modprobe -q dm_mod");
	return path_exists(DM_CONTROL) ? disk_missing() : "no device mapper";
}

int dm_create(struct dm_dev *dev, const char *suffix)
{
	struct dm_buf buf;
	int ret;

	snprintf(dev->name, sizeof(dev->name), "lc%d_%s", getpid(), suffix);
	dm_prepare(&buf, dev);
	ret = dm_do(&buf, DM_DEV_CREATE);
	if (ret) {
		dev->name[0] = '\0';
		return ret;
	}
	dev->major = major(buf.io.dev);
	dev->minor = minor(buf.io.dev);
	return 0;
}

static int dm_load_flags(const struct dm_dev *dev, const struct dm_row *rows, int nr,
			 uint32_t flags)
{
	struct dm_buf buf;
	size_t at = 0;
	int i;

	dm_prepare(&buf, dev);
	buf.io.flags = flags;
	buf.io.target_count = nr;
	for (i = 0; i < nr; i++) {
		struct dm_target_spec *spec = (void *)(buf.data + at);
		char *params = (char *)(spec + 1);
		size_t len = strlen(rows[i].params) + 1;

		spec->sector_start = rows[i].start;
		spec->length = rows[i].len;
		snprintf(spec->target_type, sizeof(spec->target_type), "%s",
			 rows[i].type);
		memcpy(params, rows[i].params, len);
		spec->next = (sizeof(*spec) + len + 7) & ~7;
		at += spec->next;
	}
	return dm_do(&buf, DM_TABLE_LOAD);
}

struct dm_row dm_linear(const struct disk *disk, uint64_t len)
{
	struct dm_row row = { .len = len, .type = "linear" };

	snprintf(row.params, sizeof(row.params), "%u:%u 0", disk->major, disk->minor);
	return row;
}

struct dm_row dm_multipath(const struct disk *disk, uint64_t len)
{
	struct dm_row row = { .len = len, .type = "multipath" };

	snprintf(row.params, sizeof(row.params), "0 0 1 1 round-robin 0 1 1 %u:%u 1",
		 disk->major, disk->minor);
	return row;
}

int dm_load(const struct dm_dev *dev, const struct dm_row *rows, int nr)
{
	return dm_load_flags(dev, rows, nr, 0);
}

int dm_load_readonly(const struct dm_dev *dev, const struct dm_row *rows, int nr)
{
	return dm_load_flags(dev, rows, nr, DM_READONLY_FLAG);
}

int dm_suspend(const struct dm_dev *dev)
{
	return dm_simple(dev, DM_DEV_SUSPEND, DM_SUSPEND_FLAG);
}

int dm_resume(const struct dm_dev *dev)
{
	return dm_simple(dev, DM_DEV_SUSPEND, 0);
}

int dm_clear(const struct dm_dev *dev)
{
	return dm_simple(dev, DM_TABLE_CLEAR, 0);
}

int dm_remove(const struct dm_dev *dev)
{
	return dm_simple(dev, DM_DEV_REMOVE, 0);
}

int dm_remove_all(void)
{
	const struct dm_dev none = { .name = "" };

	return dm_simple(&none, DM_REMOVE_ALL, 0);
}

int dm_remove_when_unused(const struct dm_dev *dev)
{
	uint64_t end = now_ms() + DEADLINE_MS;
	int ret;

	do {
		ret = dm_remove(dev);
	} while (ret == -EBUSY && now_ms() < end);
	return ret;
}

int dm_remove_deferred(const struct dm_dev *dev)
{
	return dm_simple(dev, DM_DEV_REMOVE, DM_DEFERRED_REMOVE);
}

static int dm_do_cookie(struct dm_buf *buf, unsigned long cmd, uint32_t cookie,
			bool *sent)
{
	int ret;

	buf->io.event_nr = cookie;
	ret = dm_do(buf, cmd);
	*sent = !ret && buf->io.flags & DM_UEVENT_GENERATED_FLAG;
	return ret;
}

int dm_resume_cookie(const struct dm_dev *dev, uint32_t cookie, bool *sent)
{
	struct dm_buf buf;

	dm_prepare(&buf, dev);
	return dm_do_cookie(&buf, DM_DEV_SUSPEND, cookie, sent);
}

int dm_remove_cookie(const struct dm_dev *dev, uint32_t cookie, bool *sent)
{
	struct dm_buf buf;

	dm_prepare(&buf, dev);
	return dm_do_cookie(&buf, DM_DEV_REMOVE, cookie, sent);
}

int dm_rename_cookie(struct dm_dev *dev, const char *suffix, uint32_t cookie,
		     bool *sent)
{
	struct dm_buf buf;
	int ret;

	dm_prepare(&buf, dev);
	snprintf(buf.data, sizeof(dev->name), "lc%d_%s", getpid(), suffix);
	ret = dm_do_cookie(&buf, DM_DEV_RENAME, cookie, sent);
	if (!ret)
		snprintf(dev->name, sizeof(dev->name), "lc%d_%s", getpid(), suffix);
	return ret;
}

bool dm_has_target(const char *type)
{
	struct dm_dev target;

	snprintf(target.name, sizeof(target.name), "%s", type);
	return dm_simple(&target, DM_GET_TARGET_VERSION, 0) == 0;
}

int dm_inactive_deps(const struct dm_dev *dev)
{
	struct dm_buf buf;
	int ret;

	dm_prepare(&buf, dev);
	buf.io.flags = DM_QUERY_INACTIVE_TABLE_FLAG;
	ret = dm_do(&buf, DM_TABLE_DEPS);
	if (ret)
		return ret;
	return ((struct dm_target_deps *)((char *)&buf + buf.io.data_start))->count;
}

int dm_table(const struct dm_dev *dev, bool inactive, char *out, size_t len)
{
	struct dm_target_spec *spec;
	struct dm_buf buf;
	int ret;

	dm_prepare(&buf, dev);
	buf.io.flags = DM_STATUS_TABLE_FLAG |
		       (inactive ? DM_QUERY_INACTIVE_TABLE_FLAG : 0);
	ret = dm_do(&buf, DM_TABLE_STATUS);
	if (ret)
		return ret;
	out[0] = '\0';
	spec = (void *)((char *)&buf + buf.io.data_start);
	if (buf.io.target_count)
		snprintf(out, len, "%s %s", spec->target_type, (char *)(spec + 1));
	return 0;
}

int dm_list(void (*seen)(void *arg, const struct dm_dev *dev), void *arg)
{
	const struct dm_dev none = {};
	struct dm_name_list *list;
	struct dm_dev dev;
	struct dm_buf buf;
	int ret;

	dm_prepare(&buf, &none);
	ret = dm_do(&buf, DM_LIST_DEVICES);
	if (ret)
		return ret;
	if (buf.io.flags & DM_BUFFER_FULL_FLAG)
		return -ENOSPC;
	list = (void *)((char *)&buf + buf.io.data_start);
	if (!list->dev)
		return 0;
	for (;;) {
		dev.major = major(list->dev);
		dev.minor = minor(list->dev);
		snprintf(dev.name, sizeof(dev.name), "%s", list->name);
		seen(arg, &dev);
		if (!list->next)
			return 0;
		list = (void *)((char *)list + list->next);
	}
}

int dm_call(const struct dm_dev *dev, unsigned long cmd, uint32_t flags,
	    const void *data, size_t len, struct dm_ioctl *out)
{
	const struct dm_dev none = {};
	struct dm_buf buf;
	int ret;

	dm_prepare(&buf, dev ?: &none);
	if (len > sizeof(buf.data))
		return -E2BIG;
	buf.io.flags = flags;
	if (len)
		memcpy(buf.data, data, len);
	ret = dm_do(&buf, cmd);
	if (out)
		*out = buf.io;
	return ret;
}

int dm_find(struct dm_dev *dev, const char *node)
{
	struct dm_ioctl io;
	int ret;

	ret = dm_call(dev, DM_DEV_STATUS, 0, NULL, 0, &io);
	if (ret)
		return ret;
	dev->major = major(io.dev);
	dev->minor = minor(io.dev);
	snprintf(dev->name, sizeof(dev->name), "%s%d", node, getpid());
	return 0;
}

int dm_info(const struct dm_dev *dev, uint32_t *flags, int *open_count)
{
	struct dm_buf buf;
	int ret;

	dm_prepare(&buf, dev);
	ret = dm_do(&buf, DM_DEV_STATUS);
	if (ret)
		return ret;
	if (flags)
		*flags = buf.io.flags;
	if (open_count)
		*open_count = buf.io.open_count;
	return 0;
}

int dm_open(const struct dm_dev *dev, int flags)
{
	char node[96];
	int fd;

	snprintf(node, sizeof(node), "/dev/.%s", dev->name);
	if (mknod(node, S_IFBLK | 0600, makedev(dev->major, dev->minor)))
		return -errno;
	fd = open(node, flags | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	unlink(node);
	return fd;
}

const char *dm_left(const struct dm_dev *dev)
{
	static char left[64];

	snprintf(left, sizeof(left), "%s%s%s",
		 path_exists("/dev/dm-%u", dev->minor) ? "node " : "",
		 path_exists(VIRTUAL_BLOCK "dm-%u", dev->minor) ? "sysfs " : "",
		 path_exists("/sys/dev/block/%u:%u", dev->major, dev->minor) ?
			"number " : "");
	return left;
}

const char *dm_left_in_the_end(const struct dm_dev *dev)
{
	uint64_t end = now_ms() + DEADLINE_MS;

	while (*dm_left(dev) && now_ms() < end)
		usleep(2000);
	return dm_left(dev);
}
