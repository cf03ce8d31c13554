//! Characters that no name may hold, as no MQTT client can be sent them, and how texts of clients are shown to people.

/// Longest part of a client's text that is shown, in characters (LIMITS.md).
const MAX_SHOWN: usize = 128;

/// True for U+0000 to U+001F, U+007F to U+009F and the non-characters of Unicode. MQTT strings must not hold the first of them
/// [MQTT-1.5.4-2] and should not hold the others (1.5.4): libmosquitto ends a connection that brings one.
pub fn is_unfit(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// The first such character of a text.
pub fn unfit_in(text: &str) -> Option<char> {
    if text.bytes().all(|byte| (b' '..0x7F).contains(&byte)) {
        return None;
    }
    text.chars().find(|character| is_unfit(*character))
}

/// A client's text as it may stand in a sentence: unfit characters escaped, cut at 128 characters.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(2 * MAX_SHOWN));
    for (number, character) in text.chars().enumerate() {
        match character {
            _ if number == MAX_SHOWN => {
                shown.push('…');
                break;
            }
            character if is_unfit(character) => shown.extend(character.escape_unicode()),
            character => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_fit_and_short() {
        assert_eq!(shown("demo.a\u{1}b\u{FFFF}ü"), "demo.a\\u{1}b\\u{ffff}ü");
        assert_eq!(shown(&"ü".repeat(128)), "ü".repeat(128));
        assert_eq!(shown(&"ü".repeat(100_000)), format!("{}…", "ü".repeat(128)));
        assert_eq!((unfit_in("a\tb\u{9F}"), unfit_in("a b\u{A0}")), (Some('\t'), None));
    }
}
