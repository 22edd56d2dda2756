//! A private key, read from a file, that can sign.
//!
//! Read are OpenSSH's own format and the PEM forms of before (PKCS#1, SEC1, PKCS#8); Ed25519, RSA of 2048 to 4096 bits, and
//! ECDSA on the curves P-256 and P-384. The `ssh-key` crate reads and writes SSH's formats; `ring`, which is here for TLS,
//! signs: the `rsa` crate that `ssh-key` would sign with leaks a key's bits by the time that it takes (RUSTSEC-2023-0071).
//!
//! Others, and keys under a passphrase, are for an agent of OpenSSH's.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use num_bigint::BigUint;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use ssh_encoding::Encode;
use ssh_key::private::{EcdsaKeypair, KeypairData};
use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, RsaPublicKey};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, Mpint, PrivateKey, Signature};

/// Far more than any key.
const MAX_BYTES: u64 = 100 << 10;

/// A flag of a request to sign, in the agent's protocol.
const RSA_SHA2_512: u32 = 4;

/// A private key. It is never shown: not in `Debug`, an error or an event.
#[derive(Clone)]
pub struct SshKey {
    /// As the protocol has it.
    pub(super) public: Vec<u8>,
    pub(super) comment: String,
    secret: Arc<Secret>,
}

impl std::fmt::Debug for SshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SshKey")
    }
}

enum Secret {
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaCurve, EcdsaKeyPair),
}

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshKeyError {
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not the file of a private key", .0.display())]
    NotAKey(PathBuf),
    #[error("{} is a public key: the private one is needed, whose file has no `.pub`", .0.display())]
    Public(PathBuf),
    #[error("{} has a passphrase, which nobody can be asked for here", .0.display())]
    Passphrase(PathBuf),
    #[error("{} is a key of a kind that only an agent can use: {what}", path.display())]
    Kind { path: PathBuf, what: String },
}

impl SshKeyError {
    /// Returns the file, where an agent of OpenSSH's could do what cannot be done here.
    pub fn for_an_agent(&self) -> Option<&Path> {
        match self {
            SshKeyError::Passphrase(path) | SshKeyError::Kind { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// What a key's bytes lack.
#[derive(Debug)]
enum Refused {
    NotAKey,
    Public,
    Passphrase,
    Kind(String),
}

impl SshKey {
    /// Reads a key's file.
    ///
    /// # Errors
    /// No file, no key, a passphrase, or a kind of key that is not signed with here.
    pub fn read(path: impl Into<PathBuf>) -> Result<SshKey, SshKeyError> {
        let path = path.into();
        let read = || {
            // a fifo that nobody writes to would be waited for
            let file = crate::context::open_text(&path)?;
            let mut bytes = Vec::new();
            file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = match read() {
            Ok(bytes) => bytes,
            Err(source) => return Err(SshKeyError::Read { path, source }),
        };
        parse(&bytes).map_err(|refused| match refused {
            Refused::NotAKey => SshKeyError::NotAKey(path),
            Refused::Public => SshKeyError::Public(path),
            Refused::Passphrase => SshKeyError::Passphrase(path),
            Refused::Kind(what) => SshKeyError::Kind { path, what },
        })
    }

    /// Returns the signature of `data` in the agent's protocol. None is made with SHA-1.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (algorithm, bytes) = match &*self.secret {
            Secret::Ed25519(pair) => (Algorithm::Ed25519, pair.sign(data).as_ref().to_vec()),
            Secret::Ecdsa(curve, pair) => {
                let signed = pair.sign(&random, data).ok()?;
                let (r, s) = signed.as_ref().split_at(signed.as_ref().len() / 2);
                let mut bytes = Vec::new();
                for number in [r, s] {
                    let number = Mpint::from_positive_bytes(number).ok()?;
                    number.encode(&mut bytes).ok()?;
                }
                (Algorithm::Ecdsa { curve: *curve }, bytes)
            }
            Secret::Rsa(pair) => {
                let (hash, padding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => (HashAlg::Sha512, &RSA_PKCS1_SHA512),
                    // also where SHA-1 is asked for, as `ssh-add -T` does: the signature says what it is
                    _ => (HashAlg::Sha256, &RSA_PKCS1_SHA256),
                };
                let mut bytes = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, data, &mut bytes).ok()?;
                (Algorithm::Rsa { hash: Some(hash) }, bytes)
            }
        };
        Signature::new(algorithm, bytes).ok()?.try_into().ok()
    }
}

fn parse(bytes: &[u8]) -> Result<SshKey, Refused> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refused::NotAKey)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Refused::NotAKey);
    }
    if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
        return of_openssh(text);
    }
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
    {
        return Err(Refused::Passphrase);
    }
    if text.contains("-----BEGIN DSA PRIVATE KEY") {
        return Err(Refused::Kind("DSA".to_owned()));
    }
    if text.parse::<ssh_key::PublicKey>().is_ok() || text.contains(" PUBLIC KEY-----") {
        return Err(Refused::Public);
    }
    let der = PrivateKeyDer::from_pem_slice(bytes).map_err(|_| Refused::NotAKey)?;
    let secret = match &der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der())
            .map(Secret::Rsa)
            .map_err(size_of_rsa)?,
        PrivateKeyDer::Sec1(der) => of_sec1(der.secret_sec1_der())?,
        PrivateKeyDer::Pkcs8(der) => of_pkcs8(der.secret_pkcs8_der())?,
        _ => return Err(Refused::NotAKey),
    };
    key(secret, String::new())
}

/// Returns the kind of key that the plain part of an OpenSSH file names.
fn named_kind(text: &str) -> Option<String> {
    let lines = text
        .trim()
        .lines()
        .filter(|line| !line.starts_with("-----"));
    let bytes = BASE64_STANDARD.decode(lines.collect::<String>()).ok()?;
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let string = |rest: &mut &[u8]| {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (string, after) = after.split_at_checked(len)?;
        *rest = after;
        Some(string.to_vec())
    };
    for _ in ["cipher", "kdf", "its options"] {
        string(&mut rest)?;
    }
    // the number of keys
    rest = rest.get(4..)?;
    let public = string(&mut rest)?;
    String::from_utf8(string(&mut &public[..])?).ok()
}

fn of_openssh(text: &str) -> Result<SshKey, Refused> {
    let private = match PrivateKey::from_openssh(text.trim()) {
        Ok(private) => private,
        Err(ssh_key::Error::AlgorithmUnsupported { algorithm }) => {
            return Err(Refused::Kind(algorithm.to_string()));
        }
        Err(ssh_key::Error::AlgorithmUnknown) => {
            return Err(Refused::Kind("one that is not known here".to_owned()));
        }
        // `ssh-key` takes no number of an ECDSA key that is shorter than its curve's: half of all P-521 keys.
        Err(_) => return Err(named_kind(text).map_or(Refused::NotAKey, Refused::Kind)),
    };
    let unlike = |_| Refused::NotAKey;
    let secret = match private.key_data() {
        KeypairData::Encrypted(_) => return Err(Refused::Passphrase),
        KeypairData::Ed25519(pair) => {
            let (seed, public) = (pair.private.to_bytes(), pair.public.0);
            Secret::Ed25519(
                Ed25519KeyPair::from_seed_and_public_key(&seed, &public).map_err(unlike)?,
            )
        }
        KeypairData::Ecdsa(pair) => {
            let (curve, algorithm) = match pair {
                EcdsaKeypair::NistP256 { .. } => ECDSA[0],
                EcdsaKeypair::NistP384 { .. } => ECDSA[1],
                EcdsaKeypair::NistP521 { .. } => {
                    return Err(Refused::Kind("ecdsa-sha2-nistp521".to_owned()));
                }
            };
            let (private, public) = (pair.private_key_bytes(), pair.public_key_bytes());
            let random = SystemRandom::new();
            let pair =
                EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public, &random);
            Secret::Ecdsa(curve, pair.map_err(unlike)?)
        }
        KeypairData::Rsa(pair) => Secret::Rsa(of_rsa(pair)?),
        _ => {
            let algorithm = private.algorithm();
            return Err(Refused::Kind(algorithm.to_string()));
        }
    };
    key(secret, private.comment().to_owned())
}

const ECDSA: [(EcdsaCurve, &EcdsaSigningAlgorithm); 2] = [
    (EcdsaCurve::NistP256, &ECDSA_P256_SHA256_FIXED_SIGNING),
    (EcdsaCurve::NistP384, &ECDSA_P384_SHA384_FIXED_SIGNING),
];

/// OpenSSH leaves out two of the numbers that make signing quick.
fn of_rsa(pair: &ssh_key::private::RsaKeypair) -> Result<RsaKeyPair, Refused> {
    let number = |it: &Mpint| {
        let bytes = it.as_positive_bytes().ok_or(Refused::NotAKey)?;
        Ok(BigUint::from_bytes_be(bytes))
    };
    let d = number(&pair.private.d)?;
    let (p, q) = (number(&pair.private.p)?, number(&pair.private.q)?);
    let (p, q) = if p < q { (q, p) } else { (p, q) };
    let one = BigUint::from(1u8);
    if q <= one {
        return Err(Refused::NotAKey);
    }
    let inverse = q.modinv(&p).ok_or(Refused::NotAKey)?;
    let [dp, dq] = [&p, &q].map(|prime| &d % (prime - &one));
    let components = KeyPairComponents {
        public_key: PublicKeyComponents {
            n: number(&pair.public.n)?.to_bytes_be(),
            e: number(&pair.public.e)?.to_bytes_be(),
        },
        d: d.to_bytes_be(),
        p: p.to_bytes_be(),
        q: q.to_bytes_be(),
        dP: dp.to_bytes_be(),
        dQ: dq.to_bytes_be(),
        qInv: inverse.to_bytes_be(),
    };
    RsaKeyPair::from_components(&components).map_err(size_of_rsa)
}

fn size_of_rsa(error: ring::error::KeyRejected) -> Refused {
    match error.to_string().as_str() {
        "TooSmall" | "TooLarge" | "PrivateModulusLenNotMultipleOf512Bits" => {
            Refused::Kind("RSA of fewer than 2048 or more than 4096 bits".to_owned())
        }
        _ => Refused::NotAKey,
    }
}

fn of_pkcs8(der: &[u8]) -> Result<Secret, Refused> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Secret::Ed25519(pair));
    }
    for (curve, algorithm) in ECDSA {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new()) {
            return Ok(Secret::Ecdsa(curve, pair));
        }
    }
    match RsaKeyPair::from_pkcs8(der) {
        Ok(pair) => Ok(Secret::Rsa(pair)),
        Err(error) => Err(match size_of_rsa(error) {
            Refused::NotAKey => Refused::Kind("not Ed25519, RSA, P-256 or P-384".to_owned()),
            refused => refused,
        }),
    }
}

/// The bytes of SEC1's form, in the envelope of PKCS#8's.
fn of_sec1(sec1: &[u8]) -> Result<Secret, Refused> {
    const ID_EC: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const P256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const P384: &[u8] = &[0x06, 5, 0x2b, 0x81, 0x04, 0, 0x22];
    for ((curve, algorithm), oid) in ECDSA.into_iter().zip([P256, P384]) {
        let kind = sequence(0x30, &[ID_EC, oid].concat());
        let body = [&[2, 1, 0], kind.as_slice(), &sequence(0x04, sec1)].concat();
        let der = sequence(0x30, &body);
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new()) {
            return Ok(Secret::Ecdsa(curve, pair));
        }
    }
    Err(Refused::Kind(
        "not of the curves P-256 and P-384".to_owned(),
    ))
}

/// One value of DER: its tag, its length, its bytes.
fn sequence(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    let first = length.iter().position(|it| *it != 0);
    let length = &length[first.unwrap_or(length.len() - 1)..];
    let mut der = vec![tag];
    if bytes.len() > 127 {
        der.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
    }
    [der.as_slice(), length, bytes].concat()
}

fn key(secret: Secret, comment: String) -> Result<SshKey, Refused> {
    let failed = |_| Refused::NotAKey;
    let data = match &secret {
        Secret::Ed25519(pair) => KeyData::Ed25519(
            Ed25519PublicKey::try_from(pair.public_key().as_ref()).map_err(failed)?,
        ),
        Secret::Ecdsa(_, pair) => KeyData::Ecdsa(
            EcdsaPublicKey::from_sec1_bytes(pair.public_key().as_ref()).map_err(failed)?,
        ),
        Secret::Rsa(pair) => {
            let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
            KeyData::Rsa(RsaPublicKey {
                e: Mpint::from_positive_bytes(&public.e).map_err(failed)?,
                n: Mpint::from_positive_bytes(&public.n).map_err(failed)?,
            })
        }
    };
    let mut public = Vec::new();
    data.encode(&mut public).map_err(|_| Refused::NotAKey)?;
    Ok(SshKey {
        public,
        comment,
        secret: Arc::new(secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_named() {
        let ed25519 =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        let pem = |kind: &str, body: &str| {
            format!("-----BEGIN {kind} KEY-----\n{body}\n-----END {kind} KEY-----\n")
        };
        let string = |text: &[u8]| {
            let len = u32::try_from(text.len()).expect("short");
            [&len.to_be_bytes(), text].concat()
        };
        let mut half = b"openssh-key-v1\0".to_vec();
        for part in [&b"none"[..], b"none", b""] {
            half.extend(string(part));
        }
        half.extend(1_u32.to_be_bytes());
        half.extend(string(&string(b"ecdsa-sha2-nistp521")));
        let half = BASE64_STANDARD.encode(half);
        for (text, expected) in [
            (
                pem("OPENSSH PRIVATE", &half),
                r#"Kind("ecdsa-sha2-nistp521")"#,
            ),
            (String::new(), "NotAKey"),
            ("x".to_owned(), "NotAKey"),
            (ed25519.to_owned(), "Public"),
            (format!("{ed25519} me@here\n"), "Public"),
            (pem("PUBLIC", "AAAA"), "Public"),
            (pem("ENCRYPTED PRIVATE", "AAAA"), "Passphrase"),
            (
                pem(
                    "RSA PRIVATE",
                    "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA",
                ),
                "Passphrase",
            ),
            (pem("DSA PRIVATE", "AAAA"), "Kind"),
            (pem("OPENSSH PRIVATE", "AAAA"), "NotAKey"),
            (pem("RSA PRIVATE", "AAAA"), "NotAKey"),
            (pem("EC PRIVATE", "AAAA"), "Kind"),
            (pem("CERTIFICATE", "AAAA"), "NotAKey"),
        ] {
            let refused = parse(text.as_bytes()).map(|_| ()).expect_err("no key");
            assert!(
                format!("{refused:?}").starts_with(expected),
                "{text}: {refused:?}"
            );
        }
        let long = vec![b'x'; 200 << 10];
        assert!(matches!(parse(&long), Err(Refused::NotAKey)));
        assert!(matches!(parse(&[0xff, 0xfe]), Err(Refused::NotAKey)));
    }

    #[test]
    fn lengths_of_der() {
        assert_eq!(sequence(4, &[]), [4, 0]);
        assert_eq!(sequence(4, &[7; 127])[..3], [4, 127, 7]);
        assert_eq!(sequence(4, &[7; 128])[..4], [4, 0x81, 128, 7]);
        assert_eq!(sequence(4, &[7; 300])[..5], [4, 0x82, 1, 44, 7]);
    }
}
