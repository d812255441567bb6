#!/bin/bash
# start-argo.sh NAMESPACE: what workflows need in a namespace, with a workflow-controller of its own.
# start.sh calls it, and start-kfp.sh for Kubeflow Pipelines.
set -eu
. "$(dirname "$0")/env.sh"; inside "$@"
ns=$1
K() { "$KUBE" kubectl "$@"; }
# Roles from Argo's own module; what they leave open is in manifests/.
K create namespace "$ns" --dry-run=client -o yaml | K apply -f - >/dev/null
K -n "$ns" apply -f "$ARGO/roles" >/dev/null
for name in argo writer; do manifest $name "$ns" | K apply -f - >/dev/null; done
# Each controller listens on :6060; the second one says so and works.
LEADER_ELECTION_DISABLE=true DEFAULT_REQUEUE_TIME=2s \
  spawn "argo-$ns" "$ARGO/workflow-controller" --kubeconfig "$T/argo.kubeconfig" --namespace "$ns" --namespaced \
  --executor-image localhost/argoexec:1 --executor-image-pull-policy IfNotPresent --qps 50 --burst 100
wait_for 30 "Argo's controller" grep -q "Starting Workflow Controller\|Manager initialized" "$LOGS/argo-$ns.log"
