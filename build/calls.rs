//! A macro with every call of the service, for what has to be done for each of them.

use std::fmt::Write;

use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// The macro `calls`, which hands its argument, a macro, every call: unary ones, ones that answer
/// with a stream, and ones that also take a stream, each as
/// `Name method Request Response "/v1/path";`.
pub fn generate(files: &FileDescriptorSet) -> String {
    let services = files.file.iter().flat_map(|file| &file.service);
    let methods: Vec<_> = services.flat_map(|service| &service.method).collect();
    let of_kind = |takes_stream, answers_stream| {
        let of_kind = methods.iter().filter(move |method| {
            (method.client_streaming(), method.server_streaming()) == (takes_stream, answers_stream)
        });
        of_kind.map(|method| line(method)).collect::<String>()
    };
    let (unary, answering) = (of_kind(false, false), of_kind(false, true));
    let (both, taking) = (of_kind(true, true), of_kind(true, false));
    assert!(taking.is_empty(), "no face knows calls that only take a stream: {taking}");
    let mut code = String::from("macro_rules! calls {\n    ($each:ident) => {\n        $each! {\n");
    for (kind, lines) in [("unary", unary), ("answers_stream", answering), ("streams", both)] {
        // Writing to a string cannot fail.
        let _ = write!(code, "            {kind} {{\n{lines}            }}\n");
    }
    code.push_str("        }\n    };\n}\npub(crate) use calls;\n");
    code
}

fn line(method: &MethodDescriptorProto) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let (request, response) = (last(method.input_type()), last(method.output_type()));
    let (name, function) = (method.name(), words(method.name(), '_'));
    let path = words(method.name(), '-');
    format!("                {name} {function} {request} {response} \"/v1/{path}\";\n")
}

/// `CheckQuota` as `check_quota`.
pub fn words(name: &str, separator: char) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push(separator);
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
