#!/bin/sh
# What a build costs beyond the look at every file, as the context grows: nothing changed (W1), and one changed file with the
# whole layer out again (W2), beside a bare walk that asks for the state of every file. Each round runs all three, in turn.
#
#   cargo build --release -p builder-cli && cargo build --release -p benches --example stat_walk
#   benches/growth.sh [-n ROUNDS] [FILES ...]
#
#   -n ROUNDS  rounds that count, after one that does not [default: 5]
#   FILES      sizes of the context [default: 2000 20000 200000]
#
# Files are of words, each another, in 100 directories: 20 KiB each, 2 KiB from 100,000 files on, so that a context stays at 400 MB
# (800 MB on a disk with blocks of 4 KiB). The Dockerfile ends with `COPY . .`; W2 writes an OCI archive with gzip layers, and
# appends a line to a file in the middle of the layer before each round. The store is new for each size.
#
# Prints medians by the clock, what they are beyond the walk's, and processor time (user and system, all threads). Contexts, stores
# and archives are made under TMPDIR and removed: keep 3 GB free there.
set -eu

rounds=5
case ${1-} in
    -h | --help)
        sed -n '2,/^set -eu/{/^set -eu/!s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    -n)
        rounds=$2
        shift 2
        ;;
esac
[ $# -gt 0 ] || set -- 2000 20000 200000
here=$(cd "$(dirname "$0")/.." && pwd)
builder=${BUILDER:-$here/target/release/builder}
walk=${STAT_WALK:-$here/target/release/examples/stat_walk}
for program in "$builder" "$walk"; do
    [ -x "$program" ] || {
        echo "growth.sh: no program $program; build it first, see the top of this file" >&2
        exit 2
    }
done
dir=$(mktemp -d "${TMPDIR:-/tmp}/growth.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

# FILES BYTES
make_context() {
    for n in $(seq 0 99); do mkdir -p "$dir/context/d$n"; done
    awk -v dir="$dir/context" -v files="$1" -v bytes="$2" 'BEGIN {
        srand(1)
        for (i = 0; i < 4096; i++) word[i] = sprintf("w%x", i * i * 7)
        for (file = 0; file < files; file++) {
            name = dir "/d" file % 100 "/f" file ".txt"
            for (size = 0; size < bytes; size += length(line) + 1) {
                line = ""
                for (i = 0; i < 10; i++) line = line word[int(rand() * 4096)] " "
                print line >name
            }
            close(name)
        }
    }'
    printf '%s\n' 'FROM scratch' 'WORKDIR /app' 'COPY . .' >"$dir/context/Dockerfile"
}

# NAME COMMAND...: adds seconds by the clock, user, system.
timed() {
    out=$1
    shift
    /usr/bin/time -a -o "$dir/$out" -f '%e %U %S' "$@" >/dev/null
}

build() { # NAME [FLAG...]
    out=$1
    shift
    timed "$out" "$builder" build --root "$dir/store" -q "$@" "$dir/context"
}

# NAME: the medians of seconds and of processor time
medians() {
    for what in clock processor; do
        awk -v what="$what" '{ print what == "clock" ? $1 : $2 + $3 }' "$dir/$1" | sort -n |
            awk '{ at[NR] = $1 } END { printf "%s ", at[int((NR + 1) / 2)] }'
    done
}

row() { # FILES NAME WALK-SECONDS WALK-PROCESSOR SECONDS PROCESSOR
    awk -v files="$1" -v name="$2" -v ws="$3" -v wc="$4" -v s="$5" -v c="$6" 'BEGIN {
        printf "| %s | %s | %.2f | %.2f | %.2f | %.2f | %.2f |\n", files, name, ws, s, s - ws, c, c - wc
    }'
}

echo '| files | | walk, s | ours, s | ours − walk, s | ours, processor s | ours − walk, processor s |'
echo '|---:|---|---:|---:|---:|---:|---:|'
for files in "$@"; do
    rm -rf "${dir:?}"/*
    bytes=20480
    [ "$files" -lt 100000 ] || bytes=2048
    make_context "$files" "$bytes"
    # Files must be older than the clock's grain to be remembered: the second build sees to that.
    sleep 0.2
    build warm -o "type=oci,dest=$dir/out.tar"
    build warm -o "type=oci,dest=$dir/out.tar"
    round=0
    while [ "$round" -le "$rounds" ]; do
        [ "$round" != 1 ] || rm -f "$dir/walk" "$dir/w1" "$dir/w2"
        timed walk "$walk" "$dir/context"
        build w1
        echo "change $round" >>"$dir/context/d50/f50.txt"
        sleep 0.2
        rm -f "$dir/out.tar"
        # What went before is not this one's to wait for.
        sync -f "$dir"
        build w2 -o "type=oci,dest=$dir/out.tar"
        round=$((round + 1))
    done
    # shellcheck disable=SC2046 # two numbers each
    row "$files" 'W1, nothing changed' $(medians walk) $(medians w1)
    # shellcheck disable=SC2046
    row "$files" 'W2, one file changed' $(medians walk) $(medians w2)
done
