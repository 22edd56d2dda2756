//! `builder prune` and `builder du`; and the policy that `build` holds the store to.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;

use builder_core::cache::{Cache, Policy, Rules};
use builder_core::sandbox;
use builder_core::store::{Kind, Store};
use clap::Args;

use crate::args::Format;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::quantities::{bytes, duration};
use crate::{fields, render};

#[derive(Debug, Args)]
pub(crate) struct DuArgs {
    /// Where everything is kept, as for `build`
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Every record by itself
    #[arg(short, long)]
    verbose: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// What named images were made with, cache mounts and digests of files, too
    #[arg(short, long)]
    all: bool,
    /// Taken for Docker's sake: nothing is asked
    #[arg(short, long)]
    force: bool,
    /// `until=24h` (not used for so long), `type=KIND` (blob, snapshot, cache-mount, record, file-digests, git), `id=START`
    #[arg(long, value_name = "K=V")]
    filter: Vec<String>,
    /// Only until the store takes no more than this, longest unused first: 10GB
    #[arg(long, value_name = "SIZE", alias = "keep-storage", value_parser = bytes)]
    max_used_space: Option<u64>,
    /// Only until so much of the disk is free
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    min_free_space: Option<u64>,
    /// Only until the store has no more files and directories than this
    #[arg(long, value_name = "NUMBER")]
    max_used_inodes: Option<u64>,
    /// Only until so many inodes of the file system are free
    #[arg(long, value_name = "NUMBER")]
    min_free_inodes: Option<u64>,
    /// Never below this, whatever else is said
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    reserved_space: Option<u64>,
    /// Only what was not used for so long: 24h, 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    keep_duration: Option<std::time::Duration>,
    /// Print what would go, and keep it
    #[arg(long)]
    dry_run: bool,
    /// Where everything is kept, as for `build`
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn du(args: DuArgs, environment: &Environment) -> Result<(), Failure> {
    let cache = open(args.root, environment)?;
    let holdings = cache.holdings().map_err(failed)?;
    let text = match args.format {
        Format::Text => render::holdings::text(&holdings, args.verbose),
        Format::Json => render::holdings::json(&holdings),
    };
    render::result(&text)
}

pub(super) fn prune(args: PruneArgs, environment: &Environment) -> Result<(), Failure> {
    let mut rules = Rules {
        all: args.all,
        unused_for: args.keep_duration,
        max_used_bytes: args.max_used_space,
        min_free_bytes: args.min_free_space.unwrap_or(0),
        max_used_inodes: args.max_used_inodes,
        min_free_inodes: args.min_free_inodes.unwrap_or(0),
        reserved_bytes: args.reserved_space.unwrap_or(0),
        ..Rules::default()
    };
    for filter in &args.filter {
        add_filter(&mut rules, filter)?;
    }
    let cache = open(args.root, environment)?;
    let pruned = cache.prune(&rules, SystemTime::now(), args.dry_run);
    let pruned = pruned.map_err(failed)?;
    let text = match args.format {
        Format::Text => render::holdings::pruned_text(&pruned, args.dry_run),
        Format::Json => render::holdings::pruned_json(&pruned),
    };
    render::result(&text)
}

fn failed(error: builder_core::store::StoreError) -> Failure {
    Failure::Io(error.to_string())
}

/// Opens the store, with the ids that its files may have.
fn open(root: Option<PathBuf>, environment: &Environment) -> Result<Cache, Failure> {
    let root = environment.store_root(root)?;
    if !root.is_dir() {
        let root = root.display();
        return Err(Failure::usage(format!(
            "there is no store in {root}: nothing was built yet"
        )));
    }
    sandbox::enter().map_err(Failure::Enter)?;
    Store::open(&root).map(Cache::new).map_err(failed)
}

fn add_filter(rules: &mut Rules, filter: &str) -> Result<(), Failure> {
    let wrong = |why: &str| Failure::usage(format!("--filter {filter}: {why}"));
    let Some((key, value)) = filter.split_once('=') else {
        return Err(wrong("K=V is expected"));
    };
    match key {
        "until" | "unused-for" => {
            rules.unused_for = Some(duration(value).map_err(|why| wrong(&why))?);
        }
        "type" | "kind" => {
            rules.kinds.extend(kinds(value).ok_or_else(|| {
                wrong("blob, snapshot, cache-mount, record, file-digests or git is expected")
            })?);
        }
        "id" => rules.names.push(value.to_owned()),
        _ => return Err(wrong("`until`, `type` or `id` is expected")),
    }
    Ok(())
}

/// Kinds by our names and BuildKit's.
fn kinds(name: &str) -> Option<BTreeSet<Kind>> {
    Some(match name {
        "blob" => BTreeSet::from([Kind::Blob]),
        "snapshot" => BTreeSet::from([Kind::Snapshot]),
        "cache-mount" | "exec.cachemount" => BTreeSet::from([Kind::CacheMount]),
        "record" => BTreeSet::from([Kind::Record]),
        "git" | "source.git.checkout" => BTreeSet::from([Kind::Git]),
        "file-digests" | "source.local" => BTreeSet::from([Kind::FileDigests]),
        "regular" => BTreeSet::from([Kind::Blob, Kind::Snapshot, Kind::Record]),
        _ => return None,
    })
}

/// Reads `--gc`: `off`, or fields that differ from the policy that stands.
pub(super) fn policy(text: &str) -> Result<Option<Policy>, Failure> {
    if text == "off" {
        return Ok(None);
    }
    let mut policy = Policy::default();
    if text.is_empty() {
        return Ok(Some(policy));
    }
    for (key, value) in fields::pairs("--gc", text)? {
        let wrong = |why: String| Failure::usage(format!("--gc {key}={value}: {why}"));
        let amount = || bytes(&value).map_err(wrong);
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|_| wrong("a number is expected".to_owned()))
        };
        let time = || duration(&value).map_err(wrong);
        match key.as_str() {
            "max-used-space" | "keep-storage" => policy.max_used_bytes = Some(amount()?),
            "min-free-space" => policy.min_free_bytes = amount()?,
            "max-used-inodes" => policy.max_used_inodes = Some(number()?),
            "min-free-inodes" => policy.min_free_inodes = number()?,
            "reserved-space" => policy.reserved_bytes = amount()?,
            "keep-duration" => policy.unused_for = Some(time()?),
            "max-mounts" => policy.max_mounts_bytes = Some(amount()?),
            "every" => policy.every = time()?,
            _ => {
                return Err(Failure::usage(format!(
                    "--gc: there is no `{key}`; max-used-space, min-free-space, max-used-inodes, \
                     min-free-inodes, reserved-space, keep-duration, max-mounts or every is expected"
                )));
            }
        }
    }
    Ok(Some(policy))
}
