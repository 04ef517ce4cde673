//! Generated messages: the public API and the journal's records.
//!
//! Nothing but plain data lives here, and how it is read and written; what a message means is said
//! in `proto/`.

pub mod borrowed;
pub mod codec;
pub mod fields;
pub mod json;
pub mod time;
pub mod wire;

#[allow(clippy::all, missing_docs)]
pub mod v1 {
    tonic::include_proto!("tollgate.v1");
    // proto's own JSON mapping (`build/json.rs`).
    include!(concat!(env!("OUT_DIR"), "/tollgate.v1.serde.rs"));
    include!(concat!(env!("OUT_DIR"), "/tenants.rs"));

    /// The encoded descriptors of the public API, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        tonic::include_file_descriptor_set!("tollgate_descriptor");
}

/// The encoded descriptors of what is spoken of Envoy's protocol, for server reflection.
pub const ENVOY_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("envoy_descriptor");

#[allow(clippy::all, missing_docs)]
pub mod journal {
    tonic::include_proto!("tollgate.journal.v1");
}

include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// A message that says whom it concerns; generated for every request (`build/tenants.rs`).
pub trait NamesTenants {
    /// A tenant that is named and is not `tenant`, if there is one.
    fn other_than(&self, tenant: &str) -> Option<&str>;
}
