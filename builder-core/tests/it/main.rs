//! Tests of the library from outside, in one binary.

mod check_cases;
mod check_rows;
mod conformance;
mod cross_checks;
mod dockerfile_cases;
mod dockerfile_properties;
mod embedding;
mod layers;
mod meaning;
mod oci_rules;
mod plan_cases;
mod registry;
