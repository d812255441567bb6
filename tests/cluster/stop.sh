#!/bin/bash
# stop.sh: end what start.sh started (by its pid files), the containers of this containerd, mounts, cgroups and the
# namespace, and remove the data. With --keep the data stay, for a start with an old etcd.
set -u
. "$(dirname "$0")/env.sh"
[ -d "$T" ] || [ -e "/run/netns/$NETNS" ] || exit 0
inside "$@"

end() { # SECONDS NAME...: SIGTERM to all, SIGKILL to those still there after SECONDS together
  local left=$(($1 * 10)) name pid; shift
  for name; do alive "$name" && kill -TERM "$(cat "$PIDS/$name.pid")" 2>/dev/null; done
  for name; do
    pid=$(cat "$PIDS/$name.pid" 2>/dev/null) || continue
    while [ $left -gt 0 ] && [ -d "/proc/$pid" ]; do sleep 0.1; left=$((left - 1)); done
    [ ! -d "/proc/$pid" ] || kill -KILL "$pid" 2>/dev/null
    rm -f "$PIDS/$name.pid"
  done
}

end 5 argo-$NS argo-$KFP_NS proxy kubelet scheduler controller-manager
if alive containerd; then
  for c in $(CTR tasks ls -q 2>/dev/null); do CTR tasks kill -s KILL -a "$c" >/dev/null 2>&1; done; sleep 0.5
  # Unquoted on purpose: the names are a list
  CTR tasks rm -f $(CTR tasks ls -q 2>/dev/null) >/dev/null 2>&1
  CTR containers rm $(CTR containers ls -q 2>/dev/null) >/dev/null 2>&1
fi
end 2 apiserver s3 s3-minio # the API server would take up to 10 s for its graceful end
end 5 containerd etcd
awk '{ print $5 }' /proc/self/mountinfo | grep "^$T/" | sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null; done
ip netns del "$NETNS" 2>/dev/null
for hierarchy in /sys/fs/cgroup/*/kubepods; do
  [ ! -d "$hierarchy" ] || find "$hierarchy" -depth -type d -exec rmdir {} + 2>/dev/null
done
# kubelet changes these for the whole machine
[ ! -e "$T/sysctl.before" ] || while read -r file value; do echo "$value" >"$file" 2>/dev/null; done <"$T/sysctl.before"
rm -rf "$T/cni-ipam" "$T/sysctl.before" "$PIDS"
[ "${1-}" = --keep ] || rm -rf "$T"
exit 0
