//! May they: grants, quotas.
