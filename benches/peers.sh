#!/usr/bin/env bash
# peers.sh - times whole commands of `builder` and of the builders that are installed, in one run.
#
# usage: peers.sh [-n N] [-w W1,W2,…] [-p PEER,…] [-b FILE] [-r REF] [-k]
#   -n N      timed runs of each command; the table has their medians [default: 5]
#   -w LIST   workloads [default: W1,W2,W3,W4,W5]
#   -p LIST   peers [default: buildah,podman,docker]
#   -b FILE   a `builder` that is already built [default: `cargo build --release` makes it]
#   -r REF    a Python base in a registry that all tools reach without TLS, for W6 and W7: `127.0.0.1:5000/python:latest`
#   -k        keep the folder with logs and storage
#
# Workloads (cold: --no-cache; warm: the same again):
#   W1  warm  12 steps, 2,000 files, nothing changed
#   W2  warm  one changed file of 20,000 (400 MB), `COPY . .` last, an OCI archive with gzip layers out
#   W3  cold  the same
#   W4  cold  20 trivial RUN steps; seconds for each RUN
#   W5  cold  six stages with `RUN sleep 1`, and a COPY --from of each; six jobs where there is a flag for it
#   W6  cold  pull and unpack the base of -r, one COPY, an OCI archive out; each tool's images and layers are removed before
#   W7  cold  `pip install` on the base of -r, which is there; beside it pip alone, in the files of the base
#   W8  cold  COPY of 100,000 small files, an OCI archive out
#   W9  cold  COPY of one file of 4 GiB, an OCI archive out
#   W10 warm  one changed file in a last, small layer above one of 40 MB, the image into Docker's engine: `builder build --load`
#             where $DOCKER_HOST says, beside `docker build`, which has it there already
#
# Every round runs each command once, and starts with another one than the round before. One untimed build of each comes
# first. All start from the same base, which `examples/hello/make-base.sh` makes, and have a store of their own. A peer
# that cannot build here is left out by name. With several isolations that work, a peer has the one that is quicker.
#
# Docker is asked where $DOCKER_HOST says. A daemon for this alone, without a network:
#   dockerd --iptables=false --bridge=none -H unix://$d/docker.sock --data-root $d/data --exec-root $d/exec \
#       --pidfile $d/pid
# Its BuildKit writes no OCI archives; `docker save | gzip` stands in for that.
#
# Needs bash 5, awk, tar, gzip, busybox-static, and a user who may do what the peers do: root.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)

runs=5 workloads=W1,W2,W3,W4,W5 wanted=buildah,podman,docker program='' keep='' python=''
while getopts n:w:p:b:r:kh option; do
    case $option in
        n) runs=$OPTARG ;;
        w) workloads=$OPTARG ;;
        p) wanted=$OPTARG ;;
        b) program=$OPTARG ;;
        r) python=$OPTARG ;;
        k) keep=1 ;;
        h) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"; exit ;;
        *) exit 2 ;;
    esac
done
[[ $runs =~ ^[1-9][0-9]*$ ]] || { echo "peers.sh: -n $runs is not a number of runs" >&2; exit 2; }
for workload in ${workloads//,/ }; do
    [[ $workload =~ ^W([1-9]|10)$ ]] || { echo "peers.sh: no workload $workload" >&2; exit 2; }
    [[ ! $workload =~ ^W[67]$ ]] || [ -n "$python" ] || { echo "peers.sh: $workload needs -r" >&2; exit 2; }
done
for peer in ${wanted//,/ }; do
    [[ $peer =~ ^(buildah|podman|docker)$ ]] || { echo "peers.sh: no peer $peer" >&2; exit 2; }
done
say() { echo "$*" >&2; }

if [ -z "$program" ]; then
    say "building builder"
    cargo build --release --quiet --manifest-path "$here/../Cargo.toml" -p builder-cli
    program=${CARGO_TARGET_DIR:-$here/../target}/release/builder
fi
program=$(realpath "$program")
[ -x "$program" ] || { echo "peers.sh: no program $program" >&2; exit 2; }

temp=$(mktemp -d "${TMPDIR:-/tmp}/peers.XXXXXX")
if [ -n "$python" ]; then
    printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "${python%%/*}" >"$temp/registries.conf"
    export CONTAINERS_REGISTRIES_CONF=$temp/registries.conf
fi
base=localhost/peers-busybox:latest
image=localhost/peers-result:latest
docker='' docker_prune=''
# Overlay storage may have mounted itself.
unmount_below() {
    local point
    awk -v at="$1/" 'index($2, at) == 1 { print $2 }' /proc/self/mounts | tac | while read -r point; do
        umount -l "$point" || true
    done
}
clean() {
    trap - EXIT
    if [ -n "$docker" ]; then
        "$docker" image rm -f "$image" "$base" &>/dev/null || true
        [ -z "$docker_prune" ] || "$docker" builder prune -af &>/dev/null || true
    fi
    if [ -n "$keep" ]; then
        say "kept: $temp"
        return
    fi
    unmount_below "$temp"
    rm -rf "$temp"
}
trap clean EXIT
trap 'exit 130' INT TERM

# ---- contexts -------------------------------------------------------------------------------------------------------

# Files of words, each file different, in 100 directories: DIR FILES BYTES
files() {
    mkdir -p "$1"
    for n in $(seq 0 99); do mkdir -p "$1/d$n"; done
    awk -v dir="$1" -v files="$2" -v bytes="$3" 'BEGIN {
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
}

context_W1() {
    files "$1" 2000 500
    {
        echo "FROM $base"
        printf '%s\n' 'ENV A=1' 'WORKDIR /app' 'COPY d0 d0' 'RUN echo 1 >one' 'RUN echo 2 >two' 'COPY d1 d2 deps/' \
            'RUN echo 3 >three' 'ENV B=2' 'COPY . .' 'RUN echo 4 >four' 'CMD ["cat", "four"]'
    } >"$1/Dockerfile"
}
context_W2() {
    files "$1" 20000 20480
    printf '%s\n' "FROM $base" 'RUN echo 1 >/one' 'WORKDIR /app' 'COPY . .' >"$1/Dockerfile"
}
context_W4() {
    mkdir -p "$1"
    { echo "FROM $base"; for n in $(seq 20); do echo "RUN echo $n >/f$n"; done; } >"$1/Dockerfile"
}
context_W5() {
    mkdir -p "$1"
    {
        for n in $(seq 6); do printf '%s\n' "FROM $base AS s$n" "RUN sleep 1; echo $n >/out"; done
        echo "FROM $base"
        for n in $(seq 6); do echo "COPY --from=s$n /out /out$n"; done
    } >"$1/Dockerfile"
}

context_W6() {
    files "$1" 100 2000
    printf '%s\n' "FROM $python" 'COPY . /app' >"$1/Dockerfile"
}
context_W7() {
    mkdir -p "$1"
    echo 'print("hello")' >"$1/app.py"
    printf '%s\n' "FROM $python" 'WORKDIR /app' 'COPY app.py .' \
        'RUN pip install --no-cache-dir --disable-pip-version-check --break-system-packages flask' >"$1/Dockerfile"
}
context_W8() {
    files "$1" 100000 300
    printf '%s\n' "FROM $base" 'COPY . /app' >"$1/Dockerfile"
}
context_W9() {
    files "$1" 200 20480
    mkdir -p "$1/large"
    # Text that compresses as text does, and is another in every MiB.
    for n in $(seq 1024); do echo "part $n"; cat "$1"/d*/*.txt; done >"$1/large/file"
    truncate -s 4G "$1/large/file"
    rm -rf "$1"/d*
    printf '%s\n' "FROM $base" 'COPY large /large' >"$1/Dockerfile"
}

context_W10() {
    files "$1/deps" 2000 20480
    files "$1/d50" 10 2000
    echo 1 >"$1/d50/f50.txt"
    printf '%s\n' "FROM $base" 'COPY deps /deps' 'COPY d50 /app' >"$1/Dockerfile"
}

# What a tool has of images and layers goes, before W6.
empty_builder() { rm -rf "$builder_store"; }
empty_buildah() { buildah_ rmi -a -f; }
empty_podman() { podman_ system prune -a -f; podman_ rmi -a -f; }
empty_docker() { "$docker" builder prune -af; "$docker" image rm -f "$image" "$python"; }

# ---- the commands: each builds CONTEXT, with --no-cache if COLD is not empty, to the archive OUT if not empty ---------

builder_store=$temp/builder load=''
run_builder() { # CONTEXT COLD OUT
    local args=(build --root "$builder_store" --build-context "$base=oci-layout://$temp/base:latest" -t "$image" --jobs 6)
    [ -z "$python" ] || args+=(--registries-conf "$temp/registries.conf")
    args+=(--network host)
    [ -z "$2" ] || args+=(--no-cache)
    [ -z "$3" ] || args+=(-o "type=oci,dest=$3")
    [ -z "$load" ] || args+=(--load)
    "$program" "${args[@]}" "$1"
}
# The same with nothing in the store, not even the base.
run_builder-empty() {
    local builder_store=$temp/builder-empty
    run_builder "$@"
}
# W7 without a builder: `pip` itself, in the files of the base, which are made anew each time.
run_pip-alone() {
    chroot "$temp/pip-alone" /usr/bin/env -i HOME=/root PATH=/usr/local/bin:/usr/bin:/bin \
        sh -c "$(sed -n 's/^RUN //p' "$1/Dockerfile")"
}
before_pip-alone() {
    rm -rf "$temp/pip-alone"
    [ -d "$temp/python-files" ] || {
        echo "FROM $python" >"$temp/python.Dockerfile"
        "$program" build --root "$temp/python-store" --registries-conf "$temp/registries.conf" --quiet \
            -f "$temp/python.Dockerfile" -o "type=local,dest=$temp/python-files" "$temp/probe"
        cp /etc/resolv.conf /etc/hosts "$temp/python-files/etc/"
    }
    cp -a "$temp/python-files" "$temp/pip-alone"
    mkdir -p "$temp/pip-alone/dev" && { [ -e "$temp/pip-alone/dev/null" ] || mknod -m 666 "$temp/pip-alone/dev/null" c 1 3; }
}
before_builder-empty() { rm -rf "$temp/builder-empty"; }

# Limits that need no CAP_SYS_RESOURCE.
limits=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
isolation_of() { # WORDS: the isolation's flags in `flags`
    case $1 in
        chroot) flags=(--isolation chroot) ;;
        oci) flags=(--isolation oci "${limits[@]}") ;;
    esac
}

buildah_driver='' buildah_isolation='' buildah_runtime=()
buildah_() { buildah --root "$temp/buildah" --runroot "$temp/buildah-run" --storage-driver "$buildah_driver" "$@"; }
run_buildah() {
    local flags args
    isolation_of "$buildah_isolation"
    args=(bud --layers --network host --jobs 6 -t "$image" "${flags[@]}")
    [ "$buildah_isolation" = chroot ] || args+=("${buildah_runtime[@]}")
    [ -z "$2" ] || args+=(--no-cache)
    buildah_ "${args[@]}" "$1" && { [ -z "$3" ] || buildah_ push -q --format oci "$image" "oci-archive:$3"; }
}

podman_driver='' podman_isolation='' podman_runtime=()
podman_() {
    podman --root "$temp/podman" --runroot "$temp/podman-run" --tmpdir "$temp/podman-tmp" \
        --storage-driver "$podman_driver" --cgroup-manager cgroupfs "${podman_runtime[@]}" "$@"
}
run_podman() {
    local flags args
    isolation_of "$podman_isolation"
    args=(build --layers --network host --jobs 6 -t "$image" "${flags[@]}")
    [ -z "$2" ] || args+=(--no-cache)
    podman_ "${args[@]}" "$1" && { [ -z "$3" ] || podman_ push -q --format oci "$image" "oci-archive:$3"; }
}

run_docker() {
    local args=(build --network host -t "$image")
    [ -z "$2" ] || args+=(--no-cache)
    DOCKER_BUILDKIT=1 "$docker" "${args[@]}" "$1" && { [ -z "$3" ] || "$docker" save "$image" | gzip -6 >"$3"; }
}

# ---- timing ---------------------------------------------------------------------------------------------------------

log=$temp/log
# Seconds of a command, in `took`; what it says goes to the log.
timed() {
    local from=${EPOCHREALTIME/./} status=0
    "$@" >"$log" 2>&1 </dev/null || status=$?
    took=$(awk -v us="$((${EPOCHREALTIME/./} - from))" 'BEGIN { printf "%.4f", us / 1e6 }')
    return $status
}
median() { # numbers as words
    printf '%s\n' "$@" | sort -n | awk '{ a[NR] = $1 } END { print (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2 }'
}
lowest() { printf '%s\n' "$@" | sort -n | head -1; }
highest() { printf '%s\n' "$@" | sort -n | tail -1; }

# ---- who is here ----------------------------------------------------------------------------------------------------

say "the base image"
bash "$here/../examples/hello/make-base.sh" "$temp/base"
mkdir -p "$temp/probe"
printf '%s\n' "FROM $base" 'COPY Dockerfile /' 'RUN echo 1 >/one' 'RUN echo 2 >/two' 'RUN echo 3 >/three' \
    >"$temp/probe/Dockerfile"

declare -A title
notes=() commands=()
leave_out() { # PEER WHY
    notes+=("$1 is left out: $2")
    say "$1 is left out: $2"
}
last_line() { grep -v '^[[:space:]]*$' "$log" | tail -1 || true; }

title[builder]=$("$program" --version)
title[builder-empty]="builder, empty store"
title[pip-alone]="pip alone"
timed run_builder "$temp/probe" cold '' || { cat "$log" >&2; exit 1; }
commands+=(builder)
# The peers take the base as an archive: they would name that of a layout after its path.
printf '%s\n' "FROM $base" >"$temp/base.Dockerfile"
timed "$program" build --root "$temp/builder-base" --build-context "$base=oci-layout://$temp/base:latest" \
    -f "$temp/base.Dockerfile" -t "$base" -o "type=docker,dest=$temp/base.tar" "$temp/probe" ||
    { cat "$log" >&2; exit 1; }

# Both of containers' tools, each with a storage of its own: NAME
containers_tool() {
    local name=$1 driver works='' isolation best='' quickest
    command -v "$name" >/dev/null || { leave_out "$name" "not installed"; return; }
    local -n driver_of=${name}_driver isolation_in_use=${name}_isolation runtime=${name}_runtime
    # crun, where it is the default, may be unable to run here.
    [ -z "$(command -v runc)" ] || runtime=(--runtime runc)
    for driver in overlay vfs; do
        driver_of=$driver
        if timed "${name}_" pull -q "docker-archive:$temp/base.tar" && timed "${name}_" inspect --type image "$base"; then
            works=$driver
            break
        fi
        unmount_below "$temp/$name"
        rm -rf "${temp:?}/$name" "$temp/$name-run"
    done
    [ -n "$works" ] || { leave_out "$name" "no storage: $(last_line)"; return; }
    for isolation in oci chroot; do
        isolation_in_use=$isolation
        timed "run_$name" "$temp/probe" cold '' || { say "$name cannot use $isolation: $(last_line)"; continue; }
        timed "run_$name" "$temp/probe" cold ''
        if [ -z "$best" ] || [ "$(lowest "$took" "$quickest")" = "$took" ]; then
            best=$isolation quickest=$took
        fi
        say "$name, $isolation: $took s"
    done
    [ -n "$best" ] || { leave_out "$name" "no isolation works: $(last_line)"; return; }
    isolation_in_use=$best
    title[$name]="$name $("$name" --version | awk '{ print $3 }')"
    case $best in
        oci) best="isolation oci (${runtime[1]:-the default runtime})" ;;
        *) best="isolation $best" ;;
    esac
    notes+=("${title[$name]}: storage $works, $best, network host")
    commands+=("$name")
}

docker_engine() {
    local client why='' version
    [ -n "${DOCKER_HOST:-}" ] || { leave_out docker "DOCKER_HOST is not set"; return; }
    # A client may lack the plugin that it needs for BuildKit.
    for client in docker /usr/bin/docker; do
        command -v "$client" >/dev/null || continue
        docker=$client
        if ! timed "$docker" version --format '{{.Server.Version}}'; then
            why=$(last_line)
            continue
        fi
        version=$(tail -1 "$log")
        [ "$("$docker" system df --format '{{.Type}}={{.TotalCount}}' | grep -i '^build cache=')" != "Build Cache=0" ] ||
            docker_prune=1
        if timed "$docker" load -i "$temp/base.tar" && timed run_docker "$temp/probe" cold ''; then
            title[docker]="BuildKit of Docker $version"
            timed "$docker" info --format '{{.Driver}}' || true
            notes+=("${title[docker]}: storage $(tail -1 "$log"), network host, archive by \`docker save | gzip -6\`")
            [ -n "$docker_prune" ] || notes+=("docker's build cache was not empty and is left as it is, with what this added")
            commands+=(docker)
            return
        fi
        why=$(last_line)
    done
    leave_out docker "${why:-not installed}"
}

for peer in ${wanted//,/ }; do
    case $peer in
        docker) docker_engine ;;
        *) containers_tool "$peer" ;;
    esac
done

# ---- the workloads --------------------------------------------------------------------------------------------------

declare -A times cell middle
rows=()
workload() { # NAME CONTEXT COLD ARCHIVE CHANGES DIVISOR WORDS
    local name=$1 context=$temp/context-$2 cold=$3 archive=$4 changes=$5 divisor=$6 out='' who round try at list
    local -A failed=()
    local -a all=("${commands[@]}")
    load=''
    case $name in
        W10) load=1 all=(builder docker) ;;
        W3 | W8 | W9) all+=(builder-empty) ;;
        W7) all+=(pip-alone) ;;
    esac
    if [ ! -d "$context" ]; then
        say "the files of $2"
        "context_$2" "$context"
    fi
    for ((round = 0; round <= runs; round++)); do
        [ -z "$changes" ] || echo "change $round $EPOCHREALTIME" >>"$context/d50/f50.txt"
        # Files younger than the clock's grain are nobody's measure.
        sleep 0.2
        for ((at = 0; at < ${#all[@]}; at++)); do
            who=${all[(at + round) % ${#all[@]}]}
            [ -z "${failed[$who]:-}" ] || continue
            rm -f "$temp/out.tar"
            case $who in builder-empty | pip-alone) "before_$who" >"$log" 2>&1 ;; esac
            [ "$name" != W6 ] || "empty_$who" >"$log" 2>&1 || true
            if [ -n "$archive" ]; then
                out=$temp/out.tar
                # What the one before wrote is not this one's to wait for.
                sync -f "$temp"
            fi
            for try in 1 2 3; do
                if timed "run_$who" "$context" "$cold" "$out"; then
                    # Round 0 is the untimed one.
                    [ "$round" = 0 ] || times[$name,$who]+=" $took"
                    say "$name $round $who $took"
                    break
                fi
                # Some fail now and then; only what succeeds is timed.
                notes+=("$name, ${title[$who]}: attempt $try of round $round failed: $(last_line)")
                say "$name $who failed: $(tail -5 "$log")"
                [ "$try" != 3 ] || failed[$who]=1
            done
        done
    done
    for who in "${all[@]}"; do
        [ -z "${failed[$who]:-}" ] || { cell[$name,$who]=failed; continue; }
        # shellcheck disable=SC2206 # numbers
        list=(${times[$name,$who]})
        middle[$name,$who]=$(median "${list[@]}")
        cell[$name,$who]=$(awk -v d="$divisor" -v m="${middle[$name,$who]}" -v l="$(lowest "${list[@]}")" \
            -v h="$(highest "${list[@]}")" 'BEGIN { printf "%.3f (%.3f–%.3f)", m / d, l / d, h / d }')
    done
    rows+=("$name|$7")
}

if [[ ,$workloads, == *,W10,* && " ${commands[*]} " != *' docker '* ]]; then
    notes+=("W10 is left out: it needs docker")
    workloads=$({ tr ',' '\n' <<<"$workloads" | grep -vx W10 || true; } | paste -sd,)
fi
for name in ${workloads//,/ }; do
    case $name in
        W1) workload W1 W1 '' '' '' 1 'no-op rebuild, 12 steps, 2,000 files' ;;
        W2) workload W2 W2 '' 1 1 1 'one changed file of 20,000 / 400 MB, archive out' ;;
        W3) workload W3 W2 1 1 1 1 'the same, cold' ;;
        W4) workload W4 W4 1 '' '' 20 '20 RUN, cold; for each RUN' ;;
        W5) workload W5 W5 1 '' '' 1 'six stages with `sleep 1`, cold' ;;
        W6) workload W6 W6 1 1 '' 1 'pull a Python base, one COPY, archive out' ;;
        W7) workload W7 W7 1 '' '' 1 'pip install on a Python base' ;;
        W8) workload W8 W8 1 1 '' 1 '100,000 small files, archive out' ;;
        W9) workload W9 W9 1 1 '' 1 'one file of 4 GiB, archive out' ;;
        W10) workload W10 W10 '' '' 1 1 'one changed file in a last layer, into the engine' ;;
    esac
done

# ---- the table ------------------------------------------------------------------------------------------------------

echo
echo "Seconds: the median of $runs runs (the least–the most). $(nproc) cores."
echo
columns=("${commands[@]}")
[[ ! ,$workloads, =~ ,W[389], ]] || columns+=(builder-empty)
[[ ,$workloads, != *,W7,* ]] || columns+=(pip-alone)
{
    printf '| workload |'
    for who in "${columns[@]}"; do printf ' %s |' "${title[$who]}"; done
    printf ' best peer / ours |\n|---|'
    for who in "${columns[@]}"; do printf -- '---:|'; done
    printf -- '---:|\n'
    for row in "${rows[@]}"; do
        name=${row%%|*} best=''
        printf '| %s: %s |' "$name" "${row#*|}"
        for who in "${columns[@]}"; do
            value=${cell[$name,$who]:-}
            printf ' %s |' "${value:- }"
            if [[ $who != builder* && $who != *-alone && -n ${middle[$name,$who]:-} ]]; then
                best=$(lowest ${best:+"$best"} "${middle[$name,$who]}")
            fi
        done
        ours=${middle[$name,builder]:-}
        if [ -n "$best" ] && [ -n "$ours" ]; then
            awk -v b="$best" -v o="$ours" 'BEGIN { printf " %.2f |\n", b / o }'
        else
            printf '  |\n'
        fi
    done
}
echo
for note in "${notes[@]}"; do echo "- $note"; done
