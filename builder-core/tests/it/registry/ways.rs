//! Ways to a registry that many have: through a proxy, and with a certificate of one's own.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use builder_core::registry::{
    CertificateDirs, Client, ClientOptions, Credential, GivenCredential, NoCredentials, Proxies,
    RegistryError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::proxy::Random;
use super::server::{PASSWORD, Registry, USER};
use super::{Place, impatient, push};

/// A name that nobody but the proxy can resolve.
const HOST: &str = "registry.test";

/// A proxy as companies have them: it passes tunnels on to one place, answers plain requests itself, and notes the heads.
struct Forward {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    async fn start(to: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("address").to_string();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, to, Arc::clone(&seen)));
            }
        });
        Forward { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().expect("heads"))
    }
}

async fn serve(
    mut client: TcpStream,
    to: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let is_tunnel = head.starts_with("CONNECT ");
    seen.lock().expect("heads").push(head);
    if !is_tunnel {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(answer.as_bytes()).await;
    }
    let mut registry = TcpStream::connect(to).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut registry).await?;
    Ok(())
}

fn options(registry: &Registry, dir: &Path, host: &str, proxies: Proxies) -> ClientOptions {
    let certs = dir.join("certs.d").join(host);
    fs::create_dir_all(&certs).expect("mkdir");
    fs::write(certs.join("ca.crt"), &registry.identity.authority).expect("write");
    ClientOptions {
        credentials: Arc::new(GivenCredential {
            host: host.to_owned(),
            credential: Credential::of(USER, PASSWORD),
            others: Arc::new(NoCredentials),
        }),
        certificates: CertificateDirs {
            by_host: vec![dir.join("certs.d")],
            given: None,
        },
        proxies,
        attempts: 2,
        ..impatient()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_used_unless_the_host_is_excepted() {
    let Some(registry) = Registry::start("registry/proxy") else {
        return;
    };
    let dir = tempfile::tempdir().expect("temp dir");
    let proxy = Forward::start(registry.address).await;
    const SECRET: &str = "hunter2hunter2";
    let address = format!("http://bob:{SECRET}@{}", proxy.address);
    let proxies = |no_proxy: &str| Proxies {
        http: Some(address.clone()),
        https: Some(address.clone()),
        no_proxy: no_proxy.to_owned(),
    };
    let place = Place::new();
    let image = place.image(&mut Random(5), &[100_000, 10]);
    let name = format!("{HOST}/team/app:1").parse().expect("name");

    let client = Client::new(options(&registry, dir.path(), HOST, proxies("other.test")));
    let pushed = push(&client, &place, &name, &image).await.expect("push");
    assert_eq!(pushed.sent, 3);
    let elsewhere = Place::new();
    let digest = elsewhere.pull(&client, &name).await.expect("pull");
    assert_eq!(digest, image.digest);
    let heads = proxy.heads();
    assert!(!heads.is_empty());
    for head in &heads {
        assert!(head.starts_with(&format!("CONNECT {HOST}:443 ")), "{head}");
        // The proxy gets its own password, and the registry's goes through the tunnel.
        let head = head.to_ascii_lowercase();
        assert!(head.contains("\r\nproxy-authorization: basic "), "{head}");
        assert!(!head.contains("\r\nauthorization:"), "{head}");
    }

    for no_proxy in [HOST, ".test", "a.b, registry.test", "*"] {
        let client = Client::new(options(&registry, dir.path(), HOST, proxies(no_proxy)));
        let error = elsewhere.pull(&client, &name).await.expect_err(no_proxy);
        assert!(
            matches!(error, RegistryError::Unreachable { .. }),
            "{error}"
        );
        assert!(!format!("{error} {error:?} {client:?}").contains(SECRET));
        assert_eq!(proxy.heads(), Vec::<String>::new(), "{no_proxy}");
    }

    // This machine is never asked for through a proxy.
    let host = registry.address.to_string();
    let near = Client::new(options(&registry, dir.path(), &host, proxies("")));
    near.check_login(&host).await.expect("without the proxy");
    assert_eq!(proxy.heads(), Vec::<String>::new());

    // Plain HTTP, where the registry is marked insecure, is asked for in full.
    let mut insecure = options(&registry, dir.path(), HOST, proxies(""));
    insecure.certificates = CertificateDirs {
        by_host: Vec::new(),
        given: None,
    };
    insecure.proxies.https = None;
    let conf = format!("[[registry]]\nlocation = '{HOST}'\ninsecure = true\n");
    let added = insecure.registries.add(Path::new("r.conf"), &conf);
    added.expect("configuration");
    let error = elsewhere.pull(&Client::new(insecure), &name).await;
    error.expect_err("the proxy says 404");
    let heads = proxy.heads();
    let full = format!("GET http://{HOST}/v2/");
    assert!(heads.iter().any(|it| it.starts_with(&full)), "{heads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_demands_a_certificate_gets_that_of_certs_d() {
    let Some(registry) = Registry::demanding_certificates("registry/client-certificate") else {
        return;
    };
    let dir = tempfile::tempdir().expect("temp dir");
    let host = registry.address.to_string();
    let place = Place::new();
    let image = place.image(&mut Random(6), &[1000]);
    let name = format!("{host}/a:1").parse().expect("name");
    let with = || Client::new(options(&registry, dir.path(), &host, Proxies::default()));

    let error = push(&with(), &place, &name, &image).await;
    let error = error.expect_err("without a certificate");
    // The refusal may come behind the end of the connection: what it says is not always to be had.
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );

    let certs = dir.path().join("certs.d").join(&host);
    fs::write(certs.join("client.cert"), &registry.identity.certificate).expect("write");
    let error = push(&with(), &place, &name, &image).await;
    let error = error.expect_err("without a key").to_string();
    assert!(error.contains("client.cert"), "{error}");

    fs::write(certs.join("client.key"), &registry.identity.key).expect("write");
    let client = with();
    push(&client, &place, &name, &image).await.expect("push");
    let digest = Place::new().pull(&client, &name).await.expect("pull");
    assert_eq!(digest, image.digest);
    assert!(!format!("{client:?}").contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_its_own_authority_is_taken_from_certs_d_alone() {
    let names = ["127.0.0.1", "other.test"].map(|name| {
        Registry::with_own_certificate("registry/own-certificate", name).map(|it| (name, it))
    });
    let [Some((_, ours)), Some((_, misnamed))] = names else {
        return;
    };
    let place = Place::new();
    let image = place.image(&mut Random(7), &[1000]);
    let refused = |error: RegistryError| {
        assert!(matches!(error, RegistryError::Untrusted { .. }), "{error}");
        error.hint().expect("a hint")
    };
    for registry in [&ours, &misnamed] {
        let host = registry.address.to_string();
        let name = format!("{host}/a:1").parse().expect("name");
        let dir = tempfile::tempdir().expect("temp dir");
        let client = Client::new(options(registry, dir.path(), &host, Proxies::default()));
        let pushed = push(&client, &place, &name, &image).await;
        if registry.address == misnamed.address {
            let hint = refused(pushed.expect_err("another host's certificate"));
            assert!(hint.contains("subjectAltName"), "{hint}");
            continue;
        }
        pushed.expect("push");
        let digest = Place::new().pull(&client, &name).await.expect("pull");
        assert_eq!(digest, image.digest);

        // Another of the same name and kind is not that which was named.
        let other = Client::new(options(&misnamed, dir.path(), &host, Proxies::default()));
        let error = Place::new().pull(&other, &name).await;
        let hint = refused(error.expect_err("nobody's certificate"));
        assert!(hint.contains(&format!("certs.d/{host}/ca.crt")), "{hint}");
    }
}
