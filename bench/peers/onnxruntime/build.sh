#!/usr/bin/env bash
# Installs the ONNX Runtime peer: a virtual environment of its own in build/peers/onnxruntime (0.2 GB on disk). Needs python3-venv:
# deploy/setup.sh --with-peers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
venv=$root/build/peers/onnxruntime

if "$venv/bin/python" -c "import numpy, onnx, onnxruntime" 2>/dev/null; then exit 0; fi
rm -rf "$venv"
python3 -m venv "$venv" || { echo "build.sh: python3 makes no virtual environments; run deploy/setup.sh --with-peers" >&2; exit 3; }
"$venv/bin/pip" install --quiet --disable-pip-version-check numpy onnx onnxruntime
