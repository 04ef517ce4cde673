//! proto's JSON mapping of the messages: what pbjson generates, reading as widely as the mapping
//! asks.

use std::{error::Error, fs, path::Path};

/// Generated text, and what stands in its place: `null` is a field that is not given, and numbers
/// are read by `proto::json`.
const READ_WIDELY: [(&str, &str); 5] = [
    (
        "map_.next_value::<std::collections::BTreeMap<_, _>>()?",
        "map_.next_value::<Option<std::collections::BTreeMap<_, _>>>()?.unwrap_or_default()",
    ),
    ("Some(map_.next_value()?)", "map_.next_value::<Option<_>>()?"),
    (
        "Some(map_.next_value::<::pbjson::private::NumberDeserialize<_>>()?.0)",
        "map_.next_value::<Option<crate::proto::json::Number<_>>>()?.map(|x| x.0)",
    ),
    ("::pbjson::private::NumberDeserialize<", "crate::proto::json::Number<"),
    ("()? as i32)", ">()?.map(|x| x as i32)"),
];
/// How an enum's value is read: the type stands between this and `>()? as i32)`.
const ENUM: &str = "Some(map_.next_value::<";

/// Writes `tollgate.v1.serde.rs` to `out`.
pub fn generate(descriptors: &[u8], package: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    // An answer says all that it has to say, also `"allowed": false`.
    pbjson_build::Builder::new()
        .register_descriptors(descriptors)?
        .btree_map(["."])
        .emit_fields()
        .build(&[package])?;
    let path = out.join(format!("{}.serde.rs", package.trim_start_matches('.')));
    let mut code = fs::read_to_string(&path)?;
    for (generated, wider) in READ_WIDELY {
        // What is generated changes with pbjson's version.
        assert!(code.contains(generated), "pbjson no longer writes {generated}");
        code = code.replace(generated, wider);
    }
    code = code.replace(ENUM, "map_.next_value::<Option<");
    assert!(!code.contains("pbjson"), "pbjson writes something that is not told here");
    fs::write(&path, code)?;
    Ok(())
}
