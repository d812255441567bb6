#!/bin/bash
# start.sh: boot etcd, the API server, controllers, containerd, a kubelet, kube-proxy, S3 and Argo's workflow-controller.
# Needs root and Linux, and what `script/servers cluster` installs and builds. Ready in about 10 s; says so step by step.
set -eu
. "$(dirname "$0")/env.sh"
[ "$(id -u)" = 0 ] || { echo "the cluster needs root" >&2; exit 2; }
"$HERE/build.sh" --check || { echo "get it by script/servers cluster" >&2; exit 2; }
for part in etcd apiserver containerd kubelet; do
  if alive $part; then echo "a cluster is running already: $HERE/stop.sh ends it" >&2; exit 2; fi
done
inside "$@"
ulimit -n "$(ulimit -Hn)"
mkdir -p "$PIDS" "$LOGS" "$T"/{etcd,kubelet,podlogs,cni,cni-ipam,containerd,s3/artifacts}
chmod 700 "$T" "$T/etcd" "$T/s3"
STARTED=$(date -u +%Y-%m-%dT%H:%M:%SZ) BEGUN=$(now)
say() { printf '%6ss  %s\n' "$(since "$BEGUN")" "$*"; }
K() { "$KUBE" kubectl "$@"; }
P=$T/pki
"$HERE/certs.sh" >"$LOGS/certs.log" 2>&1; say certificates

# --- the network: one bridge of our own; nothing is masqueraded, nothing leaves the machine
if ! ip link show $BRIDGE >/dev/null 2>&1; then
  ip link add $BRIDGE type bridge; ip addr add $NODE_IP/16 dev $BRIDGE; ip link set $BRIDGE up
  ip route add $SVC_NET dev $BRIDGE # no default route here, and kube-proxy's rules need one that covers the Services
fi
[ -e "$T/sysctl.before" ] || for file in /proc/sys/vm/overcommit_memory /proc/sys/kernel/panic /proc/sys/kernel/panic_on_oops; do
  echo "$file $(cat $file)"
done >"$T/sysctl.before"
echo 1 >/proc/sys/net/ipv4/ip_forward
[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
: >"$T/resolv.conf"

spawn etcd "$KUBE" etcd --name one --data-dir "$T/etcd" --unsafe-no-fsync \
  --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
  --listen-peer-urls "http://127.0.0.1:$((ETCD_PORT + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$((ETCD_PORT + 1))" \
  --initial-cluster "one=http://127.0.0.1:$((ETCD_PORT + 1))" --logger zap --log-level warn

# --- containerd; restrict_oom_score_adj because not every machine gives root CAP_SYS_RESOURCE
cat >"$T/containerd.toml" <<C
version = 2
root = "$T/containerd/root"
state = "$T/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$T/containerd.sock"
[ttrpc]
  address = "$T/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "$T/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  enable_selinux = false
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$T/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
C
cat >"$T/cni/10-bridge.conflist" <<C
{"cniVersion":"1.0.0","name":"bridge","plugins":[
 {"type":"bridge","bridge":"$BRIDGE","isGateway":true,"ipMasq":false,"hairpinMode":true,
  "ipam":{"type":"host-local","dataDir":"$T/cni-ipam","routes":[{"dst":"0.0.0.0/0"}],
   "ranges":[[{"subnet":"$POD_NET","rangeStart":"10.88.1.2","rangeEnd":"10.88.254.254","gateway":"$NODE_IP"}]]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
C
spawn containerd nice -n 2 containerd --config "$T/containerd.toml"

# --- the API server
spawn apiserver "$KUBE" kube-apiserver --etcd-servers="http://127.0.0.1:$ETCD_PORT" \
  --bind-address=$NODE_IP --secure-port=$API_PORT --advertise-address=$NODE_IP \
  --tls-cert-file="$P/apiserver.crt" --tls-private-key-file="$P/apiserver.key" --client-ca-file="$P/ca.crt" \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$P/sa.pub" \
  --service-account-signing-key-file="$P/sa.key" \
  --service-cluster-ip-range=$SVC_NET --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --kubelet-client-certificate="$P/apiserver-kubelet-client.crt" --kubelet-client-key="$P/apiserver-kubelet-client.key" \
  --kubelet-certificate-authority="$P/ca.crt" --kubelet-preferred-address-types=InternalIP \
  --allow-privileged=true --profiling=false --anonymous-auth=false
wait_for 60 "the API server" K get --raw /readyz; say API server ready

spawn controller-manager "$KUBE" kube-controller-manager --kubeconfig="$T/controller-manager.kubeconfig" \
  --authentication-kubeconfig="$T/controller-manager.kubeconfig" --authorization-kubeconfig="$T/controller-manager.kubeconfig" \
  --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=true \
  --service-account-private-key-file="$P/sa.key" --root-ca-file="$P/ca.crt" --profiling=false \
  --cluster-signing-cert-file="$P/ca.crt" --cluster-signing-key-file="$P/ca.key"
spawn scheduler "$KUBE" kube-scheduler --kubeconfig="$T/scheduler.kubeconfig" \
  --authentication-kubeconfig="$T/scheduler.kubeconfig" --authorization-kubeconfig="$T/scheduler.kubeconfig" \
  --bind-address=127.0.0.1 --leader-elect=false --profiling=false

# --- kubelet
wait_for 30 containerd ctr -a "$T/containerd.sock" version
import_images pause busybox argoexec
say containerd ready, images imported
cat >"$T/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
healthzBindAddress: 127.0.0.1
readOnlyPort: 0
tlsCertFile: $P/kubelet-server.crt
tlsPrivateKeyFile: $P/kubelet-server.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://$T/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: $(ulimit -n)
makeIPTablesUtilChains: false
podLogsDir: $T/podlogs
volumePluginDir: $T/kubelet/volumeplugins
resolvConf: $T/resolv.conf
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
maxPods: 250
C
spawn kubelet "$KUBE" kubelet --config="$T/kubelet.yaml" --kubeconfig="$T/kubelet.kubeconfig" \
  --hostname-override=$NODE --node-ip=$NODE_IP --root-dir="$T/kubelet" --cert-dir="$T/kubelet/pki"

# --- kube-proxy makes the service addresses work, kubernetes.default included
cat >"$T/proxy.yaml" <<C
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $T/proxy.kubeconfig}
hostnameOverride: $NODE
bindAddress: $NODE_IP
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
mode: iptables
clusterCIDR: $POD_NET
nodePortAddresses: [primary]
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
C
spawn proxy "$KUBE" kube-proxy --config="$T/proxy.yaml"

# --- S3: a directory, served
spawn s3 "$VERSITYGW/versitygw" --access $S3_KEY --secret $S3_SECRET --port $NODE_IP:$S3_PORT posix "$T/s3"

node_ready() { # and said so by this kubelet: a Node object of an earlier start may still say Ready
  local status heartbeat type='@.type=="Ready"'
  read -r status heartbeat < <(K get node $NODE -o jsonpath="{.status.conditions[?($type)].status} {.status.conditions[?($type)].lastHeartbeatTime}")
  [ "$status" = True ] && [[ ! "$heartbeat" < "$STARTED" ]]
}
wait_for 60 "node Ready" node_ready; say node ready
wait_for 30 "the default service account" K -n default get serviceaccount default

# --- Argo's CRDs, the minimal ones of its own module, and a controller for the tests' own workflows
K apply --server-side -k "$ARGO/crds" >"$LOGS/crds.log" 2>&1
K wait --for=condition=Established --timeout=30s crd/workflows.argoproj.io crd/workflowtaskresults.argoproj.io >/dev/null
"$HERE/start-argo.sh" $NS
say "up: $HERE/in.sh runs commands in it"
