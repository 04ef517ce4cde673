//! Permissions of a file, in octal as people write them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Permissions of a file: nine bits, written in octal (`0660`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileMode(pub u32);

impl TryFrom<String> for FileMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err(format!("{text:?} is not up to 777 in octal")),
        }
    }
}

impl From<FileMode> for String {
    fn from(mode: FileMode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_written_as_chmod_has_them() {
        for text in ["0660", "660", "0o660"] {
            assert_eq!(FileMode::try_from(text.to_owned()), Ok(FileMode(0o660)));
        }
        assert_eq!(FileMode(0o660).to_string(), "0660");
        for text in ["1777", "rw", "", "-1", "689"] {
            assert!(FileMode::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
