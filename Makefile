# The commands people use; CI uses the same.

CARGO ?= cargo
.DEFAULT_GOAL := help
.PHONY: help run test browser chaos fuzz bench lint docs bugs install-servers build-tests

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'make run takes these variables:'
	@echo '  TIDEGATE_HTTP_PORT_1=8080 TIDEGATE_HTTP_PORT_2=8081   sockets, REST and the page'
	@echo '  TIDEGATE_OPS_PORT_1=9090 TIDEGATE_OPS_PORT_2=9091     metrics and health of the gateways'
	@echo '  TIDEGATE_WORKER_OPS_PORT=9190                         metrics and health of the worker'
	@echo '  TIDEGATE_REDIS_URL, TIDEGATE_DATABASE_URL             servers of your own'
	@echo '  any setting of docs/CONFIGURATION.md, as TIDEGATE_<SECTION>__<FIELD>'

install-servers:
	@scripts/install-servers

# Tests build the binaries they start, with the same features as everything else: a separate
# build of the binaries would compile most dependencies twice.
build-tests:
	$(CARGO) test --workspace --no-run

run: ## two gateways and a worker, with private servers in .run/; Ctrl-C stops them
	@scripts/install-servers run
	@$(CARGO) build -q --workspace --bins
	@exec target/debug/tidegate-dev

test: install-servers ## everything: unit, store, end to end, a short set of faults
	@scripts/test --workspace --no-fail-fast

browser: install-servers build-tests ## the page in a headless Chromium, which it installs with apt-get if need be
	scripts/browser

chaos: install-servers build-tests ## the long set of faults
	TIDEGATE_CHAOS=long scripts/test -p tests --test main -- --test-threads 1 --include-ignored chaos::

fuzz: ## random input to all that reads input, FUZZ_SECONDS=30 for each test
	FUZZ_SECONDS=$${FUZZ_SECONDS:-30} scripts/test --workspace --lib fuzz:: -- --test-threads 1 --nocapture

bench: install-servers ## figures with their baselines, some ten minutes; BENCH='--only direct' for a part
	$(CARGO) build --release -p gateway -p worker -p loadtest
	@ulimit -n "$$(ulimit -Hn)" 2>/dev/null; exec target/release/loadtest bench $(BENCH)

lint: ## formatting, clippy, documentation, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' $(CARGO) doc --workspace --no-deps --document-private-items
	scripts/deny

docs: ## renders the generated pages, schemas and types again
	UPDATE_DOCS=1 $(CARGO) test -p gateway -p worker --test docs --test contracts
	UPDATE_DOCS=1 scripts/client

bugs: install-servers ## shows that deliberate bugs are caught; slow
	tests/bugs/run
