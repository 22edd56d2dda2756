//! Which input files a build has, and in which order.

pub mod ignore;
