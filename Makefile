# Thin: each target is a command or two that could be typed. `make demo` and `make test` share one build, build/release.
#
#   make demo     the whole loop with simulated users, in minutes
#   make test     everything that is proven, and how long each kind took
#   make build    build/release/bin/fuseline alone
#   make bench    the figures of bench/BENCHMARKS.md
#   make bench-peers   builds the foreign programs that `make bench` then runs beside ours
#   make soak     2,000,000 events and 200 kills of `fuseline sessionize`; an hour at most, and the next call goes on
#   make format   clang-format over the sources
#   make setup    what the machine needs; the targets above do it first
#
# Arguments: DEMO_ARGS="--seed 7", TEST_ARGS="-L unit" (handed to ctest), JOBS=4, SOAK_ARGS="--for 10m --kills 50",
# SOAK_DIR=/var/tmp/soak.

BUILD := build/release
JOBS ?= $(shell nproc)

# Without a terminal there is nobody to ask, as in CI.
SETUP_ARGS ?= $(shell if [ "$$CI" = true ] || ! [ -t 0 ]; then echo --yes; fi)

# A clone in another folder hits the same cache entries.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := true
export CCACHE_SLOPPINESS := pch_defines,time_macros

.PHONY: build bench bench-peers configure demo format setup soak test
.DEFAULT_GOAL := build

setup:
	@deploy/setup.sh $(SETUP_ARGS)

configure: setup
	@cmake --preset release --log-level=WARNING

build: configure
	@cmake --build $(BUILD) --target fuseline_app_fuseline

demo: build
	$(BUILD)/bin/fuseline demo $(DEMO_ARGS)

# ctest closes with the time of each label and one line of summary.
test: configure
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS) $(TEST_ARGS)

SOAK_DIR ?= build/soak
SOAK_ARGS ?= --for 60m

soak: configure
	@cmake --build $(BUILD) --target fuseline_soak
	@FUSELINE_BIN_DIR=$(BUILD)/bin $(BUILD)/bin/fuseline_soak --folder $(SOAK_DIR) $(SOAK_ARGS)

bench: configure
	@cmake --build $(BUILD)
	@set -e; for bench in $(BUILD)/bin/*_bench; do echo "== $$bench"; $$bench $(BENCH_ARGS); done

bench-peers:
	@deploy/setup.sh --with-peers $(SETUP_ARGS)
	bench/peers/kafka_streams/build.sh
	bench/peers/pytorch/build.sh
	bench/peers/onnxruntime/build.sh

format:
	git ls-files '*.h' '*.cc' | xargs clang-format-14 -i
