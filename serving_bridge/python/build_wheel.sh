#!/usr/bin/env bash
# Builds the wheel of the Python package around a built libfuseline_ranker.
#
#   serving_bridge/python/build_wheel.sh LIBRARY OUTPUT_FOLDER VERSION     (PYTHON=/usr/bin/python3)
#
# Besides the library, the wheel holds what the library stands on but for glibc and libstdc++, with their licences: it runs on every
# x86-64 Linux whose glibc is at least the one it was built with. Needs python3 with setuptools, wheel and pip; no network.
set -euo pipefail
python=${PYTHON:-/usr/bin/python3} # Of the system: that one has what deploy/setup.sh installs.
if [ $# != 3 ]; then sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; fi
library=$(realpath "$1") output=$(realpath -m "$2") version=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cp -r "$here/fuseline_ranker" "$here/pyproject.toml" "$here/setup.py" "$build"
rm -rf "$build/fuseline_ranker/__pycache__"
echo "$version" >"$build/VERSION"
lib=$build/fuseline_ranker/lib
mkdir -p "$lib"
cp "$library" "$lib/libfuseline_ranker.so"
while read -r name path; do
  case $name in
    libc.so.* | libm.so.* | libstdc++.so.* | libgcc_s.so.* | libpthread.so.* | libdl.so.* | librt.so.*) continue ;;
  esac
  cp -L "$path" "$lib/$name"
  package=$(dpkg-query -S "$(realpath "$path")" 2>/dev/null | head -n 1 | cut -d: -f1) || package=
  if [ -n "$package" ]; then cp "/usr/share/doc/$package/copyright" "$lib/$name.copyright"; fi
done < <(ldd "$library" | awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}')

glibc=$(getconf GNU_LIBC_VERSION | awk '{gsub(/\./, "_", $2); print $2}')
mkdir -p "$output"
"$python" -m pip wheel --quiet --no-build-isolation --no-deps --no-index --wheel-dir "$output" "$build" \
  --config-settings=--build-option=--plat-name=manylinux_"${glibc}"_"$(uname -m)"
ls "$output"/fuseline_ranker-"$version"-*.whl
