#!/bin/bash
# in.sh COMMAND [ARGUMENT...]: run a command inside the cluster's network namespace, with KUBECONFIG set to its administrator.
set -eu
. "$(dirname "$0")/env.sh"
[ -e "/run/netns/$NETNS" ] || { echo "no cluster is running: $HERE/start.sh starts one" >&2; exit 2; }
inside "$@"
exec "$@"
