//! Amounts as people write them: sizes in their largest unit, counts with their noun.

/// Bytes in the largest unit that leaves a number from 1 on, to a tenth, cut off: there are never more than it says.
pub fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((shift, unit)) = units.into_iter().find(|(shift, _)| bytes >> shift > 0) else { return counted(bytes, "byte") };
    let (whole, rest) = (bytes >> shift, bytes & ((1 << shift) - 1));
    match (rest * 10) >> shift {
        0 => format!("{whole} {unit}"),
        tenth => format!("{whole}.{tenth} {unit}"),
    }
}

/// A count with its noun, thousands apart: `4,711 events`.
pub fn counted(count: u64, what: &str) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1_023, "1,023 bytes"),
            (1_024, "1 KiB"),
            (80 << 20, "80 MiB"),
            ((80 << 20) - 1, "79.9 MiB"),
            (3 << 29, "1.5 GiB"),
            (5_000 << 30, "5000 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        for (count, expected) in [(0, "0 events"), (1, "1 event"), (999, "999 events"), (4_711, "4,711 events")] {
            assert_eq!(counted(count, "event"), expected);
        }
        assert_eq!(counted(1_234_567, "event"), "1,234,567 events");
    }
}
