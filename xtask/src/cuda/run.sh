#!/bin/sh
# Starts the packed program on a GPU machine: run.sh [COMMAND ARGS...], by default gpu-check.
# What the loader does not find itself is looked for: CUDA's libraries, which PyTorch brings too, and the driver's.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
program=$here/selfpatch
system="/usr/local/nvidia/lib64 /usr/local/nvidia/lib /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib/wsl/lib"
[ $# -gt 0 ] || set -- gpu-check

# The libraries that the loader does not find, as ldd lists them.
missing() {
  LD_TRACE_LOADED_OBJECTS=1 "$program" | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' | sort -u
}

# Where they may be, one folder a line.
folders() {
  printf '%s\n' "${CUDA_HOME:-/usr/local/cuda}/lib64" /usr/local/cuda*/lib64
  old=$IFS
  IFS=:
  for folder in $PATH; do
    [ -x "$folder/python3" ] || continue
    # Wheels of CUDA 13, as PyTorch installs them.
    "$folder/python3" -c 'import os, sys; [print(os.path.join(p, "nvidia/cu13/lib")) for p in sys.path if p]' 2>/dev/null
  done
  IFS=$old
  echo "$system" | tr ' ' '\n'
}

absent=$(missing)
if [ -n "$absent" ]; then
  while IFS= read -r folder; do
    for library in $absent; do
      if [ -e "$folder/$library" ]; then
        LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
        export LD_LIBRARY_PATH
        absent=$(missing)
        break
      fi
    done
  done <<EOT
$(folders)
EOT
fi
if [ -n "$absent" ]; then
  lacks=$(echo "$absent" | grep -v '^libcuda\.so\.1$' | tr '\n' ' ')
  lacks=${lacks:+$lacks(of CUDA 13, or of PyTorch for CUDA 13)}
  case $absent in
    *libcuda.so.1*) lacks="${lacks:+$lacks and }libcuda.so.1 (of the NVIDIA driver)" ;;
  esac
  searched="the loader path, ${CUDA_HOME:-/usr/local/cuda}/lib64, /usr/local/cuda*/lib64"
  searched="$searched, nvidia/cu13/lib of every python3 on PATH, $(echo "$system" | sed 's/ /, /g')"
  echo "error: this machine lacks $lacks; looked for in $searched." >&2
  exit 1
fi
exec "$program" "$@"
