#!/usr/bin/env bash
# Installs the ONNX Runtime peer, of the versions in requirements.txt: a virtual environment of its own in build/peers/onnxruntime (0.2 GB
# on disk), made anew when it has others. Needs python3-venv:
# deploy/setup.sh --with-peers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
venv=$root/build/peers/onnxruntime

wanted=$(grep -v '^#' "$here/requirements.txt")
if [ "$("$venv/bin/pip" freeze 2>/dev/null | grep -E '^(numpy|onnx|onnxruntime)==')" = "$wanted" ]; then exit 0; fi
rm -rf "$venv"
python3 -m venv "$venv" || { echo "build.sh: python3 makes no virtual environments; run deploy/setup.sh --with-peers" >&2; exit 3; }
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
