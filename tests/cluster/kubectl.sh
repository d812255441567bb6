#!/bin/bash
# kubectl.sh ARGUMENT...: kubectl inside the cluster's network namespace, as its administrator, in the namespace of the workflows.
set -eu
. "$(dirname "$0")/env.sh"
exec "$HERE/in.sh" "$KUBE" kubectl --namespace "$NS" "$@"
