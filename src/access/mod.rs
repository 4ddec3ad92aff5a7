//! May they: grants, quotas.

pub mod admission;
pub mod bucket;
pub mod quota;
