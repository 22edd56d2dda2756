//! The client against a scripted server, against Debian's `docker-registry`, and layouts on disk.

mod fetch;
mod insecure;
mod upload;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::test_server::{Answer, Asked, Server};
use super::{
    Client, ClientOptions, Credential, Credentials, Lookup, Progress, Registries, RegistryError,
    Resolved, Source, layout,
};
use crate::digest::{DiffId, Digest};
use crate::image::{Descriptor, ImageConfig, Index, Manifest, Platform, Reference, media_type};
use crate::progress::{Event, VertexId};
use crate::store::Store;

/// An image of one layer, as a registry would serve it.
#[derive(Clone)]
struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

impl Image {
    fn new() -> Self {
        let layer: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let mut config = ImageConfig::scratch(&amd64());
        config.diff_ids = vec![DiffId(Digest::of(&layer))];
        let config = config.to_bytes();
        let manifest = Manifest::new(
            Descriptor::of(media_type::OCI_CONFIG, &config),
            vec![Descriptor::of(media_type::OCI_LAYER, &layer)],
            BTreeMap::new(),
        )
        .to_bytes();
        let entry = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
        let other = Descriptor::of(media_type::OCI_MANIFEST, b"other");
        let index = Index::new(vec![
            other.for_platform(Platform::new("linux", "s390x", None)),
            entry.for_platform(amd64()),
        ])
        .to_bytes();
        Image {
            layer,
            config,
            manifest,
            index,
        }
    }

    /// Answers as a good registry does.
    fn serve(&self, asked: &Asked) -> Answer {
        let documents = [&self.layer, &self.config, &self.manifest, &self.index];
        let name = asked.path.rsplit('/').next().unwrap_or("");
        let body = match name {
            "" => Vec::new(),
            "latest" => self.index.clone(),
            name => match documents
                .iter()
                .find(|it| Digest::of(it).to_string() == name)
            {
                Some(bytes) => (*bytes).clone(),
                None => return Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
            },
        };
        let range = asked.header("range").and_then(|it| {
            let from: usize = it.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
            Some(from)
        });
        match range {
            None => Answer::new(200, body),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                Answer::new(206, &body[from..]).header("Content-Range", &range)
            }
        }
    }
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

fn options() -> ClientOptions {
    ClientOptions {
        first_pause: Duration::from_millis(1),
        ..ClientOptions::default()
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("store");
        Fixture { _dir: dir, store }
    }

    async fn resolve(&self, client: &Client, server: &Server) -> Result<Resolved, RegistryError> {
        let name = format!("{}/a/b", server.address);
        self.resolve_name(client, &name).await
    }

    async fn resolve_name(&self, client: &Client, name: &str) -> Result<Resolved, RegistryError> {
        let name: Reference = name.parse().expect("name");
        client.resolve(&name, &amd64(), self.store.blobs()).await
    }

    async fn pull(&self, client: &Client, server: &Server) -> Result<Resolved, RegistryError> {
        let found = self.resolve(client, server).await?;
        let blobs = self.store.blobs();
        for layer in &found.layers {
            client.fetch_blob(&found.source, layer, blobs, None).await?;
        }
        Ok(found)
    }
}

#[tokio::test]
async fn an_image_is_pulled_once() {
    let image = Image::new();
    let served = image.clone();
    let server = Server::start(move |asked, _| served.serve(asked)).await;
    let (fixture, client) = (Fixture::new(), Client::new(options()));
    let found = fixture.resolve(&client, &server).await.expect("resolve");
    assert_eq!(found.digest, Digest::of(&image.index));
    assert_eq!(found.manifest_bytes, image.manifest);
    assert_eq!(found.config.platform(), amd64());
    let layer = &found.layers[0];
    let blobs = fixture.store.blobs();
    assert!(!blobs.has(&layer.digest));
    let events: Mutex<Vec<Event>> = Mutex::default();
    let progress = Progress {
        events: &events,
        vertex: VertexId(3),
    };
    for _ in 0..2 {
        let fetched = client
            .fetch_blob(&found.source, layer, blobs, Some(progress))
            .await;
        fetched.expect("fetch");
    }
    blobs.verify_all().expect("verify");
    let last = events.lock().expect("events").last().cloned();
    let whole = Event::Transfer {
        vertex: VertexId(3),
        what: layer.digest.to_string(),
        done: layer.size,
        total: Some(layer.size),
    };
    assert_eq!(last, Some(whole));
    let before = server.asked().len();
    assert_eq!(before, 5, "{:?}", server.asked());
    // By digest, all is there.
    let name = format!("{}/a/b@{}", server.address, found.digest);
    fixture.resolve_name(&client, &name).await.expect("again");
    assert_eq!(server.asked().len(), before);
}

/// A scheduler on many threads needs this; it is enough that it compiles.
#[test]
fn pulls_may_change_threads() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let (fixture, client) = (Fixture::new(), Client::new(options()));
    let (blobs, name) = (fixture.store.blobs(), "a.io/b".parse().expect("name"));
    let platform = amd64();
    drop(sendable(client.resolve(&name, &platform, blobs)));
    let source = Source::Local {
        path: "layout".into(),
    };
    let descriptor = Descriptor::of(media_type::OCI_LAYER, b"");
    drop(sendable(client.fetch_blob(
        &source,
        &descriptor,
        blobs,
        None,
    )));
    drop(sendable((client.clone(), fixture.store.clone())));
}

#[derive(Debug)]
struct Known(Credential);

impl Credentials for Known {
    fn lookup(&self, _host: &str, _repository: &str) -> Lookup {
        Lookup::Found(self.0.clone())
    }
}

/// A registry with a token service that takes `user:hunter2`, or the refresh token `REFRESH`.
fn guarded(image: &Image) -> impl Fn(&Asked, usize) -> Answer + use<> {
    let image = image.clone();
    move |asked: &Asked, _| {
        let host = asked.header("host").unwrap_or("").to_owned();
        if asked.path.starts_with("/token") {
            let query = "service=s+1&scope=repository%3Aa%2Fb%3Apull";
            let good = match asked.method.as_str() {
                "GET" => {
                    asked.path == format!("/token?{query}")
                        && asked.header("authorization") == Some("Basic dXNlcjpodW50ZXIy")
                }
                _ => {
                    asked.path == "/token"
                        && asked.body.contains("refresh_token=REFRESH")
                        && asked.body.contains(query)
                }
            };
            return match good {
                true => Answer::new(200, r#"{"access_token":"SESAME","expires_in":300}"#),
                false => Answer::new(401, r#"{"details":"incorrect username or password"}"#),
            };
        }
        if asked.header("authorization") == Some("Bearer SESAME") {
            return image.serve(asked);
        }
        let mut challenge = format!(r#"Bearer realm="http://{host}/token",service="s 1""#);
        if asked.path == "/v2/" {
            // As ghcr.io does: an example, not what is asked for.
            challenge += r#",scope="repository:user/image:pull""#;
        }
        Answer::new(401, "").header("WWW-Authenticate", &challenge)
    }
}

#[tokio::test]
async fn tokens_are_got_and_kept() {
    let image = Image::new();
    let password = |password: &str| Credential::Password {
        username: "user".to_owned(),
        password: password.to_owned(),
    };
    let identity = Credential::IdentityToken {
        token: "REFRESH".to_owned(),
    };
    for credential in [password("hunter2"), identity] {
        let server = Server::start(guarded(&image)).await;
        let client = Client::new(ClientOptions {
            credentials: Arc::new(Known(credential)),
            ..options()
        });
        Fixture::new().pull(&client, &server).await.expect("pull");
        let asked = server.asked();
        let tokens = asked.iter().filter(|it| it.contains("/token")).count();
        assert_eq!(tokens, 1, "{asked:?}");
    }
    let server = Server::start(guarded(&image)).await;
    let client = Client::new(ClientOptions {
        credentials: Arc::new(Known(password("hunter3"))),
        ..options()
    });
    let error = Fixture::new()
        .pull(&client, &server)
        .await
        .expect_err("wrong");
    assert!(
        matches!(error, RegistryError::Unauthorized { .. }),
        "{error}"
    );
    let text = format!("{error} {error:?} {client:?}");
    assert!(text.contains("incorrect username"), "{text}");
    assert!(!text.contains("hunter3"), "{text}");
    let error = Fixture::new().pull(&Client::new(options()), &server).await;
    assert!(matches!(error, Err(RegistryError::Unauthorized { .. })));
}

#[tokio::test]
async fn passwords_are_sent_where_asked_for() {
    let image = Image::new();
    let server = Server::start(move |asked, _| match asked.header("authorization") {
        Some("Basic dXNlcjpodW50ZXIy") => image.serve(asked),
        _ => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=x"),
    })
    .await;
    let client = Client::new(ClientOptions {
        credentials: Arc::new(Known(Credential::Password {
            username: "user".to_owned(),
            password: "hunter2".to_owned(),
        })),
        ..options()
    });
    Fixture::new().pull(&client, &server).await.expect("pull");

    #[derive(Debug)]
    struct Kept;
    impl Credentials for Kept {
        fn lookup(&self, _host: &str, _repository: &str) -> Lookup {
            Lookup::Helper {
                name: "pass".to_owned(),
                why: "it is locked".to_owned(),
            }
        }
    }
    let client = Client::new(ClientOptions {
        credentials: Arc::new(Kept),
        ..options()
    });
    let error = Fixture::new()
        .pull(&client, &server)
        .await
        .expect_err("helper");
    assert!(
        matches!(error, RegistryError::CredentialHelper { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn trouble_is_tried_again() {
    let image = Image::new();
    let server = Server::start(move |asked, before| match before {
        0 | 2 => Answer::new(429, "").header("Retry-After", "0"),
        1 | 4 => Answer::new(503, ""),
        _ => image.serve(asked),
    })
    .await;
    let client = Client::new(options());
    Fixture::new().pull(&client, &server).await.expect("pull");

    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/v2/" => Answer::new(200, ""),
        _ => Answer::new(500, r#"{"errors":[{"message":"on\nfire"}]}"#),
    })
    .await;
    let error = Fixture::new()
        .pull(&client, &server)
        .await
        .expect_err("500");
    assert!(error.to_string().contains("500"), "{error}");
    assert!(error.to_string().contains("on fire"), "{error}");
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn a_cut_blob_goes_on() {
    let image = Image::new();
    let whole = image.layer.len();
    for ranges in [true, false] {
        let image = image.clone();
        let layer = Digest::of(&image.layer).to_string();
        let cuts = Mutex::new(vec![600_000, 250_000, 0]);
        let server = Server::start(move |asked, _| {
            let mut asked = asked.clone();
            if !ranges {
                asked.headers.retain(|(key, _)| key != "range");
            }
            let answer = image.serve(&asked);
            match asked.path.ends_with(&layer) {
                true => match cuts.lock().expect("cuts").pop() {
                    Some(after) => answer.cut(after.min(whole)),
                    None => answer,
                },
                false => answer,
            }
        })
        .await;
        let fixture = Fixture::new();
        // Without ranges the third answer is cut in bytes that are known already.
        let pulled = fixture.pull(&Client::new(options()), &server).await;
        pulled.expect("pull");
        fixture.store.blobs().verify_all().expect("verify");
        let log = server.log.lock().expect("log");
        let asked: Vec<_> = log.iter().filter_map(|it| it.header("range")).collect();
        let second = if ranges { 850_000 } else { 600_000 };
        // Bytes still under way when a connection ends may be lost: the positions are upper bounds.
        assert!(asked.len() >= 2, "{asked:?}");
        for range in asked {
            let from = range.trim_matches(|c: char| !c.is_ascii_digit());
            assert!(from.parse::<u64>().is_ok_and(|it| it <= second), "{range}");
        }
    }
}

#[tokio::test]
async fn lies_are_found_out() {
    let image = Image::new();
    let documents = [
        Digest::of(&image.manifest),
        Digest::of(&image.config),
        Digest::of(&image.layer),
    ];
    for lie in documents {
        let image = image.clone();
        let server = Server::start(move |asked, _| {
            let mut answer = image.serve(asked);
            if asked.path.ends_with(&lie.to_string()) {
                answer.body[10] ^= 1;
            }
            answer
        })
        .await;
        let fixture = Fixture::new();
        let error = fixture.pull(&Client::new(options()), &server).await;
        let error = error.expect_err("a lie");
        assert!(
            matches!(error, RegistryError::WrongDigest { expected, .. } if expected == lie),
            "{error}"
        );
        assert!(!fixture.store.blobs().has(&lie));
    }
    // More than was promised, and more than is allowed.
    let (layer, served) = (documents[2].to_string(), image.clone());
    let server = Server::start(move |asked, _| {
        let mut answer = served.serve(asked);
        if asked.path.ends_with(&layer) {
            answer.body.push(0);
        }
        answer
    })
    .await;
    let error = Fixture::new().pull(&Client::new(options()), &server).await;
    assert!(matches!(error, Err(RegistryError::WrongSize { .. })));
    let server = Server::start(|_, _| Answer::new(200, vec![b' '; 5 << 20])).await;
    let error = Fixture::new().pull(&Client::new(options()), &server).await;
    assert!(matches!(error, Err(RegistryError::TooLarge { .. })));
    // Another size than that of what is here already.
    let (fixture, served) = (Fixture::new(), image.clone());
    let server = Server::start(move |asked, _| served.serve(asked)).await;
    let pulled = fixture.pull(&Client::new(options()), &server).await;
    pulled.expect("an honest image");
    let lies: [fn(&mut Manifest); 2] = [|it| it.config.size += 1, |it| it.layers[0].size -= 1];
    for lie in lies {
        let mut manifest = Manifest::parse(&image.manifest).expect("manifest");
        lie(&mut manifest);
        let mut lying = image.clone();
        lying.index = manifest.to_bytes();
        let server = Server::start(move |asked, _| lying.serve(asked)).await;
        let error = fixture.pull(&Client::new(options()), &server).await;
        let error = error.expect_err("a lie");
        assert!(matches!(error, RegistryError::WrongSize { .. }), "{error}");
    }
}

#[tokio::test]
async fn silence_ends() {
    let server = Server::start(|_, _| {
        let mut answer = Answer::new(200, "");
        answer.delay = Duration::from_secs(30);
        answer
    })
    .await;
    let client = Client::new(ClientOptions {
        no_progress_timeout: Duration::from_millis(50),
        attempts: 2,
        ..options()
    });
    let error = Fixture::new()
        .pull(&client, &server)
        .await
        .expect_err("silent");
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );
}

/// Lies that a registry may tell, what is asked of it then, and what the error says.
#[tokio::test]
async fn a_lying_registry_is_left_in_time_and_in_little_memory() {
    type Lie = fn(&Image, &Asked) -> Option<Answer>;
    let index_of = |inner: &[u8], media_type: &str, size: u64| {
        let entry = Descriptor::new(media_type, Digest::of(inner), size).for_platform(amd64());
        Index::new(vec![entry]).to_bytes()
    };
    let image = Image::new();
    // Indexes five deep: one in a circle cannot be made, since each is named by its digest.
    let mut deep = vec![index_of(
        &image.manifest,
        media_type::OCI_MANIFEST,
        image.manifest.len() as u64,
    )];
    for _ in 0..5 {
        let inner = deep.last().expect("one");
        deep.push(index_of(inner, media_type::OCI_INDEX, inner.len() as u64));
    }
    let mut nested = image.clone();
    nested.index = deep.last().expect("one").clone();
    let mut short = image.clone();
    short.index = index_of(&image.manifest, media_type::OCI_MANIFEST, 7);
    let mut big = image.clone();
    let mut manifest = Manifest::parse(&image.manifest).expect("manifest");
    manifest.config.size = 100 << 20;
    big.manifest = manifest.to_bytes();
    big.index = index_of(
        &big.manifest,
        media_type::OCI_MANIFEST,
        big.manifest.len() as u64,
    );
    let mut config = image.clone();
    manifest.config.size = 11;
    config.manifest = manifest.to_bytes();
    config.index = index_of(
        &config.manifest,
        media_type::OCI_MANIFEST,
        config.manifest.len() as u64,
    );
    let mut layer = image.clone();
    let mut manifest = Manifest::parse(&image.manifest).expect("manifest");
    manifest.layers[0].size += 1;
    layer.manifest = manifest.to_bytes();
    layer.index = index_of(
        &layer.manifest,
        media_type::OCI_MANIFEST,
        layer.manifest.len() as u64,
    );
    let good: Lie = |_, _| None;
    let cases: [(&str, Image, Lie, &str); 9] = [
        ("nested", nested, good, "index"),
        (
            "a manifest's size",
            short,
            good,
            "not the 7 that its manifest speaks of",
        ),
        (
            "a config of 100 MB",
            big,
            good,
            "larger than the 8388608 bytes",
        ),
        ("a config's size", config, good, "not the 11 that"),
        ("a layer's size", layer, good, "bytes, not the"),
        (
            "an endless manifest",
            image.clone(),
            |_, asked| {
                let manifest = asked.path.contains("/manifests/");
                manifest.then(|| Answer::new(200, vec![b' '; 6 << 20]).endless())
            },
            "larger than the 4194304 bytes",
        ),
        (
            "an endless layer",
            image.clone(),
            |image, asked| {
                let layer = asked.path.ends_with(&Digest::of(&image.layer).to_string());
                layer.then(|| Answer::new(200, vec![0; 2 << 20]).endless())
            },
            "larger than the 800000 bytes",
        ),
        (
            "a manifest by drops",
            image.clone(),
            |image, asked| {
                let slow = asked.path.contains("/manifests/");
                slow.then(|| Answer::new(200, image.index.clone()).drops())
            },
            "too slowly",
        ),
        (
            "a layer by drops",
            image.clone(),
            |image, asked| {
                let layer = asked.path.ends_with(&Digest::of(&image.layer).to_string());
                layer.then(|| Answer::new(200, image.layer.clone()).drops())
            },
            "bytes came in",
        ),
    ];
    for (what, served, lie, expected) in cases {
        let documents = deep.clone();
        let server = Server::start(move |asked, _| {
            let deep = documents
                .iter()
                .find(|it| asked.path.ends_with(&Digest::of(it).to_string()));
            match (lie(&served, asked), deep) {
                (Some(answer), _) => answer,
                (None, Some(bytes)) => Answer::new(200, bytes.clone()),
                (None, None) => served.serve(asked),
            }
        })
        .await;
        let client = Client::new(ClientOptions {
            no_progress_timeout: Duration::from_millis(200),
            give_up_after: Duration::from_secs(2),
            attempts: 2,
            ..options()
        });
        let fixture = Fixture::new();
        let error = fixture.pull(&client, &server).await.expect_err(what);
        assert!(error.to_string().contains(expected), "{what}: {error}");
        assert!(
            !fixture.store.blobs().has(&Digest::of(&image.layer)),
            "{what}"
        );
    }
}

#[tokio::test]
async fn redirects_lose_the_password() {
    let image = Image::new();
    let stored = image.clone();
    let elsewhere = Server::start(move |asked, _| match asked.header("authorization") {
        None => stored.serve(asked),
        // As object stores do.
        Some(_) => Answer::new(400, "two kinds of authentication"),
    })
    .await;
    let target = elsewhere.address;
    let serve = guarded(&image);
    let server = Server::start(move |asked, before| {
        let answer = serve(asked, before);
        if answer.status == 200 && asked.path.contains("/blobs/") {
            return Answer::new(307, "")
                .header("Location", &format!("http://{target}{}", asked.path));
        }
        answer
    })
    .await;
    let client = Client::new(ClientOptions {
        credentials: Arc::new(Known(Credential::Password {
            username: "user".to_owned(),
            password: "hunter2".to_owned(),
        })),
        ..options()
    });
    Fixture::new().pull(&client, &server).await.expect("pull");
    assert_eq!(elsewhere.asked().len(), 2);

    let server = Server::start(|_, _| Answer::new(302, "").header("Location", "/v2/")).await;
    let error = Fixture::new()
        .pull(&client, &server)
        .await
        .expect_err("loop");
    assert!(error.to_string().contains("redirects"), "{error}");
}

#[tokio::test]
async fn mirrors_come_first_and_the_source_helps_out() {
    let image = Image::new();
    let (layer, served) = (Digest::of(&image.layer).to_string(), image.clone());
    let mirror = Server::start(move |asked, _| match asked.path.ends_with(&layer) {
        true => Answer::new(404, ""),
        false => served.serve(asked),
    })
    .await;
    let source = Server::start(move |asked, _| image.serve(asked)).await;
    let mut registries = Registries::default();
    let conf = format!(
        "[[registry]]\nprefix='reg.example/team'\nlocation='{}/real'\n\
         [[registry.mirror]]\nlocation='127.0.0.1:1'\n\
         [[registry.mirror]]\nlocation='{}/cache'\n\
         [[registry]]\nprefix='bad.example'\nblocked=true\n",
        source.address, mirror.address
    );
    registries.add(Path::new("r.conf"), &conf).expect("conf");
    let client = Client::new(ClientOptions {
        registries,
        attempts: 2,
        ..options()
    });
    let fixture = Fixture::new();
    let found = fixture
        .resolve_name(&client, "reg.example/team/app")
        .await
        .expect("resolve");
    let Source::Registry { endpoint, .. } = &found.source else {
        panic!("{:?}", found.source);
    };
    assert_eq!(endpoint.host, mirror.address.to_string());
    assert!(source.asked().is_empty());
    let blobs = fixture.store.blobs();
    client
        .fetch_blob(&found.source, &found.layers[0], blobs, None)
        .await
        .expect("fetch");
    assert!(
        mirror
            .asked()
            .contains(&"GET /v2/cache/app/manifests/latest".to_owned())
    );
    assert!(source.asked().iter().all(|it| !it.contains("manifests")));
    let error = fixture
        .resolve_name(&client, "bad.example/x")
        .await
        .expect_err("blocked");
    assert!(matches!(error, RegistryError::Blocked { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let image = Image::new();
    let server = Server::start(move |asked, _| image.serve(asked)).await;
    let (fixture, client) = (Fixture::new(), Client::new(options()));
    let name: Reference = format!("{}/a/b", server.address).parse().expect("name");
    let arm = Platform::new("linux", "arm64", None);
    let error = client
        .resolve(&name, &arm, fixture.store.blobs())
        .await
        .expect_err("arm");
    assert!(
        error.to_string().contains("linux/s390x, linux/amd64"),
        "{error}"
    );
    let other = name.with_tag("other").expect("tag");
    let error = client
        .resolve(&other, &arm, fixture.store.blobs())
        .await
        .expect_err("tag");
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    let client = Client::new(ClientOptions {
        attempts: 1,
        ..options()
    });
    let error = fixture
        .resolve_name(&client, "127.0.0.1:1/x")
        .await
        .expect_err("refused");
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("refused"), "{error}");
}

/// Writes `image` as an OCI layout under the given names.
fn write_layout(image: &Image, root: &Path, names: &[&str]) {
    let store = Store::open(root).expect("store");
    for bytes in [&image.layer, &image.config, &image.manifest, &image.index] {
        store.blobs().put(bytes).expect("put");
    }
    for name in names {
        let index = Descriptor::of(media_type::OCI_INDEX, &image.index);
        store.tag(&name.parse().expect("name"), index).expect("tag");
    }
}

#[test]
fn layouts_are_read() {
    let (image, dir) = (Image::new(), tempfile::tempdir().expect("temp dir"));
    let root = dir.path().join("layout");
    write_layout(&image, &root, &["app:1", "app:2"]);
    let tar = dir.path().join("layout.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&tar).expect("create"));
    archive.append_dir_all(".", &root).expect("tar");
    archive.finish().expect("finish");
    let gz = dir.path().join("layout.tar.gz");
    let file = std::fs::File::create(&gz).expect("create");
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    std::io::copy(&mut std::fs::File::open(&tar).expect("open"), &mut encoder).expect("gzip");
    encoder.finish().expect("finish");
    let pinned = Digest::of(&image.manifest).to_string();
    for path in [&root, &tar, &gz] {
        for wanted in [
            Some("app:1"),
            Some("docker.io/library/app:2"),
            Some(&pinned),
            None,
        ] {
            let fixture = Fixture::new();
            let found = layout::resolve(path, wanted, &amd64(), fixture.store.blobs());
            let found = found.expect("resolve");
            assert_eq!(found.manifest_bytes, image.manifest);
            assert_eq!(
                fixture.store.blobs().verify_all().expect("verify"),
                4 - usize::from(wanted == Some(&pinned))
            );
        }
        let fixture = Fixture::new();
        let error = layout::resolve(path, Some("app:3"), &amd64(), fixture.store.blobs());
        let text = error.expect_err("unknown").to_string();
        assert!(
            text.contains("docker.io/library/app:1, docker.io"),
            "{text}"
        );
    }
    let other = Image {
        index: image.manifest.clone(),
        ..image.clone()
    };
    let store = Store::open(&root).expect("store");
    let manifest = Descriptor::of(media_type::OCI_MANIFEST, &other.index);
    store
        .tag(&"else:1".parse().expect("name"), manifest)
        .expect("tag");
    let fixture = Fixture::new();
    let error = layout::resolve(&root, None, &amd64(), fixture.store.blobs());
    assert!(matches!(error, Err(RegistryError::Ambiguous { .. })));
    std::fs::write(store.blobs().path(&Digest::of(&image.layer)), b"damaged").expect("write");
    let error = layout::resolve(&root, Some("else:1"), &amd64(), fixture.store.blobs());
    assert!(matches!(error, Err(RegistryError::WrongDigest { .. })));
    let error = layout::resolve(dir.path(), None, &amd64(), fixture.store.blobs());
    assert!(matches!(error, Err(RegistryError::NotALayout { .. })));
}

/// Says why a test does nothing.
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn skip(what: &str) {
    eprintln!("skipped: {what} is not installed");
}

fn installed(program: &str) -> bool {
    let tried = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok()
}

#[tokio::test]
async fn a_real_registry_is_understood() {
    for program in ["docker-registry", "skopeo"] {
        if !installed(program) {
            return skip(program);
        }
    }
    let (image, dir) = (Image::new(), tempfile::tempdir().expect("temp dir"));
    let source = dir.path().join("layout");
    write_layout(&image, &source, &[]);
    let store = Store::open(&source).expect("store");
    let manifest = Descriptor::of(media_type::OCI_MANIFEST, &image.manifest);
    store
        .tag(&"app:1".parse().expect("name"), manifest)
        .expect("tag");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("port")
        .port();
    let conf = dir.path().join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '127.0.0.1:{port}'}}\n",
        dir.path().join("data").display()
    );
    std::fs::write(&conf, text).expect("write");
    let mut registry = Command::new("docker-registry")
        .arg("serve")
        .arg(&conf)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let pulled = async {
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let pushed = Command::new("skopeo")
            .args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:docker.io/library/app:1", source.display()))
            .arg(format!("docker://127.0.0.1:{port}/a/b:latest"))
            .output()
            .expect("skopeo");
        let said = String::from_utf8_lossy(&pushed.stderr);
        assert!(pushed.status.success(), "{said}");
        let (fixture, client) = (Fixture::new(), Client::new(options()));
        let name = format!("localhost:{port}/a/b");
        let found = fixture.resolve_name(&client, &name).await?;
        for layer in &found.layers {
            client
                .fetch_blob(&found.source, layer, fixture.store.blobs(), None)
                .await?;
        }
        fixture.store.blobs().verify_all()?;
        let absent = fixture
            .resolve_name(&client, &format!("{name}:absent"))
            .await;
        Ok::<_, RegistryError>((found, absent))
    };
    let outcome = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(pulled)).await;
    registry.kill().expect("kill");
    registry.wait().expect("wait");
    let (found, absent) = outcome.expect("no panic").expect("pull");
    assert_eq!(found.config_bytes, image.config);
    assert!(matches!(absent, Err(RegistryError::NotFound { .. })));
}
