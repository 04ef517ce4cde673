//! Compiles `proto/` with protox, so that no protoc has to be installed or downloaded.

use std::{env, fs, path::PathBuf};

use protox::prost::Message;

/// What servers tell by reflection; the messages of a topic are imported by the service's file.
const PUBLIC_PROTO: [&str; 1] = ["proto/tollgate/v1/tollgate.proto"];
const INTERNAL_PROTO: [&str; 1] = ["proto/tollgate/journal/v1/journal.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let public = protox::compile(PUBLIC_PROTO, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("tollgate_descriptor.bin"), public.encode_to_vec())?;
    // Ordered maps, because the domain's properties are ordered. Calls that a service does not
    // offer answer UNIMPLEMENTED.
    tonic_prost_build::configure()
        .btree_map(".")
        .generate_default_stubs(true)
        .compile_fds(public)?;
    let internal = protox::compile(INTERNAL_PROTO, ["proto"])?;
    tonic_prost_build::configure().btree_map(".").compile_fds(internal)?;
    Ok(())
}
