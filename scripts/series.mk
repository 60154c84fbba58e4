# SPDX-License-Identifier: GPL-2.0
# The series: patches/ and new files <-> mails <-> build/linux.

.PHONY: tree export series am check-bases lint recipients send-check

tree: ## build/linux = the base kernel + one commit per patch
	@scripts/tree
export: ## the way back: commits of build/linux into patches/ and new files
	@scripts/export
series: ## build/series/: numbered mails, ready for git am and git send-email
	@scripts/compose build/series && echo "apply with: git am --empty=drop $(CURDIR)/build/series/*.patch"
recipients: ## whom each mail goes to: build/series/recipients
	@scripts/recipients
send-check: ## are the mails fit for git send-email, b4 and git am? do the fixes stand alone?
	@scripts/send-check
am: ## apply the series to your own tree, make am KDIR=/your/linux
	@scripts/am "$(KDIR)"
check-bases: ## does the series apply to 7.1, 7.2 and 7.3?
	@scripts/check-bases
lint: ## checkpatch on the patches, shellcheck, kernel-doc
	@scripts/lint
