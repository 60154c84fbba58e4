/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Let one thing fail that the kernel does for a task, the n-th: an allocation,
 * or a request to a disk. See lifecycle.h.
 */
#ifndef LIFECYCLE_FAULT_H
#define LIFECYCLE_FAULT_H

#include "lifecycle.h"

enum fault_what {
	FAULT_MEMORY,	/* slab objects, and pages if the kernel lets these fail */
	FAULT_REQUEST,	/* requests to disks with fault_disk(), and nothing else */
};

#define FAULT_SETTINGS	8

struct fault {
	int *nth;		/* fail-nth of the tasks */
	int nr;
	bool workers;		/* and not one task */
	unsigned int armed;	/* what was to fail the last time */
	unsigned int seen;	/* and how many there were */
	bool started;
	char old[FAULT_SETTINGS][16];
};

/* Why that cannot be let fail here, or NULL. */
const char *fault_missing(enum fault_what what);

/* Save what is set, and set what is to fail: yet nothing does. */
int fault_start(struct fault *fault, enum fault_what what);
void fault_end(struct fault *fault);

/* Let requests to the disk be among those that fail. */
int fault_disk(const struct disk *disk);

/*
 * It is this task of which things fail after fault_start(); from now on it is
 * @pid, a child or a thread of the kernel. For the time until it ends.
 */
int fault_task(struct fault *fault, pid_t pid);

/* The same, for all workers that there are of unbound workqueues. */
int fault_workers(struct fault *fault);

/* The @nr-th thing fails that the task does from now on, or each of them. */
int fault_arm(struct fault *fault, unsigned int nr);

/* No more of that: 1 if one has failed, 0 if there were less than @nr. */
int fault_disarm(struct fault *fault);

/*
 * An operation in which something fails, in the middle of a life that begins
 * with @before (or NULL) and ends with @end. The first two return an errno, the
 * others what is wrong, or NULL.
 */
struct fault_op {
	int (*before)(void);
	int (*op)(void);		/* nothing fails the second time */
	const char *(*whole)(void);	/* looks when @op has failed */
	const char *(*done)(void);	/* looks when @op has succeeded */
	/* Looks that nothing is left; @hit: something has failed in this life. */
	const char *(*end)(bool hit);
};

struct fault_walk {
	unsigned int points;		/* things that can fail in it */
	unsigned int hit;		/* those that were let fail */
	unsigned int tolerated;		/* and it did not mind */
	bool by_workers;		/* it was not one task that did it */
};

/* @what and @ret, as one text that is good until the next call. */
const char *fault_text(const char *what, int ret);

/*
 * A life for each thing that can fail in the operation, which in turns is then
 * repeated or given up. Where there are many things most are alike, the entries
 * of a pool, say: after the first 64 it is each seventh, unless the environment
 * has MD_FAIL_EVERY=1. NULL if nothing was wrong; else that is the text, with
 * the number of what has failed. Workers share the work as it comes, and a new
 * one may do it: that is at an end when nothing has failed several times.
 */
const char *fault_lives(struct fault *fault, const struct fault_op *op,
			struct fault_walk *walk);

#endif /* LIFECYCLE_FAULT_H */
