#!/bin/bash
# One authority, a client certificate and a kubeconfig for each component, a key for service accounts. P-256.
set -eu
. "$(dirname "$0")/env.sh"
P=$T/pki; mkdir -p "$P"; chmod 700 "$P"; cd "$P"
[ ! -s sa.pub ] || exit 0

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

issue() { # NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
  key "$1"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  {
    echo "basicConstraints=CA:FALSE"; echo "keyUsage=digitalSignature"
    echo "extendedKeyUsage=clientAuth,serverAuth"; [ -z "${3-}" ] || echo "subjectAltName=$3"
  } >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm -f "$1.csr" "$1.ext"
}

kubeconfig() { # NAME SUBJECT
  issue "$1" "$2"
  cat >"$T/$1.kubeconfig" <<Y
apiVersion: v1
kind: Config
clusters: [{name: mdstore-cluster, cluster: {server: "https://$NODE_IP:$API_PORT", certificate-authority: "$P/ca.crt"}}]
users: [{name: $1, user: {client-certificate: "$P/$1.crt", client-key: "$P/$1.key"}}]
contexts: [{name: mdstore-cluster, context: {cluster: mdstore-cluster, user: $1, namespace: $NS}}]
current-context: mdstore-cluster
Y
}

key ca
openssl req -x509 -new -key ca.key -subj /CN=mdstore-cluster -days 30 -out ca.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
issue apiserver /CN=kube-apiserver "IP:$NODE_IP,IP:$SVC_VIP,IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc"
issue kubelet-server "/CN=$NODE" "IP:$NODE_IP,DNS:$NODE"
issue apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
kubeconfig admin /O=system:masters/CN=admin
kubeconfig kubelet "/O=system:nodes/CN=system:node:$NODE"
kubeconfig controller-manager /CN=system:kube-controller-manager
kubeconfig scheduler /CN=system:kube-scheduler
kubeconfig proxy /CN=system:kube-proxy
kubeconfig argo /CN=argo-controller
kubeconfig writer /CN=mdstore-writer # may get, list and watch what the metadata writer reads, and nothing else
key sa; openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
