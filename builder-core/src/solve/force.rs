//! Which steps run although their results are known.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::dockerfile::diagnostic::line_column;
use crate::plan::{Input, Op, Plan};

/// What the cache is not asked for. A step that runs all the same and makes the same tree leaves its children cached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoCache {
    /// Every step; earlier layers of the same content are not kept either.
    pub all: bool,
    /// Names or numbers of stages.
    pub stages: Vec<String>,
    /// Lines of the Dockerfile, 1-based.
    pub lines: Vec<RangeInclusive<u32>>,
}

/// Vertices that must run, and what of the request meets none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forced {
    pub vertices: BTreeSet<Input>,
    pub unmet: Vec<String>,
}

/// Finds the steps that `no_cache` means; `text` is the Dockerfile.
pub fn forced(plan: &Plan, text: &str, no_cache: &NoCache) -> Forced {
    let NoCache { all, stages, lines } = no_cache;
    let mut forced = Forced::default();
    let steps: Vec<Input> = (0..plan.vertices.len())
        .filter(|&at| !matches!(plan.vertices[at].op, Op::Image(_) | Op::Context { .. }))
        .collect();
    let mut take = |what: String, is_meant: &dyn Fn(Input) -> bool| {
        let met: Vec<Input> = steps.iter().copied().filter(|&at| is_meant(at)).collect();
        if met.is_empty() && !*all {
            forced.unmet.push(what);
        }
        forced.vertices.extend(met);
    };
    for stage in stages {
        // One without a name is called by its number.
        let number = format!("stage-{stage}");
        take(format!("stage `{stage}`"), &|at| {
            let name = &plan.vertices[at].stage;
            name.eq_ignore_ascii_case(stage) || *name == number
        });
    }
    for range in lines {
        let (first, last) = (range.start(), range.end());
        let what = match first == last {
            true => format!("line {first}"),
            false => format!("lines {first}-{last}"),
        };
        take(what, &|at| {
            let vertex = &plan.vertices[at];
            let Some(start) = vertex.line else {
                return false;
            };
            // An instruction may go on over several lines.
            let end = vertex.span.map(|span| span.end.min(text.len()));
            let end = end.filter(|end| text.is_char_boundary(*end));
            let end = end.map_or(start, |end| {
                let end = text[..end].trim_end().len();
                line_column(text, end).0
            });
            start <= *last && *first <= end.max(start)
        });
    }
    if *all {
        forced.vertices.extend(steps);
    }
    forced
}
