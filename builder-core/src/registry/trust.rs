//! Which certificates of registries are taken.
//!
//! Those that an authority has signed which the system knows or which was named. And those that were named themselves:
//! `openssl req -x509` makes a certificate that is its server's own and an authority at once, and webpki takes an
//! authority's for no server. Here it is taken, byte for byte the one that was named; its dates, the name of the host and the
//! signature of the handshake are held against it as against any other.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Who we are to a registry: a chain of certificates, and the key of the first.
pub(super) type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Why a certificate is not trusted, where something can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distrust {
    /// Nobody who is known has signed it.
    Unknown,
    /// It is another host's.
    OtherName,
    /// Its dates, or its form.
    Other,
}

/// Returns a set-up of TLS that trusts the system's authorities and `named`.
pub(super) fn config(
    named: Vec<CertificateDer<'static>>,
    pair: Option<Pair>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in &named {
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("an authority that was named: {error}"))?;
    }
    let system = rustls_native_certs::load_native_certs().certs;
    roots.add_parsable_certificates(system.iter().cloned());
    if roots.is_empty() {
        return Err(
            "this machine has no certificates of authorities (Debian: package ca-certificates), and none was named"
                .to_owned(),
        );
    }
    let told = |error: Error| error.to_string();
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| error.to_string())?;
    // One that was put among the system's was named there.
    let named = named.into_iter().chain(system).collect();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(told)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner, named }));
    let mut config = match pair {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(told)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// WebPki's verifier, and certificates that are taken by themselves.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let inner = &self.inner;
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The dates have been looked at before this is found.
            Err(error) if is_authority(&error) && self.named.iter().any(|it| it == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Whether all that is wrong is that an authority's own certificate stands for a server.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    let found = other.0.downcast_ref::<webpki::Error>();
    found == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// Returns why a certificate was refused, where it was that which ended an exchange.
pub(super) fn distrust(error: &(dyn StdError + 'static)) -> Option<Distrust> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Error::InvalidCertificate(why)) = error.downcast_ref::<Error>() {
            return Some(match why {
                CertificateError::UnknownIssuer => Distrust::Unknown,
                _ if is_authority(&Error::InvalidCertificate(why.clone())) => Distrust::Unknown,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Distrust::OtherName,
                _ => Distrust::Other,
            });
        }
        // An I/O error that wraps another passes it over in its chain.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn own(name: &str, years: std::ops::Range<i32>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().expect("key");
        params.self_signed(&key).expect("certificate").der().clone()
    }

    #[test]
    fn a_certificate_that_is_its_own_authority_is_taken_where_it_was_named() {
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000)); // 2023
        let (ours, other) = (own("a.test", 2020..2030), own("a.test", 2020..2030));
        let (past, later) = (own("a.test", 2020..2022), own("a.test", 2025..2030));
        for (case, named, shown, host, expected) in [
            ("named", &ours, &ours, "a.test", None),
            (
                "another of the same name",
                &other,
                &ours,
                "a.test",
                Some(Distrust::Unknown),
            ),
            (
                "another host",
                &ours,
                &ours,
                "b.test",
                Some(Distrust::OtherName),
            ),
            ("over", &past, &past, "a.test", Some(Distrust::Other)),
            ("not yet", &later, &later, "a.test", Some(Distrust::Other)),
        ] {
            let mut roots = RootCertStore::empty();
            roots.add(named.clone()).expect("root");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = Verifier {
                inner: inner.build().expect("verifier"),
                named: vec![named.clone()],
            };
            let host = ServerName::try_from(host).expect("name");
            let verified = verifier.verify_server_cert(shown, &[], &host, &[], at);
            // As it comes through layers that wrap it.
            let found = verified
                .err()
                .map(|error| io::Error::other(io::Error::other(error)));
            let found = found.map(|error| distrust(&error).expect("a certificate"));
            assert_eq!(found, expected, "{case}");
        }
    }
}
