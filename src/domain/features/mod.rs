//! Features as one tenant has them: which value, and why.
//!
//! The steps, the first that applies decides: an inactive subscription has nothing; a feature that
//! was withdrawn is gone for everyone; an override of the tenant that has not expired; a targeting
//! rule that fits the context; the plan, where it names the feature, on or off; the rollout; the
//! catalog's default.

pub mod access;
pub mod compiled;
pub mod feature_override;
pub mod offered;
pub mod query;
pub mod rollout;

#[cfg(test)]
mod tests;
