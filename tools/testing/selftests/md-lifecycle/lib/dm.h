/* SPDX-License-Identifier: GPL-2.0 */
/* Mapped devices, by the ioctls of /dev/mapper/control. See lifecycle.h. */
#ifndef LIFECYCLE_DM_H
#define LIFECYCLE_DM_H

#include <linux/dm-ioctl.h>

#include "lifecycle.h"

struct dm_dev {
	char name[64];
	unsigned int major, minor;
};

struct dm_row {
	uint64_t start, len;
	const char *type;
	char params[128];
};

/* A row from sector 0 on: on the start of a disk, or multipath with one path. */
struct dm_row dm_linear(const struct disk *disk, uint64_t len);
struct dm_row dm_multipath(const struct disk *disk, uint64_t len);

/* Why tests of mapped devices cannot run here, or NULL. */
const char *dm_missing(void);

int dm_create(struct dm_dev *dev, const char *suffix);
int dm_load(const struct dm_dev *dev, const struct dm_row *rows, int nr);

/* The same for a table that is not written through; it opens its devices so. */
int dm_load_readonly(const struct dm_dev *dev, const struct dm_row *rows, int nr);
int dm_suspend(const struct dm_dev *dev);
int dm_resume(const struct dm_dev *dev);
int dm_clear(const struct dm_dev *dev);
int dm_remove(const struct dm_dev *dev);

/* The same, again while somebody else (udev) has the device open: EBUSY. */
int dm_remove_when_unused(const struct dm_dev *dev);

/* Remove all there are, whoever has made them. */
int dm_remove_all(void);

/* Remove at the last close. */
int dm_remove_deferred(const struct dm_dev *dev);

/*
 * A resume, DM_DEV_REMOVE and DM_DEV_RENAME with a cookie, as libdm does them:
 * did the kernel say that it has sent a uevent with it?
 */
int dm_resume_cookie(const struct dm_dev *dev, uint32_t cookie, bool *sent);
int dm_remove_cookie(const struct dm_dev *dev, uint32_t cookie, bool *sent);
int dm_rename_cookie(struct dm_dev *dev, const char *suffix, uint32_t cookie,
		     bool *sent);

/* Is there this type of target? */
bool dm_has_target(const char *type);

/* The number of devices that DM_TABLE_DEPS shows for the inactive table. */
int dm_inactive_deps(const struct dm_dev *dev);

/* The live or (@inactive) the inactive table's first row, as "type params". */
int dm_table(const struct dm_dev *dev, bool inactive, char *buf, size_t len);

/* Tell @seen of each mapped device there is. */
int dm_list(void (*seen)(void *arg, const struct dm_dev *dev), void *arg);

/*
 * Any other ioctl: of @dev, or NULL; @data goes after the header, at data_start;
 * the header that comes back is in @out, or NULL.
 */
int dm_call(const struct dm_dev *dev, unsigned long cmd, uint32_t flags,
	    const void *data, size_t len, struct dm_ioctl *out);

/*
 * Look up the number that @dev has at the moment, and rename @dev: the node that
 * dm_open() makes is called after it, and is then this process's own, @node.
 */
int dm_find(struct dm_dev *dev, const char *node);

/* Flags as of DM_DEV_STATUS, and how often the device is open. */
int dm_info(const struct dm_dev *dev, uint32_t *flags, int *open_count);

/* Open the device, through a node that exists only meanwhile. */
int dm_open(const struct dm_dev *dev, int flags);

/* Like md_left(): "node", "sysfs", "number". */
const char *dm_left(const struct dm_dev *dev);
const char *dm_left_in_the_end(const struct dm_dev *dev);

#endif /* LIFECYCLE_DM_H */
