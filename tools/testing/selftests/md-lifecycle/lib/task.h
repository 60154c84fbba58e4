/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A system call that may have to wait, in a process of its own: is it waiting,
 * and where; what did it return; can it be killed. See lifecycle.h.
 */
#ifndef LIFECYCLE_TASK_H
#define LIFECYCLE_TASK_H

#include "lifecycle.h"

struct task {
	pid_t pid;
	const char *what;		/* for messages */
	struct task_shared {
		int done;
		long ret;
		unsigned long long out;	/* whatever else @fn has to tell */
	} *shared;
};

/* Why nobody can see here where a task is, or NULL. */
const char *task_missing(void);

/*
 * Run @fn(@task, @arg) in a process that has no files open but 0, 1, 2 and
 * @keep (-1: none), and that stays when it is done, with what @fn has opened,
 * until task_end().
 */
int task_start(struct task *task, const char *what,
	       long (*fn)(struct task *task, void *arg), void *arg, int keep);

/* A task's @fn: one direct read from the start of @arg, a pointer to a descriptor. */
long task_read(struct task *task, void *arg);

/* The same: one direct write to the start of @arg, a node, which it opens. */
long task_write_node(struct task *task, void *arg);

/*
 * Wait until it waits for something in the kernel, called by @function (as of
 * task_is_in()): 0; -EALREADY if @fn has returned, and then says what;
 * -ETIMEDOUT if it does neither, and then says where it is.
 */
int task_blocked(struct task *task);
int task_blocked_in(struct task *task, const char *function);

/* Wait until any other task, a kernel thread say, has nothing to do. */
int thread_asleep(pid_t pid);

/* Has @fn returned? */
bool task_done(const struct task *task);

/*
 * What @fn returned, waiting for it; -ETIMEDOUT after DEADLINE_MS, and then
 * says where the task is.
 */
long task_result(struct task *task);

/*
 * Is @function in the kernel stack of the task? Underscores before the name do
 * not count, as the compiler decides which of the two is on the stack.
 */
bool task_is_in(const struct task *task, const char *function);

/* Say where in the kernel the task is. */
void task_report(const struct task *task);

/* SIGKILL: 0 if that ends it within DEADLINE_MS, -ETIMEDOUT if it does not. */
int task_kill(struct task *task);

/* The same, without a word about it. For teardown; any state. */
void task_end(struct task *task);

/* Wait until some task's kernel stack has @function in it, and return its pid. */
pid_t task_find(const char *function);

/* The task, a kernel thread say, that is called so; 0 if there is none. */
pid_t __printf(1, 2) task_named(const char *fmt, ...);

#endif /* LIFECYCLE_TASK_H */
