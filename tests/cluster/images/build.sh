#!/bin/bash
# images/build.sh OUT: the cluster's images from nothing: pause (a static program of our own), busybox (Debian's
# busybox-static), argoexec, and for Kubeflow Pipelines its own parts and a Python for its steps; as archives that
# `ctr images import` takes.
set -eu
OUT=$1
. "$(dirname "$0")/../env.sh"
roots=$(mktemp -d); trap 'rm -rf "$roots"' EXIT

image() { python3 "$HERE/images/mkimage.py" "$@"; }

busybox_root() { # DIR
  mkdir -p "$1"/{bin,etc,tmp,root,dev,proc,sys,var/run}; chmod 1777 "$1/tmp"
  cp /bin/busybox "$1/bin/busybox"
  (cd "$1/bin" && for applet in $(./busybox --list); do [ "$applet" = busybox ] || ln -sf busybox "$applet"; done)
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
  echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}

mkdir "$roots/pause"; gcc -Os -static -s -o "$roots/pause/pause" "$HERE/images/pause.c"
image "$OUT/pause.tar" localhost/pause:1 --root "$roots/pause" --entrypoint /pause
busybox_root "$roots/busybox"
image "$OUT/busybox.tar" localhost/busybox:1 --root "$roots/busybox" --cmd sh
busybox_root "$roots/argoexec"; cp "$ARGO/argoexec" "$roots/argoexec/bin/argoexec"
image "$OUT/argoexec.tar" localhost/argoexec:1 --root "$roots/argoexec" --entrypoint argoexec
busybox_root "$roots/kfp"; cp "$KFP/driver" "$KFP/launcher-v2" "$roots/kfp/bin"
image "$OUT/kfp.tar" localhost/kfp:1 --root "$roots/kfp"
busybox_root "$roots/kfp-api"; cp "$KFP/apiserver" "$roots/kfp-api/bin"; cp "$KFP/persistence" "$roots/kfp-api/bin/persistence_agent"
image "$OUT/kfp-api.tar" localhost/kfp-api:1 --root "$roots/kfp-api"
busybox_root "$roots/python"; "$HERE/images/python.sh" "$roots/python"
image "$OUT/python.tar" localhost/python:1 --root "$roots/python"
