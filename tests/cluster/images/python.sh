#!/bin/bash
# images/python.sh ROOT: put a Python 3.11 and the SDK of Kubeflow Pipelines below ROOT, for the steps that it runs.
#
# A copy of the machine's Python with the libraries it is linked to. Of the SDK's requirements none is there: what runs
# a step needs the standard library alone (3.11 and no later: it imports distutils).
set -eu
. "$(dirname "$0")/../env.sh"
root=$1
python=$("${UV:-uv}" python find --no-project --system 3.11 2>/dev/null) || { echo "needs a Python 3.11" >&2; exit 1; }
read -r program library < <("$python" -c 'import os, sys, sysconfig; print(os.path.realpath(sys.executable), sysconfig.get_path("stdlib"))')
mkdir -p "$root${program%/*}" "$root${library%/*}"
cp "$program" "$root$program"
without=$(printf -- '--exclude=%s ' __pycache__ site-packages dist-packages test tests idlelib lib2to3 ensurepip 'config-*' '*tkinter*')
# Unquoted on purpose: the options are a list
tar -C / -c $without "${library#/}" | tar -C "$root" -x
for module in "$program" "$root$library"/lib-dynload/*.so; do ldd "$module" 2>/dev/null || true; done |
  grep -o '/[^ ]*' | sort -u | while read -r shared; do
  mkdir -p "$root${shared%/*}"; [ -e "$root$shared" ] || cp -L "$shared" "$root$shared"
done
"${UV:-uv}" pip install --quiet --no-deps --require-hashes --python "$python" --target "$root$library/site-packages" \
  --requirement "$HERE/images/kfp.txt"
ln -sf "$program" "$root/bin/python3"
# An image's files have no times, by which Python would find its compiled ones out of date.
"$python" -m compileall -q --invalidation-mode unchecked-hash -s "$root" "$root$library"
[ "$(_KFP_RUNTIME=true chroot "$root" /bin/python3 -c 'import hashlib, kfp.dsl.executor_main as found; print(found.__name__)')" = kfp.dsl.executor_main ]
