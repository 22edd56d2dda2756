//! What is questionable in the file, told as it is built.

use std::collections::BTreeMap;

use super::base_images::info;
use super::check::RemarksError;
use super::error::{BuildError, ChecksError, located};
use super::request::Build;
use crate::dockerfile;
use crate::plan::Base;
use crate::progress::{Event, EventSink};
use crate::registry::Resolved;

impl Build {
    /// Tells what is questionable in the file.
    pub(super) fn remark(
        &self,
        file: &str,
        text: &str,
        bases: &BTreeMap<Base, Resolved>,
        events: &dyn EventSink,
    ) -> Result<(), BuildError> {
        let Ok(ast) = dockerfile::parse(text) else {
            return Ok(());
        };
        let bases = bases.iter();
        let known = bases.map(|(base, found)| (base.clone(), info(base, found)));
        let fail = |error, span, hint| {
            let mut located = located(error, file, text, Some(span));
            located.hint = hint;
            Err(BuildError::Checks(Box::new(located)))
        };
        let (findings, fails) = match self.remarks(&ast, text, &known.collect()) {
            Ok(remarks) => remarks,
            Err(RemarksError::Context(error)) => return Err(error.into()),
            Err(RemarksError::Settings(diagnostic)) => {
                let message = diagnostic.message;
                let error = ChecksError::Settings { message };
                return fail(error, diagnostic.span, diagnostic.hint);
            }
        };
        for finding in &findings {
            let diagnostic = &finding.diagnostic;
            let (line, _) = dockerfile::diagnostic::line_column(text, diagnostic.span.start);
            events.emit(Event::Warning {
                vertex: None,
                line: Some(line),
                message: format!(
                    "{}: {}",
                    diagnostic.code.unwrap_or_default(),
                    diagnostic.message
                ),
            });
        }
        match findings.first() {
            Some(first) if fails => {
                let count = findings.len();
                fail(ChecksError::Remarks { count }, first.diagnostic.span, None)
            }
            _ => Ok(()),
        }
    }
}
