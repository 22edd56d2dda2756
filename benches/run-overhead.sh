#!/usr/bin/env bash
# run-overhead.sh - what one `RUN true` costs, beside other ways to start a process shut in, all in one run.
#
# usage: run-overhead.sh [-n N] [-s STEPS] [-b FILE] [-p WHO,…]
#   -n N      rounds; the table has their medians [default: 5]
#   -s STEPS  RUN steps of one build, and runs of the others [default: 100]
#   -b FILE   a `builder` that is already built [default: `cargo build --release` makes it]
#   -p LIST   of bwrap,runc,buildah,docker [default: all]
#
# Each figure is that of whole processes, from start to exit, divided by STEPS. Builds have no cache (--no-cache) on a store
# that has the base; bwrap and runc get the base's files, unpacked, as their root, and pid, ipc, uts and mount namespaces as a
# RUN has them. Rounds go through all of them in turn, each round starting with another one.
#
# Docker is asked where $DOCKER_HOST says (see peers.sh). Needs bash 5, awk, busybox-static and root.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
runs=5 steps=100 program='' wanted=bwrap,runc,buildah,docker
while getopts n:s:b:p:h option; do
    case $option in
        n) runs=$OPTARG ;;
        s) steps=$OPTARG ;;
        b) program=$OPTARG ;;
        p) wanted=$OPTARG ;;
        h) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit ;;
        *) exit 2 ;;
    esac
done
if [ -z "$program" ]; then
    cargo build --release --quiet --manifest-path "$here/../Cargo.toml" -p builder-cli
    program=${CARGO_TARGET_DIR:-$here/../target}/release/builder
fi
program=$(realpath "$program")
temp=$(mktemp -d "${TMPDIR:-/tmp}/run-overhead.XXXXXX")
base=localhost/overhead-busybox:latest
clean() {
    trap - EXIT
    awk -v at="$temp/" 'index($2, at) == 1 { print $2 }' /proc/self/mounts | tac | xargs -r -n1 umount -l || true
    rm -rf "$temp"
}
trap clean EXIT
trap 'exit 130' INT TERM

bash "$here/../examples/hello/make-base.sh" "$temp/base" >/dev/null
mkdir -p "$temp/context" "$temp/bundle" "$temp/probe"
{ echo "FROM $base"; for n in $(seq "$steps"); do echo "RUN true $n"; done; } >"$temp/context/Dockerfile"
from=(--build-context "$base=oci-layout://$temp/base:latest")
echo "FROM $base" >"$temp/base.Dockerfile"
"$program" build --root "$temp/store" "${from[@]}" -f "$temp/base.Dockerfile" -t "$base" --quiet \
    -o "type=docker,dest=$temp/base.tar" -o "type=local,dest=$temp/bundle/rootfs" "$temp/context" >/dev/null
mkdir -p "$temp"/bundle/rootfs/{proc,dev,sys,etc,tmp}
touch "$temp"/bundle/rootfs/etc/{resolv.conf,hosts}

run_builder() { "$program" build --root "$temp/store" "${from[@]}" --no-cache --quiet "$temp/context"; }
run_bwrap() {
    for ((n = 0; n < steps; n++)); do
        bwrap --unshare-pid --unshare-ipc --unshare-uts --hostname step --bind "$temp/bundle/rootfs" / --proc /proc \
            --dev /dev --ro-bind /sys /sys --tmpfs /dev/shm --mqueue /dev/mqueue \
            --ro-bind /etc/resolv.conf /etc/resolv.conf --ro-bind /etc/hosts /etc/hosts /bin/sh -c "true $n"
    done
}
run_runc() {
    for ((n = 0; n < steps; n++)); do
        runc --root "$temp/runc" run --no-pivot --bundle "$temp/bundle" "overhead-$n" </dev/null
    done
}
buildah_=(buildah --root "$temp/buildah" --runroot "$temp/buildah-run" --storage-driver overlay)
run_buildah() {
    "${buildah_[@]}" bud --no-cache --layers --network host --isolation oci --runtime runc --ulimit nofile=1024:1024 \
        --ulimit nproc=1024:1024 -t result "$temp/context"
}
docker=docker
run_docker() { DOCKER_BUILDKIT=1 "$docker" build --no-cache --network host -t overhead-result "$temp/context"; }

prepare_builder() { :; }
prepare_bwrap() { command -v bwrap; }
prepare_runc() {
    command -v runc && (cd "$temp/bundle" && runc spec) &&
        jq '.process.args = ["/bin/sh", "-c", "true"] | .process.terminal = false | .root.readonly = false
            | .linux.namespaces |= map(select(.type != "network")) | .process.rlimits = []
            | del(.linux.resources)' "$temp/bundle/config.json" >"$temp/config.json" &&
        mv "$temp/config.json" "$temp/bundle/config.json"
}
prepare_buildah() { command -v buildah && "${buildah_[@]}" pull -q "docker-archive:$temp/base.tar"; }
# A client may lack the plugin that it needs for BuildKit.
prepare_docker() {
    [ -n "${DOCKER_HOST:-}" ] || { echo "DOCKER_HOST is not set"; return 1; }
    for docker in docker /usr/bin/docker; do
        "$docker" load -i "$temp/base.tar"
        DOCKER_BUILDKIT=1 "$docker" build -q -f "$temp/base.Dockerfile" "$temp/probe" && return
    done
    return 1
}

all=() notes=()
for who in builder ${wanted//,/ }; do
    if "prepare_$who" >"$temp/log" 2>&1 && "run_$who" >"$temp/log" 2>&1; then
        all+=("$who")
    else
        notes+=("$who is left out: $(grep -v '^[[:space:]]*$' "$temp/log" | tail -1)")
    fi
done
declare -A times
for ((round = 0; round < runs; round++)); do
    for ((at = 0; at < ${#all[@]}; at++)); do
        who=${all[(at + round) % ${#all[@]}]}
        from_us=${EPOCHREALTIME/./}
        "run_$who" >"$temp/log" 2>&1
        times[$who]+=" $((${EPOCHREALTIME/./} - from_us))"
    done
done
echo "Milliseconds for each of $steps: the median of $runs rounds (the least–the most). $(nproc) cores."
echo
echo "| | ms | builder = 1 |"
echo "|---|---:|---:|"
for who in "${all[@]}"; do
    # shellcheck disable=SC2086 # numbers
    printf '%s\n' ${times[$who]} | sort -n | awk -v who="$who" -v steps="$steps" -v one="${one:-0}" '
        { a[NR] = $1 / steps / 1000 }
        END {
            m = (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2
            printf "| %s | %.2f (%.2f–%.2f) | %.2f |\n", who, m, a[1], a[NR], one ? m / one : 1
        }' | tee "$temp/row"
    [ "$who" != builder ] || one=$(awk '{ print $4 }' "$temp/row")
done
for note in "${notes[@]}"; do echo "- $note"; done
