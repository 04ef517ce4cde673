//! A sidecar's page of metrics, and what is on it.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};

const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The body of what is answered to a GET.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    // 1.0: the body ends with the connection, and does not come in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("GET {path} of {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        bail!("GET {path} of {address} is answered {head}: {body}");
    }
    Ok(body.to_owned())
}

/// The names of all series, labels included.
pub fn series(page: &str) -> BTreeSet<&str> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_with_a_space_is_part_of_its_series() {
        let page = "# HELP a A.\na{why=\"b c\"} 1\na{why=\"d\"} 2\n\nb 3\n";
        assert_eq!(Vec::from_iter(series(page)), ["a{why=\"b c\"}", "a{why=\"d\"}", "b"]);
    }
}
