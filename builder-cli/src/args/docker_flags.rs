//! The flags of Docker's commands, of Buildah's, Podman's and Kaniko's: each is ours, too, or refused by name.

use std::collections::BTreeSet;

/// Our command, and the flags that Docker (28) and buildx (0.29) have for it, those that they no longer show included.
const DOCKER: &[(&str, &str)] = &[
    (
        "build",
        "--add-host --allow --annotation --attest --build-arg --build-context --builder --cache-from --cache-to --call \
         --cgroup-parent --check --compress --cpu-period --cpu-quota -c --cpu-shares --cpuset-cpus --cpuset-mems -D --debug \
         --detach --disable-content-trust -f --file --force-rm --iidfile --invoke --isolation --label --load -m --memory \
         --memory-swap --metadata-file --network --no-cache --no-cache-filter -o --output --platform --policy --print \
         --progress --provenance --pull --push -q --quiet --rm --root --sbom --secret --security-opt --server-config \
         --shm-size --squash --ssh -t --tag --target --ulimit",
    ),
    (
        "pull",
        "-a --all-tags --disable-content-trust --platform -q --quiet",
    ),
    (
        "push",
        "-a --all-tags --disable-content-trust --platform -q --quiet",
    ),
    ("tag", ""),
    (
        "images",
        "-a --all --digests -f --filter --format --no-trunc -q --quiet --tree",
    ),
    ("rmi", "-f --force --no-prune --platform"),
    ("inspect", "-f --format --platform -s --size --type"),
    (
        "history",
        "--format -H --human --no-trunc --platform -q --quiet",
    ),
    ("save", "-o --output --platform"),
    ("load", "-i --input --platform -q --quiet"),
    ("login", "-p --password --password-stdin -u --username"),
    ("logout", ""),
    (
        "prune",
        "-a --all --builder --filter -f --force --keep-storage --max-used-space --min-free-space --reserved-space \
         --timeout --verbose --volumes",
    ),
    ("du", "--builder --filter --format --timeout -v --verbose"),
];

/// Those that Buildah (1.28 to 1.42) and Podman (4.3 to 5) have besides, and those of Kaniko's executor (1.24).
const OTHERS: &[(&str, &str)] = &[
    (
        "build",
        "--add-host --all-platforms --annotation --arch --authfile --build-arg --build-arg-file --build-context --cache-from \
         --cache-to --cache-ttl --cap-add --cap-drop --cert-dir --cgroup-parent --cgroupns --compat-volumes --compress \
         --cpp-flag --cpu-period --cpu-quota -c --cpu-shares --cpuset-cpus --cpuset-mems --created-annotation --creds --cw \
         --decryption-key --device -D --disable-compression --disable-content-trust --dns --dns-option --dns-search --env -f \
         --file --force-rm --format --from --group-add --hooks-dir --http-proxy --identity-label --ignorefile --iidfile \
         --inherit-annotations --inherit-labels --ipc --isolation --jobs --label --layer-label --layers --logfile --logsplit \
         --manifest -m --memory --memory-swap --metadata-file --network --no-cache --no-hostname --no-hosts --no-pivot \
         --omit-history --os --os-feature --os-version -o --output --pid --platform --pull --pull-always --pull-never -q \
         --quiet --retry --retry-delay --rewrite-timestamp --rm --runtime --runtime-flag --sbom --sbom-image-output \
         --sbom-image-purl-output --sbom-merge-strategy --sbom-output --sbom-purl-output --sbom-scanner-command \
         --sbom-scanner-image --secret --security-opt --shm-size --sign-by --signature-policy --skip-unused-stages \
         --source-date-epoch --source-policy-file --squash --squash-all --ssh --stdin -t --tag --target --timestamp \
         --tls-verify --ulimit --unsetannotation --unsetenv --unsetlabel --userns --userns-gid-map --userns-gid-map-group \
         --userns-uid-map --userns-uid-map-user --uts --variant -v --volume",
    ),
    (
        "build",
        "-b --bucket --build-arg --cache --cache-copy-layers --cache-dir --cache-repo --cache-run-layers --cache-ttl --cleanup \
         --compressed-caching --compression --compression-level -c --context --context-sub-path --custom-platform --customPlatform -d --destination \
         --digest-file -f --dockerfile --force --force-build-metadata --git --ignore-path --ignore-var-run \
         --image-download-retry --image-fs-extract-retry --image-name-tag-with-digest-file --image-name-with-digest-file \
         --insecure --insecure-pull --insecure-registry --kaniko-dir --label --log-format --log-timestamp --no-push \
         --no-push-cache --oci-layout-path --push-ignore-immutable-tag-errors --push-retry --registry-certificate \
         --registry-client-cert --registry-map --registry-mirror --reproducible --secret --single-snapshot \
         --skip-default-registry-fallback --skip-push-permission-check --skip-tls-verify --skip-tls-verify-pull \
         --skip-tls-verify-registry --skip-unused-stages --snapshot-mode --snapshotMode --tar-path --tarPath --target \
         --use-new-run -v --verbosity --whitelist-var-run",
    ),
    (
        "pull",
        "-a --all-tags --arch --authfile --cert-dir --creds --decryption-key --disable-content-trust --os --platform --policy \
         -q --quiet --retry --retry-delay --tls-verify --variant",
    ),
    (
        "push",
        "--authfile --cert-dir --compress --compression-format --compression-level --creds --digestfile \
         --disable-content-trust --encrypt-layer --encryption-key --force-compression -f --format -q --quiet \
         --remove-signatures --retry --retry-delay --sign-by --sign-by-sigstore --sign-by-sigstore-private-key \
         --sign-passphrase-file --tls-verify",
    ),
    (
        "images",
        "-a --all --digests -f --filter --format --history --no-trunc -n --noheading -q --quiet --sort",
    ),
    ("rmi", "-a --all -f --force -i --ignore --no-prune"),
    ("inspect", "-f --format -l --latest -s --size --type"),
    ("history", "--format -H --human --no-trunc -q --quiet"),
    (
        "save",
        "--compress --format -m --multi-image-archive -o --output -q --quiet --uncompressed",
    ),
    ("load", "-i --input -q --quiet"),
    (
        "login",
        "--authfile --cert-dir --compat-auth-file --get-login -p --password --password-stdin --secret --tls-verify -u \
         --username -v --verbose",
    ),
    ("logout", "-a --all --authfile --compat-auth-file"),
    ("prune", "-a --all --external --filter -f --force"),
    ("du", "--format -v --verbose"),
];

#[test]
fn each_flag_of_others_is_ours_or_refused_by_name() {
    let command = super::command();
    for (name, flags) in DOCKER.iter().chain(OTHERS) {
        let ours = command.find_subcommand(name).expect("a command");
        let known: BTreeSet<String> = ours
            .get_arguments()
            .flat_map(|arg| {
                let long = arg
                    .get_long()
                    .into_iter()
                    .chain(arg.get_all_aliases().unwrap_or_default());
                let long: Vec<String> = long.map(|it| format!("--{it}")).collect();
                long.into_iter()
                    .chain(arg.get_short().map(|it| format!("-{it}")))
            })
            .collect();
        for flag in flags.split_whitespace() {
            assert!(known.contains(flag), "{name} {flag} is unknown");
        }
    }
}
