//! The registry client against a real registry, over TLS, with passwords, and with trouble in between.
//!
//! `LONG=1` runs 200 rounds of trouble, `REGISTRY_RUNS=n` as many; `REGISTRY_SEED=n` starts them with another draw.

mod proxy;
mod server;
mod ways;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use builder_core::digest::{DiffId, Digest};
use builder_core::image::{
    Descriptor, ImageConfig, Index, Manifest, Platform, Reference, media_type,
};
use builder_core::registry::{
    CertificateDirs, Client, ClientOptions, Credential, GivenCredential, NoCredentials, Push,
    Pushed, RegistryError,
};
use builder_core::store::Store;

use proxy::{Act, Proxy, Random};
use server::{PASSWORD, Registry, USER};

const RUNS: u64 = 10;
const LONG_RUNS: u64 = 200;

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

struct Place {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&dir.path().join("store")).expect("store");
        Place { _dir: dir, store }
    }

    /// Puts an image of random layers into the store.
    fn image(&self, random: &mut Random, sizes: &[u64]) -> Descriptor {
        let blobs = self.store.blobs();
        let layers: Vec<Vec<u8>> = sizes
            .iter()
            .map(|size| {
                let words = size / 8;
                (0..words)
                    .flat_map(|_| random.next().to_le_bytes())
                    .collect()
            })
            .collect();
        let mut config = ImageConfig::scratch(&amd64());
        config.diff_ids = layers.iter().map(|it| DiffId(Digest::of(it))).collect();
        let descriptors = layers.iter().map(|layer| {
            blobs.put(layer).expect("put");
            Descriptor::of(media_type::OCI_LAYER, layer)
        });
        let bytes = config.to_bytes();
        blobs.put(&bytes).expect("put");
        let manifest = Manifest::new(
            Descriptor::of(media_type::OCI_CONFIG, &bytes),
            descriptors.collect(),
            BTreeMap::new(),
        );
        blobs.put(&manifest.to_bytes()).expect("put");
        manifest.descriptor()
    }

    async fn pull(&self, client: &Client, name: &Reference) -> Result<Digest, RegistryError> {
        let blobs = self.store.blobs();
        let found = client.resolve(name, &amd64(), blobs).await?;
        for layer in &found.layers {
            client.fetch_blob(&found.source, layer, blobs, None).await?;
        }
        Ok(found.digest)
    }
}

/// A client that knows the password and the authority of `address`.
fn client(registry: &Registry, dir: &std::path::Path, address: std::net::SocketAddr) -> Client {
    Client::new(ClientOptions {
        credentials: Arc::new(GivenCredential {
            host: address.to_string(),
            credential: Credential::of(USER, PASSWORD),
            others: Arc::new(NoCredentials),
        }),
        certificates: CertificateDirs {
            by_host: vec![registry.certs_d(dir, address)],
            given: None,
        },
        ..impatient()
    })
}

fn impatient() -> ClientOptions {
    ClientOptions {
        no_progress_timeout: Duration::from_secs(1),
        give_up_after: Duration::from_secs(20),
        attempts: 8,
        first_pause: Duration::from_millis(2),
        upload_chunk_bytes: 256 << 10,
        ..ClientOptions::default()
    }
}

async fn push(
    client: &Client,
    place: &Place,
    name: &Reference,
    top: &Descriptor,
) -> Result<Pushed, RegistryError> {
    let push = Push {
        reference: name.clone(),
        top: top.clone(),
        origins: BTreeMap::new(),
    };
    client.push(&push, place.store.blobs(), None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_is_pulled_mounted_listed_and_removed() {
    let Some(registry) = Registry::start("registry/round") else {
        return;
    };
    let (place, dir) = (Place::new(), tempfile::tempdir().expect("temp dir"));
    let client = client(&registry, dir.path(), registry.address);
    let mut random = Random(1);
    let one = place.image(&mut random, &[0, 1, 100_000, 3 << 20]);
    let two = place.image(&mut random, &[5_000]);
    let name = |text: &str| -> Reference {
        let text = format!("{}/{text}", registry.address);
        text.parse().expect("a name")
    };
    let pushed = push(&client, &place, &name("a/b:1"), &one)
        .await
        .expect("push");
    assert_eq!(pushed.digest, one.digest);
    // Two empty layers are one blob; the config is one more.
    assert_eq!((pushed.sent, pushed.mounted, pushed.there), (4, 0, 0));
    let again = push(&client, &place, &name("a/b:2"), &one)
        .await
        .expect("push");
    assert_eq!((again.sent, again.mounted, again.there), (0, 0, 4));

    let empty = Place::new();
    assert_eq!(
        empty.pull(&client, &name("a/b:2")).await.expect("pull"),
        one.digest
    );
    empty.store.blobs().verify_all().expect("verify");

    // From another repository of the same registry, without the blobs at hand.
    let manifest = Manifest::parse(
        &place
            .store
            .blobs()
            .read(&one.digest, 1 << 20)
            .expect("read"),
    );
    let manifest = manifest.expect("manifest");
    let parts = manifest.layers.iter().chain([&manifest.config]);
    let origins: BTreeMap<_, _> = parts.map(|it| (it.digest, vec![name("a/b")])).collect();
    let lazy = Place::new();
    let bytes = place
        .store
        .blobs()
        .read(&one.digest, 1 << 20)
        .expect("read");
    lazy.store.blobs().put(&bytes).expect("put");
    let mount = Push {
        reference: name("c/d:1"),
        top: one.clone(),
        origins,
    };
    let mounted = client
        .push(&mount, lazy.store.blobs(), None)
        .await
        .expect("push");
    assert_eq!((mounted.sent, mounted.mounted, mounted.there), (0, 4, 0));
    assert_eq!(lazy.store.blobs().list().expect("list").len(), 1);

    // An index, by tag and by digest.
    push(&client, &place, &name("a/b:two"), &two)
        .await
        .expect("push");
    let index = Index::new(vec![
        one.clone().for_platform(amd64()),
        two.clone()
            .for_platform(Platform::new("linux", "s390x", None)),
    ]);
    let bytes = index.to_bytes();
    place.store.blobs().put(&bytes).expect("put");
    let index = Descriptor::of(media_type::OCI_INDEX, &bytes);
    let pushed = push(&client, &place, &name("a/b:all"), &index)
        .await
        .expect("push");
    assert_eq!((pushed.sent, pushed.there), (0, 6));
    let pinned = name("a/b").with_digest(index.digest);
    assert_eq!(client.head(&pinned).await.expect("head"), index);
    assert_eq!(
        client.head(&name("a/b:all")).await.expect("head").digest,
        index.digest
    );
    let mut tags = client.tags(&name("a/b")).await.expect("tags");
    tags.sort();
    assert_eq!(tags, ["1", "2", "all", "two"]);

    // What refers to it: this registry keeps no list, so a tag stands in.
    let subject = name("a/b").with_digest(one.digest);
    assert_eq!(client.referrers(&subject, None).await.expect("none"), []);
    let mut note = Manifest::new(manifest.config.clone(), Vec::new(), BTreeMap::new());
    note.artifact_type = Some("application/x-note".to_owned());
    note.subject = Some(one.clone());
    place.store.blobs().put(&note.to_bytes()).expect("put");
    let to = name("a/b").with_digest(note.descriptor().digest);
    for _ in 0..2 {
        push(&client, &place, &to, &note.descriptor())
            .await
            .expect("push");
    }
    let found = client
        .referrers(&subject, Some("application/x-note"))
        .await
        .expect("one");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].digest, note.descriptor().digest);
    let other = client
        .referrers(&subject, Some("application/x-other"))
        .await;
    assert_eq!(other.expect("none"), []);

    // Removal: of a manifest with all its tags.
    let gone = client.delete(&name("c/d:1")).await.expect("delete");
    assert_eq!(gone, one.digest);
    for name in [name("c/d:1"), name("c/d").with_digest(one.digest)] {
        let error = Place::new().pull(&client, &name).await.expect_err("gone");
        assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    }
    let error = client.delete(&name("c/d:1")).await.expect_err("twice");
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_certificates_count() {
    let Some(registry) = Registry::start("registry/login") else {
        return;
    };
    let dir = tempfile::tempdir().expect("temp dir");
    let host = registry.address.to_string();
    let good = client(&registry, dir.path(), registry.address);
    good.check_login(&host).await.expect("the right password");
    let with = |credential: Option<Credential>, certs: Vec<PathBuf>| {
        let mut options = ClientOptions {
            certificates: CertificateDirs {
                by_host: certs,
                given: None,
            },
            ..impatient()
        };
        if let Some(credential) = credential {
            options.credentials = Arc::new(GivenCredential {
                host: host.clone(),
                credential,
                others: Arc::new(NoCredentials),
            });
        }
        Client::new(options)
    };
    let certs = vec![dir.path().join("certs.d")];
    const WRONG: &str = "hunter2hunter2";
    for credential in [None, Some(Credential::of(USER, WRONG))] {
        let client = with(credential, certs.clone());
        let error = client.check_login(&host).await.expect_err("wrong");
        assert!(matches!(error, RegistryError::WrongLogin { .. }), "{error}");
        assert!(!format!("{error} {error:?} {client:?}").contains(WRONG));
        let place = Place::new();
        let image = place.image(&mut Random(3), &[10]);
        let name = format!("{host}/a:1").parse().expect("name");
        let error = push(&client, &place, &name, &image)
            .await
            .expect_err("wrong");
        assert!(
            matches!(error, RegistryError::Unauthorized { .. }),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains(WRONG));
    }
    // Another authority than the one that is named for the host.
    let other = tempfile::tempdir().expect("temp dir");
    let wrong = other.path().join(&host);
    std::fs::create_dir_all(&wrong).expect("mkdir");
    std::fs::write(wrong.join("ca.crt"), server::Identity::new().authority).expect("write");
    let credential = Credential::of(USER, PASSWORD);
    let client = with(Some(credential), vec![other.path().to_owned()]);
    let error = client
        .check_login(&host)
        .await
        .expect_err("unknown authority");
    assert!(error.to_string().contains("certificate"), "{error}");
}

/// One round with trouble: push, pull, mount, delete. Returns how it went, where it did not.
async fn round(registry: &Registry, seed: u64) -> Result<(), (bool, String)> {
    let mut random = Random(seed);
    let count = 1 + random.below(8);
    let acts: Vec<Act> = (0..count).map(|_| Act::draw(&mut random)).collect();
    let corrupts = acts.iter().any(|it| it.corrupts());
    let (place, dir) = (Place::new(), tempfile::tempdir().expect("temp dir"));
    let sizes = [
        random.below(1000),
        random.below(200_000),
        random.below(4 << 20),
    ];
    let image = place.image(&mut random, &sizes);
    let proxy = Proxy::start(registry, acts.clone()).await;
    let troubled = client(registry, &dir.path().join("one"), proxy.address);
    let direct = client(registry, &dir.path().join("two"), registry.address);
    let name = |host: std::net::SocketAddr, text: &str| -> Reference {
        format!("{host}/{text}{seed}:1").parse().expect("name")
    };
    let failed =
        |step: &str, error: RegistryError| (corrupts, format!("{step}: {error} ({acts:?})"));
    let pushed = push(&troubled, &place, &name(proxy.address, "r"), &image).await;
    pushed.map_err(|it| failed("push", it))?;
    // What the registry has now is asked for without the proxy.
    let check = Place::new();
    let found = check.pull(&direct, &name(registry.address, "r")).await;
    assert_eq!(
        found.expect("what was pushed is there"),
        image.digest,
        "{acts:?}"
    );

    let pulled = Place::new();
    let outcome = pulled.pull(&troubled, &name(proxy.address, "r")).await;
    pulled
        .store
        .blobs()
        .verify_all()
        .expect("nothing wrong is kept");
    assert_eq!(outcome.map_err(|it| failed("pull", it))?, image.digest);

    let manifest = place
        .store
        .blobs()
        .read(&image.digest, 1 << 20)
        .expect("read");
    let manifest = Manifest::parse(&manifest).expect("manifest");
    let from = name(proxy.address, "r");
    let parts = manifest.layers.iter().chain([&manifest.config]);
    let mount = Push {
        reference: name(proxy.address, "m"),
        top: image.clone(),
        origins: parts.map(|it| (it.digest, vec![from.clone()])).collect(),
    };
    let mounted = troubled.push(&mount, place.store.blobs(), None).await;
    mounted.map_err(|it| failed("mount", it))?;
    let check = Place::new();
    let found = check.pull(&direct, &name(registry.address, "m")).await;
    assert_eq!(
        found.expect("what was mounted is there"),
        image.digest,
        "{acts:?}"
    );

    let removed = troubled.delete(&name(proxy.address, "m")).await;
    removed.map_err(|it| failed("delete", it))?;
    let gone = Place::new()
        .pull(&direct, &name(registry.address, "m"))
        .await;
    assert!(
        matches!(gone, Err(RegistryError::NotFound { .. })),
        "{acts:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_on_the_way_changes_nothing() {
    let Some(registry) = Registry::start("registry/trouble") else {
        return;
    };
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|it| it.parse::<u64>().ok())
    };
    let all = match std::env::var_os("LONG") {
        Some(_) => LONG_RUNS,
        None => RUNS,
    };
    let runs = number("REGISTRY_RUNS").unwrap_or(all);
    let first = number("REGISTRY_SEED").unwrap_or(0);
    let mut excused = Vec::new();
    for seed in first..first + runs {
        let round = tokio::time::timeout(Duration::from_secs(60), round(&registry, seed));
        match round.await {
            Err(_) => panic!("round {seed} hangs"),
            Ok(Ok(())) => {}
            // A changed byte may be in a digest, a status or a name: an error is right then.
            Ok(Err((true, why))) => excused.push(format!("{seed}: {why}")),
            Ok(Err((false, why))) => panic!("round {seed}: {why}"),
        }
    }
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "{runs} rounds, {} of them ended by a corrupted byte",
        excused.len()
    );
    for why in excused {
        let _ = writeln!(std::io::stderr(), "  {why}");
    }
}

/// Nothing of the size of the blob comes through in one piece, ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_travels_where_every_connection_is_cut() {
    let Some(registry) = Registry::start("registry/cuts") else {
        return;
    };
    let place = Place::new();
    let image = place.image(&mut Random(4), &[12 << 20]);
    let dir = tempfile::tempdir().expect("temp dir");
    for (nth, (up, down)) in [(1 << 20, 300 << 10), (3 << 20, 1 << 20)]
        .into_iter()
        .enumerate()
    {
        let acts = vec![Act::CutUp(up), Act::CutUp(up * 2)];
        let proxy = Proxy::start_bad(&registry, acts).await;
        let name = format!("{}/cuts:{nth}", proxy.address)
            .parse()
            .expect("name");
        let troubled = client(
            &registry,
            &dir.path().join(format!("up{nth}")),
            proxy.address,
        );
        let pushed = push(&troubled, &place, &name, &image).await;
        pushed.unwrap_or_else(|it| panic!("cut after {up}: {it}"));

        let proxy = Proxy::start_bad(&registry, vec![Act::CutDown(down)]).await;
        let name = format!("{}/cuts:{nth}", proxy.address)
            .parse()
            .expect("name");
        let troubled = client(
            &registry,
            &dir.path().join(format!("down{nth}")),
            proxy.address,
        );
        let pulled = Place::new().pull(&troubled, &name).await;
        let pulled = pulled.unwrap_or_else(|it| panic!("cut after {down}: {it}"));
        assert_eq!(pulled, image.digest);
    }
}

/// A layer that is held at one registry alone goes to another without a stay in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_passes_the_store_by() {
    let both = ["registry/relay", "registry/relay, the other"].map(Registry::start);
    let [Some(from), Some(to)] = both else {
        return;
    };
    let dir = tempfile::tempdir().expect("temp dir");
    from.certs_d(dir.path(), from.address);
    let certs = to.certs_d(dir.path(), to.address);
    let mut credentials: Arc<dyn builder_core::registry::Credentials> = Arc::new(NoCredentials);
    for registry in [&from, &to] {
        credentials = Arc::new(GivenCredential {
            host: registry.address.to_string(),
            credential: Credential::of(USER, PASSWORD),
            others: credentials,
        });
    }
    let client = Client::new(ClientOptions {
        credentials,
        certificates: CertificateDirs {
            by_host: vec![certs],
            given: None,
        },
        ..impatient()
    });
    let mut random = Random(9);
    for (nth, damaged) in [false, true].into_iter().enumerate() {
        let there = Place::new();
        let top = there.image(&mut random, &[3 << 20, 1000]);
        let name = |registry: &Registry| -> Reference {
            let text = format!("{}/relay:{nth}", registry.address);
            text.parse().expect("a name")
        };
        let pushed = push(&client, &there, &name(&from), &top).await;
        pushed.expect("push");
        // The documents alone are here.
        let here = Place::new();
        let (origin, platform) = (name(&from), amd64());
        let found = client.resolve(&origin, &platform, here.store.blobs());
        let found = found.await.expect("resolve");
        let [large, small] = &found.layers[..] else {
            panic!("two layers");
        };
        if damaged {
            from.damage(&large.digest.hex());
        }
        let origins = [large, small].map(|it| (it.digest, vec![name(&from)]));
        let sending = Push {
            reference: name(&to),
            top,
            origins: BTreeMap::from(origins),
        };
        let sent = client.push(&sending, here.store.blobs(), None).await;
        assert!(!here.store.blobs().has(&large.digest), "{damaged}");
        let arrived = Place::new().pull(&client, &name(&to)).await;
        match damaged {
            false => {
                assert_eq!(sent.expect("push").sent, 3);
                assert_eq!(arrived.expect("pull"), found.digest);
                assert!(here.store.blobs().has(&small.digest));
            }
            true => {
                let error = sent.expect_err("a damaged blob").to_string();
                assert!(error.contains(&large.digest.to_string()), "{error}");
                arrived.expect_err("nothing to pull");
            }
        }
    }
}
