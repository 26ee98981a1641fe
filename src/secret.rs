//! Credentials: read from where they are kept, never shown.

use std::fmt;

use zeroize::Zeroizing;

/// A credential. Prints as `***`; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Reads the value of a setting: a literal, `env:NAME`, or `file:/path`. The error names what
    /// could not be read, never a value.
    pub fn resolve(written: &str) -> Result<Secret, String> {
        let value = if let Some(name) = written.strip_prefix("env:") {
            std::env::var(name)
                .map_err(|_| format!("the server's environment has no variable {name}"))?
        } else if let Some(path) = written.strip_prefix("file:") {
            std::fs::read_to_string(path).map_err(|why| format!("cannot read {path}: {why}"))?
        } else {
            written.to_owned()
        };
        Ok(Secret(Zeroizing::new(value.trim().to_owned())))
    }

    /// Returns whether a setting names the place of the secret instead of containing it.
    pub fn is_reference(written: &str) -> bool {
        written.starts_with("env:") || written.starts_with("file:")
    }

    /// Returns a secret that does not come from a setting.
    pub fn of(value: String) -> Secret {
        Secret(Zeroizing::new(value))
    }

    /// Returns the value, for the code that builds a request or checks a signature.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
