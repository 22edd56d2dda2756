#!/bin/sh
# An unchanged context beside a bare walk that asks for the state of every file, in turn; then one changed file.
#
#   cargo build --release -p builder-cli && cargo build --release -p benches --example stat_walk
#   benches/stat-walk.sh [-n ROUNDS] [FILES ...]
#
# Prints medians: seconds by the clock, and of processor time (user and system, all threads). Contexts are made under TMPDIR and
# removed.
set -eu

rounds=9
if [ "${1-}" = -n ]; then
    rounds=$2
    shift 2
fi
[ $# -gt 0 ] || set -- 2000 20000 200000
here=$(cd "$(dirname "$0")/.." && pwd)
builder=${BUILDER:-$here/target/release/builder}
walk=${STAT_WALK:-$here/target/release/examples/stat_walk}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Files of 100 bytes, 50 in a directory, 50 directories in a directory.
make_context() {
    line=$(printf '%0100d' 0)
    at=0
    while [ $((at * 50)) -lt "$1" ]; do
        sub=$dir/context/m$((at / 50))/d$at
        mkdir -p "$sub"
        for file in 0 1 2 3 4 5 6 7 8 9; do
            for more in 0 1 2 3 4; do
                printf '%s' "$line" >"$sub/file$file$more.txt"
            done
        done
        at=$((at + 1))
    done
    printf 'FROM scratch\nCOPY . /\n' >"$dir/context/Dockerfile"
}

timed() {
    out=$1
    shift
    /usr/bin/time -a -o "$dir/$out" -f '%e %U %S' "$@" >/dev/null
}

medians() {
    awk -v files="$1" -v name="$2" '
        { wall[NR] = $1; cpu[NR] = $2 + $3 }
        function median(of, n,  a, b, it) {
            for (a = 2; a <= n; a++)
                for (b = a; b > 1 && of[b] < of[b - 1]; b--) { it = of[b]; of[b] = of[b - 1]; of[b - 1] = it }
            return of[int((n + 1) / 2)]
        }
        END { printf "%s files, %s: %.2f s, processor %.2f s\n", files, name, median(wall, NR), median(cpu, NR) }
    ' "$dir/$2"
}

for files in "$@"; do
    rm -rf "${dir:?}"/*
    make_context "$files"
    build() { timed "$1" "$builder" build --root "$dir/store" -q "$dir/context"; }
    # The second build sees files that are old enough to be remembered.
    build warm
    sleep 0.1
    build warm
    for _ in $(seq "$rounds"); do
        timed walk "$walk" "$dir/context"
        build unchanged
    done
    for round in $(seq 3); do
        echo "$round" >"$dir/context/m0/d0/file00.txt"
        sleep 0.1
        build one-changed
    done
    medians "$files" walk
    medians "$files" unchanged
    medians "$files" one-changed
done
