//! When to try again, and for how long.
//!
//! A request is tried [`attempts`](super::ClientOptions::attempts) times at most, and for no longer than
//! [`give_up_after`](super::ClientOptions::give_up_after) without progress; pauses that a server asks for do not count.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::{ClientOptions, RegistryError};

/// All that a server may ask to wait, before it is as good as silent.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What went wrong with one attempt.
#[derive(Debug)]
pub(super) struct Trouble {
    pub error: RegistryError,
    /// Whether another attempt may do better.
    pub retry: bool,
    /// The pause that the server asks for.
    pub asked: Option<Duration>,
}

impl From<RegistryError> for Trouble {
    fn from(error: RegistryError) -> Self {
        Trouble {
            error,
            retry: false,
            asked: None,
        }
    }
}

/// Counts attempts.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    options: &'a ClientOptions,
    made: u32,
    since: Instant,
    /// What the server has asked to wait.
    ordered: Duration,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(options: &'a ClientOptions) -> Self {
        Attempts {
            options,
            made: 0,
            since: Instant::now(),
            ordered: Duration::ZERO,
        }
    }

    /// Something has moved: what failed before does not count.
    pub(super) fn progress(&mut self) {
        *self = Attempts::new(self.options);
    }

    /// Waits for the next attempt, or says that there is none.
    pub(super) async fn again(&mut self, trouble: Trouble) -> Result<(), RegistryError> {
        self.made += 1;
        let pause = pause(self.options.first_pause, self.made, trouble.asked);
        let ordered = trouble.asked.map_or(Duration::ZERO, |_| pause);
        // The next attempt may be silent as well.
        let spent = self.since.elapsed() + (pause - ordered) + self.options.no_progress_timeout;
        self.ordered += trouble.asked.unwrap_or_default();
        if !trouble.retry
            || self.ordered > MAX_PAUSE
            || self.made >= self.options.attempts
            || spent > self.options.give_up_after
        {
            return Err(trouble.error);
        }
        tokio::time::sleep(pause).await;
        self.since += ordered;
        Ok(())
    }
}

/// Reads `Retry-After`: seconds, or a date as HTTP writes them.
pub(super) fn retry_after(headers: &HeaderMap, now: std::time::SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(text)?;
    let now = now.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some(Duration::from_secs(at.saturating_sub(now)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since the epoch (RFC 9110, section 5.6.7; the one form to be sent).
fn http_date(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let [day, month, year, time, "GMT"] = rest.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = MONTHS.iter().position(|it| *it == month)? + 1;
    let text = format!("{year}-{month:02}-{day}T{time}Z");
    crate::image::time::parse_rfc3339(&text)?.try_into().ok()
}

/// Returns how long to wait before attempt `attempt` (1: the second): what the server asks for, at most a
/// minute, else a random part of a pause that doubles.
fn pause(base: Duration, attempt: u32, asked: Option<Duration>) -> Duration {
    if let Some(asked) = asked {
        return asked.min(MAX_PAUSE);
    }
    let whole = base
        .saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1)))
        .min(MAX_PAUSE / 2);
    // Half is fixed, half is random, so that many clients do not come back at once.
    let random = RandomState::new().hash_one(attempt) % 1000;
    whole / 2 + whole.mul_f64(random as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn servers_say_how_long() {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        for (text, expected) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1993 08:49:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn who_asks_for_too_long_is_given_up_at_once() {
        let options = ClientOptions::default();
        let mut attempts = Attempts::new(&options);
        let trouble = |seconds| Trouble {
            error: RegistryError::Protocol {
                host: "there".to_owned(),
                why: "busy".to_owned(),
            },
            retry: true,
            asked: Some(Duration::from_secs(seconds)),
        };
        attempts.again(trouble(0)).await.expect("another attempt");
        attempts.again(trouble(100_000)).await.expect_err("a day");
        attempts.progress();
        attempts.again(trouble(0)).await.expect("another attempt");
    }

    #[test]
    fn pauses_grow_and_obey() {
        let base = Duration::from_millis(100);
        for attempt in 1..30 {
            let whole = base.saturating_mul(2u32.saturating_pow(attempt - 1));
            let whole = whole.min(Duration::from_secs(30));
            let pause = pause(base, attempt, None);
            assert!(pause >= whole / 2 && pause <= whole, "{attempt}: {pause:?}");
        }
        let asked = Duration::from_secs(7);
        assert_eq!(pause(base, 1, Some(asked)), asked);
        let asked = Duration::from_secs(99999);
        assert_eq!(pause(base, 1, Some(asked)), MAX_PAUSE);
    }
}
