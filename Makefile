# What people and CI run, one command a target. `make help` lists them.
#
# ARGS is passed on:  make run ARGS="--listen 127.0.0.1:0"    make test ARGS="--test api isolation"

CARGO ?= cargo
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test test-hostile test-superuser test-sets test-browser test-clients test-generators test-otlp test-deploy lint-deploy test-upgrade test-pooler test-engine test-citus example fuzz fuzz-archive lint fmt fmt-check clippy layering bless doc docs deny ci migrate bench faults kills rounds \
	image cargo postgres-to-run postgres-to-test

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# A development build: an optimised one takes several times as long, and the first start need not be fast. Password
# hashing and SCRAM are optimised in it all the same (Cargo.toml), and `make test` reuses its dependencies. What is
# deployed is the image, which is a release build.
run: cargo postgres-to-run ## start a server, with an embedded PostgreSQL unless DATABASE_URL is set
	$(CARGO) run -- serve $(ARGS)

test: cargo postgres-to-test ## run all tests, on an embedded PostgreSQL unless TEST_DATABASE_URL is set
	$(CARGO) test $(ARGS)

# Cargo and rustup keep what they have in the caller's HOME. Where the programs of PostgreSQL are is asked for the tests' own
# server, too.
HOSTILE = CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" RUSTUP_HOME="$${RUSTUP_HOME:-$$HOME/.rustup}" HOME=/hostile \
	TZ=Pacific/Kiritimati LANG=tr_TR.UTF-8 LC_ALL=xx_XX PGHOST=hostile.invalid PGPORT=1 PGUSER=hostile PGPASSWORD=hostile \
	PGDATABASE=hostile PGDATA=/hostile PGSERVICE=hostile PGOPTIONS='-c search_path=hostile' PGSSLMODE=verify-full \
	DATABASE_URL=postgres://hostile@127.0.0.1:1/hostile ROWHOUSE_SERVER=https://hostile.invalid ROWHOUSE_TOKEN=hostile

test-hostile: cargo postgres-to-test ## run all tests with every setting, libpq's variables, TZ, LANG and HOME set to something else
	env $$(sed -n '/__BIN_DIR/!s/^| `[^`]*` | `\(ROWHOUSE_[A-Z_]*\)` |.*/\1=hostile/p' docs/settings.md) $(HOSTILE) $(CARGO) test $(ARGS)

test-superuser: cargo postgres-to-test ## run the API tests as a superuser instead of an ordinary owner (ARGS="-- managed::" for some)
	TEST_LOGIN=superuser $(CARGO) test --test api $(ARGS)

test-sets: cargo postgres-to-test ## compare what sets of migrations make with what psql makes of them, and try bad and large files
	ROWHOUSE_FILES_A_RELEASE=1 ROWHOUSE_LARGE_FILE_MIB=50 $(CARGO) test --test api -- sets:: bad_migrations:: $(ARGS)

test-browser: cargo postgres-to-test ## drive the console of a server of this checkout in a real browser (ARGS="tasks.test.mjs")
	tests/browser/run $(ARGS)

test-clients: cargo ## run the published Databunker clients against a server of this checkout
	@.ci/ensure-postgres
	tests/clients/run

test-generators: cargo ## generate clients from the OpenAPI document with six generators, and run each against a server
	@.ci/ensure-postgres
	tests/generators/run

test-otlp: cargo ## export spans to a collector of OpenTelemetry (Rotel), which is away, stands still and is killed
	@.ci/ensure-postgres
	tests/otlp/run

test-deploy: cargo postgres-to-test ## check what is in deploy/, and the metrics, with promtool and other linters
	tests/deploy/run

lint-deploy: ## check the Kubernetes manifests against the schemas of Kubernetes
	tests/deploy/run manifests

test-upgrade: cargo postgres-to-test ## replace servers of two builds under load, and back (OLD=v0.1.0 for a release)
	OLD="$(OLD)" NEW="$(NEW)" tests/upgrade/run

test-pooler: cargo postgres-to-test ## run the tests with PgBouncer in transaction mode before the server's connections
	CARGO="$(CARGO)" tests/pooler/run $(ARGS)

# What the code sends to Citus, on an ordinary PostgreSQL: it proves nothing about Citus itself. Left out are the tests of
# what a server does in another way there.
NOT_WITH_ENGINE = $(shell sed -n 's/^\([a-z_:0-9]*\)\t.*\tengine$$/--skip \1/p' tests/api/citus/not_on_citus.txt)

test-engine: cargo postgres-to-test ## run API tests with the database taken for a Citus cluster (ARGS="-- fleet::" for some)
	@sed -n 's/^\([a-z_:0-9]*\)\t\(.*\)\tengine$$/test-engine: SKIPPED \1: \2/p' tests/api/citus/not_on_citus.txt >&2
	TEST_ENGINE=citus $(CARGO) test --test api $(ARGS) $(if $(filter --,$(ARGS)),,--) $(NOT_WITH_ENGINE)

# The tests that a cluster cannot take, each with the rule of Citus. One test at a time: the databases of a server share
# their roles, and Citus grants a role only where the nodes know all of its members.
NOT_ON_CITUS = $(shell sed -n 's/^\([a-z_:0-9]*\)\t.*/--skip \1/p' tests/api/citus/not_on_citus.txt)

test-citus: cargo ## run the tests on the Citus cluster whose coordinator is at CITUS_URL (ARGS="-- citus::" for some)
	@if [ -z "$(CITUS_URL)" ]; then \
		echo "test-citus: SKIPPED, because CITUS_URL names no coordinator (postgres://postgres@host:port/postgres)" >&2; \
	else \
		TEST_CITUS=1 TEST_DATABASE_URL="$(CITUS_URL)" $(CARGO) test --test api $(ARGS) \
			$(if $(filter --,$(ARGS)),,--) --test-threads=1 $(NOT_ON_CITUS); \
	fi

fuzz: cargo ## send generated requests to every operation of the OpenAPI document (ARGS="--include-tag control")
	@.ci/ensure-postgres
	tests/fuzz/run $(ARGS)

fuzz-archive: cargo ## give the reader of archives any bytes, guided by coverage (ARGS="-max_total_time=600" for ten minutes)
	@.ci/ensure-cxx
	CARGO="$(CARGO)" fuzz/run $(ARGS)

example: cargo postgres-to-test ## test the application of the tutorial, and build a program that only depends on the crate
	$(CARGO) test --manifest-path examples/notes/Cargo.toml --target-dir target
	$(CARGO) run --manifest-path tests/fixtures/dependent/Cargo.toml --target-dir target

lint: fmt-check layering clippy ## check the format, the layers and clippy's lints

fmt: cargo ## format the code
	$(CARGO) fmt

fmt-check: cargo
	$(CARGO) fmt --check

# Tests and examples switch on more features than `cargo run` has: the program is checked with those too.
clippy: cargo
	$(CARGO) clippy --all-targets --all-features -- -D warnings
	$(CARGO) check

layering: cargo
	$(CARGO) test --test layering

bless: cargo ## rewrite what is generated from the code: the table of settings, the matrix of callers
	BLESS=1 $(CARGO) test --test api readme::its_table_of_settings
	BLESS=1 $(CARGO) test --test api matrix::every_principal
	BLESS=1 $(CARGO) test --test layering api::

doc: cargo ## build the crate's documentation, without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

docs: ## build the book in docs/ with mdBook, into target/book
	@command -v mdbook >/dev/null 2>&1 || { \
		echo "mdBook is not on the PATH. Install it with:  cargo install mdbook" >&2; \
		echo "The book is plain Markdown too: start at docs/README.md." >&2; \
		exit 1; \
	}
	mdbook build docs
	@echo "open target/book/index.html"

deny: cargo ## check licences, bans, sources and advisories of the dependencies
	.ci/deny

ci: ## run all of what CI runs
	.ci/run

migrate: cargo postgres-to-run ## migrate the control plane and the fleet
	$(CARGO) run -- migrate $(ARGS)

bench: cargo postgres-to-test ## run the benchmarks (ARGS="--bench fleet" for one)
	$(CARGO) bench $(ARGS)

faults: cargo postgres-to-test ## kill, stop, cut off and fill servers and databases under load, and look for what is lost (ARGS="database::")
	ROWHOUSE_FAULTS=long $(CARGO) test --test faults -- --test-threads 1 $(ARGS)

kills: cargo postgres-to-test ## kill the migrating process 20 times inside a transaction, and look for tenants migrated twice or in part
	ROWHOUSE_FLEET_KILLS=20 $(CARGO) test --test api fleet::kills -- --nocapture $(ARGS)

# As long as it takes to meet rare moments; ROWHOUSE_ARCHIVE_ROUNDS=200 for more of them.
rounds: cargo postgres-to-test ## kill imports, clones and swaps 50 times each, swap and export 50 times under load, migrate during exports
	ROWHOUSE_ARCHIVE_ROUNDS="$${ROWHOUSE_ARCHIVE_ROUNDS:-50}" $(CARGO) test --test api portability:: -- --nocapture $(ARGS)

image: ## build the container image
	docker build -t rowhouse .

# ---- what the targets above need ----

cargo:
	@command -v $(CARGO) >/dev/null 2>&1 || { \
		echo "cargo is not on the PATH. Install Rust as https://rustup.rs says, then try again." >&2; \
		exit 1; \
	}

postgres-to-run:
	@test -n "$$DATABASE_URL" || .ci/ensure-postgres DATABASE_URL

# Needed even where TEST_DATABASE_URL is set: some tests start servers of their own, to kill them.
postgres-to-test:
	@.ci/ensure-postgres
