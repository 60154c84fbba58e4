/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of an md device: who may use it, what keeps it, how it goes.
 *
 * An mddev is in exactly one state, which only md-lifecycle.c changes, under
 * all_mddevs_lock:
 *
 *   NONE -claim-> NASCENT -publish-> LIVE -kill-> DYING -delete-> GONE -> NONE
 *
 * NASCENT: has its number and name; its creator is making its gendisk, and
 *          opens that can wait do so.
 * LIVE:    can be found, opened and configured.  It stays while it is used
 *          (mddev_get()), configured, or held: until somebody has done
 *          something to it, or until it is stopped.
 * DYING:   nobody gets a new reference; a work item deletes the gendisk.
 * GONE:    nothing of it is visible any more, number and name can be used
 *          again.  The memory stays until the last user has left, who may have
 *          forgotten an open file descriptor.
 *
 * Death has two causes: the array was stopped for good, or the last user of a
 * device that nobody needs has left.  Both end in the same work item, which
 * holds no lock; a stop waits for it.  Whoever waits for a DYING device to be
 * GONE must not hold what the deletion needs: that device's reconfig_mutex, or an
 * active reference to one of its sysfs attributes.  Another device's
 * reconfig_mutex is fine; but not to wait for one that is only closing
 * (md_life_begin_closing()), as whoever is closing it may wait for that mutex.
 *
 * The mddevs of dm-raid stay in state NONE: they live and die with their target.
 */
#ifndef _MD_LIFECYCLE_H
#define _MD_LIFECYCLE_H

#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct mddev;

enum md_life_state {
	MD_LIFE_NONE,
	MD_LIFE_NASCENT,
	MD_LIFE_LIVE,
	MD_LIFE_DYING,
	MD_LIFE_GONE,
};

/* What keeps a device that is neither used nor configured. */
enum md_hold {
	MD_HOLD_NONE,
	MD_HOLD_UNTIL_IOCTL,	/* made by an open: until the first md ioctl or sysfs write */
	MD_HOLD_UNTIL_STOP,	/* made by name, or at boot: until it is stopped */
};

/* Why the state or the hold has changed. */
enum md_life_reason {
	MD_LIFE_PROBE,		/* a node without a device was opened */
	MD_LIFE_NEW_ARRAY,	/* written to the module parameter new_array */
	MD_LIFE_BOOT,		/* autodetected, or md= on the command line */
	MD_LIFE_READY,
	MD_LIFE_TOUCHED,	/* by an ioctl, or a write to sysfs */
	MD_LIFE_STOP,		/* or array_state=clear */
	MD_LIFE_IDLE,		/* the last user of an unneeded device has left */
	MD_LIFE_DELETED,
	MD_LIFE_FREED,
	MD_LIFE_ERROR,		/* it could not be made */
};

/**
 * struct md_life - where an mddev is in its life
 * @state: written under all_mddevs_lock, and read without where a stale LIVE is
 *	caught later
 * @since: when that was; CLOCK_BOOTTIME, under all_mddevs_lock
 * @hold: what keeps it, under all_mddevs_lock
 * @work: deletes the gendisk of a DYING device, and frees a GONE one that has
 *	no user any more
 * @gone: completed when the device is GONE
 */
struct md_life {
	enum md_life_state	state;
	ktime_t			since;
	enum md_hold		hold;
	struct work_struct	work;
	struct completion	gone;
};

/**
 * md_life_is_over - has it been stopped for good, or is nobody needing it?
 * @life: of an mddev that cannot be freed now
 *
 * Context: any.  Certain under all_mddevs_lock or the mddev's reconfig_mutex.
 * Return: true if it cannot be used any more.
 */
static inline bool md_life_is_over(const struct md_life *life)
{
	return READ_ONCE(life->state) >= MD_LIFE_DYING;
}

/*
 * All devices from LIVE until their memory goes; whoever has a reference may
 * drop the lock and go on from there.
 */
extern struct list_head all_mddevs;
extern spinlock_t all_mddevs_lock;

/* One device is created at a time; a DYING one is waited for without it. */
extern struct mutex md_create_mutex;

int md_life_start(void);
void md_life_end(void);

void md_life_init(struct mddev *mddev);
struct mddev *md_life_claim(struct mddev *mddev, dev_t unit, enum md_life_reason why);
void md_life_unclaim(struct mddev *mddev);
void md_life_publish(struct mddev *mddev);
void md_life_touch(struct mddev *mddev);
void md_life_reset(struct mddev *mddev, enum md_life_reason why);
void md_life_kill(struct mddev *mddev);
int md_life_delete(struct mddev *mddev);
int md_life_wait_gone(struct mddev *mddev);
void md_life_free(struct mddev *mddev);

bool md_is_unconfigured(const struct mddev *mddev);

int md_life_open(struct mddev *mddev, blk_mode_t mode);
void md_life_release(struct mddev *mddev);
int md_life_begin_run(struct mddev *mddev);
int md_life_begin_closing(struct mddev *mddev, int openers);
void md_life_end_closing(struct mddev *mddev);

struct mddev *mddev_get(struct mddev *mddev);
void mddev_put(struct mddev *mddev);
void mddev_put_locked(struct mddev *mddev);

#if IS_ENABLED(CONFIG_KUNIT)
void md_life_queue(struct mddev *mddev);
void md_life_hide(struct mddev *mddev);
#endif

#endif /* _MD_LIFECYCLE_H */
