//! Where a sidecar listens, as the user writes it.

use std::{fmt, str::FromStr, time::Duration};

use tonic::transport::Endpoint;

const FORMS: &str = "give HOST:PORT, http://HOST:PORT or unix:///PATH";
/// How long a sidecar may take to take a connection.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);

/// A sidecar's address: `HOST:PORT`, `http://HOST:PORT` or `unix:///PATH`.
#[derive(Clone, Debug)]
pub struct SidecarAddress {
    text: String,
    endpoint: Endpoint,
}

impl SidecarAddress {
    /// How to connect to it; a call may take `call_wait_max`.
    pub fn endpoint(&self, call_wait_max: Duration) -> Endpoint {
        self.endpoint
            .clone()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_WAIT_MAX)
            .timeout(call_wait_max)
    }
}

impl FromStr for SidecarAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = match text.split_once("://") {
            Some(("http" | "unix", _)) => text.to_owned(),
            Some(("https", _)) => {
                return Err("sidecars do not speak TLS yet; give http://HOST:PORT on a network \
                            that you trust, or unix:///PATH"
                    .to_owned());
            }
            Some((scheme, _)) => return Err(format!("{scheme}:// is not spoken; {FORMS}")),
            None if text.starts_with("unix:") => text.to_owned(),
            None => format!("http://{text}"),
        };
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| FORMS.to_owned())?;
        let is_named = url.starts_with("unix:") || endpoint.uri().port_u16().is_some();
        if !is_named {
            return Err(format!("the port is missing; {FORMS}"));
        }
        Ok(Self { text: text.to_owned(), endpoint })
    }
}

impl fmt::Display for SidecarAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<SidecarAddress>().unwrap_err()
    }

    #[test]
    fn an_address_may_be_written_as_it_is_shown() {
        for text in ["127.0.0.1:7421", "localhost:7421", "http://[::1]:7421", "unix:///run/t.sock"]
        {
            let address: SidecarAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let address: SidecarAddress = "127.0.0.1:7421".parse().unwrap();
        assert_eq!(address.endpoint.uri(), "http://127.0.0.1:7421/");
    }

    #[test]
    fn what_would_be_spoken_in_plain_text_against_the_wish_is_refused() {
        assert!(refused("https://tollgate.example:7421").contains("TLS"));
    }

    #[test]
    fn what_names_no_sidecar_says_what_does() {
        for text in ["ftp://localhost:1", "localhost", "http://localhost", "a b:1", ""] {
            assert!(refused(text).contains("HOST:PORT"), "{text}");
        }
    }
}
