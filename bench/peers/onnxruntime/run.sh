#!/usr/bin/env bash
# Runs the ONNX Runtime peer that build.sh installed: commands on standard input (actor.py). FUSELINE_PEER_ONNX_PYTHON: another Python that
# has onnx and onnxruntime. Exits with 3 where there is none.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${FUSELINE_PEER_ONNX_PYTHON:-$here/../../../build/peers/onnxruntime/bin/python}
if [ ! -x "$python" ]; then
  echo "run.sh: the ONNX Runtime peer is not installed: make bench-peers" >&2
  exit 3
fi
exec "$python" "$here/actor.py"
