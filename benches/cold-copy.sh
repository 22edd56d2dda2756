#!/bin/sh
# A cold COPY into an OCI archive with a gzip layer, beside the floor: reading the files once, compressing them on all cores,
# hashing once, one after the other. In turn, each build with an empty store.
#
#   cargo build --release -p builder-cli && cargo build --release -p benches --example cold_floor
#   benches/cold-copy.sh [-n ROUNDS] [FILES BYTES]
#
# Prints medians, and the ratio of the two pair by pair. FILES [default: 20000] hold BYTES [default: 20480] each. What is
# written goes under TMPDIR and is removed.
set -eu

rounds=5
if [ "${1-}" = -n ]; then
    rounds=$2
    shift 2
fi
files=${1:-20000} bytes=${2:-20480}
here=$(cd "$(dirname "$0")/.." && pwd)
builder=${BUILDER:-$here/target/release/builder}
floor=${COLD_FLOOR:-$here/target/release/examples/cold_floor}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for at in $(seq 0 99); do mkdir -p "$dir/context/d$at"; done
awk -v dir="$dir/context" -v files="$files" -v bytes="$bytes" 'BEGIN {
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
printf 'FROM scratch\nCOPY . /app\n' >"$dir/Dockerfile"
sync -f "$dir"
"$floor" "$dir/context" >"$dir/warm"
for _ in $(seq "$rounds"); do
    rm -rf "$dir/store" "$dir/out.tar"
    sync -f "$dir"
    "$floor" "$dir/context" >>"$dir/floor"
    /usr/bin/time -a -o "$dir/build" -f '%e %U %S' "$builder" build --root "$dir/store" -q -f "$dir/Dockerfile" \
        -o "type=oci,dest=$dir/out.tar" "$dir/context" >/dev/null
done
paste -d' ' "$dir/build" "$dir/floor" | awk '
    { wall[NR] = $1; cpu[NR] = $2 + $3; floor[NR] = $4; read[NR] = $6; pack[NR] = $8; hash[NR] = $12; ratio[NR] = $1 / $4 }
    function median(of,  a, b, it) {
        for (a = 2; a <= NR; a++)
            for (b = a; b > 1 && of[b] < of[b - 1]; b--) { it = of[b]; of[b] = of[b - 1]; of[b - 1] = it }
        return of[int((NR + 1) / 2)]
    }
    END {
        printf "build: %.2f s, processor %.2f s\n", median(wall), median(cpu)
        printf "floor: %.2f s (read %.2f, compress %.2f, hash %.2f)\n", median(floor), median(read), median(pack), median(hash)
        printf "build / floor, pair by pair: %.2f (%.2f to %.2f)\n", median(ratio), ratio[1], ratio[NR]
    }'
