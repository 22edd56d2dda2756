#!/usr/bin/env bash
# make-base.sh DIR - makes the base image `busybox:latest` as an OCI layout in DIR, from the machine's static busybox.
# Needs bash, tar, gzip, sha256sum and the Debian package busybox-static.
set -euo pipefail
dir=${1:?usage: make-base.sh DIR}
busybox=$(command -v busybox) || { echo "make-base.sh: busybox is missing (Debian package busybox-static)" >&2; exit 1; }
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,tmp,root} "$dir/blobs/sha256"
chmod 755 "$root"
chmod 1777 "$root/tmp"
install -m 755 "$busybox" "$root/bin/busybox"
"$busybox" --list-full | while read -r applet; do
    case $applet in
        */busybox | linuxrc) ;;
        bin/* | sbin/* | usr/bin/* | usr/sbin/*) ln -sf /bin/busybox "$root/$applet" ;;
    esac
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"

put() { # put FILE: stores a blob, prints its digest and size as JSON fields
    local hex
    hex=$(sha256sum <"$1" | cut -d' ' -f1)
    cp "$1" "$dir/blobs/sha256/$hex"
    printf '"digest":"sha256:%s","size":%s' "$hex" "$(stat -c %s "$1")"
}

work=$(mktemp -d)
trap 'rm -rf "$root" "$work"' EXIT
tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1600000000 -C "$root" -cf "$work/layer.tar" .
diff_id=sha256:$(sha256sum <"$work/layer.tar" | cut -d' ' -f1)
gzip -n "$work/layer.tar"
layer=$(put "$work/layer.tar.gz")

cat >"$work/config" <<EOF
{"created":"2020-09-13T12:26:40Z","architecture":"$arch","os":"linux","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["$diff_id"]},"history":[{"created":"2020-09-13T12:26:40Z","created_by":"busybox-static"}]}
EOF
config=$(put "$work/config")
cat >"$work/manifest" <<EOF
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",$config},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",$layer}]}
EOF
manifest=$(put "$work/manifest")
echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
cat >"$dir/index.json" <<EOF
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",$manifest,"annotations":{"org.opencontainers.image.ref.name":"latest"},"platform":{"architecture":"$arch","os":"linux"}}]}
EOF
