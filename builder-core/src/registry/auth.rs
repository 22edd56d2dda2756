//! Challenges (RFC 9110, section 11; distribution's "token authentication") and the tokens got for them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Nothing is asked for.
    None,
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// Returns the challenge for whatever scope the asker has in mind.
    pub(super) fn without_scope(self) -> Self {
        match self {
            Challenge::Bearer { realm, service, .. } => Challenge::Bearer {
                realm,
                service,
                scope: None,
            },
            other => other,
        }
    }
}

/// A token and when it ends. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct Token {
    pub header: HeaderValue,
    expires: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Reads a token service's answer, got at `now`; `None` where there is no token in it.
    pub(super) fn parse(body: &[u8], now: Instant) -> Option<Token> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
            #[serde(default)]
            expires_in: Option<u64>,
        }
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let token = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|it| !it.is_empty())?;
        // 60 s is the specification's default, and its least.
        let seconds = answer.expires_in.unwrap_or(60).clamp(60, 24 * 3600);
        Some(Token {
            header: bearer(&token)?,
            expires: now + Duration::from_secs(seconds),
        })
    }

    /// Whether it will do for a request that begins at `now`.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.expires > now + Duration::from_secs(10)
    }
}

/// Returns the header of basic authentication.
pub(super) fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    let pair = STANDARD.encode(format!("{username}:{password}"));
    secret(format!("Basic {pair}"))
}

/// Returns the header of a token.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    secret(format!("Bearer {token}"))
}

/// Puts together the scopes of a request and those of a challenge, one a resource, actions in order.
pub(super) fn merge_scopes(own: &[String], asked: Option<&str>) -> Vec<String> {
    let mut merged: Vec<(&str, BTreeSet<&str>)> = Vec::new();
    let asked = asked.into_iter().flat_map(|it| it.split(' '));
    for scope in own.iter().map(String::as_str).chain(asked) {
        let Some((resource, actions)) = scope.rsplit_once(':') else {
            continue;
        };
        let actions = actions.split(',').filter(|it| !it.is_empty());
        match merged.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, known)) => known.extend(actions),
            None => merged.push((resource, actions.collect())),
        }
    }
    let text = |(resource, actions): (&str, BTreeSet<&str>)| {
        let actions: Vec<&str> = actions.into_iter().collect();
        format!("{resource}:{}", actions.join(","))
    };
    merged.into_iter().map(text).collect()
}

fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Reads the challenges of an answer: a bearer token before a password; `None` where there is no usable one.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for header in headers.get_all(WWW_AUTHENTICATE) {
        for (scheme, parameters) in parse(header.to_str().ok()?) {
            let get = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.clone())
            };
            if scheme == "bearer"
                && let Some(realm) = get("realm").and_then(|it| it.parse().ok())
            {
                return Some(Challenge::Bearer {
                    realm,
                    service: get("service"),
                    scope: get("scope"),
                });
            }
            if scheme == "basic" {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// `Bearer realm="…",service="…", Basic realm="…"`: schemes, lower-case, with their parameters.
fn parse(mut text: &str) -> Vec<(String, Parameters)> {
    let mut list: Vec<(String, Parameters)> = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        let end = text.find([' ', '=', ',', '\t']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        if word.is_empty() {
            return list;
        }
        let word = word.to_ascii_lowercase();
        text = rest;
        let Some(value) = text.trim_start().strip_prefix('=') else {
            list.push((word, Vec::new()));
            continue;
        };
        let value = value.trim_start();
        let mut out = String::new();
        if let Some(quoted) = value.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            text = "";
            while let Some((at, c)) = chars.next() {
                match c {
                    '\\' => out.extend(chars.next().map(|(_, c)| c)),
                    '"' => {
                        text = &quoted[at + 1..];
                        break;
                    }
                    c => out.push(c),
                }
            }
        } else {
            let end = value.find([',', ' ']).unwrap_or(value.len());
            out.push_str(&value[..end]);
            text = &value[end..];
        }
        if let Some((_, parameters)) = list.last_mut() {
            parameters.push((word, out));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.parse().expect("url"),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            })
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://a.io/token",service="r.io",scope="repository:a/b:pull,push""#,
                bearer(
                    "https://a.io/token",
                    Some("r.io"),
                    Some("repository:a/b:pull,push"),
                ),
            ),
            (
                r#"Basic realm="x, y", BEARER realm = "https://a.io/t" , service=s"#,
                bearer("https://a.io/t", Some("s"), None),
            ),
            (r#"Basic realm="a\"b""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            (r#"Bearer realm="not a url""#, None),
            ("Negotiate", None),
            (r#"Bearer realm="unclosed"#, None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_str(text).expect(text));
            assert_eq!(challenge(&headers), expected, "{text}");
        }
    }

    #[test]
    fn scopes_are_put_together() {
        let own = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        for (ours, asked, expected) in [
            (&["repository:a:pull"][..], None, &["repository:a:pull"][..]),
            (
                &["repository:a:pull,push", "repository:b:pull"],
                Some("repository:a:pull"),
                &["repository:a:pull,push", "repository:b:pull"],
            ),
            (
                &["repository:h:5000/a:pull"],
                Some("repository:h:5000/a:push,pull registry:catalog:*"),
                &["repository:h:5000/a:pull,push", "registry:catalog:*"],
            ),
            (&["repository:a:pull"], Some("odd"), &["repository:a:pull"]),
        ] {
            assert_eq!(merge_scopes(&own(ours), asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn tokens_are_read_and_end() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        for (body, until) in [
            (r#"{"token":"t"}"#, Some(49)),
            (
                r#"{"token":"","access_token":"t","expires_in":300}"#,
                Some(289),
            ),
            (r#"{"access_token":"t","expires_in":1}"#, Some(49)),
            (r#"{"token":null}"#, None),
            ("no", None),
        ] {
            let token = Token::parse(body.as_bytes(), now);
            assert_eq!(token.is_some(), until.is_some(), "{body}");
            if let (Some(token), Some(until)) = (token, until) {
                assert!(token.is_fresh(later(until)), "{body}");
                assert!(!token.is_fresh(later(until + 2)), "{body}");
                assert!(!format!("{token:?}").contains("Bearer"));
            }
        }
    }
}
