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
model: ## every state of the model of the md life, by SPIN
	@scripts/model
compare: ## the same selftests on the base and the patched kernel, one table
	@scripts/compare
matrix: ## mdadm 4.2, 4.4 and 4.6, with udevd and without, one table
	@scripts/matrix
shell: ## a shell in the VM
	@scripts/shell
bench: ## a small benchmark, base against patched
	@scripts/bench
check: ## the quick tests: lint and the series tooling, no VM
	@scripts/test quick
clean: ## remove what was built
	@rm -rf build
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

-include scripts/series.mk

.PHONY: noautoload run test kunit model compare matrix shell bench check clean help
