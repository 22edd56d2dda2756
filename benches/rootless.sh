#!/usr/bin/env bash
# rootless.sh - times the same builds as root and as an ordinary user, in turn in one run.
#
# usage: rootless.sh [-n N] [-w W1,W2,…] [-u USER] [-b FILE] [-f FILES] [-r REF]
#   -n N      timed runs of each [default: 5]
#   -w LIST   workloads [default: W1,W2,W3,W4,W5,W8]
#   -u USER   who has ids in /etc/subuid and /etc/subgid [default: the first such]
#   -b FILE   a `builder` that is already built [default: `cargo build --release` makes it]
#   -f FILES  files of W2 and W3 (20 KB each) and of W8 (300 bytes each) [default: 2000]
#   -r REF    a Python base in a registry without TLS, for W6 and W7: `127.0.0.1:5000/python:latest`
#
# Workloads are those of peers.sh, smaller: W1 nothing changed (12 steps, 2,000 files); W2 one file changed, an OCI archive out;
# W3 the same, cold; W4 20 RUN steps, cold; W5 six stages with `RUN sleep 1`, cold; W6 an empty store, the base of -r pulled, one
# COPY, an OCI archive out; W7 `pip install` on the base of -r, cold; W8 small files, cold, an OCI archive out; W9 one file of 1 GiB,
# cold, an OCI archive out.
#
# Prints medians: seconds by the clock, and of processor time (user and system, all processes); and the user's over root's.
# A load on the machine spreads the first far more than the second.
#
# Needs bash 5, awk, busybox-static, setpriv, and root.
set -euo pipefail
export LC_ALL=C
TIMEFORMAT='%3R %3U %3S'
here=$(cd "$(dirname "$0")" && pwd)

runs=5 workloads=W1,W2,W3,W4,W5,W8 user='' program='' count=2000 python=''
while getopts n:w:u:b:f:r:h option; do
    case $option in
        n) runs=$OPTARG ;;
        w) workloads=$OPTARG ;;
        u) user=$OPTARG ;;
        b) program=$OPTARG ;;
        f) count=$OPTARG ;;
        r) python=$OPTARG ;;
        h) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit ;;
        *) exit 2 ;;
    esac
done
[[ $runs =~ ^[1-9][0-9]*$ ]] || { echo "rootless.sh: -n $runs is not a number of runs" >&2; exit 2; }
[[ $count =~ ^[1-9][0-9]*$ ]] || { echo "rootless.sh: -f $count is not a number of files" >&2; exit 2; }
for workload in ${workloads//,/ }; do
    [[ $workload =~ ^W[1-9]$ ]] || { echo "rootless.sh: no workload $workload" >&2; exit 2; }
    [[ ! $workload =~ ^W[67]$ ]] || [ -n "$python" ] || { echo "rootless.sh: $workload needs -r" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "rootless.sh: must be run by root, which becomes the user for half of the builds" >&2; exit 2; }
[ -n "$user" ] || user=$(awk -F: '$3 >= 65536 { print $1; exit }' /etc/subuid)
id "$user" >/dev/null || { echo "rootless.sh: no user with 65536 ids in /etc/subuid" >&2; exit 2; }

if [ -z "$program" ]; then
    cargo build --release --quiet --manifest-path "$here/../Cargo.toml" -p builder-cli
    program=${CARGO_TARGET_DIR:-$here/../target}/release/builder
fi
program=$(realpath "$program")

temp=$(mktemp -d "${TMPDIR:-/tmp}/rootless.XXXXXX")
trap 'cd / && rm -rf "$temp"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$temp"
install -m 755 "$program" "$temp/program"
base=localhost/peers-busybox:latest

# The contexts are those of peers.sh.
eval "$(sed -n '/^files() {/,/^}/p; /^context_W[14567]() {/,/^}/p' "$here/peers.sh")"
context_W2() {
    files "$1" "$count" 20480
    printf '%s\n' "FROM $base" 'RUN echo 1 >/one' 'WORKDIR /app' 'COPY . .' >"$1/Dockerfile"
}
context_W8() {
    files "$1" "$count" 300
    printf '%s\n' "FROM $base" 'COPY . /app' >"$1/Dockerfile"
}
context_W9() {
    files "$1" 200 20480
    mkdir "$1/large"
    for n in $(seq 256); do echo "part $n"; cat "$1"/d*/*.txt; done >"$1/large/file"
    truncate -s 1G "$1/large/file"
    rm -rf "$1"/d*
    printf '%s\n' "FROM $base" 'COPY large /large' >"$1/Dockerfile"
}
printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "${python%%/*}" >"$temp/registries.conf"

bash "$here/../examples/hello/make-base.sh" "$temp/base" >/dev/null
for who in root "$user"; do
    install -d -o "$who" "$temp/$who" "$temp/$who/home"
done

build() { # WHO CONTEXT COLD ARCHIVE
    local who=$1 args
    args=(build --root "$temp/$who/store" --build-context "$base=oci-layout://$temp/base:latest" --network host --jobs 6 -t result)
    [ -z "$3" ] || args+=(--no-cache)
    [ -z "$4" ] || args+=(-o "type=oci,dest=$temp/$who/out.tar")
    [ -z "$python" ] || args+=(--registries-conf "$temp/registries.conf")
    # Both go the same way to the program.
    local way=(setpriv --reuid "$who" --regid "$(id -g "$who")" --clear-groups --
        env -u XDG_RUNTIME_DIR HOME="$temp/$who/home" "$temp/program")
    cd "$temp/$who/home"
    { time "${way[@]}" "${args[@]}" "$2" >"$temp/log" 2>&1 </dev/null; } 2>"$temp/time" ||
        { echo "rootless.sh: the build as $who failed:" >&2; cat "$temp/log" >&2; exit 1; }
}

workload() { # NAME CONTEXT COLD ARCHIVE CHANGES
    local name=$1 context=$temp/context-$2 round who order
    [ -d "$context" ] || "context_$2" "$context"
    # Round 0 is not timed: a store of each, and files that are old enough to be remembered.
    for ((round = 0; round <= runs; round++)); do
        [ -z "$5" ] || echo "change $round $EPOCHREALTIME" >>"$context/d50/f50.txt"
        sleep 0.2
        order=(root "$user")
        [ $((round % 2)) = 0 ] || order=("$user" root)
        for who in "${order[@]}"; do
            [ "$name" != W6 ] || rm -rf "${temp:?}/$who/store"
            [ -z "$4" ] || { rm -f "$temp/$who/out.tar"; sync -f "$temp"; }
            build "$who" "$context" "$3" "$4"
            [ "$round" = 0 ] || cat "$temp/time" >>"$temp/$name.$who"
        done
    done
    paste -d' ' "$temp/$name.root" "$temp/$name.$user" | awk -v name="$name" '
        { rw[NR] = $1; rc[NR] = $2 + $3; uw[NR] = $4; uc[NR] = $5 + $6 }
        function median(of, n,  a, b, it) {
            for (a = 2; a <= n; a++)
                for (b = a; b > 1 && of[b] < of[b - 1]; b--) { it = of[b]; of[b] = of[b - 1]; of[b - 1] = it }
            return (of[int((n + 1) / 2)] + of[int(n / 2) + 1]) / 2
        }
        function over(a, b) { return b ? sprintf("%.2f", a / b) : "" }
        END {
            a = median(rw, NR); b = median(uw, NR); c = median(rc, NR); d = median(uc, NR)
            printf "| %s | %.3f | %.3f | %s | %.3f | %.3f | %s |\n", name, a, b, over(b, a), c, d, over(d, c)
        }'
}

echo "Seconds, medians of $runs. $(nproc) cores; $user beside root."
echo
echo "| workload | root, clock | user, clock | user / root | root, processor | user, processor | user / root |"
echo "|---|---:|---:|---:|---:|---:|---:|"
for name in ${workloads//,/ }; do
    case $name in
        W1) workload W1 W1 '' '' '' ;;
        W2) workload W2 W2 '' 1 1 ;;
        W3) workload W3 W2 1 1 1 ;;
        W4) workload W4 W4 1 '' '' ;;
        W5) workload W5 W5 1 '' '' ;;
        W6) workload W6 W6 1 1 '' ;;
        W7) workload W7 W7 1 '' '' ;;
        W8) workload W8 W8 1 1 '' ;;
        W9) workload W9 W9 1 1 '' ;;
    esac
done
