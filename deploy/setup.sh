#!/usr/bin/env bash
# Makes this machine able to build, test and run Fuseline (Debian 12 or a relative of it).
#
#   deploy/setup.sh [--yes] [--dry-run] [--without-kafka] [--with-clang] [--with-cuda] [--with-peers]
#
#   --yes            do not ask before installing; for machines without a person
#   --dry-run        say what is missing and change nothing; exit 0 when nothing is missing, else 1
#   --without-kafka  leave out the Kafka broker and its Java: tests against a real broker will be skipped
#   --with-clang     also clang, clang-tidy and clang-format 14, for the preset `clang` and for `make format`
#   --with-cuda      also the libraries with which LibTorch uses a GPU (2 GB more to fetch)
#   --with-peers     also what builds the programs that benchmarks run beside ours (`make bench-peers`): a JDK, Maven,
#                    Python's headers and virtual environments; and the matrix libraries that the ranker's kernels are measured beside
#   --help           this text
#
# What it may change: Debian packages, through apt-get, as root or through sudo, after asking; and one folder of yours,
# $XDG_CACHE_HOME/fuseline or ~/.cache/fuseline, for LibTorch (0.6 GB) and the Kafka broker (43 MB). Nothing else.
# With everything in place it needs neither root nor network, and ends in a fraction of a second.
#
# FUSELINE_TORCH_ROOT: build against this LibTorch and fetch none.
# FUSELINE_KAFKA_HOME: take the broker's jars from its lib/ and fetch none.
# Exit codes: 0 all is there, 1 something is missing or failed, 2 wrong arguments.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/fuseline

assume_yes=0 dry_run=0 with_kafka=1 with_clang=0 with_cuda=0 with_peers=0
for argument in "$@"; do
  case $argument in
    --yes) assume_yes=1 ;;
    --dry-run) dry_run=1 ;;
    --without-kafka) with_kafka=0 ;;
    --with-clang) with_clang=1 ;;
    --with-cuda) with_cuda=1 ;;
    --with-peers) with_peers=1 ;;
    --help | -h) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "setup: unknown argument '$argument' (see --help)" >&2; exit 2 ;;
  esac
done

# Each version is pinned where it is used, and read from there.
torch_version=$(sed -n 's/^set(FUSELINE_TORCH_PINNED_VERSION \([0-9.]*\)).*/\1/p' "$here/../cmake/FuselineTorch.cmake")
kafka_version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$here/kafka/pom.xml")
torch_dir=$cache/torch-$torch_version
torch_refused=$torch_dir.unfit # holds the reason why Debian's is used instead
kafka_dir=$cache/kafka-$kafka_version

packages=(
  # tools
  g++ make cmake ninja-build mold ccache pkg-config git ca-certificates python3 protobuf-compiler
  # what the program stands on
  librdkafka-dev librocksdb-dev libhiredis-dev libprotobuf-dev libyaml-cpp-dev libspdlog-dev libcli11-dev
  prometheus-cpp-dev libcpp-httplib-dev libexpected-dev libopenblas-openmp-dev nlohmann-json3-dev
  libjemalloc-dev
  libssl-dev zlib1g-dev libzstd-dev libbz2-dev liblz4-dev libsnappy-dev
  # what it runs beside, and what tests it
  redis-server redis-tools kcat python3-numpy python3-pip python3-setuptools python3-wheel libgtest-dev libgmock-dev libbenchmark-dev librapidcheck-dev
  python3-confluent-kafka python3-protobuf
)
if [ $with_kafka = 1 ]; then packages+=(openjdk-17-jre-headless); fi
if [ $with_peers = 1 ]; then packages+=(openjdk-17-jdk-headless maven python3-venv python3-dev libeigen3-dev libdnnl-dev libxsmm-dev); fi
if [ $with_clang = 1 ]; then packages+=(clang-14 clang-tidy-14 clang-format-14 libclang-rt-14-dev); fi

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

missing_packages() { # prints those of "$@" that are not installed
  local installed package
  installed=" $(dpkg-query -W -f='${db:Status-Abbrev}${Package} ' "$@" 2>/dev/null || true)"
  for package in "$@"; do
    case $installed in *" ii $package "* | *" hi $package "*) ;; *) echo "$package" ;; esac
  done
}

torch_missing() {
  [ -z "${FUSELINE_TORCH_ROOT:-}" ] || return 1
  if [ -e "$torch_refused" ] && [ $with_cuda = 0 ]; then return 1; fi
  [ ! -e "$torch_dir/torch/lib/libtorch_cpu.so" ] || { [ $with_cuda = 1 ] && [ ! -e "$torch_dir/nvidia/cudnn" ]; }
}

kafka_missing() {
  [ $with_kafka = 1 ] && [ -z "${FUSELINE_KAFKA_HOME:-}" ] && [ ! -e "$kafka_dir/lib/kafka_2.13-$kafka_version.jar" ]
}

install_packages() {
  local missing as_root=()
  mapfile -t missing < <(missing_packages "$@")
  if [ ${#missing[@]} = 0 ]; then return; fi
  say "Debian packages to install: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
  if [ $assume_yes = 0 ]; then
    local answer=
    if [ -t 0 ]; then read -r -p "setup: install them with ${as_root[*]:+sudo }apt-get? [y/N] " answer; fi
    case $answer in
      [yY]*) ;;
      *) fail "not installed; do it yourself (apt-get install --no-install-recommends ${missing[*]}) or run with --yes" ;;
    esac
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >"${TMPDIR:-/tmp}/fuseline-apt.$$" 2>&1 ||
    { tail -n 20 "${TMPDIR:-/tmp}/fuseline-apt.$$" >&2; fail "apt-get failed"; }
  rm -f "${TMPDIR:-/tmp}/fuseline-apt.$$"
  # The package starts a server for the whole machine. Nothing here uses it: tests and demo start a private one.
  if [[ " ${missing[*]} " == *" redis-server "* ]]; then
    if [ -d /run/systemd/system ]; then
      "${as_root[@]}" systemctl disable --quiet --now redis-server
    elif [ -x /etc/init.d/redis-server ]; then
      "${as_root[@]}" /etc/init.d/redis-server stop >/dev/null 2>&1 || true
    fi
    say "left the machine's own redis-server service stopped"
  fi
}

# Unpacks lib/ and include/ of the wheels in $1 into $2: no Python of theirs is ever run, so neither its version nor its
# dependencies matter. The wheel's copies of the headers of protobuf and pybind11 would hide the system's: left out.
unpack_wheels() {
  python3 - "$1" "$2" $with_cuda <<'PYTHON'
import pathlib, sys, zipfile

wheels, target, with_cuda = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1"
unwanted = ["torch/include/google/", "torch/include/pybind11/", "torch/lib/libtorch_python", "torch/lib/libshm"]
if not with_cuda:
    unwanted += ["torch/lib/libtorch_cuda", "torch/lib/libtorch_nvshmem", "torch/lib/libcaffe2_nvrtc"]
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target, [
            name for name in archive.namelist()
            if name.startswith(("torch/lib/", "torch/include/", "torch/share/", "nvidia/")) and not name.startswith(tuple(unwanted))])
PYTHON
}

# Builds and runs the smallest program that multiplies two matrices with the LibTorch in $1.
torch_works() {
  cat >"$1/probe.cc" <<'CPP'
#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
int main() { return at::mm(at::ones({3, 5}), at::ones({5, 7})).sum().item<float>() == 105.0f ? 0 : 1; }
CPP
  g++ -std=c++20 -isystem "$1/torch/include" "$1/probe.cc" -o "$1/probe" -L"$1/torch/lib" -ltorch_cpu -lc10 \
    -Wl,-rpath,"$1/torch/lib" -Wl,--allow-shlib-undefined && "$1/probe" && rm "$1/probe" "$1/probe.cc"
}

fetch_torch() { # into $1; returns 1 with the reason on the last line of $1.log
  local requirements=(-r "$here/torch-requirements.txt") platforms=() tag
  if [ $with_cuda = 1 ]; then requirements+=(-r "$here/torch-cuda-requirements.txt"); fi
  for tag in 2014 _2_5 _2_12 _2_17 _2_18 _2_24 _2_25 _2_27 _2_28; do platforms+=(--platform "manylinux${tag}_x86_64"); done
  grep -q "^torch==$torch_version " "$here/torch-requirements.txt" || fail "torch-requirements.txt does not pin $torch_version"
  [ "$(uname -m)" = x86_64 ] || { echo "no pinned build for $(uname -m)" >"$1.log"; return 1; }
  rm -rf "$1"
  mkdir -p "$1/wheels"
  # Longer than this for the CPU's part, and Debian's package serves a newcomer better.
  timeout $((with_cuda ? 3600 : 600)) python3 -m pip download --quiet --no-input --disable-pip-version-check --no-cache-dir --no-deps \
    --require-hashes --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi none \
    "${platforms[@]}" "${requirements[@]}" --dest "$1/wheels" >"$1.log" 2>&1 || return 1
  unpack_wheels "$1/wheels" "$1" >>"$1.log" 2>&1 || return 1
  rm -rf "$1/wheels"
  torch_works "$1" >>"$1.log" 2>&1 || { echo "it does not build or run here" >>"$1.log"; return 1; }
}

install_torch() {
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
  say "LibTorch $torch_version: fetching into $torch_dir"
  local partial=$torch_dir.partial.$$
  if fetch_torch "$partial"; then
    rm -rf "$torch_dir" "$torch_refused" "$partial.log"
    mv "$partial" "$torch_dir"
    return
  fi
  local reason
  reason=$(tail -n 1 "$partial.log")
  say "NOTICE: LibTorch $torch_version is no use here: $reason"
  [ $with_cuda = 0 ] || fail "and Debian's has no CUDA; see $partial.log"
  say "NOTICE: taking Debian's 1.13.1 instead: CPU only, and slower in training. Remove $torch_refused to try again."
  install_packages libtorch-dev
  echo "$reason" >"$torch_refused"
  rm -rf "$partial" "$partial.log"
}

install_kafka() {
  command -v mvn >/dev/null || install_packages maven
  say "Apache Kafka $kafka_version: fetching its jars into $kafka_dir"
  local partial=$kafka_dir.partial.$$
  mvn --quiet --batch-mode -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$partial/lib" || fail "Maven could not fetch the broker; --without-kafka does without it"
  rm -rf "$kafka_dir"
  mv "$partial" "$kafka_dir"
}

if [ $dry_run = 1 ]; then
  mapfile -t missing < <(missing_packages "${packages[@]}")
  if [ ${#missing[@]} -gt 0 ]; then say "missing Debian packages: ${missing[*]}"; fi
  if torch_missing; then say "missing LibTorch $torch_version in $torch_dir"; missing+=(torch); fi
  if kafka_missing; then say "missing Apache Kafka $kafka_version in $kafka_dir"; missing+=(kafka); fi
  [ ${#missing[@]} = 0 ] || exit 1
  say "nothing is missing"
  exit 0
fi

mkdir -p "$cache"
install_packages "${packages[@]}"
if torch_missing; then install_torch; fi
if kafka_missing; then install_kafka; fi
if [ -e "$torch_refused" ]; then say "LibTorch: Debian's, because of: $(cat "$torch_refused")"; fi
say "ready"
