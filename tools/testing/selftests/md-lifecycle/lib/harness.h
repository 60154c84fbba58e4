/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kselftest_harness.h, and the list of tests that no kernel passes yet.
 *
 * The file "xfail" beside the test programs names tests whose requirement is
 * brought by later work, a line each:
 *
 *	fixture[.variant].test	requirement	reason
 *
 * Such a test is run like any other. Failing, it is reported as XFAIL; passing,
 * it is an error, so that the list can only get shorter. With
 * MD_LIFECYCLE_XFAIL=0 in the environment the list is not read, and every test
 * reports what it saw: that is for comparing kernels.
 */
#ifndef LIFECYCLE_HARNESS_H
#define LIFECYCLE_HARNESS_H

#include <errno.h>
#include <stdlib.h>

#include "kselftest_harness.h"
#include "lifecycle.h"

#define MAX_TESTS	64

static struct {
	struct __test_metadata *test;
	void (*fn)(struct __test_metadata *t,
		   struct __fixture_variant_metadata *v);
} lifecycle_tests[MAX_TESTS];

/* The list's line for a test, or an empty string. */
static void lifecycle_xfail_line(const char *name, char *line, size_t len)
{
	const char *use = getenv("MD_LIFECYCLE_XFAIL");
	size_t name_len = strlen(name);
	FILE *f;

	line[0] = '\0';
	if (use && !strcmp(use, "0"))
		return;
	f = fopen("xfail", "re");
	if (!f)
		return;
	while (fgets(line, len, f)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, name, name_len) &&
		    (line[name_len] == ' ' || line[name_len] == '\t')) {
			fclose(f);
			return;
		}
	}
	line[0] = '\0';
	fclose(f);
}

/*
 * Stands in for every test's function, in the harness's child process: runs it
 * in one more child, and turns the result round if the test is on the list.
 */
static void lifecycle_run(struct __test_metadata *t,
			  struct __fixture_variant_metadata *v)
{
	char name[256], line[512];
	int i, status;
	pid_t pid;

	for (i = 0; lifecycle_tests[i].test != t; i++)
		;
	snprintf(name, sizeof(name), "%s%s%s.%s", t->fixture->name,
		 v->name[0] ? "." : "", v->name, t->name);
	lifecycle_xfail_line(name, line, sizeof(line));
	if (!line[0]) {
		lifecycle_tests[i].fn(t, v);
		return;
	}

	fflush(NULL);
	pid = fork();
	if (!pid) {
		lifecycle_tests[i].fn(t, v);
		_exit(t->exit_code);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		t->exit_code = KSFT_FAIL;
		return;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP) {
		t->exit_code = KSFT_SKIP;
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_PASS) {
		ksft_print_msg("%s passes: take it off the list xfail\n", name);
		t->exit_code = KSFT_FAIL;
	} else if ((WIFEXITED(status) && WEXITSTATUS(status) == KSFT_FAIL) ||
		   (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)) {
		snprintf(t->results->reason, sizeof(t->results->reason), "%s",
			 line + strlen(name) + 1);
		t->exit_code = KSFT_XFAIL;
	} else {
		ksft_print_msg("%s does not fail, it crashes\n", name);
		t->exit_code = KSFT_FAIL;
	}
	t->aborted = false;
}

static void __attribute__((constructor(KSELFTEST_PRIO_XFAIL)))
lifecycle_take_over(void)
{
	struct __fixture_metadata *f;
	struct __test_metadata *t;
	int i = 0;

	for (f = __fixture_list; f; f = f->next) {
		for (t = f->tests; t; t = t->next) {
			if (i == MAX_TESTS - 1) {
				fprintf(stderr, "MAX_TESTS is too small\n");
				abort();
			}
			lifecycle_tests[i].test = t;
			lifecycle_tests[i++].fn = t->fn;
			t->fn = lifecycle_run;
		}
	}
}

#endif /* LIFECYCLE_HARNESS_H */
