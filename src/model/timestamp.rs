//! Times as text (RFC 3339) and as milliseconds since the Unix epoch.

const DAY_MS: u64 = 86_400_000;

/// A time as it was written: whole milliseconds since the Unix epoch, and whether something was left over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamp {
    /// Rounded down.
    pub ms: u64,
    /// The time is a fraction of a millisecond later.
    pub has_rest: bool,
}

impl Timestamp {
    /// Reads `2025-01-31T23:59:59.5Z` and what else RFC 3339 allows; nothing before 1970. A leap second counts as the second after.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let separators = [(4, &b"-"[..]), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")];
        if !text.is_ascii() || separators.iter().any(|(at, legal)| !bytes.get(*at).is_some_and(|byte| legal.contains(byte))) {
            return None;
        }
        let number = |from: usize, to: usize| digits(text.get(from..to)?);
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (fraction, offset) = split_fraction(text.get(19..)?)?;
        let (fraction_ms, has_rest) = fraction_ms(fraction);
        let seconds = (days_before(year, month) + day - 1) * 86_400 + hour * 3_600 + minute * 60 + second;
        let minutes = offset_minutes(offset)?;
        let ms = i64::try_from(seconds * 1_000 + fraction_ms).ok()? - minutes * 60_000;
        let ms = ms.checked_sub(i64::try_from(days_before(1970, 1) * DAY_MS).ok()?)?;
        Some(Timestamp { ms: u64::try_from(ms).ok()?, has_rest })
    }

    /// The first whole millisecond that is not before it.
    pub fn ceil_ms(self) -> u64 {
        self.ms + u64::from(self.has_rest)
    }
}

/// `ms` since the Unix epoch as `2025-01-31T23:59:59.500Z`.
pub fn format(ms: u64) -> String {
    let (mut days, rest) = (ms / DAY_MS + days_before(1970, 1), ms % DAY_MS);
    // A year too late at the most, after at most one step back.
    let mut year = days / 365;
    while days_before(year, 1) > days {
        year -= 1;
    }
    days -= days_before(year, 1);
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, ms) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z", days + 1)
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The text behind the seconds as two parts: digits of a fraction, and the offset.
fn split_fraction(rest: &str) -> Option<(&str, &str)> {
    let Some(behind) = rest.strip_prefix('.') else { return Some(("", rest)) };
    let end = behind.bytes().position(|byte| !byte.is_ascii_digit())?;
    if end == 0 { None } else { behind.split_at_checked(end) }
}

fn fraction_ms(fraction: &str) -> (u64, bool) {
    let digit = |at: usize| fraction.as_bytes().get(at).map_or(0, |byte| u64::from(byte - b'0'));
    let ms = digit(0) * 100 + digit(1) * 10 + digit(2);
    (ms, fraction.bytes().skip(3).any(|byte| byte != b'0'))
}

/// Minutes by which local time is ahead.
fn offset_minutes(offset: &str) -> Option<i64> {
    if matches!(offset, "Z" | "z") {
        return Some(0);
    }
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    Some(sign * i64::try_from(hours * 60 + minutes).ok()?)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the first day of the year 0 of the Gregorian calendar to the first of this month.
fn days_before(year: u64, month: u64) -> u64 {
    let leaps = year.div_ceil(4) + year.div_ceil(400) - year.div_ceil(100);
    year * 365 + leaps + (1..month).map(|month| days_of(year, month)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_has_them() {
        for (text, ms, has_rest) in [
            ("1970-01-01T00:00:00Z", 0, false),
            ("1985-04-12T23:20:50.52Z", 482_196_050_520, false),
            ("1996-12-19T16:39:57-08:00", 851_042_397_000, false),
            ("1990-12-31T23:59:60Z", 662_688_000_000, false),
            ("1937-01-01T12:00:27.87+00:20", 0, false),
            ("2000-02-29t00:00:00.0001z", 951_782_400_000, true),
            ("2024-02-29 12:00:00.1239000+23:59", 1_709_121_660_123, true),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000, false),
        ] {
            let expected = Timestamp { ms, has_rest };
            // RFC 3339 has times before 1970; history has not.
            let parsed = Timestamp::parse(text);
            assert_eq!(parsed, (!text.starts_with("1937")).then_some(expected), "{text}");
        }
        for text in [
            "",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+24:00",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Zx",
            "\u{e9}024-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(format(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(format(482_196_050_520), "1985-04-12T23:20:50.520Z");
        let mut ms = 0;
        while ms < 200 * 366 * DAY_MS {
            assert_eq!(Timestamp::parse(&format(ms)), Some(Timestamp { ms, has_rest: false }), "{ms}");
            ms += 7 * 3_600_001 + ms / 50;
        }
        for (ms, text) in [(1_704_067_199_999, "2023-12-31T23:59:59.999Z"), (1_735_603_200_000, "2024-12-31T00:00:00.000Z")] {
            assert_eq!(format(ms), text);
        }
    }
}
