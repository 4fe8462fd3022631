#!/usr/bin/env bash
# Caps and deaths where this machine is another: in a small emulated Debian with cgroup v2 and
# systemd, as a plain user. `make cgroup2` runs it; not part of `make test`: it needs qemu and
# takes a quarter of an hour.
#
#   RUN_IN_VM=/path/to/run_in_vm.sh tests/in_vm.sh [STAGE ...]       (default: all stages)
#
#   systemd    under a systemd scope, then on cgroup v2 written directly: tests/caps; then the
#              tests of tests/deaths that are marked `vm`, with a kernel (6.1) that does not
#              say which pages were written to
#   v1         booted with systemd.unified_cgroup_hierarchy=0: systemd takes a limit and
#              nothing enforces it
#   nomemory   booted with cgroup_disable=memory: the same, and the other limits stand
#
# RUN_IN_VM boots the guest, copies a directory to /project, runs a command there and exits
# with its status. The guest is 10 to 15 times slower than this machine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
RUN_IN_VM=${RUN_IN_VM:-$here/../shared/bench/run_in_vm.sh}
[ -f "$RUN_IN_VM" ] || RUN_IN_VM=/work/shared/bench/run_in_vm.sh
[ -f "$RUN_IN_VM" ] || {
  echo "in_vm.sh: there is no $RUN_IN_VM: set RUN_IN_VM to the script that boots the machine" >&2
  exit 2
}
PYTHON=${PYTHON:-python3}
GUEST_PYTHON=3.11 # bookworm's
stages=("${@:-systemd}")
[ $# -gt 0 ] || stages=(systemd v1 nomemory)

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir -p "$copy/wheels" "$copy/docs"
cp -r "$here/tests" "$here/pyproject.toml" "$copy/"
cp "$here"/docs/*.json "$copy/docs/" 2>/dev/null || true # the record's schema
find "$copy" -name __pycache__ -prune -exec rm -rf {} +

# The guest has no network: our wheel, and what its image lacks, come along.
"$PYTHON" -m pip wheel -q --no-deps --wheel-dir "$copy/wheels" "$here"
cache=$here/build/wheels-$GUEST_PYTHON
mkdir -p "$cache"
[ -e "$cache/.complete" ] || {
  "$PYTHON" -m pip download -q --only-binary=:all: --python-version "$GUEST_PYTHON" \
    --no-deps --dest "$cache" \
    bash_kernel blake3 certifi charset_normalizer cloudpickle dill filetype requests tabulate \
    urllib3
  touch "$cache/.complete"
}
cp "$cache"/*.whl "$copy/wheels/"

cat >"$copy/guest.sh" <<'GUEST'
pip install -q --no-index --no-deps wheels/*.whl || exit 125
export CHECKPOINT_KERNEL_SLOW=15
set -o pipefail
tests() { # one line for each, as it ends; the reasons of those that were skipped at the end
  python -m pytest -v -rs -p no:cacheprovider -p no:asyncio -o timeout=1200 --tb=short "$@" |
    grep --line-buffered -vE '^(platform|cachedir|rootdir|plugins|timeout|configfile|collect)'
}
export -f tests
run() { # BACKEND OTHERS WORDS...
  echo "== memory by $1, other limits by $2: ${*:3}"
  CHECKPOINT_TEST_BACKEND=$1 CHECKPOINT_TEST_OTHERS=$2 tests "${@:3}"
}
left() {
  find /sys/fs/cgroup -name '*checkpoint-kernel-*' | tee /tmp/left
  [ ! -s /tmp/left ] || { echo "these groups were left behind"; return 1; }
}
echo "$(uname -r), $(systemctl --version | head -n 1), user $(id -un)"
status=0
case $1 in
systemd)
  run "systemd scope" "systemd scope" tests/caps || status=1
  left || status=1
  # A leaf of a delegated group, as an operator of a container would hand over, no bus in sight.
  cat >/tmp/delegated <<'JOB'
    own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
    mkdir "$own/server" && echo $$ >"$own/server/cgroup.procs"
    echo "+memory +cpu +pids" >"$own/cgroup.subtree_control"
    export XDG_RUNTIME_DIR=/nonexistent
    CHECKPOINT_TEST_BACKEND="cgroup v2" CHECKPOINT_TEST_OTHERS="cgroup v2" tests tests/caps
JOB
  echo "== memory and other limits by cgroup v2: tests/caps"
  systemd-run --user --scope --quiet -p Delegate=yes bash -o pipefail /tmp/delegated || status=1
  jupyter checkpoint doctor || status=1
  run "systemd scope" "systemd scope" tests/deaths -m vm || status=1
  left || status=1
  ;;
v1 | nomemory)
  others=$([ "$1" = v1 ] && echo none || echo "systemd scope")
  run none "$others" tests/caps || status=1
  jupyter checkpoint doctor || status=1
  run none "$others" tests/deaths -m vm_unenforced || status=1
  ;;
esac
exit $status
GUEST

status=0
for stage in "${stages[@]}"; do
  case $stage in
  systemd) boot=() ;;
  v1) boot=(-x "systemd.unified_cgroup_hierarchy=0") ;;
  nomemory) boot=(-x "cgroup_disable=memory") ;;
  *) echo "in_vm.sh: $stage is no stage: systemd, v1, nomemory" >&2; exit 2 ;;
  esac
  echo "==== $stage"
  CGV2_BOOT=${CGV2_BOOT:-300} bash "$RUN_IN_VM" -t "${LIMIT_S:-2400}" "${boot[@]}" "$copy" -- "bash guest.sh $stage" || status=1
done
exit $status
