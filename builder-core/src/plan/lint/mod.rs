//! Checks that need ARG and ENV scopes, base images' configs or the ignore file, and those that no peer has.
//!
//! ```text
//! file, options, what is known of bases ──facts──▶ Facts ──one function a rule──▶ Finding
//! ```
//!
//! `facts` expands each word once, in the scope it stands in; rules only look. All stages are looked at, not just what
//! a target needs, as BuildKit does. Nothing is fetched: a base that is not in `known` has an environment that nobody
//! knows, and rules keep quiet where it matters.
//!
//! Not here: rules that need the file alone (`dockerfile::lint`).

mod commands;
mod facts;

mod apt_get_without_update;
mod copy_before_install;
mod copy_ignored_file;
mod from_platform_flag_const_disallowed;
mod invalid_default_arg_in_from;
mod json_args_recommended;
mod redundant_target_platform;
mod secret_in_layer;
mod secrets_used_in_arg_or_env;
mod undefined_arg_in_from;
mod undefined_var;
mod unpinned_base;
mod workdir_relative_path;

use std::collections::BTreeMap;

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::lint::{self, Finding, Rule};

use super::base::{Base, BaseInfo};
use super::options::PlanOptions;
use facts::Facts;

/// What checks may know besides the file.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub options: &'a PlanOptions,
    pub known: &'a BTreeMap<Base, BaseInfo>,
    /// Whether the ignore file leaves a path of the context out; none where there is no such file, or one with
    /// exceptions, about which nothing can be said without a look at the files.
    pub ignored: Option<&'a dyn Fn(&str) -> bool>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("options", self.options)
            .field("known", &self.known.keys())
            .finish_non_exhaustive()
    }
}

type Check = fn(&Facts<'_>, &mut Vec<Finding>);

const RULES: &[(&Rule, Check)] = &[
    (&undefined_arg_in_from::RULE, undefined_arg_in_from::check),
    (&undefined_var::RULE, undefined_var::check),
    (
        &invalid_default_arg_in_from::RULE,
        invalid_default_arg_in_from::check,
    ),
    (&json_args_recommended::RULE, json_args_recommended::check),
    (&workdir_relative_path::RULE, workdir_relative_path::check),
    (
        &redundant_target_platform::RULE,
        redundant_target_platform::check,
    ),
    (
        &secrets_used_in_arg_or_env::RULE,
        secrets_used_in_arg_or_env::check,
    ),
    (
        &from_platform_flag_const_disallowed::RULE,
        from_platform_flag_const_disallowed::check,
    ),
    (&copy_ignored_file::RULE, copy_ignored_file::check),
    // Ours: BuildKit has none of them.
    (&copy_before_install::RULE, copy_before_install::check),
    (&secret_in_layer::RULE, secret_in_layer::check),
    (&apt_get_without_update::RULE, apt_get_without_update::check),
    (&unpinned_base::RULE, unpinned_base::check),
];

/// All rules, those of `dockerfile::lint` first.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    let of_the_file = lint::RULES.iter().map(|(rule, _)| *rule);
    of_the_file.chain(RULES.iter().map(|(rule, _)| *rule))
}

/// All remarks on `file`, in the order of their places. `text` is what it was parsed from.
pub fn check(file: &Dockerfile, text: &str, surroundings: &Surroundings<'_>) -> Vec<Finding> {
    let mut out = lint::check(file, text);
    let facts = facts::find(file, text, surroundings);
    for (_, check) in RULES {
        check(&facts, &mut out);
    }
    lint::sort(&mut out);
    out
}
