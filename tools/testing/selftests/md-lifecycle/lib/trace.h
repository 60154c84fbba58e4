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

#endif /* LIFECYCLE_TRACE_H */
