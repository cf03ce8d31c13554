//! Raw bytes as text: `10 [ s'MQTT' 05 02 0000 [ ] s'me' ]`.
//!
//! Hex in pairs, as many as one likes together, or `'text'`; `s'text'` has its length in two bytes before it. `[ … ]` has the
//! length of its content as a variable byte integer before it. `X*N` repeats; in texts there are `\xHH` and `\'`.

/// The words of a line: quoted texts are one word, with their quotes.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_escaped) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' if !is_escaped => (is_quoted, _) = (!is_quoted, word.push(c)),
            c if c.is_whitespace() && !is_quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    assert!(!is_quoted, "a quote is open: {line}");
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The bytes that these words mean.
pub fn encode(words: &[String]) -> Vec<u8> {
    let mut open = vec![Vec::new()];
    for word in words {
        match word.as_str() {
            "[" => open.push(Vec::new()),
            "]" => {
                let inner = open.pop().unwrap();
                let outer = open.last_mut().expect("as many [ as ]");
                outer.extend(variable(inner.len() as u32));
                outer.extend(inner);
            }
            word => open.last_mut().unwrap().extend(encode_word(word)),
        }
    }
    assert_eq!(open.len(), 1, "as many ] as [");
    open.pop().unwrap()
}

fn encode_word(word: &str) -> Vec<u8> {
    if let Some((word, times)) = word.rsplit_once('*')
        && let Ok(times) = times.parse()
    {
        return encode_word(word).repeat(times);
    }
    if let Some(text) = word.strip_prefix("s'") {
        return text_with_length(&unquote(&format!("'{text}")));
    }
    if word.starts_with('\'') {
        return unquote(word);
    }
    from_hex(word).unwrap_or_else(|| panic!("neither hex nor text: {word}"))
}

/// The bytes of an even number of hex digits.
pub fn from_hex(word: &str) -> Option<Vec<u8>> {
    let is_hex = !word.is_empty() && word.len().is_multiple_of(2) && word.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap()).collect())
}

/// The bytes of a text that may stand in quotes.
pub fn unquote(word: &str) -> Vec<u8> {
    let word = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')).unwrap_or(word);
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        rest = match escape.strip_prefix('x') {
            Some(hex) => {
                bytes.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                &hex[2..]
            }
            None => {
                bytes.push(escape.as_bytes()[0]);
                &escape[1..]
            }
        };
    }
    bytes.extend(rest.as_bytes());
    bytes
}

/// The text that `unquote` reads back, in quotes where it needs them.
pub fn quote(bytes: &[u8]) -> String {
    let plain = |c: char| !c.is_control() && !matches!(c, '\'' | '\\' | '\u{FFFD}');
    let text: String =
        match std::str::from_utf8(bytes) {
            Ok(text) if text.chars().all(plain) => text.to_owned(),
            _ => bytes
                .iter()
                .map(|b| {
                    if (0x20..0x7F).contains(b) && !b"'\\".contains(b) {
                        char::from(*b).to_string()
                    } else {
                        format!("\\x{b:02X}")
                    }
                })
                .collect(),
        };
    let is_bare = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.~+#$:".contains(c));
    if is_bare { text } else { format!("'{text}'") }
}

/// A text or binary field: its length in two bytes, then itself.
pub fn text_with_length(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

/// A variable byte integer (1.5.5).
pub fn variable(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}

#[test]
fn raw_bytes_are_read() {
    let encode = |text| encode(&words(text));
    assert_eq!(encode("10 [ s'MQTT' 05 02 0000 [ ] s'a b' ]"), b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x03a b");
    assert_eq!(encode("2F*3 'a\\x00\\''"), b"///a\x00'");
    assert_eq!(variable(321), [0xC1, 0x02]);
    assert_eq!(unquote(&quote(b"a 'b'\\\x00\xFF")), b"a 'b'\\\x00\xFF");
}
