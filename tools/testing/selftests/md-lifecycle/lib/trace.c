// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lifecycle.h"
#include "trace.h"

#define TRACING "/sys/kernel/tracing"

static int kprobe_command(const char *cmd)
{
	int fd, ret = 0;

	fd = open(TRACING "/kprobe_events", O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, cmd, strlen(cmd)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

int probe_start(struct probe *probe, const char *function)
{
	static unsigned int serial;
	char buf[160];
	int ret;

	snprintf(probe->name, sizeof(probe->name), "lc%d_%u", getpid(), serial++);
	snprintf(buf, sizeof(buf), "p:lifecycle/%s %s", probe->name, function);
	ret = kprobe_command(buf);
	if (ret) {
		probe->name[0] = '\0';
		return ret;
	}

	/* A trace buffer of its own, of what this process does. */
	snprintf(buf, sizeof(buf), TRACING "/instances/%s", probe->name);
	if (mkdir(buf, 0755)) {
		ret = -errno;
		goto out;
	}
	snprintf(buf, sizeof(buf), "common_pid == %d", getpid());
	ret = file_write(buf, TRACING "/instances/%s/events/lifecycle/%s/filter",
			 probe->name, probe->name);
	if (!ret)
		ret = file_write("1", TRACING "/instances/%s/events/lifecycle/%s/enable",
				 probe->name, probe->name);
out:
	if (ret)
		probe_stop(probe);
	return ret;
}

int probe_hits(struct probe *probe)
{
	char path[128], line[512], want[40];
	int hits = 0;
	FILE *f;

	snprintf(want, sizeof(want), " %s: ", probe->name);
	snprintf(path, sizeof(path), TRACING "/instances/%s/trace", probe->name);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (strstr(line, want))
			hits++;
	fclose(f);
	f = fopen(path, "we");	/* opening it for writing clears it */
	if (f)
		fclose(f);
	return hits;
}

void probe_stop(struct probe *probe)
{
	char buf[128];

	if (!probe->name[0])
		return;
	file_write("0", TRACING "/instances/%s/events/lifecycle/%s/enable",
		   probe->name, probe->name);
	snprintf(buf, sizeof(buf), TRACING "/instances/%s", probe->name);
	rmdir(buf);
	snprintf(buf, sizeof(buf), "-:lifecycle/%s", probe->name);
	kprobe_command(buf);
	probe->name[0] = '\0';
}

static int stacks_probe(struct stacks *stacks, const char *const *functions, int nr)
{
	static unsigned int serial;
	char buf[160];
	int i, ret;

	snprintf(stacks->name, sizeof(stacks->name), "lcs%d_%u", getpid(), serial++);
	stacks->nr = 0;
	for (i = 0; i < nr && stacks->nr < STACKS_MAX; i++) {
		snprintf(buf, sizeof(buf), "p:%s/c%u %s", stacks->name, stacks->nr,
			 functions[i]);
		if (kprobe_command(buf))
			continue;
		snprintf(stacks->functions[stacks->nr++],
			 sizeof(stacks->functions[0]), "%s", functions[i]);
	}
	if (!stacks->nr) {
		stacks->name[0] = '\0';
		return -ENOENT;
	}

	snprintf(buf, sizeof(buf), TRACING "/instances/%s", stacks->name);
	ret = mkdir(buf, 0755) ? -errno : 0;
	if (!ret)
		ret = file_write("1", TRACING "/instances/%s/options/stacktrace",
				 stacks->name);
	if (!ret)
		ret = file_write("1", TRACING "/instances/%s/events/%s/enable",
				 stacks->name, stacks->name);
	if (ret)
		stacks_stop(stacks);
	return ret;
}

static void stacks_clear(const struct stacks *stacks)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), TRACING "/instances/%s/trace", stacks->name);
	f = fopen(path, "we");
	if (f)
		fclose(f);
}

/*
 * A call is a line "COMM-PID ... cN: (...)", one that ends in "<stack trace>",
 * and a line " => FUNCTION" for each function on the stack, the innermost first.
 */
int stacks_read(struct stacks *stacks,
		void (*seen)(void *arg, unsigned int function, pid_t pid,
			     const char *stack),
		void *arg)
{
	char path[128], line[512], stack[4096] = "", comm[64];
	unsigned int function = 0, nr;
	int calls = 0, pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), TRACING "/instances/%s/trace", stacks->name);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		size_t len = strlen(stack);
		char *hit, *dash;

		if (!strncmp(line, " => ", 4)) {
			snprintf(stack + len, sizeof(stack) - len, "%s", line + 4);
			continue;
		}
		hit = strstr(line, ": c");
		if (!hit || sscanf(hit, ": c%u:", &nr) != 1 ||
		    strstr(line, "<stack trace>"))
			continue;
		if (calls++)
			seen(arg, function, pid, stack);
		stack[0] = '\0';
		function = nr;
		/* A task's name may have dashes and blanks. */
		snprintf(comm, sizeof(comm), "%.*s", (int)strcspn(line, "["), line);
		dash = strrchr(comm, '-');
		pid = dash ? atoi(dash + 1) : 0;
	}
	if (calls)
		seen(arg, function, pid, stack);
	fclose(f);
	stacks_clear(stacks);
	return calls;
}

static void look_for_caller(void *arg, unsigned int function, pid_t pid,
			    const char *stack)
{
	const char *caller = strchr(stack, '\n');

	if (caller && caller[1])
		*(bool *)arg = true;
}

/*
 * A probe is a breakpoint, which does not tell the stack, until the kernel has
 * made it a jump: not at once, and those that were set last at last.
 */
static bool stacks_have_callers(void)
{
	static const char *const last[] = { "set_user_nice" };
	uint64_t end = now_ms() + DEADLINE_MS;
	bool callers = false;
	struct stacks stacks;

	if (stacks_probe(&stacks, last, 1))
		return false;
	do {
		setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0));
		if (stacks_read(&stacks, look_for_caller, &callers) <= 0)
			break;
	} while (!callers && now_ms() < end);
	stacks_stop(&stacks);
	return callers;
}

int stacks_start(struct stacks *stacks, const char *const *functions, int nr)
{
	int ret = stacks_probe(stacks, functions, nr);

	if (ret)
		return ret;
	if (!stacks_have_callers()) {
		stacks_stop(stacks);
		return -EOPNOTSUPP;
	}
	stacks_clear(stacks);
	return 0;
}

bool called_by(const char *stack, const char *prefix)
{
	const char *at = stack;

	while (at && *at) {
		if (!strncmp(at, prefix, strlen(prefix)))
			return true;
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	return false;
}

void stacks_stop(struct stacks *stacks)
{
	char buf[128];
	unsigned int i;

	if (!stacks->name[0])
		return;
	file_write("0", TRACING "/instances/%s/events/%s/enable", stacks->name,
		   stacks->name);
	snprintf(buf, sizeof(buf), TRACING "/instances/%s", stacks->name);
	rmdir(buf);
	for (i = 0; i < stacks->nr; i++) {
		snprintf(buf, sizeof(buf), "-:%s/c%u", stacks->name, i);
		kprobe_command(buf);
	}
	stacks->name[0] = '\0';
}

int events_start(struct events *events, const char *event)
{
	static unsigned int serial;
	char buf[160];
	int ret;

	events->name[0] = '\0';
	events->pipe = -1;
	if (!path_exists(TRACING "/events/%s", event))
		return -ENOENT;
	snprintf(events->event, sizeof(events->event), "%s", event);
	snprintf(events->name, sizeof(events->name), "lce%d_%u", getpid(), serial++);
	snprintf(buf, sizeof(buf), TRACING "/instances/%s", events->name);
	ret = mkdir(buf, 0755) ? -errno : 0;
	if (!ret) {
		snprintf(buf, sizeof(buf), TRACING "/instances/%s/trace_pipe",
			 events->name);
		events->pipe = open(buf, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		ret = events->pipe < 0 ? -errno : 0;
	}
	if (!ret)
		ret = file_write("1", TRACING "/instances/%s/events/%s/enable",
				 events->name, event);
	if (ret)
		events_stop(events);
	return ret;
}

/* "COMM-TID [CPU] ... TIME: EVENT: FIELDS" */
static bool parse_event(const struct events *events, char *line, pid_t *tid,
			const char **fields)
{
	const char *name = strchr(events->event, '/') + 1;
	char want[64], *at, *cpu, *dash;

	snprintf(want, sizeof(want), ": %s: ", name);
	at = strstr(line, want);
	cpu = strchr(line, '[');
	if (!at || !cpu)
		return false;
	*fields = at + strlen(want);
	*cpu = '\0';
	dash = strrchr(line, '-');
	if (!dash)
		return false;
	*tid = atoi(dash + 1);
	return true;
}

int events_read(struct events *events,
		void (*seen)(void *arg, pid_t tid, const char *fields), void *arg)
{
	char buf[8192], *line, *end;
	const char *fields;
	size_t have = 0;
	int count = 0;
	bool lost = false;
	pid_t tid;
	ssize_t n;

	while (events->pipe >= 0) {
		n = read(events->pipe, buf + have, sizeof(buf) - 1 - have);
		if (n <= 0)
			break;
		have += n;
		buf[have] = '\0';
		for (line = buf; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			if (strstr(line, "[LOST ")) {
				lost = true;
			} else if (parse_event(events, line, &tid, &fields)) {
				count++;
				seen(arg, tid, fields);
			}
		}
		have = strlen(line);
		memmove(buf, line, have);
	}
	return lost ? -EOVERFLOW : count;
}

long long event_field(const char *fields, const char *field)
{
	const char *at = strstr(fields, field);

	if (!at)
		return -1;
	at += strlen(field);
	at += strspn(at, " =:");
	if (*at >= '0' && *at <= '9')
		return strtoll(at, NULL, 10);
	return *at == 't' || *at == 'y' || *at == 'Y' || *at == 'T';
}

void events_stop(struct events *events)
{
	char buf[128];

	if (!events->name[0])
		return;
	file_write("0", TRACING "/instances/%s/events/%s/enable", events->name,
		   events->event);
	if (events->pipe >= 0)
		close(events->pipe);
	events->pipe = -1;
	snprintf(buf, sizeof(buf), TRACING "/instances/%s", events->name);
	rmdir(buf);
	events->name[0] = '\0';
}
