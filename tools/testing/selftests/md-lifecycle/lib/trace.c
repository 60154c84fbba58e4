// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
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
