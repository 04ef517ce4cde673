//! Settings: from a file, the environment and flags, checked as a whole before anything starts.
//!
//! Each part of the house owns a config struct; [`Settings`] puts them side by side, one section
//! each. Everything else is read off those structs: the names of environment variables and flags,
//! types, defaults, and the documentation. A later source wins: file, environment, flags. What no
//! setting is called is refused, wherever it was given.

pub mod args;
pub mod load;
pub mod reference;
pub mod settings;
pub mod show;

pub use args::SettingsArgs;
pub use settings::Settings;
