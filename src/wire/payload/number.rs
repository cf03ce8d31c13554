//! Integers of any size between decimal digits and bytes, bounded so that no input is slow.

/// The longest integer that is converted: 1,024 bits, as far as doubles reach.
pub(super) const MAX_BYTES: usize = 128;
/// Digits of the longest integer that is converted.
const MAX_DIGITS: usize = 308;
/// Decimal digits that are converted at a time.
const GROUP: usize = 9;

/// Decimal digits of the integer whose big-endian magnitude is `bytes`, or of -1 - that; `None` if it is too long.
pub(super) fn to_digits(negative: bool, bytes: &[u8]) -> Option<String> {
    let bytes = without_zeros(bytes);
    if bytes.len() > MAX_BYTES {
        return None;
    }
    // Groups of nine digits, the least significant first.
    let mut groups: Vec<u32> = vec![0];
    bytes.iter().for_each(|byte| multiply_add(&mut groups, 256, u32::from(*byte)));
    // -1 - n is -(n + 1).
    multiply_add(&mut groups, 1, u32::from(negative));
    let mut digits = String::from(if negative { "-" } else { "" });
    let mut groups = groups.iter().rev();
    digits.push_str(&groups.next().copied().unwrap_or(0).to_string());
    groups.for_each(|group| digits.push_str(&format!("{group:09}")));
    Some(digits)
}

/// Multiplies a number of groups by `factor` and adds `carry`.
fn multiply_add(groups: &mut Vec<u32>, factor: u64, carry: u32) {
    let mut carry = u64::from(carry);
    for group in groups.iter_mut() {
        let product = u64::from(*group) * factor + carry;
        *group = u32::try_from(product % 1_000_000_000).unwrap_or(0);
        carry = product / 1_000_000_000;
    }
    if carry > 0 {
        groups.push(u32::try_from(carry).unwrap_or(0));
    }
}

/// The integer that `text` spells in decimal digits, as (negative, magnitude as big-endian bytes); a negative magnitude n stands
/// for -1 - n. `None` if it is too long, zero, or no integer.
pub(super) fn from_digits(text: &str) -> Option<(bool, Vec<u8>)> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new();
    for group in digits.as_bytes().chunks(GROUP) {
        let value = group.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let factor = 10_u64.pow(u32::try_from(group.len()).unwrap_or(0));
        bytes_multiply_add(&mut bytes, factor, value);
    }
    let negative = digits.len() < text.len();
    if bytes.is_empty() {
        return None;
    }
    if negative {
        bytes_subtract_one(&mut bytes);
    }
    bytes.reverse();
    Some((negative, without_zeros(&bytes).to_vec()))
}

/// The same with little-endian bytes.
fn bytes_multiply_add(bytes: &mut Vec<u8>, factor: u64, carry: u64) {
    let mut carry = carry;
    for byte in bytes.iter_mut() {
        let product = u64::from(*byte) * factor + carry;
        *byte = (product & 0xFF) as u8;
        carry = product >> 8;
    }
    while carry > 0 {
        bytes.push((carry & 0xFF) as u8);
        carry >>= 8;
    }
}

/// Takes one from a number above zero.
fn bytes_subtract_one(bytes: &mut [u8]) {
    for byte in bytes {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            return;
        }
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// The same number in 64 bits, if it fits.
pub(super) fn to_u64(bytes: &[u8]) -> Option<u64> {
    let bytes = without_zeros(bytes);
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::wamp::token::to_f64;

    #[test]
    fn digits_and_bytes_are_the_same_number() {
        for (digits, negative, bytes) in [
            ("1", false, &[1][..]),
            ("256", false, &[1, 0]),
            ("1000000000", false, &[0x3B, 0x9A, 0xCA, 0x00]),
            ("18446744073709551616", false, &[1, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("-1", true, &[]),
            ("-2", true, &[1]),
            ("-256", true, &[255]),
            ("-18446744073709551617", true, &[1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(from_digits(digits), Some((negative, bytes.to_vec())), "{digits}");
            assert_eq!(to_digits(negative, bytes).as_deref(), Some(digits));
        }
        assert_eq!(to_digits(false, &[]).as_deref(), Some("0"));
        assert_eq!(to_digits(false, &[0, 0, 7]).as_deref(), Some("7"));
        assert_eq!(to_digits(true, &[0]).as_deref(), Some("-1"));
    }

    #[test]
    fn what_is_too_long_is_left() {
        assert_eq!(to_digits(false, &[1; MAX_BYTES + 1]), None);
        assert_eq!(to_digits(false, &[255; MAX_BYTES]).map(|digits| digits.len()), Some(309));
        assert_eq!(from_digits(&"9".repeat(309)), None);
        let (_, bytes) = from_digits(&"9".repeat(308)).unwrap();
        assert_eq!(to_digits(false, &bytes), Some("9".repeat(308)));
        for text in ["", "-", "0", "-0", "1.0", "1e5"] {
            assert_eq!(from_digits(text), None, "{text}");
        }
    }

    #[test]
    fn doubles_are_finite() {
        assert_eq!(to_f64("-0").map(f64::to_bits), Some((-0.0_f64).to_bits()));
        assert_eq!((to_f64("1e308"), to_f64("1e400")), (Some(1e308), None));
        assert_eq!((to_u64(&[0, 1, 0]), to_u64(&[1; 9])), (Some(256), None));
    }
}
