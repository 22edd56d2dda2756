//! What went wrong, with the place, the excerpt, the hint and a failed step's last words.

use std::error::Error;
use std::fmt::Write;

use builder_core::BuildError;
use builder_core::dockerfile::diagnostic::render;

use super::lines::visible;
use super::plain::one_line;
use super::progress;
use crate::exit::Failure;

/// Prints a failure to standard error.
pub(crate) fn show(failure: &Failure, colour: bool) {
    let text = match failure {
        Failure::Usage(text) => format!("error: {text}\n"),
        Failure::Io(text) => format!("error: {text}\n"),
        Failure::Enter(error) => format!("error: {}\n", with_causes(error)),
        Failure::Images(error) => {
            let mut text = format!("error: {}\n", one_line(&with_causes(error.as_ref())));
            if let Some(hint) = error.hint() {
                let _ = writeln!(text, "hint: {}", one_line(&hint));
            }
            text
        }
        Failure::Command(_) => String::new(),
        Failure::Interrupted => "error: interrupted\n".to_owned(),
        Failure::Build(error) => build_error(error),
        Failure::Remarks | Failure::Unreadable => return,
    };
    let text = if colour { paint(&text) } else { text };
    progress(text.as_bytes());
}

/// A failed build as text.
fn build_error(error: &BuildError) -> String {
    // Causes stand behind the façade's own type, whose text is already that of the inner one.
    let message = match error {
        BuildError::Solve(located) => with_causes(&located.error.kind),
        BuildError::Base(located) => with_causes(&located.error),
        BuildError::Parse(_) | BuildError::Plan(_) => error.to_string(),
        other => with_causes(other),
    };
    let mut out = String::new();
    match error.diagnostic() {
        Some((mut diagnostic, file, text)) => {
            diagnostic.message = message;
            out += &render(&diagnostic, file, text);
        }
        None => {
            let _ = writeln!(out, "error: {}", one_line(&message));
            if let Some(hint) = error.hint() {
                let _ = writeln!(out, "hint: {}", one_line(&hint));
            }
        }
    }
    if let Some((name, tail)) = error.failed_step() {
        let name = one_line(name);
        let _ = match tail.is_empty() {
            true => writeln!(out, "the step was {name}"),
            false => writeln!(out, "the last lines of {name}:"),
        };
        for line in tail {
            let _ = writeln!(out, "  {}", visible(line.as_bytes()));
        }
    }
    out
}

/// The text of an error and of all that caused it; a cause that the text holds already is not said again.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

/// Colours the first word, the place, the mark and the hint.
fn paint(text: &str) -> String {
    const RED: &str = "\x1b[1;31m";
    const BLUE: &str = "\x1b[34m";
    const CYAN: &str = "\x1b[36m";
    const END: &str = "\x1b[0m";
    let mut out = String::new();
    let mut head = true;
    for line in text.lines() {
        let blank = line.trim_start();
        let mark = blank.strip_prefix("| ").map(str::trim_start);
        if let Some(rest) = line.strip_prefix("error:").filter(|_| head) {
            let _ = writeln!(out, "{RED}error:{END}{rest}");
        } else if let Some(rest) = line.strip_prefix("hint:") {
            let _ = writeln!(out, "{CYAN}hint:{END}{rest}");
        } else if blank.starts_with("--> ") {
            let _ = writeln!(out, "{BLUE}{line}{END}");
        } else if mark.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte == b'^')) {
            let _ = writeln!(out, "{RED}{line}{END}");
        } else {
            let _ = writeln!(out, "{line}");
        }
        head = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_frame_the_text() {
        let text = "error: no\n --> f:1\n1 | RUN\n  | ^^^\nhint: yes\n  | ^ x\n";
        let painted = paint(text);
        assert_eq!(painted.matches("\x1b[0m").count(), 4);
        let mut plain = painted;
        for code in ["\x1b[1;31m", "\x1b[34m", "\x1b[36m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, text);
    }
}
