/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Table devices: the block devices that the tables of a mapped device use.
 *
 * A mapped device may have several tables at a time: the active one, the
 * inactive one, one that is being loaded, some that are being destroyed. What
 * they have in common they share: a device is opened once for each mode in which
 * it is used, when the first table asks for it, and closed when the last one has
 * put it. So to load a table opens nothing that is open already, and does not
 * change how the active table has opened it.
 *
 * md->type_lock, which whoever loads a table holds, serialises everything that
 * adds: opening a device, adding the disk, showing in sysfs what the disk is
 * made of. A device is put at any time, without that lock, by whoever destroys a
 * table.
 *
 * To open or to close a device can take as long as that device wants: nobody who
 * does it holds anything that a put needs. While a device is being closed for the
 * last table that had it, it may already be opened again for the next one, which
 * waits only for its link in sysfs to be gone.
 */
#ifndef DM_TABLE_DEVICE_H
#define DM_TABLE_DEVICE_H

#include <linux/blkdev.h>
#include <linux/rbtree.h>
#include <linux/spinlock.h>

struct dm_dev;
struct mapped_device;

struct dm_table_devices {
	spinlock_t lock;	/* protects all in here, and a count that goes to 0 */
	struct rb_root tree;	/* struct table_device, by number and mode */
	unsigned int unlinking;	/* not in the tree, but perhaps still in sysfs */
};

void dm_table_devices_init(struct dm_table_devices *tds);
void dm_table_devices_exit(const struct dm_table_devices *tds);

int dm_get_table_device(struct mapped_device *md, dev_t dev, blk_mode_t mode,
			struct dm_dev **result);
void dm_put_table_device(struct mapped_device *md, struct dm_dev *d);

int dm_link_table_device(struct mapped_device *md, struct dm_dev *d);

#if IS_ENABLED(CONFIG_KUNIT)
struct file *dm_open_bdev(dev_t dev, blk_mode_t mode);
void dm_close_bdev(struct file *file);
int dm_link_bdev(struct block_device *bdev, struct gendisk *disk);
void dm_unlink_bdev(struct block_device *bdev, struct gendisk *disk);
int dm_table_device_key_cmp(u64 a, u64 b);
dev_t dm_table_node_number(const struct rb_node *node);
#endif

#endif /* DM_TABLE_DEVICE_H */
