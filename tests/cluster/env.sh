# Sourced by the other scripts: where the cluster's parts are, and what its addresses are.
#
# Binaries and images come from the user's cache folder, one folder for each part and version (build.sh makes them).
# What a running cluster writes is below $T. Its processes live in the network namespace $NETNS: no address of the
# cluster exists outside, nothing can leave the machine, and deleting the namespace takes bridge and rules along.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/mdstore
T=${MDSTORE_CLUSTER_DIR:-/tmp/mdstore-cluster}
NETNS=mdstore-cluster
NODE=node-1
NODE_IP=10.88.0.1 # on a bridge of our own: kubelet refuses a loopback address
POD_NET=10.88.0.0/16
SVC_NET=10.96.0.0/16
SVC_VIP=10.96.0.1
BRIDGE=mdstore0
API_PORT=6443
ETCD_PORT=23790
S3_PORT=7070
S3_KEY=testkey S3_SECRET=testsecret
NS=pipelines # where the tests' own workflows run
KFP_NS=kubeflow
PIDS=$T/pids
LOGS=$T/logs
export KUBECONFIG=$T/admin.kubeconfig

# A part's folder in the cache is named after its version and a digest of what it is built from.
digest() { (cd "$HERE" && LC_ALL=C && for folder; do cat "$folder"/*; done | sha256sum | cut -c1-12); }
version() { awk -v module="$2" '$1 == module { print $2; exit }' "$HERE/$1/go.mod"; }
KUBERNETES=$CACHE/kubernetes-$(version kubernetes k8s.io/kubernetes)-$(digest kubernetes)
ARGO=$CACHE/argo-$(version argo github.com/argoproj/argo-workflows/v3)-$(digest argo)
VERSITYGW=$CACHE/versitygw-$(version versitygw github.com/versity/versitygw)-$(digest versitygw)
KFP=$CACHE/kfp-$(version kfp github.com/kubeflow/pipelines)-$(digest kfp)
IMAGES=$CACHE/images-$(digest images argo kfp)
KUBE=$KUBERNETES/kube # etcd, the API server, controllers, scheduler, kubelet, kube-proxy and kubectl in one binary

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }

# inside "$@": run the calling script again inside the namespace, unless it is there already.
# (nsenter and not `ip netns exec`, which mounts a new /sys and so hides the cgroups from kubelet and containerd.)
inside() {
  if [ "$(stat -Lc %i /proc/self/ns/net)" != "$(stat -Lc %i "/run/netns/$NETNS" 2>/dev/null)" ]; then
    [ -e "/run/netns/$NETNS" ] || { ip netns add "$NETNS"; ip -n "$NETNS" link set lo up; }
    exec nsenter --net="/run/netns/$NETNS" "$0" "$@"
  fi
}

# spawn NAME COMMAND...: start it in a session of its own, with a log and a pid file.
spawn() {
  local name=$1; shift
  setsid "$@" >"$LOGS/$name.log" 2>&1 </dev/null &
  echo $! >"$PIDS/$name.pid"
}

CTR() { ctr -a "$T/containerd.sock" -n k8s.io "$@"; }

# import_images NAME...: bring images of ours into containerd, unless they are there.
import_images() {
  local image
  for image; do
    CTR images ls -q | grep -qx "localhost/$image:1" || CTR images import "$IMAGES/$image.tar" >>"$LOGS/images.log" 2>&1
  done
}

# manifest NAME NAMESPACE: a file of manifests/ with this cluster's names and addresses in it.
manifest() {
  sed -e "s/@NS@/$2/g" -e "s/@NODE@/$NODE_IP/g" -e "s/@S3@/$NODE_IP:$S3_PORT/g" \
    -e "s/@S3KEY@/$S3_KEY/g" -e "s/@S3SECRET@/$S3_SECRET/g" -e "s/@DATABASE_PORT@/${DATABASE_PORT-}/g" \
    "$HERE/manifests/$1.yaml"
}

alive() { local pid; pid=$(cat "$PIDS/$1.pid" 2>/dev/null) && [ -d "/proc/$pid" ]; }

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local seconds=$1 what=$2 i; shift 2
  for ((i = 0; i < seconds * 10; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done
  echo "timed out after ${seconds}s: $what (logs: $LOGS)" >&2; return 1
}
