#!/usr/bin/env bash
# Runs the PyTorch peer that build.sh installed, step.py or the script that is named: commands on standard input. FUSELINE_PEER_PYTHON: another Python that has
# PyTorch. Exits with 3 where there is none.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${FUSELINE_PEER_PYTHON:-$here/../../../build/peers/pytorch/bin/python}
if [ ! -x "$python" ]; then
  echo "run.sh: the PyTorch peer is not installed: make bench-peers" >&2
  exit 3
fi
exec "$python" "$here/${1:-step.py}"
