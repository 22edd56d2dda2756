//! EXPOSE's port specifications: `[ip:][host:]port[-port][/protocol]`, as Docker reads them.

use std::net::IpAddr;

/// Returns `port/protocol` for every port that `spec` names.
///
/// # Errors
/// What is wrong with `spec`, in a few words.
pub(super) fn parse(spec: &str) -> Result<Vec<String>, &'static str> {
    let mut parts = spec.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let ip = parts.next().unwrap_or_default();
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err("no port is given");
    }
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => return Err("the protocol is none of tcp, udp and sctp"),
    };
    let ip = ip
        .strip_prefix('[')
        .and_then(|ip| ip.strip_suffix(']'))
        .unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err("the address before it is not an IP address");
    }
    let (first, last) = parse_range(range)?;
    if !host.is_empty() {
        let (host_first, host_last) = parse_range(host)?;
        if last - first != host_last - host_first && last != first {
            return Err("the two port ranges differ in length");
        }
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn parse_range(text: &str) -> Result<(u16, u16), &'static str> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse::<u16>().ok())
            .flatten()
            .ok_or("a port is a number from 0 to 65535")
    };
    let Some((first, last)) = text.split_once('-') else {
        let port = number(text)?;
        return Ok((port, port));
    };
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err("the range ends before it starts");
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn ports() {
        for (spec, expected) in [
            ("80", Ok(vec!["80/tcp"])),
            ("80/UDP", Ok(vec!["80/udp"])),
            ("80/", Ok(vec!["80/tcp"])),
            (
                "8000-8002/sctp",
                Ok(vec!["8000/sctp", "8001/sctp", "8002/sctp"]),
            ),
            ("8080:80", Ok(vec!["80/tcp"])),
            ("127.0.0.1:8080:80", Ok(vec!["80/tcp"])),
            ("[::1]:8080:80", Ok(vec!["80/tcp"])),
            ("8000-9000:80", Ok(vec!["80/tcp"])),
            (
                "localhost:8080:80",
                Err("the address before it is not an IP address"),
            ),
            ("80-79", Err("the range ends before it starts")),
            ("1-2:3-5", Err("the two port ranges differ in length")),
            ("65536", Err("a port is a number from 0 to 65535")),
            ("+80", Err("a port is a number from 0 to 65535")),
            ("/tcp", Err("no port is given")),
            ("80/http", Err("the protocol is none of tcp, udp and sctp")),
        ] {
            let expected = expected.map(|ports| ports.into_iter().map(str::to_owned).collect());
            assert_eq!(parse(spec), expected, "{spec}");
        }
    }
}
