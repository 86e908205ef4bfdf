#!/bin/sh
# Stands for `cargo` where the commands of the docs are run.
if [ "$1" != xtask ]; then
    echo "cargo $1 is not run here; the block needs a marker" >&2
    exit 99
fi
shift
exec selfpatch "$@"
