#!/bin/bash
# images/build.sh OUT: the cluster's images from nothing: pause (a static program of our own), busybox (Debian's
# busybox-static) and argoexec (our build), as archives that `ctr images import` takes.
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
