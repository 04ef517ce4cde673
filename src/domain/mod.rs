//! The field's words as types, with the rules that need no IO and no clock.

pub mod alerts;
pub mod amount;
pub mod catalog;
pub mod cell_key;
pub mod distinct;
pub mod emergency;
pub mod features;
pub mod grant;
pub mod ids;
pub mod invalid;
pub mod limit;
pub mod meter;
pub mod money;
pub mod period;
pub mod pool;
pub mod properties;
pub mod quota;
pub mod rate;
pub mod reservation;
pub mod share;
pub mod tenant;
pub mod token;
pub mod usage;
pub mod usage_status;
pub mod window;
