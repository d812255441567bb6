#!/bin/bash
# start-kfp.sh DATABASE-PORT: Kubeflow Pipelines 2.0.5 on the cluster that start.sh started: API server, persistence
# agent, driver and launcher, as in its own manifests. What it does not bring, all on the node's address $NODE_IP:
#   port 8080            a metadata server, behind the Service metadata-grpc-service
#   port DATABASE-PORT   MySQL or MariaDB with a user kfp, password kfp, who may do everything
# Prints the address of the API server.
set -eu
. "$(dirname "$0")/env.sh"
[ $# = 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
inside "$@"
DATABASE_PORT=$1
K() { "$KUBE" kubectl -n $KFP_NS "$@"; }
import_images kfp kfp-api python
# KFP's launcher signs for the region "minio", so it gets an S3 of that region.
mkdir -p "$T/s3/mlpipeline"
alive s3-minio || spawn s3-minio "$VERSITYGW/versitygw" --access $S3_KEY --secret $S3_SECRET --region minio \
  --port $NODE_IP:9000 posix "$T/s3"
alive argo-$KFP_NS || "$HERE/start-argo.sh" $KFP_NS
K apply -f "$KFP/manifests" >/dev/null
for name in kfp kfp-api; do manifest $name $KFP_NS | K apply -f - >/dev/null; done
K rollout status --timeout=120s deployment/ml-pipeline >"$LOGS/kfp.log"
echo "http://$(K get service ml-pipeline -o jsonpath='{.spec.clusterIP}'):8888"
