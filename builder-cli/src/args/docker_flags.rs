//! The flags of Docker's commands: each is ours, too, or refused by name.

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

#[test]
fn each_flag_of_docker_is_ours_or_refused_by_name() {
    let command = super::command();
    for (name, flags) in DOCKER {
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
