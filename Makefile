# SPDX-License-Identifier: GPL-2.0
# One line for each thing to do; the work is in scripts/.

.DEFAULT_GOAL := help

run: ## play the life of md and dm devices in a VM with the patched kernel
	@scripts/run
test: ## every test: series checks, then the selftests in the VM
	@scripts/test
noautoload: ## selftests in a kernel that makes no device when a node is opened
	@scripts/test noautoload
kunit: ## the KUnit tests, in a kernel that is a process of this machine
	@scripts/kunit
coverage: ## the KUnit tests with gcov: what of the new files they take
	@scripts/kunit --coverage
model: ## every state of the models of the life of devices, by SPIN
	@scripts/model
compare: ## the same selftests on the base and the patched kernel, one table
	@scripts/compare
fuzz: ## 10000 random operations on md and dm devices in the VM; OPTIONS="--ops 1000000"
	@scripts/fuzz $(OPTIONS)
modules: ## md and dm as modules: loaded, used and unloaded 200 times in the VM
	@scripts/modules
mutants: ## what the tests make of code that is broken, one thing at a time
	@scripts/mutants
soak: ## all that takes too long for "test"; PARTS="debug fuzz" for some of it
	@scripts/soak $(PARTS)
bisect-check: ## each patch builds, wide, and boots; PATCHES="1 24", OPTIONS=--no-boot
	@scripts/bisect-check $(OPTIONS) $(PATCHES)
elsewhere: ## the selftests on the kernel that Debian ships; TESTS="md_stop dm_load"
	@scripts/elsewhere $(TESTS)
static: ## sparse, Coccinelle, clang, arm64, i386; PARTS="sparse clang" for some of it
	@scripts/static $(PARTS)
matrix: ## mdadm 4.2, 4.4 and 4.6, with udevd and without, one table
	@scripts/matrix
docs: ## the document as htmldocs shows it, without a warning; OPTIONS=--png
	@scripts/docs $(OPTIONS)
selftests-tar: ## the archive of the selftests, to run anywhere; OPTIONS="--check -t md_stop"
	@scripts/selftests-tar $(OPTIONS)
shell: ## a shell in the VM
	@scripts/shell
bench: ## base against patched: costs, grace periods, the I/O path; QUICK=1 or FULL=1
	@scripts/bench $(WORKLOADS)
check: ## the quick tests: lint and the series tooling, no VM
	@scripts/test quick
clean: ## remove what was built
	@rm -rf build
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

-include scripts/series.mk

.PHONY: run test noautoload kunit coverage model compare fuzz modules mutants soak \
	bisect-check docs elsewhere selftests-tar static matrix shell bench check clean help
