#!/bin/bash
# build.sh [--check]: build the cluster's binaries and images into the cache folder, from Go modules and Debian's busybox.
#
# A part that is there is not built again: the folder's name holds its version and a digest of its sources. With
# nothing there it takes 12 to 16 minutes on two cores. --check builds nothing and names what is missing.
set -eu
. "$(dirname "$0")/env.sh"

if [ "${1-}" = --check ]; then
  missing=
  for part in "$KUBERNETES" "$ARGO" "$VERSITYGW" "$KFP" "$IMAGES"; do [ -d "$part" ] || missing="$missing ${part##*/}"; done
  [ -z "$missing" ] || { echo "not built:$missing"; exit 1; }
  exit 0
fi

mkdir -p "$CACHE"
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="-buildvcs=false -trimpath -modcacherw"
# Go's own caches grow to 10 GB in this build, so it has a pair of its own, gone when all is built. Those who keep
# their caches for the next time set GOMODCACHE and GOCACHE.
export GOMODCACHE=${GOMODCACHE:-$CACHE/go/mod} GOCACHE=${GOCACHE:-$CACHE/go/build}

# part FOLDER FUNCTION: let FUNCTION fill a new folder, then give it its name, so that a folder is there whole or not at all.
part() {
  [ ! -d "$1" ] || return 0
  local begun out; begun=$(now) out=$1.tmp.$$
  echo "building ${1##*/} ..."
  mkdir "$out"; ("$2" "$out") || { rm -rf "$out"; echo "building ${1##*/} failed" >&2; exit 1; }
  mv "$out" "$1"
  echo "built ${1##*/}: $(since "$begun")s, $(du -sm "$1" | cut -f1) MB"
}

# Without its hundreds of lines on what it downloads.
go_build() { nice -n 10 go build -o "$@" 2> >(grep -v "^go: downloading" >&2); }

kubernetes() {
  cd "$HERE/kubernetes"
  local v minor package=k8s.io/component-base/version; v=$(version kubernetes k8s.io/kubernetes); minor=${v#v1.}
  go_build "$1/kube" -ldflags "-s -w -X $package.gitVersion=$v -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}" .
}

argo() {
  cd "$HERE/argo"
  local module=github.com/argoproj/argo-workflows/v3 v source; v=$(version argo $module)
  go_build "$1/workflow-controller" -ldflags "-s -w -X $module.version=$v" $module/cmd/workflow-controller
  source=$(go list -m -f '{{.Dir}}' $module)
  # In Argo's repository signal_linux.go is a symbolic link to signal_darwin.go. Module zips hold no links, so argoexec
  # does not build from the module as it is; an -overlay below the module cache is refused. Hence a copy with the link.
  cp -r --no-preserve=mode "$source" "$1/source"
  ln -s signal_darwin.go "$1/source/workflow/executor/osspecific/signal_linux.go"
  cp go.mod "$1/argoexec.mod"; cp go.sum "$1/argoexec.sum"; go mod edit -replace "$module=$1/source" "$1/argoexec.mod"
  go_build "$1/argoexec" -modfile="$1/argoexec.mod" -ldflags "-s -w -X $module.version=$v" $module/cmd/argoexec
  # The minimal CRDs keep every field and are 0.1 MB instead of 7.
  local m=$source/manifests
  cp -r --no-preserve=mode "$m/base/crds/minimal" "$1/crds"
  mkdir "$1/roles"
  cp --no-preserve=mode "$m/namespace-install/workflow-controller-rbac/workflow-controller-role.yaml" \
    "$m/quick-start/base/executor/emissary/executor-role.yaml" "$m/quick-start/base/memoizer-role.yaml" "$1/roles"
  rm -rf "$1/source" "$1/argoexec.mod" "$1/argoexec.sum"
}

versitygw() {
  cd "$HERE/versitygw"
  go_build "$1/versitygw" -ldflags "-s -w" github.com/versity/versitygw/cmd/versitygw
}

kfp() {
  cd "$HERE/kfp"
  local module=github.com/kubeflow/pipelines source; source=$module/backend/src
  # The API server's SQLite driver is C. All four are built with cgo, because what they share would be compiled twice
  # otherwise, and linked statically, so that they run in an image of nothing but busybox.
  CGO_ENABLED=1 go_build "$1/" -tags netgo,osusergo,sqlite_omit_load_extension -ldflags "-s -w -extldflags -static" \
    $source/apiserver $source/agent/persistence $source/v2/cmd/driver $source/v2/cmd/launcher-v2
  source=$(go list -m -f '{{.Dir}}' $module)/manifests/kustomize/base/pipeline
  mkdir "$1/manifests"
  cp --no-preserve=mode "$source/cluster-scoped/scheduled-workflow-crd.yaml" \
    "$source"/ml-pipeline-{apiserver,persistenceagent}-{sa,role,rolebinding}.yaml "$1/manifests"
}

part "$KUBERNETES" kubernetes
part "$ARGO" argo
part "$VERSITYGW" versitygw
part "$KFP" kfp
part "$IMAGES" "$HERE/images/build.sh"
rm -rf "$CACHE/go"
