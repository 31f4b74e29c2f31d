//! Addresses that secrets may be sent to.

use std::net::IpAddr;

use super::{Error, Result};

/// Lets `https` pass, and `http` to this machine; `what` names the address in errors, which never show a password in it.
pub fn private(url: &str, what: &str) -> Result<()> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        _ if authority.contains('@') => {
            Err(Error::usage(format!("{what} holds a user or a password")).hint("Write it like https://HOST[:PORT]."))
        }
        "https" if !host.is_empty() => Ok(()),
        "http" if here => Ok(()),
        "http" => Err(Error::usage(format!("{what}, http://{authority}, is neither encrypted nor on this machine"))
            .hint("Use https.")),
        _ => Err(Error::usage(format!("{what} is no https URL")).hint("Write it like https://HOST[:PORT].")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_this_machine_only() {
        for fine in [
            "https://vpce-1.example",
            "http://127.0.0.1:5000",
            "http://localhost/x",
            "http://[::1]:1",
            "https://[fe80::1]/",
        ] {
            private(fine, "the address").expect(fine);
        }
        for wrong in [
            "http://169.254.1.1",
            "http://aws.example:80",
            "http://localhost.example",
            "ftp://localhost",
            "https://",
            "localhost",
            "http://localhost@aws.example",
            "https://user:hunter2@aws.example",
        ] {
            let error = private(wrong, "the address").expect_err(wrong);
            assert!(!error.chain().contains("hunter2"), "{}", error.chain());
        }
    }
}
