/* SPDX-License-Identifier: GPL-2.0 */
/* Count what a test makes the kernel do, by a kprobe. See lifecycle.h. */
#ifndef LIFECYCLE_TRACE_H
#define LIFECYCLE_TRACE_H

struct probe {
	char name[32];
};

/* Count calls of the kernel function @function by this process. */
int probe_start(struct probe *probe, const char *function);

/* The calls since the start or the last time. */
int probe_hits(struct probe *probe);
void probe_stop(struct probe *probe);

#define STACKS_MAX	16

/* Functions that wait for a grace period, or start one that is waited for. */
#define GRACE_PERIOD_WAITS \
	"synchronize_rcu", "synchronize_rcu_expedited", \
	"synchronize_srcu", "synchronize_srcu_expedited", \
	"cond_synchronize_rcu", "rcu_barrier", "srcu_barrier", \
	"percpu_ref_kill_and_confirm", "percpu_ref_switch_to_atomic_sync"

struct stacks {
	char name[32];
	unsigned int nr;
	char functions[STACKS_MAX][40];
};

/*
 * See who calls any of @nr kernel functions, whichever task it is. Functions
 * that this kernel does not have, or lets nobody probe, are left out: the rest
 * are in @stacks->functions. -EOPNOTSUPP if it cannot be seen, as with KCSAN.
 */
int stacks_start(struct stacks *stacks, const char *const *functions, int nr);

/*
 * Tell @seen of each call since the start or the last time: which of the
 * functions, the caller's process, and the functions on its stack, a line each.
 * Returns how many calls there were.
 */
int stacks_read(struct stacks *stacks,
		void (*seen)(void *arg, unsigned int function, pid_t pid,
			     const char *stack),
		void *arg);
void stacks_stop(struct stacks *stacks);

/* Is a function on @stack whose name begins with @prefix? */
bool called_by(const char *stack, const char *prefix);

/* What the kernel tells by one trace event, whichever task makes it do so. */
struct events {
	char name[32];
	char event[64];		/* SYSTEM/EVENT */
	int pipe;
};

/* -ENOENT if this kernel has no such event; the other functions then do nothing. */
int events_start(struct events *events, const char *event);

/*
 * Tell @seen of each event since the start or the last time: the task's id and
 * the text of the fields. Returns how many there were; -EOVERFLOW if some are
 * lost.
 */
int events_read(struct events *events,
		void (*seen)(void *arg, pid_t tid, const char *fields), void *arg);

/* The number after @field in such a text, 1 for "true" or "y"; -1: none there. */
long long event_field(const char *fields, const char *field);
void events_stop(struct events *events);

#endif /* LIFECYCLE_TRACE_H */
