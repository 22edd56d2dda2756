#!/usr/bin/env bash
# run.sh - builds `builder`, a base image and this example, and prints what was made. No registry is asked.
# As root on Debian it installs what is missing: busybox-static, and a C compiler for cargo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/../../target/hello}
profile=${PROFILE:-release}

missing=()
{ command -v busybox && ! grep -qa ld-linux <(head -c 4096 "$(command -v busybox)"); } >/dev/null || missing+=(busybox-static)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
# An ordinary user builds with subordinate ids, through newuidmap.
[ "$(id -u)" = 0 ] || command -v newuidmap >/dev/null || missing+=(uidmap)
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "run.sh: please install: ${missing[*]}" >&2
        exit 1
    fi
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi

cargo build --quiet --profile "$([ "$profile" = debug ] && echo dev || echo "$profile")" \
    --manifest-path "$here/../../Cargo.toml" -p builder-cli
target=${CARGO_TARGET_DIR:-$here/../../target}

rm -rf "$out"
mkdir -p "$out"
out=$(cd "$out" && pwd)
"$here/make-base.sh" "$out/base"
"$target/$profile/builder" build -t hello:1 \
    --root "$out/store" \
    --build-context "busybox=oci-layout://$out/base:latest" \
    --output "type=oci,dest=$out/hello.tar" \
    --output "type=local,dest=$out/rootfs" \
    --iidfile "$out/image-id" \
    "$here"

echo "made: $(cat "$out/image-id")"
echo "  image    target/hello/hello.tar ($(stat -c %s "$out/hello.tar") bytes, an OCI archive)"
echo "  program  $(head -1 "$out/rootfs/usr/bin/hello") in /usr/bin/hello"
echo "  data     $(tr '\n' ' ' <"$out/rootfs/srv/names")in /srv/names"
