//! Schedule IDs in paths and answers: as they are if they are text, else `~` and URL-safe base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::ApiError;

const BASE64: char = '~';

/// How an ID is written.
pub(super) fn to_text(id: &[u8]) -> String {
    match std::str::from_utf8(id) {
        Ok(text) if !text.is_empty() && !text.starts_with(BASE64) => text.to_owned(),
        _ => format!("{BASE64}{}", URL_SAFE_NO_PAD.encode(id)),
    }
}

/// The ID that is written so.
pub(super) fn parse(text: &str) -> Result<Vec<u8>, ApiError> {
    let Some(base64) = text.strip_prefix(BASE64) else { return Ok(text.as_bytes().to_vec()) };
    URL_SAFE_NO_PAD.decode(base64.trim_end_matches('=')).map_err(|error| {
        ApiError::bad_request(
            "invalid_id",
            format!("what follows ~ in the ID is no URL-safe base64: {error}"),
        )
        .hint("an ID that begins with ~ itself is written in base64, too")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_id_is_written_and_read() {
        for id in [&b"order-17"[..], b"", b"~x", b"\xff\x00", "\u{e9}<script>".as_bytes(), b"a/b?c"] {
            assert_eq!(parse(&to_text(id)).unwrap(), id);
        }
        assert_eq!(to_text(b"order-17"), "order-17");
        assert_eq!(to_text(b"\xff"), "~_w");
        assert_eq!(parse("~_w==").unwrap(), b"\xff");
        parse("~*").unwrap_err();
    }
}
