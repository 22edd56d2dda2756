//! `builder inspect`.

use serde_json::Value;

use super::store::open;
use crate::args::images::InspectArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;
use crate::template::Template;

pub(super) fn run(args: InspectArgs, environment: &Environment) -> Result<(), Failure> {
    let format = args.format.as_deref().unwrap_or("");
    let wrong = |why: String| Failure::usage(format!("--format {format}: {why}"));
    let template = match format {
        "" | "json" => None,
        format => Some(Template::parse(format).map_err(wrong)?),
    };
    let images = open(args.store, environment)?;
    if args.raw {
        for name in &args.images {
            let bytes = images.raw_manifest(name)?;
            render::result(&String::from_utf8_lossy(&bytes))?;
        }
        return Ok(());
    }
    // Those that are there are shown, and the first that is not is the error, as with Docker.
    let (mut values, mut failed) = (Vec::new(), None);
    for name in &args.images {
        match images.find(name) {
            Ok(image) => values.push(image.inspect()),
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    let text = match template {
        Some(template) => {
            let mut text = String::new();
            for value in &values {
                text += &template.fill_as(value, false, as_docker).map_err(wrong)?;
                text.push('\n');
            }
            text
        }
        None if format == "json" => format!("{}\n", Value::Array(values)),
        None => format!("{:#}\n", Value::Array(values)),
    };
    render::result(&text)?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Prints fields as Docker does: those of an image are there always, if need be empty, and times of health checks have units.
fn as_docker(path: &[String], value: &Value) -> Option<String> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if let [
        "Config",
        "Healthcheck",
        "Interval" | "Timeout" | "StartPeriod" | "StartInterval",
    ] = path.as_slice()
    {
        let nanos = value.as_i64().or(value.is_null().then_some(0));
        return nanos.map(duration);
    }
    if !value.is_null() {
        return None;
    }
    let empty = match path.as_slice() {
        [
            "Author" | "Comment" | "Container" | "Created" | "DockerVersion" | "OsVersion"
            | "Parent" | "Variant",
        ]
        | [
            "Config",
            "Domainname" | "Hostname" | "Image" | "StopSignal" | "User" | "WorkingDir",
        ] => "",
        ["RepoDigests" | "RepoTags"]
        | ["Config", "Cmd" | "Entrypoint" | "Env" | "OnBuild" | "Shell"] => "[]",
        ["Config", "ExposedPorts" | "Labels" | "Volumes"] => "map[]",
        [
            "Config",
            "ArgsEscaped" | "AttachStderr" | "AttachStdin" | "AttachStdout" | "OpenStdin"
            | "StdinOnce" | "Tty",
        ] => "false",
        ["Config", "Healthcheck"] => "<nil>",
        ["Config", "Healthcheck", "Retries"] => "0",
        _ => return None,
    };
    Some(empty.to_owned())
}

/// Writes nanoseconds as Go does: `1h0m0s`, `1.5s`, `20ms`.
fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let in_units = |unit: u64, digits: usize| {
        let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => in_units(1_000, 3) + "µs",
        1_000_000..1_000_000_000 => in_units(1_000_000, 6) + "ms",
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = format!(
                "{}.{:09}",
                nanos / 1_000_000_000 % 60,
                nanos % 1_000_000_000
            );
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_look_as_with_docker() {
        let value = json!({"Config": {
            "Labels": {"a": "b"},
            "Healthcheck": {"Interval": 5_000_000_000_i64, "Timeout": 20_500_000},
        }});
        for (text, expected) in [
            ("<{{.Config.Hostname}}{{.Parent}}>", "<>"),
            (
                "{{.Config.Labels}}{{.Config.Env}}{{.Config.Volumes}}",
                "map[a:b][]map[]",
            ),
            ("{{.Config.Healthcheck.Interval}}", "5s"),
            (
                "{{.Config.Healthcheck.Timeout}} {{.Config.Healthcheck.StartPeriod}}",
                "20.5ms 0s",
            ),
            (
                "{{json .Config.Env}} {{.Config.Tty}} {{.Config.Nope}}",
                "null false <no value>",
            ),
            (
                "{{if .Config.Hostname}}x{{else if eq .Config.User \"\"}}y{{end}}",
                "y",
            ),
        ] {
            let template = Template::parse(text).expect(text);
            let filled = template.fill_as(&value, false, as_docker);
            assert_eq!(filled, Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (nanos, expected) in [
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-30_000_000_000, "-30s"),
        ] {
            assert_eq!(duration(nanos), expected);
        }
    }
}
