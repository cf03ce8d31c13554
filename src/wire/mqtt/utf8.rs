//! UTF-8 strings as MQTT wants them (1.5.4), checked eight bytes at a time.

use super::{Characters, Error};
use crate::model::text::is_unfit;

const fn spread(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Whether any byte of the word is 0.
const fn has_zero(word: u64) -> bool {
    word.wrapping_sub(spread(0x01)) & !word & spread(0x80) != 0
}

/// Whether any byte of the word is below 0x20.
const fn has_below_space(word: u64) -> bool {
    word.wrapping_sub(spread(0x20)) & !word & spread(0x80) != 0
}

/// Whether any word of `bytes` passes the test; the last one is filled up with `a`.
fn any_word(bytes: &[u8], test: impl Fn(u64) -> bool) -> bool {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut last = [b'a'; 8];
    for (slot, byte) in last.iter_mut().zip(tail) {
        *slot = *byte;
    }
    words.iter().any(|word| test(u64::from_ne_bytes(*word))) || test(u64::from_ne_bytes(last))
}

/// The bytes as a string [MQTT-1.5.4-1] without U+0000 [MQTT-1.5.4-2] and, where asked, without discouraged characters.
/// A byte order mark is a character like any other [MQTT-1.5.4-3].
pub(super) fn text(bytes: &[u8], characters: Characters) -> Result<&str, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Utf8)?;
    if any_word(bytes, has_zero) {
        return Err(Error::NullCharacter);
    }
    if characters == Characters::Strict && has_discouraged_character(text) {
        return Err(Error::DiscouragedCharacter);
    }
    Ok(text)
}

/// Whether the text holds a wildcard; `+` and `#` differ in one bit.
pub(super) fn has_wildcard(text: &str) -> bool {
    any_word(text.as_bytes(), |word| has_zero((word & spread(!0x08)) ^ spread(b'#')))
}

/// Whether the text holds a control character (U+0001 to U+001F, U+007F to U+009F) or a Unicode non-character,
/// which strings SHOULD NOT include (1.5.4).
#[must_use]
pub fn has_discouraged_character(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ascii_control = |word| has_below_space(word) || has_zero(word ^ spread(0x7F));
    if any_word(bytes, ascii_control) {
        return true;
    }
    !text.is_ascii() && text.chars().any(is_unfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_utf8_is_refused() {
        let cases: [&[u8]; 8] = [
            &[0xC0, 0x80],             // overlong NUL
            &[0xC1, 0xBF],             // overlong
            &[0xE0, 0x80, 0x80],       // overlong
            &[0xED, 0xA0, 0x80],       // U+D800 [MQTT-1.5.4-1]
            &[0xED, 0xBF, 0xBF],       // U+DFFF
            &[0xF4, 0x90, 0x80, 0x80], // above U+10FFFF
            &[0x80],
            &[0xE2, 0x82],
        ];
        for case in cases {
            assert_eq!(text(case, Characters::Any), Err(Error::Utf8), "{case:02X?}");
        }
    }

    #[test]
    fn null_is_found_at_every_position() {
        for length in 1..40 {
            for at in 0..length {
                let mut bytes = vec![b'x'; length];
                bytes[at] = 0;
                assert_eq!(text(&bytes, Characters::Any), Err(Error::NullCharacter));
            }
            assert!(text(&vec![b'x'; length], Characters::Strict).is_ok());
        }
    }

    #[test]
    fn wildcards_are_found_and_only_they() {
        for byte in 1..0x80u8 {
            for length in [1, 7, 8, 9, 16, 17] {
                let mut bytes = vec![b'x'; length];
                bytes[length - 1] = byte;
                let wild = has_wildcard(std::str::from_utf8(&bytes).unwrap());
                assert_eq!(wild, byte == b'+' || byte == b'#', "{byte:02X}");
            }
        }
        assert!(!has_wildcard("\u{2A6D4}\u{ABAB}\u{A3A3}"));
    }

    #[test]
    fn discouraged_characters_are_those_of_the_standard() {
        for code in 1..=0x10FFFFu32 {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            let expected = matches!(code, 1..=0x1F | 0x7F..=0x9F | 0xFDD0..=0xFDEF) || code & 0xFFFF >= 0xFFFE;
            assert_eq!(has_discouraged_character(&character.to_string()), expected, "{code:X}");
        }
    }

    #[test]
    fn byte_order_mark_is_kept() {
        // [MQTT-1.5.4-3]
        assert_eq!(text(b"\xEF\xBB\xBFx", Characters::Strict), Ok("\u{FEFF}x"));
    }
}
