//! A proxy that makes trouble: it ends TLS on both sides, and cuts, delays, corrupts or answers in the registry's place.
//!
//! What it does to which connection is drawn from a seed. After [`Trouble::budget`] acts it is good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::server::Registry;

/// A small generator of numbers (SplitMix64): the same seed, the same run.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// One act of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Ends the connection after so many bytes to the registry.
    CutUp(u64),
    /// Ends the connection after so many bytes from the registry.
    CutDown(u64),
    /// Changes a byte on the way to the registry.
    CorruptUp(u64),
    /// Changes a byte on the way back.
    CorruptDown(u64),
    /// Holds back everything for so long.
    Delay(u64),
    /// Answers the first request itself.
    Answer(u16),
}

impl Act {
    pub(crate) fn draw(random: &mut Random) -> Act {
        // Small numbers meet heads, large ones bodies.
        let at = match random.below(3) {
            0 => random.below(600),
            1 => random.below(20_000),
            _ => random.below(1_500_000),
        };
        match random.below(8) {
            0 | 1 => Act::CutUp(at),
            2 | 3 => Act::CutDown(at),
            4 => Act::CorruptUp(at),
            5 => Act::CorruptDown(at),
            6 => Act::Delay(random.below(1_500)),
            _ => Act::Answer([429, 500, 503][random.below(3) as usize]),
        }
    }

    pub(crate) fn corrupts(self) -> bool {
        matches!(self, Act::CorruptUp(_) | Act::CorruptDown(_))
    }
}

/// A running proxy; it ends with the runtime.
pub(crate) struct Proxy {
    pub address: SocketAddr,
    acts: Arc<Vec<Act>>,
    done: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts one that does `acts` to its first connections, one each, and is good then.
    pub(crate) async fn start(registry: &Registry, acts: Vec<Act>) -> Proxy {
        Self::start_with(registry, acts, false).await
    }

    /// Starts one that begins anew with `acts` when they are over, and never becomes good.
    pub(crate) async fn start_bad(registry: &Registry, acts: Vec<Act>) -> Proxy {
        Self::start_with(registry, acts, true).await
    }

    async fn start_with(registry: &Registry, acts: Vec<Act>, forever: bool) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (acceptor, connector) = tls(registry);
        let proxy = Proxy {
            address,
            acts: Arc::new(acts),
            done: Arc::default(),
        };
        let (acts, done) = (proxy.acts.clone(), proxy.done.clone());
        let behind = registry.address;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, connector) = (acceptor.clone(), connector.clone());
                let nth = done.fetch_add(1, Ordering::Relaxed);
                let nth = if forever { nth % acts.len() } else { nth };
                let act = acts.get(nth).copied();
                tokio::spawn(async move {
                    // Whoever goes away ends the connection; that is all there is to it.
                    let _ = serve(client, behind, acceptor, connector, act).await;
                });
            }
        });
        proxy
    }
}

fn tls(registry: &Registry) -> (TlsAcceptor, TlsConnector) {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let identity = &registry.identity;
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("key");
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("certificate")], key)
        .expect("server");
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(identity.authority.as_bytes());
    roots.add(authority.expect("authority")).expect("root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

async fn serve(
    client: TcpStream,
    behind: SocketAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    act: Option<Act>,
) -> std::io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    if let Some(Act::Answer(status)) = act {
        let mut head = vec![0; 4096];
        let _ = client.read(&mut head).await?;
        let answer = format!(
            "HTTP/1.1 {status} Trouble\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    if let Some(Act::Delay(millis)) = act {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let stream = TcpStream::connect(behind).await?;
    let name = ServerName::from(behind.ip());
    let server = connector.connect(name, stream).await?;
    let (client_in, client_out) = tokio::io::split(client);
    let (server_in, server_out) = tokio::io::split(server);
    let (up, down) = match act {
        Some(Act::CutUp(at)) => (Some((at, true)), None),
        Some(Act::CorruptUp(at)) => (Some((at, false)), None),
        Some(Act::CutDown(at)) => (None, Some((at, true))),
        Some(Act::CorruptDown(at)) => (None, Some((at, false))),
        _ => (None, None),
    };
    // Either end ends both.
    tokio::select! {
        result = pass(client_in, server_out, up) => result,
        result = pass(server_in, client_out, down) => result,
    }
}

/// Passes bytes on; at a position they are cut off, or one of them is changed.
async fn pass<R, W>(mut from: R, mut to: W, trouble: Option<(u64, bool)>) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 << 10];
    let mut done = 0;
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        let bytes = &mut buffer[..n];
        let end = done + n as u64;
        match trouble {
            Some((at, true)) if at < end => {
                let left = usize::try_from(at.saturating_sub(done)).unwrap_or(0);
                to.write_all(&bytes[..left]).await?;
                return to.flush().await;
            }
            Some((at, false)) if (done..end).contains(&at) => {
                let at = usize::try_from(at - done).unwrap_or(0);
                bytes[at] ^= 0x20;
            }
            _ => {}
        }
        done = end;
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}
