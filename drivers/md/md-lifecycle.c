// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The life of an md device; md-lifecycle.h tells what states there are.
 *
 * Identity and memory are different things.  What others can see of a device
 * (number, name, node, sysfs) ends when the work item has deleted the gendisk;
 * the memory ends with the last reference to the gendisk, which may be a file
 * descriptor that nobody remembers.  Nothing that is about a new device ever
 * waits for the second.
 */
#include <kunit/static_stub.h>
#include <kunit/visibility.h>
#include <linux/blkdev.h>
#include <linux/debugfs.h>
#include <linux/kobject.h>
#include <linux/major.h>
#include <linux/math64.h>
#include <linux/raid/md_u.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>
#include <linux/wait_bit.h>
#include <linux/xarray.h>

#include "md.h"
#include "md-lifecycle.h"

#define CREATE_TRACE_POINTS
#include <trace/events/md.h>

LIST_HEAD(all_mddevs);
EXPORT_SYMBOL_IF_KUNIT(all_mddevs);
DEFINE_SPINLOCK(all_mddevs_lock);
EXPORT_SYMBOL_IF_KUNIT(all_mddevs_lock);
/* From md_life_claim() to md_life_publish(). */
DEFINE_MUTEX(md_create_mutex);
EXPORT_SYMBOL_IF_KUNIT(md_create_mutex);

/* Who has a number, from NASCENT to DYING; new ones under md_create_mutex. */
static DEFINE_XARRAY_ALLOC(md_units);

/* Numbers for devices that are made by name only: no node opens these. */
#define MD_FIRST_NAMED_MINOR	512
static const struct xa_limit md_named_units =
	XA_LIMIT(MKDEV(MD_MAJOR, MD_FIRST_NAMED_MINOR), MKDEV(MD_MAJOR, MINORMASK));

/* Takes no other lock and flushes no other queue than the device's own work. */
static struct workqueue_struct *md_del_wq;
static struct dentry *md_debugfs;

static const char * const state_names[] = {
	[MD_LIFE_NONE]		= "none",
	[MD_LIFE_NASCENT]	= "nascent",
	[MD_LIFE_LIVE]		= "live",
	[MD_LIFE_DYING]		= "dying",
	[MD_LIFE_GONE]		= "gone",
};

static const char * const hold_names[] = {
	[MD_HOLD_NONE]		= "none",
	[MD_HOLD_UNTIL_IOCTL]	= "until_ioctl",
	[MD_HOLD_UNTIL_STOP]	= "until_stop",
};

static const char * const reason_names[] = {
	[MD_LIFE_PROBE]		= "probe",
	[MD_LIFE_NEW_ARRAY]	= "new_array",
	[MD_LIFE_BOOT]		= "boot",
	[MD_LIFE_READY]		= "ready",
	[MD_LIFE_TOUCHED]	= "touched",
	[MD_LIFE_STOP]		= "stop",
	[MD_LIFE_IDLE]		= "idle",
	[MD_LIFE_DELETED]	= "deleted",
	[MD_LIFE_FREED]		= "freed",
	[MD_LIFE_ERROR]		= "error",
};

static void md_life_work(struct work_struct *work);

/* Whoever is wrong about the state gets no further: that would only be worse. */
static bool md_life_is(struct mddev *mddev, enum md_life_state state)
{
	return !WARN(mddev->life.state != state, "md: %s is in state %d, not %d\n",
		     mdname(mddev), mddev->life.state, state);
}

static void md_life_change(struct mddev *mddev, enum md_life_state to,
			   enum md_life_reason why)
{
	struct md_life *life = &mddev->life;

	lockdep_assert_held(&all_mddevs_lock);
	trace_md_life(mddev->unit, mdname(mddev), state_names[life->state],
		      state_names[to], reason_names[why]);
	WRITE_ONCE(life->state, to);
	life->since = ktime_get_boottime();
}

VISIBLE_IF_KUNIT void md_life_queue(struct mddev *mddev)
{
	KUNIT_STATIC_STUB_REDIRECT(md_life_queue, mddev);
	queue_work(md_del_wq, &mddev->life.work);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_queue);

static void md_life_set_hold(struct mddev *mddev, enum md_hold hold,
			     enum md_life_reason why)
{
	struct md_life *life = &mddev->life;

	lockdep_assert_held(&all_mddevs_lock);
	if (life->hold == hold)
		return;
	trace_md_hold(mddev->unit, mdname(mddev), hold_names[life->hold],
		      hold_names[hold], reason_names[why]);
	WRITE_ONCE(life->hold, hold);
}

static void *md_devices_start(struct seq_file *seq, loff_t *pos)
	__acquires(&all_mddevs_lock)
{
	spin_lock(&all_mddevs_lock);
	return seq_list_start_head(&all_mddevs, *pos);
}

static void *md_devices_next(struct seq_file *seq, void *v, loff_t *pos)
{
	return seq_list_next(v, &all_mddevs, pos);
}

static void md_devices_stop(struct seq_file *seq, void *v)
	__releases(&all_mddevs_lock)
{
	spin_unlock(&all_mddevs_lock);
}

static void md_devices_show_one(struct seq_file *seq, struct mddev *mddev)
{
	struct md_life *life = &mddev->life;
	u64 ms = ktime_ms_delta(ktime_get_boottime(), life->since);
	u32 fraction;
	u64 seconds = div_u64_rem(ms, MSEC_PER_SEC, &fraction);

	seq_printf(seq, "%u:%u ", MAJOR(mddev->unit), MINOR(mddev->unit));
	/* Of one that was made by its name that may be almost anything. */
	seq_escape(seq, mdname(mddev), " \t\n\\");
	seq_printf(seq, " state=%s closing=%d seconds=%llu.%03u hold=%s references=%d openers=%d diskseq=%llu\n",
		   state_names[life->state],
		   test_bit(MD_CLOSING, &mddev->flags), seconds, fraction,
		   hold_names[life->hold], atomic_read(&mddev->active),
		   atomic_read(&mddev->openers), mddev->gendisk->diskseq);
}

static int md_devices_show(struct seq_file *seq, void *v)
{
	struct mddev *mddev;
	unsigned long index;

	if (v != &all_mddevs) {
		md_devices_show_one(seq, list_entry(v, struct mddev, all_mddevs));
		return 0;
	}
	/* One that is being made is not on the list, one that is GONE not here. */
	xa_for_each(&md_units, index, mddev)
		if (mddev->life.state == MD_LIFE_NASCENT)
			md_devices_show_one(seq, mddev);
	return 0;
}

static const struct seq_operations md_devices_sops = {
	.start	= md_devices_start,
	.next	= md_devices_next,
	.stop	= md_devices_stop,
	.show	= md_devices_show,
};
DEFINE_SEQ_ATTRIBUTE(md_devices);

/**
 * md_life_start - prepare for devices, when md is loaded
 *
 * Context: process, may sleep.
 * Return: 0 or -ENOMEM.
 */
int md_life_start(void)
{
	md_del_wq = alloc_workqueue("md_del", WQ_UNBOUND, 0);
	if (!md_del_wq)
		return -ENOMEM;
	md_debugfs = debugfs_create_dir("md", NULL);
	debugfs_create_file("devices", 0400, md_debugfs, NULL, &md_devices_fops);
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(md_life_start);

/**
 * md_life_end - wait until the last device's memory has gone
 *
 * The caller has seen to it that no device is created any more, and has killed
 * those that there were.
 *
 * Context: process, sleeps.
 */
void md_life_end(void)
{
	spin_lock(&all_mddevs_lock);
	wait_var_event_spinlock(&all_mddevs, list_empty(&all_mddevs),
				&all_mddevs_lock);
	spin_unlock(&all_mddevs_lock);
	debugfs_remove(md_debugfs);
	destroy_workqueue(md_del_wq);
	md_del_wq = NULL;
}
EXPORT_SYMBOL_IF_KUNIT(md_life_end);

/**
 * md_life_init - initialise what an mddev has of a life
 * @mddev: any new mddev, also one of dm-raid
 *
 * Context: any.
 */
void md_life_init(struct mddev *mddev)
{
	mddev->life.state = MD_LIFE_NONE;
	mddev->life.hold = MD_HOLD_NONE;
	INIT_WORK(&mddev->life.work, md_life_work);
	init_completion(&mddev->life.gone);
	INIT_LIST_HEAD(&mddev->all_mddevs);
}

static struct mddev *md_life_find_name(const char *name)
{
	struct mddev *mddev;
	unsigned long index;

	xa_for_each(&md_units, index, mddev)
		if (strcmp(mdname(mddev), name) == 0)
			return mddev;
	return NULL;
}

/**
 * md_life_claim - give a new mddev its number and name: NONE to NASCENT
 * @mddev: has a gendisk that has its name, and that nobody knows yet
 * @unit: the number, of the whole disk; or 0 for any that no node opens
 * @why: the device is created; decides what keeps it
 *
 * Context: process, may sleep; md_create_mutex is held until md_life_publish()
 * or md_life_unclaim().
 * Return: NULL on success.  The device that still has the number or the name if
 * that one is DYING: with a reference that the caller drops when it has waited
 * for it, without md_create_mutex, to claim once more.  Or an error:
 * -EEXIST: number or name are in use;
 * -EBUSY: there is no free number;
 * -ENODEV: md is not ready;
 * -EINVAL: it has a number already;
 * -ENOMEM.
 */
struct mddev *md_life_claim(struct mddev *mddev, dev_t unit, enum md_life_reason why)
{
	static u32 next = MKDEV(MD_MAJOR, MD_FIRST_NAMED_MINOR);
	struct mddev *old;
	int err;

	lockdep_assert_held(&md_create_mutex);

	/* A parameter of the module is read before md_init(). */
	if (!md_del_wq)
		return ERR_PTR(-ENODEV);
	if (!md_life_is(mddev, MD_LIFE_NONE))
		return ERR_PTR(-EINVAL);

	spin_lock(&all_mddevs_lock);
	old = unit ? xa_load(&md_units, unit) : NULL;
	/* "md_d0" is a name that belongs to a number, and one that anybody can take. */
	if (!old && MAJOR(unit) != MD_MAJOR)
		old = md_life_find_name(mdname(mddev));
	if (old) {
		/* The reference of the deletion work is still there. */
		if (old->life.state == MD_LIFE_DYING)
			atomic_inc(&old->active);
		else
			old = ERR_PTR(-EEXIST);
		spin_unlock(&all_mddevs_lock);
		return old;
	}
	spin_unlock(&all_mddevs_lock);

	if (unit) {
		err = xa_insert(&md_units, unit, mddev, GFP_KERNEL);
	} else {
		u32 free;

		err = xa_alloc_cyclic(&md_units, &free, mddev, md_named_units,
				      &next, GFP_KERNEL);
		if (err >= 0)
			unit = free;
	}
	if (err < 0)
		return ERR_PTR(err);

	mddev->unit = unit;
	if (MAJOR(unit) == MD_MAJOR)
		mddev->md_minor = MINOR(unit);
	else
		mddev->md_minor = MINOR(unit) >> MdpMinorShift;
	mddev->gendisk->major = MAJOR(unit);
	mddev->gendisk->first_minor = MINOR(unit);

	spin_lock(&all_mddevs_lock);
	/* add_disk() makes it openable before it is complete: see md_life_open(). */
	disk_begin_closing(mddev->gendisk);
	md_life_change(mddev, MD_LIFE_NASCENT, why);
	md_life_set_hold(mddev, why == MD_LIFE_PROBE ? MD_HOLD_UNTIL_IOCTL :
						       MD_HOLD_UNTIL_STOP, why);
	spin_unlock(&all_mddevs_lock);
	return NULL;
}
EXPORT_SYMBOL_IF_KUNIT(md_life_claim);

/**
 * md_life_unclaim - it could not be made after all: NASCENT to NONE
 * @mddev: nobody but its creator knows it
 *
 * Context: process; md_create_mutex is held.
 */
void md_life_unclaim(struct mddev *mddev)
{
	lockdep_assert_held(&md_create_mutex);

	spin_lock(&all_mddevs_lock);
	if (md_life_is(mddev, MD_LIFE_NASCENT)) {
		xa_erase(&md_units, mddev->unit);
		md_life_change(mddev, MD_LIFE_NONE, MD_LIFE_ERROR);
		disk_end_closing(mddev->gendisk);
	}
	spin_unlock(&all_mddevs_lock);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_unclaim);

/**
 * md_life_publish - it is complete, let it be found: NASCENT to LIVE
 * @mddev: from here on only the last reference frees it
 *
 * Context: process; md_create_mutex and the reconfig_mutex of @mddev are held.
 */
void md_life_publish(struct mddev *mddev)
{
	lockdep_assert_held(&md_create_mutex);
	lockdep_assert_held(&mddev->reconfig_mutex);

	spin_lock(&all_mddevs_lock);
	if (md_life_is(mddev, MD_LIFE_NASCENT)) {
		md_life_change(mddev, MD_LIFE_LIVE, MD_LIFE_READY);
		list_add(&mddev->all_mddevs, &all_mddevs);
		/* Somebody may be stopping it already: it has been seen in sysfs. */
		if (!test_bit(MD_CLOSING, &mddev->flags))
			disk_end_closing(mddev->gendisk);
	}
	spin_unlock(&all_mddevs_lock);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_publish);

/**
 * md_life_touch - somebody has done something to it: end a hold until then
 * @mddev: referenced
 *
 * Context: process.
 */
void md_life_touch(struct mddev *mddev)
{
	if (READ_ONCE(mddev->life.hold) != MD_HOLD_UNTIL_IOCTL)
		return;
	spin_lock(&all_mddevs_lock);
	if (mddev->life.hold == MD_HOLD_UNTIL_IOCTL)
		md_life_set_hold(mddev, MD_HOLD_NONE, MD_LIFE_TOUCHED);
	spin_unlock(&all_mddevs_lock);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_touch);

/**
 * md_life_reset - end every hold, as it was stopped without having an array
 * @mddev: referenced; that reference is what it lives by now
 * @why: or because it could not be made
 *
 * Context: process; the reconfig_mutex of @mddev is held.
 */
void md_life_reset(struct mddev *mddev, enum md_life_reason why)
{
	lockdep_assert_held(&mddev->reconfig_mutex);

	spin_lock(&all_mddevs_lock);
	md_life_set_hold(mddev, MD_HOLD_NONE, why);
	spin_unlock(&all_mddevs_lock);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_reset);

static void md_life_die(struct mddev *mddev, enum md_life_reason why)
{
	/* First, so that an open that is refused has something to wait for. */
	disk_begin_closing(mddev->gendisk);
	md_life_change(mddev, MD_LIFE_DYING, why);
	md_life_set_hold(mddev, MD_HOLD_NONE, why);
	/* For the work item, dropped when the device is GONE. */
	atomic_inc(&mddev->active);
}

/**
 * md_life_kill - the array has been stopped for good: LIVE to DYING
 * @mddev: unconfigured, with a reference of the caller's, who calls
 *	md_life_delete() when it has dropped the reconfig_mutex
 *
 * Context: process; the reconfig_mutex of @mddev is held, nobody else gets it
 * any more through mddev_lock().
 */
void md_life_kill(struct mddev *mddev)
{
	lockdep_assert_held(&mddev->reconfig_mutex);

	spin_lock(&all_mddevs_lock);
	if (md_life_is(mddev, MD_LIFE_LIVE))
		md_life_die(mddev, MD_LIFE_STOP);
	spin_unlock(&all_mddevs_lock);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_kill);

/**
 * md_life_delete - delete what md_life_kill() has killed, and wait for it
 * @mddev: referenced by the caller
 *
 * Context: process, sleeps.  Neither the reconfig_mutex of @mddev nor an active
 * reference to one of its sysfs attributes may be held.
 * Return: 0 when the device is GONE; -ERESTARTSYS if the caller was killed: the
 * deletion goes on without it; -EINVAL if nobody has killed the device.
 */
int md_life_delete(struct mddev *mddev)
{
	if (!md_life_is(mddev, MD_LIFE_DYING))
		return -EINVAL;
	md_life_queue(mddev);
	return md_life_wait_gone(mddev);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_delete);

/**
 * md_life_wait_gone - wait until a DYING device is GONE
 * @mddev: referenced
 *
 * Context: as for md_life_delete().
 * Return: 0, or -ERESTARTSYS if the caller was killed.
 */
int md_life_wait_gone(struct mddev *mddev)
{
	lockdep_assert_not_held(&mddev->reconfig_mutex);
	return wait_for_completion_killable(&mddev->life.gone);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_wait_gone);

/* Let nothing of it be seen any more. */
VISIBLE_IF_KUNIT void md_life_hide(struct mddev *mddev)
{
	KUNIT_STATIC_STUB_REDIRECT(md_life_hide, mddev);
	/*
	 * Queued by the thread of the array, which has gone; but it may still
	 * be in its last steps, after it has let the stop go on.
	 */
	cancel_work_sync(&mddev->sync_work);
	if (mddev->kobj.state_in_sysfs)
		kobject_del(&mddev->kobj);
	del_gendisk(mddev->gendisk);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_hide);

/* DYING to GONE */
static void md_life_do_delete(struct mddev *mddev)
{
	md_life_hide(mddev);

	spin_lock(&all_mddevs_lock);
	xa_erase(&md_units, mddev->unit);
	md_life_change(mddev, MD_LIFE_GONE, MD_LIFE_DELETED);
	spin_unlock(&all_mddevs_lock);
	disk_end_closing(mddev->gendisk);
	complete_all(&mddev->life.gone);
}

static void md_life_work(struct work_struct *work)
{
	struct mddev *mddev = container_of(work, struct mddev, life.work);

	if (READ_ONCE(mddev->life.state) == MD_LIFE_DYING) {
		/* For who asks why it is still there, in /proc and in reports. */
		set_worker_desc("md_del-%s", mdname(mddev));
		md_life_do_delete(mddev);
		mddev_put(mddev);
	} else {
		kobject_put(&mddev->kobj);
	}
}

/* The last user has left. */
static void md_life_idle(struct mddev *mddev)
{
	struct md_life *life = &mddev->life;

	lockdep_assert_held(&all_mddevs_lock);

	if (life->state == MD_LIFE_LIVE) {
		if (!md_is_unconfigured(mddev) || life->hold != MD_HOLD_NONE)
			return;
		md_life_die(mddev, MD_LIFE_IDLE);
	} else if (!md_life_is(mddev, MD_LIFE_GONE)) {
		/* Nobody can get a reference any more: this happens once. */
		return;
	}
	md_life_queue(mddev);
}

/**
 * md_life_free - free an mddev whose gendisk goes: GONE to NONE
 * @mddev: without any reference; there is nothing left to destroy in it
 *
 * Context: process.  md_life_end() may return at once.
 */
void md_life_free(struct mddev *mddev)
{
	spin_lock(&all_mddevs_lock);
	if (md_life_is(mddev, MD_LIFE_GONE)) {
		md_life_change(mddev, MD_LIFE_NONE, MD_LIFE_FREED);
		list_del(&mddev->all_mddevs);
		kfree(mddev);
		wake_up_var_locked(&all_mddevs, &all_mddevs_lock);
	}
	spin_unlock(&all_mddevs_lock);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_free);

/**
 * md_is_unconfigured - no array yet, or no more
 * @mddev: has no user, or its reconfig_mutex is held
 *
 * Context: any.
 * Return: true if nothing would be lost with the device.
 */
bool md_is_unconfigured(const struct mddev *mddev)
{
	return !mddev->raid_disks && list_empty(&mddev->disks) && !mddev->ctime;
}
EXPORT_SYMBOL_IF_KUNIT(md_is_unconfigured);

/**
 * mddev_get - get a reference to an mddev that may be going
 * @mddev: pinned by all_mddevs_lock, its gendisk or its kobject
 *
 * Context: process; all_mddevs_lock is held.
 * Return: @mddev, or NULL if its life is over.
 */
struct mddev *mddev_get(struct mddev *mddev)
{
	lockdep_assert_held(&all_mddevs_lock);

	if (md_life_is_over(&mddev->life))
		return NULL;
	atomic_inc(&mddev->active);
	return mddev;
}
EXPORT_SYMBOL_IF_KUNIT(mddev_get);

/**
 * mddev_put_locked - drop a reference
 * @mddev: may be gone afterwards, but not before all_mddevs_lock is dropped
 *
 * Context: process; all_mddevs_lock is held.
 */
void mddev_put_locked(struct mddev *mddev)
{
	lockdep_assert_held(&all_mddevs_lock);

	if (atomic_dec_and_test(&mddev->active))
		md_life_idle(mddev);
}
EXPORT_SYMBOL_IF_KUNIT(mddev_put_locked);

/**
 * mddev_put - drop a reference
 * @mddev: may be gone afterwards
 *
 * The last one lets a device go that nobody needs: its work item deletes it.
 *
 * Context: process; takes all_mddevs_lock.
 */
void mddev_put(struct mddev *mddev)
{
	if (!atomic_dec_and_lock(&mddev->active, &all_mddevs_lock))
		return;
	md_life_idle(mddev);
	spin_unlock(&all_mddevs_lock);
}
EXPORT_SYMBOL_IF_KUNIT(mddev_put);

/**
 * md_life_open - count an opener, unless the device is nascent, closing or dying
 * @mddev: pinned by its gendisk
 * @mode: of the open; udev's non-blocking one, on the uevent that add_disk()
 *	sends, cannot wait for the rest of the device, and needs none of it
 *
 * Context: process; the open_mutex of the gendisk is held.
 * Return: 0, or -EOPENSTALE: the block layer waits until the device is LIVE, the
 * stop has failed or the device is GONE, and starts the open over.
 */
int md_life_open(struct mddev *mddev, blk_mode_t mode)
{
	bool complete = mode & BLK_OPEN_NDELAY;
	int err = -EOPENSTALE;

	spin_lock(&all_mddevs_lock);
	if (mddev->life.state != MD_LIFE_NASCENT)
		complete = true;
	if (complete && !test_bit(MD_CLOSING, &mddev->flags) && mddev_get(mddev)) {
		atomic_inc(&mddev->openers);
		err = 0;
	}
	spin_unlock(&all_mddevs_lock);
	return err;
}
EXPORT_SYMBOL_IF_KUNIT(md_life_open);

/**
 * md_life_release - the counterpart of md_life_open()
 * @mddev: may be gone afterwards
 *
 * Context: process; the open_mutex of the gendisk is held.
 */
void md_life_release(struct mddev *mddev)
{
	atomic_dec(&mddev->openers);
	mddev_put(mddev);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_release);

/**
 * md_life_begin_run - start the array, unless a task is about to stop it
 * @mddev: the caller clears MD_NOT_READY when it runs, that is when ->pers is
 *	set, or could not be started
 *
 * Whoever waits for the reconfig_mutex to stop it has looked at the openers only
 * if the array ran, or was being started: so one of the two sees the other.
 *
 * Context: process; the reconfig_mutex of @mddev is held.
 * Return: 0, or -EBUSY.
 */
int md_life_begin_run(struct mddev *mddev)
{
	int err = 0;

	lockdep_assert_held(&mddev->reconfig_mutex);

	spin_lock(&all_mddevs_lock);
	if (test_bit(MD_CLOSING, &mddev->flags))
		err = -EBUSY;
	else
		set_bit(MD_NOT_READY, &mddev->flags);
	spin_unlock(&all_mddevs_lock);
	return err;
}
EXPORT_SYMBOL_IF_KUNIT(md_life_begin_run);

/**
 * md_life_begin_closing - keep new openers out, as the array may be stopped
 * @mddev: referenced
 * @openers: how many the caller is of those that have it open
 *
 * The task that has begun the closing ends it, with md_life_end_closing() or
 * the death of the device.
 *
 * Context: process.
 * Return: 0;
 * -EBUSY: it runs, or is being started, and is open elsewhere; or another task
 * is closing it;
 * -ENODEV: its life is over.
 */
int md_life_begin_closing(struct mddev *mddev, int openers)
{
	int err = 0;

	spin_lock(&all_mddevs_lock);
	/* When a start ends ->pers is set first: look at it last. */
	if (md_life_is_over(&mddev->life))
		err = -ENODEV;
	else if ((test_bit_acquire(MD_NOT_READY, &mddev->flags) ||
		  READ_ONCE(mddev->pers)) &&
		 atomic_read(&mddev->openers) > openers)
		err = -EBUSY;
	else if (test_and_set_bit(MD_CLOSING, &mddev->flags))
		err = -EBUSY;
	else
		disk_begin_closing(mddev->gendisk);
	spin_unlock(&all_mddevs_lock);
	return err;
}
EXPORT_SYMBOL_IF_KUNIT(md_life_begin_closing);

/**
 * md_life_end_closing - it was not stopped for good: let it be opened again
 * @mddev: referenced; md_life_begin_closing() was called by this task
 *
 * Context: process.
 */
void md_life_end_closing(struct mddev *mddev)
{
	spin_lock(&all_mddevs_lock);
	clear_bit(MD_CLOSING, &mddev->flags);
	/* Its creator ends it, or the deletion if another task has stopped it. */
	if (mddev->life.state == MD_LIFE_LIVE)
		disk_end_closing(mddev->gendisk);
	spin_unlock(&all_mddevs_lock);
}
EXPORT_SYMBOL_IF_KUNIT(md_life_end_closing);
