#!/usr/bin/env bash
# The real caps where this machine has none: in a virtual machine with systemd and cgroup v2,
# as a plain user under a systemd scope, then on cgroup v2 written directly, then as root.
#
#   RUN_IN_VM=/path/to/run_in_vm.sh tests/caps/in_vm.sh [-S trixie]
#
# RUN_IN_VM boots the guest, copies a directory to /project, runs a command there and exits
# with its status (options: -u user|root, -S suite). Not part of `make test`: it takes
# minutes and needs qemu.
set -euo pipefail
RUN_IN_VM=${RUN_IN_VM:-/work/shared/bench/run_in_vm.sh}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ -x "$RUN_IN_VM" ] || { echo "in_vm.sh: set RUN_IN_VM to the script that boots the machine" >&2; exit 2; }

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/tests"
cp -r "$here/checkpoint_kernel" "$here/checkpoint_provisioner" "$copy/"
cp -r "$here/tests/caps" "$copy/tests/"
find "$copy" -name __pycache__ -prune -exec rm -rf {} +

read -r -d '' job <<'GUEST' || true
test() { CHECKPOINT_TEST_BACKEND=$1 python -m pytest -q -ra -p no:cacheprovider -o markers='unit: x' tests/caps; }
uname -r; systemctl --version | head -n 1; id -un; status=0
echo "== systemd scope"; test "systemd scope" || status=1
echo "== after the tests, nothing of ours is left:"
find /sys/fs/cgroup -name '*checkpoint-kernel-*' | tee /tmp/left; [ ! -s /tmp/left ] || status=1
# A leaf of a delegated group, as an operator of a container would hand over, no bus in sight.
echo "== cgroup v2"
whose=$([ "$(id -u)" = 0 ] || echo --user)
cat >/tmp/delegated <<'JOB'
  own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
  mkdir "$own/server" && echo $$ >"$own/server/cgroup.procs" && echo +memory >"$own/cgroup.subtree_control"
  export XDG_RUNTIME_DIR=/nonexistent
  CHECKPOINT_TEST_BACKEND="cgroup v2" python -m pytest -q -ra -p no:cacheprovider -o markers='unit: x' tests/caps
JOB
if [ "$(id -u)" != 0 ]; then
  systemd-run $whose --scope --quiet -p Delegate=yes bash /tmp/delegated || status=1
fi
exit $status
GUEST

"$RUN_IN_VM" "$@" "$copy" -- "$job"
