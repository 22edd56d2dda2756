//! COPY and ADD.

use crate::dockerfile::ast::Copy;
use crate::dockerfile::word::Lexer;
use crate::dockerfile::{Span, without_userinfo};

use super::super::error::{PlanError, PlanErrorKind};
use super::super::scope::{expand, expand_at};
use super::super::vertex::{CopyOp, CopySource, Input, Mode, Op, SourceTree};
use super::run::chomp;
use super::{Lowering, Site, State, clean};

impl Lowering<'_, '_> {
    pub(super) fn copy(
        &mut self,
        state: &mut State,
        site: &mut Site<'_>,
        copy: &Copy,
        is_add: bool,
    ) -> Result<(), PlanError> {
        let lexer = self.frame.lexer;
        let env = &state.env;
        let optional = |word: &Option<crate::dockerfile::Text>| {
            word.as_ref()
                .map(|word| expand(&lexer, word, env).map(|text| (text, word.span)))
                .transpose()
        };
        let chown = optional(&copy.chown)?.map(|(text, _)| text);
        // An empty mode is none, as with `--chmod=$MODE` where MODE is not set.
        let chmod = optional(&copy.chmod)?.filter(|(text, _)| !text.is_empty());
        let checksum = optional(&copy.checksum)?;
        let mut exclude = Vec::new();
        for word in &copy.exclude {
            exclude.push(expand(&lexer, word, env)?);
        }
        let dest = expand(&lexer, &copy.dest, env)?;
        let mut created_by = String::from(if is_add { "ADD" } else { "COPY" });
        if copy.parents {
            created_by.push_str(" --parents");
        }
        if let Some(chown) = &chown {
            created_by.push_str(&format!(" --chown={chown}"));
        }
        if let Some((chmod, _)) = &chmod {
            created_by.push_str(&format!(" --chmod={chmod}"));
        }
        let from = match &copy.from {
            Some(word) => self.source_tree(site, word)?,
            None => None,
        };
        let mut sources = Vec::new();
        for word in &copy.sources {
            let text = expand(&lexer, word, &state.env)?;
            created_by.push_str(&format!(" {}", without_userinfo(&text)));
            sources.push(self.source(copy, from, text, word.span, is_add)?);
        }
        for heredoc in &copy.heredocs {
            created_by.push_str(&format!(" <<{}", heredoc.name));
            let content = if heredoc.chomp {
                chomp(&heredoc.content)
            } else {
                heredoc.content.clone()
            };
            let content = if heredoc.expand {
                let lexer = Lexer {
                    skip_process_quotes: true,
                    ..Lexer::new('\\')
                };
                expand_at(&lexer, &content, heredoc.span, &state.env)?
            } else {
                content
            };
            sources.push(CopySource::Inline {
                name: heredoc.name.clone(),
                content,
            });
        }
        created_by.push_str(&format!(" {dest} # buildkit"));
        let remote = sources
            .iter()
            .any(|it| matches!(it, CopySource::Url { .. } | CopySource::Git { .. }));
        if let Some((_, span)) = &checksum {
            let wrong = |reason| PlanError::new(PlanErrorKind::Checksum { reason }, *span);
            if sources.len() != 1 {
                return Err(wrong("--checksum can be given for one source only"));
            }
            if !remote {
                return Err(wrong("--checksum needs an HTTP(S) or git source"));
            }
        }
        let op = Op::Copy(CopyOp {
            parent: state.rootfs,
            sources,
            dest: destination(&state.config.config.working_dir, &dest),
            chown,
            chmod: chmod.map(|(text, span)| mode(text, span)).transpose()?,
            link: copy.link,
            parents: copy.parents,
            exclude,
            unpack: copy.unpack.unwrap_or(is_add && !remote),
            checksum: checksum.map(|(text, _)| text),
            keep_git_dir: copy.keep_git_dir.unwrap_or(false),
            is_add,
        });
        let vertex = self.push(state, site, op, "");
        state.layer(created_by, vertex);
        Ok(())
    }

    fn source(
        &mut self,
        copy: &Copy,
        from: Option<SourceTree>,
        text: String,
        span: Span,
        is_add: bool,
    ) -> Result<CopySource, PlanError> {
        let refuse = |what| {
            let instruction = "COPY";
            PlanError::new(PlanErrorKind::Source { what, instruction }, span)
                .hint("ADD takes URLs and git repositories")
        };
        if is_git(&text) {
            return if is_add {
                Ok(CopySource::Git { url: text, span })
            } else {
                Err(refuse("git repository"))
            };
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return if is_add {
                Ok(CopySource::Url { url: text, span })
            } else {
                Err(refuse("URL"))
            };
        }
        let from = match copy.from {
            Some(_) => from,
            None => Some(SourceTree {
                vertex: self.context(None),
            }),
        };
        Ok(CopySource::Tree {
            from,
            pattern: text,
            span,
        })
    }
}

/// Whether a source is a git repository rather than a URL or a path.
pub(in super::super) fn is_git(text: &str) -> bool {
    if text.starts_with("git://") || text.starts_with("ssh://") || text.starts_with("git@") {
        return true;
    }
    let Some((_, rest)) = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .map(|rest| ("", rest))
    else {
        return false;
    };
    let path = rest.split(['#', '?']).next().unwrap_or(rest);
    path.ends_with(".git")
}

/// Makes `dest` absolute; what says "a directory" (a slash or a dot at the end) stays visible as a slash.
fn destination(cwd: &str, dest: &str) -> String {
    let whole = if dest.starts_with('/') {
        clean(dest)
    } else {
        clean(&format!("{cwd}/{dest}"))
    };
    let directory = dest.is_empty() || dest == "." || dest.ends_with('/') || dest.ends_with("/.");
    if directory && whole != "/" {
        format!("{whole}/")
    } else {
        whole
    }
}

fn mode(text: String, span: Span) -> Result<Mode, PlanError> {
    let wrong = |text: String| PlanError::new(PlanErrorKind::Chmod { text }, span);
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match u32::from_str_radix(&text, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(Mode::Octal(bits)),
            _ => Err(wrong(text)),
        };
    }
    let symbolic = text.split(',').all(|clause| {
        let Some(at) = clause.find(['+', '-', '=']) else {
            return false;
        };
        let (who, what) = clause.split_at(at);
        who.bytes().all(|b| b"ugoa".contains(&b))
            && what.bytes().all(|b| b"+-=rwxXstugo".contains(&b))
    });
    if symbolic {
        Ok(Mode::Symbolic(text))
    } else {
        Err(wrong(text))
    }
}

/// Copies all of a context onto nothing.
pub(super) fn whole_tree(vertex: Input, span: Span) -> CopyOp {
    CopyOp {
        parent: None,
        sources: vec![CopySource::Tree {
            from: Some(SourceTree { vertex }),
            pattern: "/".to_owned(),
            span,
        }],
        dest: "/".to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        unpack: false,
        checksum: None,
        keep_git_dir: false,
        is_add: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (cwd, dest, expected) in [
            ("/app", "x", "/app/x"),
            ("/app", ".", "/app/"),
            ("/app", "./", "/app/"),
            ("/app", "", "/app/"),
            ("", ".", "/"),
            ("/app", "../x/", "/x/"),
            ("/app", "/a//b/.", "/a/b/"),
            ("/app", "/../../etc", "/etc"),
        ] {
            assert_eq!(destination(cwd, dest), expected, "{cwd} {dest}");
        }
    }

    #[test]
    fn modes() {
        for (text, ok) in [
            ("755", true),
            ("0644", true),
            ("7777", true),
            ("17777", false),
            ("789", false),
            ("u=rwX,go-w", true),
            ("+x", true),
            ("a+t", true),
            ("rwx", false),
            ("z+x", false),
            ("", false),
        ] {
            let text = text.to_owned();
            assert_eq!(mode(text.clone(), Span::default()).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn git_sources() {
        for (text, git) in [
            ("https://github.com/a/b.git", true),
            ("https://github.com/a/b.git#main:sub", true),
            ("https://example.com/a.tar.gz", false),
            ("git@github.com:a/b", true),
            ("a.git", false),
        ] {
            assert_eq!(is_git(text), git, "{text}");
        }
    }
}
