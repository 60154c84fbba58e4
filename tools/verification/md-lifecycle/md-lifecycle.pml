/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of the life of md devices that have one number and one name: how
 * they are made by an open, opened, looked at, stopped, deleted and made again.
 *
 * A step stands for what the function named beside it does, in drivers/md/md.c,
 * md-lifecycle.c, block/bdev.c or block/genhd.c.  A spinlock is held over several
 * steps where somebody reads what it protects without it; where nobody does the
 * section is one step.  Each instance of the device has a slot of its own, which
 * is not used again, so that a use after free can be seen.
 *
 * What is checked, in every state that can be reached:
 *   use_after_free   nobody uses an instance that has been freed
 *   deleted_twice    del_gendisk() gets a disk that is there
 *   name_twice       number, name and node have one owner
 *   bad_state        an instance goes from one state only to the next
 *   freed_in_use     nothing of an instance is left when its memory goes
 *   stopped_in_use   no running array is stopped that somebody else has open
 *   deleted_in_use   nothing is deleted for not being needed that is open
 *   stop_early       an array has gone when the stop says that it has stopped it
 *   waits_twice      no open waits twice for the death of one instance
 *   tries_too_often  an open is started over only if a closing has ended since
 *   open_fails       no open fails because it has met a deletion
 *   never_gone       when all is quiet every dying instance is GONE,
 *   leaked           what is GONE has been freed,
 *   comes_back       and there is a device only if somebody wanted one
 * No deadlock is what SPIN itself calls no invalid end state.  That everything
 * ends, each open in particular, is that there is no cycle at all ("pan -l", with
 * nothing called progress): each round of a loop is paid for by a death, or by
 * a stop that has failed.
 *
 * Not here: other numbers and so arrays of arrays, partitions, exclusive and
 * non-blocking opens, array_state=inactive and readonly, settings made through
 * sysfs, signals other than to a stop, lost wake-ups (who waits sees at once what
 * it waits for), the order of memory accesses, dm-raid, and the module's end.
 *
 * Who takes part is told by the scenario, by -D:
 *   STOPPERS, CLEARERS, OBSERVERS, USERS, OLD_USERS, WRITERS, READERS, NAMERS,
 *	STARTERS = how many of each
 *   FRESH	there is no device at first; else an array that nobody has open,
 *		NAMED: held until it is stopped; BOOT: being autodetected
 *   FAIL	adding the disk, or its kobject, may fail
 *   OLD_ASYNC, OLD_SYNC	how 7.3.4 did it, with legacy_async_del_gendisk
 *		Y or N; FLIP: somebody changes that at any moment
 *   WITHOUT=x	leave out one step, see below: each is there for a reason
 *
 * "spin -a -DSTOPPERS=1 ... md-lifecycle.pml; cc -DNP pan.c; ./a.out -l -n"
 * looks at one scenario; "spin -t -T md-lifecycle.pml" tells what led to a fault.
 */

#define N 3			/* instances, the first one included */
#ifndef STOPPERS
#define STOPPERS 0
#endif
#ifndef CLEARERS
#define CLEARERS 0
#endif
#ifndef OBSERVERS
#define OBSERVERS 0
#endif
#ifndef USERS
#define USERS 0
#endif
#ifndef OLD_USERS
#define OLD_USERS 0
#endif
#ifndef WRITERS
#define WRITERS 0
#endif
#ifndef READERS
#define READERS 0
#endif
#ifndef NAMERS
#define NAMERS 0
#endif
#ifndef STARTERS
#define STARTERS 0
#endif
#define ACTORS (STOPPERS + CLEARERS + OBSERVERS + USERS + OLD_USERS + WRITERS + \
		READERS + NAMERS + STARTERS)

#if defined(OLD_ASYNC) || defined(OLD_SYNC)
#define OLD 1
#else
#define OLD 0
#endif

/* What can be left out of the new design, to see that it is missed. */
#define NOTHING		0
#define UNLINK_CHECK	1	/* blkdev_get_for_open(): -ESTALE if the node has gone */
#define NR_CLOSED_CHECK	2	/* ... and once more if a disk has been deleted since */
#define BEGIN_CLOSING	3	/* md_life_die(): tell the block layer first */
#define WORK_REF	4	/* md_life_die(): the reference of the work item */
#define WAIT_UNLOCKED	5	/* md_life_delete() without reconfig_mutex */
#define BREAK_ACTIVE	6	/* md_attr_store(): give the active reference back */
#define LATE_END	7	/* disk_end_closing() when the number is free */
#define OVER_CHECK	8	/* do_md_stop(): has another stop been faster? */
#define END_CLOSING	9	/* md_life_end_closing(): tell the block layer, too */
#define STATE_CHECK	10	/* mddev_get(): not if its life is over */
#define TOUCH		11	/* md_ioctl(): a look ends the hold, too */
#define RUN_CHECK	12	/* do_md_run(): not while it is being stopped, */
#define START_CHECK	13	/* and not stopped, if open, from then on */
#ifndef WITHOUT
#define WITHOUT NOTHING
#endif
#define with(step) (WITHOUT != step)

#define NOBODY 15
#define OWN_NODE 14		/* made by mknod: nobody removes it */

/* enum md_life_state; freed is when nothing may look at it any more. */
#define NONE	0
#define NASCENT	1
#define LIVE	2
#define DYING	3		/* MD_DELETED in the old design */
#define GONE	4
#define FREED	5

/* enum md_hold */
#define UNTIL_IOCTL	1
#define UNTIL_STOP	2

/* Results of an open. */
#define OK	0
#define ENOENT	1
#define ESTALE	2		/* walk the path again */
#define AGAIN	3		/* -EOPENSTALE, from the driver to the block layer */
#define ENXIO	4		/* or ENODEV: what no open should get */
/* And of a stop, which is OK if it has killed the device. */
#define RESET	5		/* also 0: it had no array */
#define FAILED	6

mtype = { worker, stopper_, clearer_, observer_, user_, old_user_, writer_, reader_,
	  namer_, starter_ };

typedef instance {
	/* mddev */
	unsigned state : 3;
	unsigned hold : 2;
	unsigned users : 4;	/* ->active */
	unsigned openers : 3;
	bit configured;		/* !md_is_unconfigured() */
	bit running;		/* ->pers */
	bit starting;		/* MD_NOT_READY */
	bit closing;		/* MD_CLOSING */
	bit reconfig_mutex;
	bit gone;		/* the completion */
	bit queued;		/* the work item */
	bit works;
	bit do_delete;		/* MD_DO_DELETE, old design */
	bit stopped;		/* why it is dying */
	/* gendisk */
	unsigned refs : 4;	/* of its device; a kobject in it counts as one */
	bit open_mutex;
	bit gd_closing;		/* GD_CLOSING */
	bit listed;		/* on closing_disks */
	/* its directory md/ in sysfs */
	bit sysfs;
	unsigned writes : 3;	/* active references to its attributes */
};
instance md[N];

/* Who has them: the number (md_units), the bdev inode, the node in /dev. */
unsigned unit : 4 = NOBODY;
unsigned hashed : 4 = NOBODY;
unsigned node : 4 = NOBODY;

bit all_mddevs_lock, md_create_mutex, major_names_lock;
unsigned made : 4;		/* instances so far */
unsigned nr_closed : 4;		/* deletions that have ended */
unsigned ended : 4;		/* closings that have ended, one way or the other */
unsigned done : 4;		/* actors that have finished */
bit no_memory;			/* an instance could not be made: opens may fail */
bit legacy;			/* legacy_async_del_gendisk */

bit use_after_free, deleted_twice, name_twice, bad_state, freed_in_use,
    stopped_in_use, deleted_in_use, stop_early, waits_twice, tries_too_often,
    open_fails, never_gone, leaked, comes_back;

#define live(i) (hashed == i)	/* disk_live() */
#define over(i) (md[i].state >= DYING)	/* md_life_is_over() */
#define listed_md(i) (md[i].state >= LIVE && md[i].state <= GONE) /* on all_mddevs */

inline claim(ok, name) { name = !(ok); assert(!name) }
inline use(i) { claim(md[i].state != FREED, use_after_free) }

inline lock(mutex) { atomic { !mutex -> mutex = 1 } }
inline unlock(mutex) { mutex = 0 }

/* A mutex of an instance: whoever waits for it must keep it from being freed. */
#define lock_of(i, mutex)	atomic { !md[i].mutex -> use(i); md[i].mutex = 1 }
#define unlock_of(i, mutex)	atomic { use(i); md[i].mutex = 0 }

inline lock_all() { lock(all_mddevs_lock) }
inline unlock_all() { unlock(all_mddevs_lock) }

/* md_life_change(), under all_mddevs_lock */
inline change(i, from, to)
{
	claim(md[i].state == from, bad_state);
	md[i].state = to
}

/* put_disk(), blkdev_put_no_open(); the last one is disk_release() */
inline put_disk(i)
{
	if
	:: atomic { md[i].refs > 1 -> use(i); md[i].refs-- }
	:: atomic { md[i].refs <= 1 && !all_mddevs_lock ->
		use(i);
		claim(!live(i) && !md[i].listed && md[i].users == 0 &&
		      !md[i].queued && !md[i].reconfig_mutex && !md[i].open_mutex,
		      freed_in_use);
		printf("%e: instance %d is freed\n", me, i);
		md[i].refs = 0;
		/* md_life_free(), or mddev_free(), which frees the number */
		if
		:: !OLD -> change(i, GONE, FREED)
		:: else ->
			if :: unit == i -> unit = NOBODY :: else fi;
			md[i].state = FREED
		fi
	   }
	fi
}

/* disk_begin_closing(), under closing_lock */
inline begin_closing_disk(i)
{
	atomic {
		use(i);
		printf("%e: instance %d is closing\n", me, i);
		md[i].gd_closing = 1; md[i].listed = 1
	}
}

/* disk_end_closing(), under closing_lock */
inline end_closing_disk(i)
{
	atomic {
		use(i);
		printf("%e: the closing of instance %d ends\n", me, i);
		if
		:: live(i) -> md[i].gd_closing = 0
		:: else -> nr_closed++
		fi;
		md[i].listed = 0;
		ended++
	}
}

/* del_gendisk(): first the inode goes, then device_del() takes the node */
inline del_gendisk(i)
{
	atomic { use(i); claim(live(i), deleted_twice) };
	lock_of(i, open_mutex);
	atomic {
		printf("%e: instance %d cannot be looked up any more\n", me, i);
		hashed = NOBODY; md[i].open_mutex = 0
	};
	if
	:: atomic { node == i ->
		printf("%e: the node of instance %d is removed\n", me, i);
		node = NOBODY; md[i].refs-- }
	:: else
	fi
}

/* kobject_del(): no new active references, and wait for those there are */
inline kobject_del(i)
{
	atomic { use(i); md[i].sysfs = 0 };
	md[i].writes == 0
}

/* md_life_die(), under all_mddevs_lock; the state is read without it */
inline die(i)
{
	if
	:: !OLD && with(BEGIN_CLOSING) -> begin_closing_disk(i)
	:: else
	fi;
	atomic {
		use(i);
		printf("%e: instance %d is dying\n", me, i);
		change(i, LIVE, DYING);
		if
		:: !OLD ->
			md[i].hold = 0;
			if :: with(WORK_REF) -> md[i].users++ :: else fi
		:: else
		fi
	}
}

/* md_life_idle(), __mddev_put(): under all_mddevs_lock, the last user has left */
inline idle(i)
{
	if
	:: OLD && !md[i].configured && !md[i].hold ->
		atomic {
			printf("%e: instance %d is MD_DELETED, unused\n", me, i);
			md[i].state = DYING; md[i].queued = 1
		}
	:: !OLD && md[i].state == LIVE && !md[i].configured && !md[i].hold ->
		die(i);
		md[i].queued = 1
	:: !OLD && md[i].state != LIVE ->
		atomic { claim(md[i].state == GONE, bad_state); md[i].queued = 1 }
	:: else
	fi
}

/* mddev_put(): the lock is taken for the last reference only */
inline put(i)
{
	if
	:: atomic { md[i].users > 1 -> use(i); md[i].users-- }
	:: atomic { md[i].users <= 1 && !all_mddevs_lock ->
		use(i);
		claim(md[i].users == 1, bad_state);
		all_mddevs_lock = 1;
		md[i].users = 0
	   };
	   idle(i);
	   unlock_all()
	fi
}

/* mddev_unlock(); in the old design whoever does it may delete the disk */
inline unlock_reconfig(i)
{
	unlock_of(i, reconfig_mutex);
	if
	:: OLD && !legacy && md[i].state == DYING ->
		if
		:: atomic { !md[i].do_delete -> use(i); md[i].do_delete = 1;
				printf("%e: deletes instance %d, as it unlocks it\n", me, i) };
			kobject_del(i);
			del_gendisk(i)
		:: else
		fi
	:: else
	fi
}

/* md_life_touch(): the hold of a device that an open has made ends */
inline touch(i)
{
	use(i);
	if
	:: md[i].hold == UNTIL_IOCTL ->
		lock_all();
		atomic { use(i); md[i].hold = 0 };
		unlock_all()
	:: else
	fi
}

/* The work item: md_life_work(); mddev_delayed_delete() and md_kobj_release() */
proctype work(byte i)
{
	mtype me = worker;

end:	do
	:: atomic { md[i].queued -> use(i); md[i].queued = 0; md[i].works = 1 };
		if
		:: OLD ->
			/* kobject_put() is the last one */
			if :: md[i].sysfs -> kobject_del(i) :: else fi;
			if :: legacy -> del_gendisk(i) :: else fi;
			put_disk(i)
		:: !OLD && md[i].state == DYING ->
			/* md_life_do_delete() */
			atomic { claim(md[i].stopped || md[i].openers == 0, deleted_in_use) };
			if :: md[i].sysfs -> kobject_del(i) :: else fi;
			del_gendisk(i);
			if
			:: !with(LATE_END) -> end_closing_disk(i)
			:: else
			fi;
			lock_all();
			atomic {
				use(i);
				claim(unit == i, name_twice);
				unit = NOBODY
			};
			atomic {
				printf("%e: instance %d is gone\n", me, i);
				change(i, DYING, GONE); unlock_all()
			};
			if
			:: with(LATE_END) -> end_closing_disk(i)
			:: else
			fi;
			atomic { use(i); md[i].gone = 1 };
			put(i)
		:: else ->
			/* kobject_put(), md_kobj_release() */
			put_disk(i)
		fi;
		md[i].works = 0
	:: atomic { md[i].state == FREED && !md[i].works -> break }
	od
}

/* add_disk() and kobject_add(), which nobody else does meanwhile */
inline add_disk(i)
{
	atomic { claim(node == NOBODY, name_twice); node = i; md[i].refs++ };
	atomic { claim(hashed == NOBODY, name_twice); hashed = i };
}

/*
 * md_alloc() and the put that follows, by somebody whose device is then held
 * until @until.  Returns with @ret as NOBODY if there is none of its making.
 */
inline make(until, i, old)
{
	if
	:: OLD ->
		/* flush_workqueue() */
		atomic { !(md[0].queued || md[0].works || md[1].queued || md[1].works ||
			   md[2].queued || md[2].works) -> skip }
	:: else
	fi;
	do
	:: lock(md_create_mutex);
		lock_all();
		/* md_life_claim(), mddev_alloc() */
		if
		:: atomic { unit == NOBODY && made == N ->
			no_memory = 1; unlock_all(); unlock(md_create_mutex); break }
		:: atomic { unit == NOBODY && made < N ->
			/*
			 * A node of devtmpfs is there because a device is, or was; or
			 * is about to be: who has looked for it then may be late.
			 */
			claim(through == OWN_NODE || early, comes_back);
			i = made; made++; unit = i; unlock_all();
			printf("%e: makes instance %d\n", me, i);
			md[i].users = 1; md[i].refs = 1 };
			if
			:: OLD -> md[i].hold = until; md[i].state = LIVE
			:: else ->
				lock_all();
				atomic { change(i, NONE, NASCENT); md[i].hold = until; unlock_all() }
			fi;
			lock_of(i, reconfig_mutex);
#ifdef FAIL
			if
			:: atomic { !all_mddevs_lock ->
				printf("%e: add_disk() of instance %d fails\n", me, i);
				/* md_life_unclaim() and mddev_free() */
				md[i].reconfig_mutex = 0; unit = NOBODY; md[i].refs = 0; md[i].users = 0;
				md[i].state = FREED; no_memory = 1;
				unlock(md_create_mutex); i = NOBODY; break }
			:: skip
			fi;
#endif
			add_disk(i);
			if
			:: md[i].sysfs = 1
#ifdef FAIL
			:: atomic { !all_mddevs_lock -> md[i].hold = 0;	/* md_life_reset() */
				printf("%e: kobject_add() of instance %d fails\n", me, i) }
#endif
			fi;
			if
			:: !OLD ->
				/* md_life_publish() */
				lock_all();
				atomic {
					printf("%e: instance %d is live\n", me, i);
					change(i, NASCENT, LIVE); unlock_all()
				}
			:: else
			fi;
			unlock_reconfig(i);
			unlock(md_create_mutex);
			put(i);
			i = NOBODY;
			break
		:: atomic { unit != NOBODY && !OLD && md[unit].state == DYING ->
			old = unit; use(old); md[old].users++; unlock_all();
			unlock(md_create_mutex) };
			if
			:: until == UNTIL_IOCTL -> put(old); old = NOBODY; break
			:: else ->
				/* md_life_wait_gone() */
				md[old].gone;
				put(old);
				old = NOBODY
			fi
		:: atomic { unit != NOBODY && (OLD || md[unit].state != DYING) ->
			/* -EEXIST */
			unlock_all(); unlock(md_create_mutex); break }
		fi
	od
}

/* The latest is the first on the list. */
inline disk_get_closing(i)
{
	atomic {
		if
		:: OLD
		:: !OLD && md[2].listed -> i = 2
		:: !OLD && !md[2].listed && md[1].listed -> i = 1
		:: !OLD && !md[2].listed && !md[1].listed && md[0].listed -> i = 0
		:: else
		fi;
		if
		:: i != NOBODY ->
			claim(md[i].refs > 0, use_after_free);
			md[i].refs++
		:: else
		fi
	}
}

/* disk_wait_closing() */
inline wait_closing(i)
{
	atomic {
		use(i);
		printf("%e: waits for the closing of instance %d\n", me, i);
		claim(!(waited & (1 << i)), waits_twice)
	};
	atomic {
		!md[i].listed ->
		use(i);
		tries++;
		claim(tries <= ended - ended_before, tries_too_often);
		if :: !live(i) -> waited = waited | (1 << i) :: else fi
	}
}

/*
 * blkdev_open() of the node @through: with blkdev_get_for_open(), bdev_open()
 * and md_open().  @i is the instance that has been opened if @err is OK.
 */
inline open_node(through, i, err)
{
	atomic { tries = 0; waited = 0; ended_before = ended };
	do
	:: loaded = 0;
		do
		:: /* blkdev_get_no_open(): ilookup() and kobject_get_unless_zero() */
			atomic {
				i = hashed;
				early = (i == NOBODY && node != NOBODY &&
					 md[node].state == NASCENT)
			};
			atomic {
				if
				:: i != NOBODY && md[i].refs > 0 -> md[i].refs++; err = OK; break
				:: else -> i = NOBODY
				fi
			};
			disk_get_closing(i);
			if
			:: i != NOBODY ->
				wait_closing(i);
				put_disk(i);
				atomic { i = NOBODY; loaded = 0 }
			:: else ->
				atomic {
					if
					:: loaded && (OLD || nr_seen == nr_closed || !with(NR_CLOSED_CHECK)) ->
						err = ENXIO; break
					:: loaded && !(OLD || nr_seen == nr_closed || !with(NR_CLOSED_CHECK)) ->
						tries++;
						claim(tries <= ended - ended_before, tries_too_often)
					:: else
					fi
				};
				atomic {
					if
					:: !OLD && with(UNLINK_CHECK) && through != OWN_NODE && node != through ->
						err = ESTALE; break
					:: else
					fi
				};
				atomic {
					nr_seen = nr_closed;
					printf("%e: asks the driver for a device\n", me)
				};
				/* blk_request_module(), md_probe() */
				lock(major_names_lock);
				make(UNTIL_IOCTL, i, old);
				unlock(major_names_lock);
				loaded = 1
			fi
		od;
		atomic { nr_seen = 0; loaded = 0; if :: err != OK -> break :: else fi };
		/* bdev_open() */
		lock_of(i, open_mutex);
		if
		:: !live(i) ->
			atomic { use(i);
				 if :: md[i].gd_closing -> err = AGAIN :: else -> err = ENXIO fi }
		:: else ->
			/* md_open(), md_life_open() */
			lock_all();
			atomic {
				use(i);
				if
				:: !md[i].closing && (!over(i) || !(OLD || with(STATE_CHECK))) ->
					printf("%e: has instance %d open\n", me, i);
					md[i].users++; md[i].openers++
				:: else ->
					if :: OLD -> err = ENXIO :: else -> err = AGAIN fi
				fi;
				unlock_all()
			}
		fi;
		unlock_of(i, open_mutex);
		if
		:: err == OK -> break
		:: err == AGAIN -> wait_closing(i); put_disk(i); err = OK
		:: err == ENXIO -> put_disk(i); break
		fi
	od;
	atomic {
		tries = 0; waited = 0; ended_before = 0; early = 0;
		if :: err != OK -> i = NOBODY :: else fi;
		printf("%e: the open ends with %d\n", me, err);
		claim(err != ENXIO || no_memory, open_fails)
	}
}

/* An open by path: a node that was removed is looked for once more. */
inline open_path(through, i, err)
{
	err = ESTALE; walks = 0;
	do
	:: atomic {
		err == ESTALE && walks < 2 ->
		walks++;
		through = node;
		if :: through == NOBODY -> err = ENOENT; break :: else fi
	   };
		open_node(through, i, err)
	:: else -> break
	od;
	atomic { walks = 0; through = 0 }
}

/* bdev_release(): md_release() under open_mutex, then the disk */
inline close(i)
{
	lock_of(i, open_mutex);
	atomic { printf("%e: closes instance %d\n", me, i); md[i].openers-- };
	put(i);
	unlock_of(i, open_mutex);
	put_disk(i);
	i = NOBODY
}

/* md_ioctl(): GET_ARRAY_INFO, as observers do */
inline look(i)
{
	if :: !OLD && with(TOUCH) -> touch(i) :: else fi;
	atomic { use(i); printf("%e: looks at instance %d\n", me, i) }
}

/* md_ioctl(): SET_ARRAY_INFO and so on, perhaps RUN_ARRAY, do_md_run() */
inline configure(i)
{
	if :: !OLD -> touch(i) :: else fi;
	lock_of(i, reconfig_mutex);
	if
	:: over(i)
	:: else ->
		if
		:: skip			/* it fails */
		:: md[i].configured = 1
		:: md[i].configured = 1;
			/* do_md_run() */
			lock_all();
			if
			:: !OLD && md[i].closing && with(RUN_CHECK) -> unlock_all()
			:: else ->
				atomic { md[i].starting = with(START_CHECK); unlock_all() };
				atomic {
					printf("%e: runs instance %d\n", me, i);
					md[i].running = 1; md[i].starting = 0
				}
			fi
		fi
	fi;
	if :: OLD && md[i].hold == UNTIL_IOCTL -> md[i].hold = 0 :: else fi;
	unlock_reconfig(i)
}

/*
 * do_md_stop() with reconfig_mutex held.  @mine: how many openers the caller is.
 * Sets @err to OK, RESET or FAILED.
 */
inline do_md_stop(i, mine, err)
{
	/* stop_sync_thread() lets others have it for a moment */
	unlock_reconfig(i);
	lock_of(i, reconfig_mutex);
	if
	:: over(i) && with(OVER_CHECK) && !OLD -> err = FAILED
	:: OLD ->
		/* md_clean() */
		atomic {
			use(i);
			printf("%e: stops instance %d\n", me, i);
			claim(!md[i].running || md[i].openers <= mine, stopped_in_use);
			md[i].configured = 0; md[i].running = 0;
			if
			:: legacy && md[i].hold -> md[i].closing = 0
			:: else -> md[i].hold = 0
			fi;
			err = OK
		};
		if :: !legacy -> md[i].state = DYING :: else fi
	:: !OLD && !md[i].configured && !(over(i) && with(OVER_CHECK)) ->
		/* md_life_reset() */
		lock_all();
		atomic {
			use(i);
			printf("%e: resets instance %d\n", me, i);
			md[i].hold = 0; unlock_all()
		};
		err = RESET
	:: !OLD && md[i].configured && !(over(i) && with(OVER_CHECK)) ->
		/* md_disassemble(), md_life_kill() */
		atomic {
			use(i);
			printf("%e: stops instance %d\n", me, i);
			claim(!md[i].running || md[i].openers <= mine, stopped_in_use);
			md[i].configured = 0; md[i].running = 0
		};
		lock_all();
		atomic { md[i].stopped = 1; err = OK };
		die(i);
		unlock_all()
	fi
}

/* md_life_delete(), by whoever has killed it */
inline delete(i)
{
	atomic { use(i); md[i].queued = 1 };
	if
	:: true -> atomic { md[i].gone -> use(i) }
	:: err = FAILED			/* a signal: the deletion goes on */
	fi
}

/*
 * STOP_ARRAY, @mine is 1, and array_state=clear, 0: md_life_begin_closing(),
 * mddev_lock(), do_md_stop(), md_life_delete() or md_life_end_closing().
 */
inline stop(i, mine, err)
{
	/* md_ioctl() */
	if :: !OLD && mine -> touch(i) :: else fi;
	lock_all();
	if
	:: atomic { over(i) || md[i].closing ||
		(md[i].running || md[i].starting) && md[i].openers > mine ->
		use(i); err = FAILED; unlock_all() }
	:: else ->
		atomic { use(i); err = OK; md[i].closing = 1; had_array = md[i].configured };
		if :: !OLD -> begin_closing_disk(i) :: else fi;
		unlock_all()
	fi;
	if
	:: err == OK ->
		/* mddev_lock(): a signal, or it is over, or has it */
		if
		:: !OLD -> err = FAILED
		:: true ->
			lock_of(i, reconfig_mutex);
			if
			:: over(i) -> err = FAILED
			:: else -> do_md_stop(i, mine, err)
			fi;
			if
			:: !OLD && err == OK && !with(WAIT_UNLOCKED) ->
				md[i].queued = 1;
				md[i].gone
			:: OLD && mine && md[i].hold == UNTIL_IOCTL -> md[i].hold = 0
			:: else
			fi;
			unlock_reconfig(i)
		fi;
		if
		:: OLD -> if :: err != OK -> md[i].closing = 0 :: else fi
		:: !OLD && err == OK -> if :: with(WAIT_UNLOCKED) -> delete(i) :: else fi
		:: else ->
			/* md_life_end_closing() */
			lock_all();
			atomic { use(i); md[i].closing = 0 };
			if
			:: !over(i) && with(END_CLOSING) -> end_closing_disk(i)
			:: else
			fi;
			unlock_all()
		fi
	:: else
	fi;
	atomic {
		claim(OLD || err == FAILED || !had_array || md[i].state == GONE, stop_early);
		had_array = 0
	}
}

#define FILE	\
	byte i = NOBODY, old = NOBODY; unsigned err : 3; unsigned through : 4; \
	unsigned walks : 2; unsigned tries : 4; unsigned waited : N; \
	unsigned ended_before : 4; unsigned nr_seen : 4; bit loaded, early, had_array

/* mdadm --stop: opens by path, stops, closes */
proctype stopper()
{
	mtype me = stopper_;
	FILE;

	open_path(through, i, err);
	if
	:: err == OK -> stop(i, 1, err); close(i)
	:: else
	fi;
	done++
}

/* echo clear > array_state, through a file that is open */
proctype clearer()
{
	mtype me = clearer_;
	byte i;
	unsigned err : 3;
	bit had_array;

	if
	:: atomic { md[i].sysfs -> md[i].writes++ };
		lock_all();
		if
		:: atomic { !over(i) -> use(i); md[i].users++; unlock_all() };
			/* sysfs_break_active_protection() */
			if
			:: with(BREAK_ACTIVE) -> atomic { use(i); md[i].refs++; md[i].writes-- }
			:: else
			fi;
			stop(i, 0, err);
			touch(i);
			put(i);
			if
			:: with(BREAK_ACTIVE) -> md[i].writes++; put_disk(i)
			:: else
			fi
		:: else -> unlock_all()
		fi;
		md[i].writes--
	:: else
	fi;
	done++
}

/* Somebody who writes another attribute: md_attr_store() */
proctype writer()
{
	mtype me = writer_;
	byte i;

	if
	:: atomic { md[i].sysfs -> md[i].writes++ };
		lock_all();
		if
		:: atomic { !over(i) -> use(i); md[i].users++; unlock_all() };
			lock_of(i, reconfig_mutex);
			unlock_reconfig(i);
			touch(i);
			put(i)
		:: else -> unlock_all()
		fi;
		md[i].writes--
	:: else
	fi;
	done++
}

/* cat /proc/mdstat: md_seq_show() of each; md_notify_reboot() is like it */
proctype reader()
{
	mtype me = reader_;
	byte i;

	lock_all();
	do
	:: atomic { i < made && listed_md(i) && (!over(i) || !with(STATE_CHECK)) ->
		printf("%e: looks at instance %d\n", me, i);
		md[i].users++; unlock_all() };
		atomic { use(i) };
		lock_all();
		/* mddev_put_locked() */
		atomic { use(i); md[i].users-- };
		if :: md[i].users == 0 -> idle(i) :: else fi;
		i++
	:: atomic { i < made && !(listed_md(i) && (!over(i) || !with(STATE_CHECK))) -> i++ }
	:: atomic { i == made -> break }
	od;
	atomic { unlock_all(); i = 0 };
	done++
}

/* udev, mdadm --monitor: opens by path, looks, closes */
proctype observer()
{
	mtype me = observer_;
	FILE;

	open_path(through, i, err);
	if
	:: err == OK ->
		look(i);
		close(i)
	:: else
	fi;
	done++
}

/*
 * mdadm on a node of its own: makes a device, assembles an array, stops it or
 * not; or makes one, and thinks better of it
 */
proctype user()
{
	mtype me = user_;
	FILE;

	through = OWN_NODE;
	open_node(through, i, err);
	through = 0;
	if
	:: err == OK ->
		if
		:: true -> configure(i); stop(i, 1, err)
		:: true -> configure(i)
		:: true -> look(i)
		fi;
		close(i)
	:: else
	fi;
	done++
}

/* mdadm up to 4.4: stops the device that it has made, and then uses it */
proctype old_user()
{
	mtype me = old_user_;
	FILE;

	through = OWN_NODE;
	open_node(through, i, err);
	through = 0;
	if
	:: err == OK ->
		stop(i, 1, err);
		configure(i);
		close(i)
	:: else
	fi;
	done++
}

/* autorun_array(), at boot, of a device that cannot be run: BOOT has made it */
proctype starter()
{
	mtype me = starter_;
	byte i;
	unsigned err : 3 = FAILED;

	lock_of(i, reconfig_mutex);
	if :: over(i) :: else -> do_md_stop(i, ACTORS, err) fi;
	unlock_reconfig(i);
	if :: err == OK -> delete(i) :: else fi;
	put(i);
	done++
}

/* echo md0 > new_array: the device is to stay */
proctype namer()
{
	mtype me = namer_;
	byte i = NOBODY, old = NOBODY, through = OWN_NODE;
	bit early;

	make(UNTIL_STOP, i, old);
	done++
}

#ifdef FLIP
proctype flip() { legacy = !legacy }
#endif

/* When all have finished, and the work that was queued is done. */
#define quiet(i) (!md[i].queued && !md[i].works)
proctype all_is_quiet()
{
	byte i;

	done == ACTORS && quiet(0) && quiet(1) && quiet(2);
	d_step {
		do
		:: i < made ->
			claim(md[i].state != DYING, never_gone);
			claim(md[i].state != NASCENT && md[i].state != GONE, leaked);
			claim(md[i].state != LIVE || md[i].configured ||
			      (NAMERS && md[i].hold == UNTIL_STOP), comes_back);
			i++
		:: else -> break
		od
	}
}

init
{
	byte n;

	atomic {
#ifdef OLD_ASYNC
		legacy = 1;
#endif
#ifndef FRESH
		/* An array that runs; NAMED: made by name. */
		made = 1; unit = 0; hashed = 0; node = 0;
		md[0].state = LIVE; md[0].refs = 2; md[0].sysfs = 1;
		md[0].configured = 1; md[0].running = 1;
#endif
#if defined(NAMED) || defined(BOOT)
		md[0].hold = UNTIL_STOP;
#endif
#ifdef BOOT
		md[0].running = 0; md[0].users = 1;
#endif
		n = 0; do :: n < N -> run work(n); n++ :: else -> break od;
		n = 0; do :: n < STOPPERS -> run stopper(); n++ :: else -> break od;
		n = 0; do :: n < CLEARERS -> run clearer(); n++ :: else -> break od;
		n = 0; do :: n < OBSERVERS -> run observer(); n++ :: else -> break od;
		n = 0; do :: n < USERS -> run user(); n++ :: else -> break od;
		n = 0; do :: n < OLD_USERS -> run old_user(); n++ :: else -> break od;
		n = 0; do :: n < WRITERS -> run writer(); n++ :: else -> break od;
		n = 0; do :: n < READERS -> run reader(); n++ :: else -> break od;
		n = 0; do :: n < STARTERS -> run starter(); n++ :: else -> break od;
		n = 0; do :: n < NAMERS -> run namer(); n++ :: else -> break od;
#ifdef FLIP
		run flip();
#endif
		run all_is_quiet()
	}
}
