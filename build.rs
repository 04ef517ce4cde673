//! Compiles `proto/` with protox, so that no protoc has to be installed or downloaded.

use std::{env, fs, path::PathBuf};

use protox::prost::Message;

const PROTO_FILES: [&str; 2] =
    ["proto/tollgate/v1/tollgate.proto", "proto/tollgate/journal/v1/journal.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let descriptors = protox::compile(PROTO_FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("tollgate_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
