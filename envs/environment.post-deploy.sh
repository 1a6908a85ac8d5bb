#!/usr/bin/env bash
# Adds the project to the environment that environment.yaml made. Snakemake runs it from the folder it was started in; by
# hand it is run from there too. Editable: an edit in src/ is used, not a copy.
set -euo pipefail
if [ ! -f envs/environment.post-deploy.sh ]; then
  echo "start in the root of the repository, which has the project to install; this is $PWD" >&2
  exit 1
fi
python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
