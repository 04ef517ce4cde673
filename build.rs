//! Compiles `proto/` with protox, so that no protoc has to be installed or downloaded.

use std::{env, fs, path::PathBuf};

use protox::prost::Message;

#[path = "build/calls.rs"]
mod calls;
#[path = "build/json.rs"]
mod json;
#[path = "build/tenants.rs"]
mod tenants;

/// What servers tell by reflection; the messages of a topic are imported by the service's file.
const PUBLIC_PROTO: [&str; 1] = ["proto/tollgate/v1/tollgate.proto"];
const INTERNAL_PROTO: [&str; 1] = ["proto/tollgate/journal/v1/journal.proto"];
/// Envoy's protocol, for reflection only: its messages are those of `envoy-types`, which has no
/// descriptors.
const ENVOY_PROTO: [&str; 1] = ["proto/envoy/service/ratelimit/v3/rls.proto"];
/// The package of the public API.
const PACKAGE: &str = ".tollgate.v1";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=migrations");
    let public = protox::compile(PUBLIC_PROTO, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = public.encode_to_vec();
    fs::write(out.join("tollgate_descriptor.bin"), &encoded)?;
    fs::write(out.join("calls.rs"), calls::generate(&public))?;
    fs::write(out.join("tenants.rs"), tenants::generate(&public))?;
    // Ordered maps, because the domain's properties are ordered. Calls that a service does not
    // offer answer UNIMPLEMENTED. Times are messages of our own, which know their JSON.
    tonic_prost_build::configure()
        .btree_map(".")
        .generate_default_stubs(true)
        .codec_path("crate::proto::codec::BoundedCodec")
        .extern_path(".google.protobuf.Timestamp", "crate::proto::time::Timestamp")
        .extern_path(".google.protobuf.Duration", "crate::proto::time::Duration")
        .compile_fds(public)?;
    json::generate(&encoded, PACKAGE, &out)?;
    let envoy = protox::compile(ENVOY_PROTO, ["proto"])?;
    fs::write(out.join("envoy_descriptor.bin"), envoy.encode_to_vec())?;
    let internal = protox::compile(INTERNAL_PROTO, ["proto"])?;
    tonic_prost_build::configure().btree_map(".").compile_fds(internal)?;
    Ok(())
}
