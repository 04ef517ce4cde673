//! What of a caller's text is told back: enough to know it by.

/// How much of a value that cannot be read is told back, bytes.
const TOLD_BYTES_MAX: usize = 300;

/// What of a caller's text is told back.
pub fn cut(text: &str) -> String {
    let end = (0..=text.len().min(TOLD_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}
