//! Registries that are marked as insecure, whatever certificates are given.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;
use crate::registry::CertificateDirs;

#[tokio::test]
async fn a_mark_wins_over_certificates_and_without_it_the_error_says_so() {
    let image = Image::new();
    let server = Server::start(move |asked, _| image.serve(asked)).await;
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("key");
    let authority = params.self_signed(&key).expect("certificate").pem();
    let (flat, hosts) = (tempfile::tempdir(), tempfile::tempdir());
    let (flat, hosts) = (flat.expect("temp dir"), hosts.expect("temp dir"));
    let host = server.address.to_string();
    std::fs::write(flat.path().join("ca.crt"), &authority).expect("write");
    std::fs::create_dir(hosts.path().join(&host)).expect("mkdir");
    std::fs::write(hosts.path().join(&host).join("ca.crt"), &authority).expect("write");
    for (given, by_host, insecure, answers) in [
        (None, vec![], false, true),
        (None, vec![], true, true),
        (Some(flat.path()), vec![], true, true),
        (None, vec![hosts.path().to_owned()], true, true),
        (Some(flat.path()), vec![], false, false),
        (None, vec![hosts.path().to_owned()], false, false),
    ] {
        let text = format!("{given:?} {by_host:?} {insecure}");
        let mut registries = Registries::default();
        let table = format!("[[registry]]\nlocation = '{host}'\ninsecure = {insecure}\n");
        let added = registries.add(Path::new("registries.conf"), &table);
        added.expect("a configuration");
        let client = Client::new(ClientOptions {
            registries,
            certificates: CertificateDirs {
                by_host,
                given: given.map(Path::to_owned),
            },
            ..options()
        });
        match (Fixture::new().pull(&client, &server).await, answers) {
            (Ok(_), true) => {}
            (Err(error @ RegistryError::NoTls { .. }), false) => {
                let hint = error.hint().expect("what to do");
                assert!(hint.contains(&format!("location = \"{host}\"")), "{hint}");
            }
            (other, _) => panic!("{text}: {other:?}"),
        }
    }
}
