#!/usr/bin/env bash
# Builds the wheel, installs it as a user would, and runs the Python tests with it alone. Argument: libfuseline_ranker.so.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/serving_bridge/python/build_wheel.sh" "$1" "$work/wheel" 0.0.1
python=${PYTHON:-/usr/bin/python3}
"$python" -m pip install --quiet --no-index --no-deps --target "$work/site" "$work"/wheel/*.whl
cd "$work"
exec env -u FUSELINE_RANKER_LIBRARY PYTHONPATH="$work/site" "$python" "$here/ranker_test.py" -v
