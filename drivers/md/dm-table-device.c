// SPDX-License-Identifier: GPL-2.0-only
/*
 * The block devices that tables use; dm-table-device.h tells the rules.
 */
#include <kunit/static_stub.h>
#include <kunit/visibility.h>
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/dax.h>
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "dm-core.h"
#include "dm-table-device.h"

#include <trace/events/dm.h>

struct table_device {
	struct rb_node node;		/* empty if another one has its key now */
	u64 key;
	refcount_t count;
	bool linked;			/* as a slave of the disk, in sysfs */
	struct dm_dev dm_dev;
};

/* Its address claims devices for all mapped devices: they may use parts of one. */
static int table_device_holder;

/* The tests replace these, up to dm_table_device_key_cmp(). */

VISIBLE_IF_KUNIT struct file *dm_open_bdev(dev_t dev, blk_mode_t mode)
{
	struct file *file;

	KUNIT_STATIC_STUB_REDIRECT(dm_open_bdev, dev, mode);
	/*
	 * The file keeps the credentials it is opened with for as long as a table
	 * uses the device. The caller's would keep his keyrings: cryptsetup(8)
	 * wants the key that it had in its own to be gone when it has ended.
	 */
	scoped_with_kernel_creds()
		file = bdev_file_open_by_dev(dev, mode, &table_device_holder, NULL);
	return file;
}
EXPORT_SYMBOL_IF_KUNIT(dm_open_bdev);

VISIBLE_IF_KUNIT void dm_close_bdev(struct file *file)
{
	KUNIT_STATIC_STUB_REDIRECT(dm_close_bdev, file);
	/*
	 * Now, not when somebody gets round to it: whoever removes a device
	 * wants to remove or use what it was on next.
	 */
	__fput_sync(file);
}
EXPORT_SYMBOL_IF_KUNIT(dm_close_bdev);

VISIBLE_IF_KUNIT int dm_link_bdev(struct block_device *bdev, struct gendisk *disk)
{
	KUNIT_STATIC_STUB_REDIRECT(dm_link_bdev, bdev, disk);
	return bd_link_disk_holder(bdev, disk);
}
EXPORT_SYMBOL_IF_KUNIT(dm_link_bdev);

VISIBLE_IF_KUNIT void dm_unlink_bdev(struct block_device *bdev, struct gendisk *disk)
{
	KUNIT_STATIC_STUB_REDIRECT(dm_unlink_bdev, bdev, disk);
	bd_unlink_disk_holder(bdev, disk);
}
EXPORT_SYMBOL_IF_KUNIT(dm_unlink_bdev);

VISIBLE_IF_KUNIT int dm_table_device_key_cmp(u64 a, u64 b)
{
	KUNIT_STATIC_STUB_REDIRECT(dm_table_device_key_cmp, a, b);
	return a < b ? -1 : a > b;
}
EXPORT_SYMBOL_IF_KUNIT(dm_table_device_key_cmp);

static struct table_device *to_table_device(struct dm_dev *d)
{
	return container_of(d, struct table_device, dm_dev);
}

void dm_table_devices_init(struct dm_table_devices *tds)
{
	spin_lock_init(&tds->lock);
	tds->tree = RB_ROOT;
	tds->unlinking = 0;
}
EXPORT_SYMBOL_IF_KUNIT(dm_table_devices_init);

void dm_table_devices_exit(const struct dm_table_devices *tds)
{
	WARN_ON_ONCE(!RB_EMPTY_ROOT(&tds->tree));
}
EXPORT_SYMBOL_IF_KUNIT(dm_table_devices_exit);

static u64 table_device_key(dev_t dev, blk_mode_t mode)
{
	return (u64)dev << 32 | (__force u32)mode;
}

static int table_device_cmp(const void *key, const struct rb_node *node)
{
	return dm_table_device_key_cmp(*(const u64 *)key,
				       rb_entry(node, struct table_device, node)->key);
}

static bool table_device_less(struct rb_node *a, const struct rb_node *b)
{
	return dm_table_device_key_cmp(rb_entry(a, struct table_device, node)->key,
				       rb_entry(b, struct table_device, node)->key) < 0;
}

/* What is in the tree has a count: the last put takes it out, under the lock. */
static struct table_device *share_table_device(struct dm_table_devices *tds,
					       u64 key)
{
	struct table_device *td;
	struct rb_node *node;

	guard(spinlock)(&tds->lock);
	node = rb_find(&key, &tds->tree, table_device_cmp);
	td = rb_entry_safe(node, struct table_device, node);
	if (td)
		refcount_inc(&td->count);
	return td;
}

static struct table_device *open_table_device(struct mapped_device *md,
					      dev_t dev, blk_mode_t mode,
					      blk_mode_t how)
{
	struct table_device *td;
	struct file *file;
	u64 start;

	td = kzalloc_node(sizeof(*td), GFP_KERNEL, md->numa_node_id);
	if (!td)
		return ERR_PTR(-ENOMEM);

	file = dm_open_bdev(dev, mode | how);
	if (IS_ERR(file)) {
		kfree(td);
		return ERR_CAST(file);
	}

	refcount_set(&td->count, 1);
	RB_CLEAR_NODE(&td->node);
	td->key = table_device_key(dev, mode);
	td->dm_dev.bdev_file = file;
	td->dm_dev.bdev = file_bdev(file);
	td->dm_dev.mode = mode;
	td->dm_dev.dax_dev = fs_dax_get_by_bdev(td->dm_dev.bdev, &start, NULL,
						NULL);
	format_dev_t(td->dm_dev.name, dev);
	return td;
}

static void unlink_table_device(struct mapped_device *md, struct table_device *td)
{
	if (td->linked)
		dm_unlink_bdev(td->dm_dev.bdev, md->disk);
	td->linked = false;
}

static void close_table_device(struct table_device *td)
{
	put_dax(td->dm_dev.dax_dev);
	dm_close_bdev(td->dm_dev.bdev_file);
	kfree(td);
}

/*
 * What sysfs links to is gone when a disk has died. The one that has its number
 * now mostly has its name, too: remove the links, of every mode it is open in,
 * so that they are not in the way.
 */
static void unlink_dead(struct mapped_device *md, dev_t dev)
{
	static const blk_mode_t modes[] = {
		BLK_OPEN_READ, BLK_OPEN_WRITE, BLK_OPEN_READ | BLK_OPEN_WRITE,
	};
	struct table_device *td;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		td = share_table_device(&md->table_devices,
					table_device_key(dev, modes[i]));
		if (!td)
			continue;
		if (!disk_live(td->dm_dev.bdev->bd_disk))
			unlink_table_device(md, td);
		dm_put_table_device(md, &td->dm_dev);
	}
}

/*
 * Show that the disk is made of a device, if there is a disk already. If not,
 * dm_setup_md_queue() does that for the table for which it adds one. A load that
 * has failed may have opened others before: see to it when they are shared.
 */
static int show_table_device(struct mapped_device *md, struct table_device *td)
{
	if (!md->disk->slave_dir || td->linked)
		return 0;
	unlink_dead(md, td->dm_dev.bdev->bd_dev);
	return dm_link_table_device(md, &td->dm_dev);
}

/*
 * Open a device that cannot be shared, and let others share it: in place of
 * @dead if that is not NULL, a disk that has died and had the same number.
 */
static struct table_device *add_table_device(struct mapped_device *md,
					     dev_t dev, blk_mode_t mode,
					     struct table_device *dead)
{
	struct dm_table_devices *tds = &md->table_devices;
	struct table_device *td;
	int r;

	/*
	 * Do not ask for a driver if there is nothing in place of the dead one:
	 * modprobe may be on the very file system that waits for this table.
	 */
	td = open_table_device(md, dev, mode, dead ? BLK_OPEN_EXISTING : 0);
	if (IS_ERR(td))
		return td;

	r = show_table_device(md, td);
	if (r) {
		close_table_device(td);
		return ERR_PTR(r);
	}

	spin_lock(&tds->lock);
	if (dead) {
		rb_replace_node(&dead->node, &td->node, &tds->tree);
		RB_CLEAR_NODE(&dead->node);
	} else {
		rb_add(&td->node, &tds->tree, table_device_less);
	}
	spin_unlock(&tds->lock);
	trace_dm_table_device_open(disk_devt(md->disk), dev, mode, 1);
	return td;
}

/**
 * dm_get_table_device - get a device for a table that is being loaded
 * @md: the mapped device that the table is for
 * @dev: the device's number
 * @mode: how to open it (BLK_OPEN_READ, BLK_OPEN_WRITE)
 * @result: where to put what dm_put_table_device() has to be called with
 *
 * If a table of @md has it open already in exactly that mode, share it. That
 * includes a device that has died, for its number is all there is to know it by,
 * and a multipath table is reloaded with the paths that have failed. Only if
 * another device has got the number since, take that one; if its open fails
 * with anything but -ENXIO or -ENODEV, fail.
 *
 * Context: may sleep, for as long as an open takes. The caller holds
 * md->type_lock.
 * Return: 0; -ENOMEM; or what the open, or the link in sysfs, has failed with.
 */
int dm_get_table_device(struct mapped_device *md, dev_t dev, blk_mode_t mode,
			struct dm_dev **result)
{
	struct table_device *td, *old;

	/* So nobody else adds what is not found here. */
	lockdep_assert_held(&md->type_lock);

	old = share_table_device(&md->table_devices, table_device_key(dev, mode));
	td = old;
	if (old && disk_live(old->dm_dev.bdev->bd_disk)) {
		int r = show_table_device(md, old);

		/* It may have died just now. */
		if (r && r != -ENODEV) {
			dm_put_table_device(md, &old->dm_dev);
			return r;
		}
	} else {
		td = add_table_device(md, dev, mode, old);
		/* Dead, and there is nothing that could be opened in its place. */
		if (old && (td == ERR_PTR(-ENXIO) || td == ERR_PTR(-ENODEV)))
			td = old;
		else if (old)
			dm_put_table_device(md, &old->dm_dev);
		if (IS_ERR(td))
			return PTR_ERR(td);
	}
	if (td == old)
		trace_dm_table_device_share(disk_devt(md->disk), dev, mode,
					    refcount_read(&td->count));

	*result = &td->dm_dev;
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(dm_get_table_device);

/**
 * dm_put_table_device - a table does not need a device any more
 * @md: the mapped device that the table is, or was, of
 * @d: the device; may be freed
 *
 * Context: may sleep, for as long as a close takes.
 */
void dm_put_table_device(struct mapped_device *md, struct dm_dev *d)
{
	struct dm_table_devices *tds = &md->table_devices;
	struct table_device *td = to_table_device(d);

	if (!refcount_dec_and_lock(&td->count, &tds->lock))
		return;
	if (!RB_EMPTY_NODE(&td->node))
		rb_erase(&td->node, &tds->tree);
	tds->unlinking++;
	spin_unlock(&tds->lock);

	unlink_table_device(md, td);

	spin_lock(&tds->lock);
	tds->unlinking--;
	wake_up_var_locked(&tds->unlinking, &tds->lock);
	spin_unlock(&tds->lock);

	trace_dm_table_device_close(disk_devt(md->disk), d->bdev->bd_dev,
				    d->mode, 0);
	close_table_device(td);
}
EXPORT_SYMBOL_IF_KUNIT(dm_put_table_device);

/**
 * dm_link_table_device - show in sysfs that a mapped device uses another one
 * @md: the mapped device; its disk has been added
 * @d: what dm_get_table_device() gave
 *
 * Does nothing if that has been done. Whoever adds the disk, or links a device,
 * holds md->type_lock, so no device is linked to a disk that is being added.
 * And he has a reference to the table device, so the last put comes after this
 * and sees that there is a link to remove.
 *
 * Context: may sleep, and waits for whoever is opening or closing the other one,
 * or takes another one's link out of sysfs.
 * Return: 0; -ENODEV: it has been deleted; or another negative error.
 */
int dm_link_table_device(struct mapped_device *md, struct dm_dev *d)
{
	struct dm_table_devices *tds = &md->table_devices;
	struct table_device *td = to_table_device(d);
	int r;

	lockdep_assert_held(&md->type_lock);

	if (td->linked)
		return 0;

	/* One that cannot be found any more may still have the name in sysfs. */
	spin_lock(&tds->lock);
	wait_var_event_spinlock(&tds->unlinking, !tds->unlinking, &tds->lock);
	spin_unlock(&tds->lock);

	r = dm_link_bdev(d->bdev, md->disk);
	td->linked = !r;
	return r;
}
EXPORT_SYMBOL_IF_KUNIT(dm_link_table_device);
