#!/usr/bin/env bash
# Installs the PyTorch peer: a virtual environment of its own in build/peers/pytorch, with PyTorch of the version that the learner is
# built against, and all it depends on (6 GB on disk). Needs python3-venv, python3-dev and g++ (torch.compile): deploy/setup.sh --with-peers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
version=$(sed -n 's/^set(FUSELINE_TORCH_PINNED_VERSION \([0-9.]*\)).*/\1/p' "$root/cmake/FuselineTorch.cmake")
venv=$root/build/peers/pytorch

if "$venv/bin/python" -c "import numpy, torch, sys; sys.exit(torch.__version__.split('+')[0] != '$version')" 2>/dev/null; then exit 0; fi
rm -rf "$venv"
python3 -m venv "$venv" || { echo "build.sh: python3 makes no virtual environments; run deploy/setup.sh --with-peers" >&2; exit 3; }
"$venv/bin/pip" install --quiet --disable-pip-version-check "torch==$version" numpy setuptools
