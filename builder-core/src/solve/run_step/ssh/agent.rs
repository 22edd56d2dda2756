//! An agent of our own, for keys that are in files: the two requests of the protocol that a step may make.

use ssh_encoding::{Decode, Encode};

use super::key::SshKey;
use super::{FAILURE, REQUEST_IDENTITIES, SIGN_REQUEST};

const IDENTITIES: u8 = 12;
const SIGNATURE: u8 = 14;

/// Returns what an agent with these keys answers to `request`, both without their lengths in front.
pub(super) fn answer(keys: &[SshKey], request: &[u8]) -> Vec<u8> {
    let answer = match request.split_first() {
        Some((&REQUEST_IDENTITIES, [])) => identities(keys),
        Some((&SIGN_REQUEST, rest)) => signature(keys, rest),
        _ => None,
    };
    answer.unwrap_or_else(|| vec![FAILURE])
}

fn identities(keys: &[SshKey]) -> Option<Vec<u8>> {
    let mut out = vec![IDENTITIES];
    keys.len().encode(&mut out).ok()?;
    for key in keys {
        key.public.encode(&mut out).ok()?;
        key.comment.encode(&mut out).ok()?;
    }
    Some(out)
}

fn signature(keys: &[SshKey], mut request: &[u8]) -> Option<Vec<u8>> {
    let request = &mut request;
    let public = Vec::<u8>::decode(request).ok()?;
    let data = Vec::<u8>::decode(request).ok()?;
    let flags = u32::decode(request).ok()?;
    let key = keys.iter().find(|key| key.public == public)?;
    let mut out = vec![SIGNATURE];
    key.sign(&data, flags)?.encode(&mut out).ok()?;
    Some(out)
}
