//! A gauge of a sidecar, as it shows it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context;

/// How long a sidecar may take to show its metrics.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The value of the gauge `name`, which has no labels.
pub fn gauge(http: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {http}\r\n\r\n").as_bytes())?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    value(&page, name).with_context(|| format!("the sidecar shows no {name}"))
}

fn value(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_is_read_and_no_other_that_begins_likewise() {
        let page = "# TYPE live gauge\nlive_more 3\nlive 2\n";
        assert_eq!(value(page, "live"), Some(2.0));
        assert_eq!(value(page, "none"), None);
    }
}
