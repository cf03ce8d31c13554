//! Finds the known key that somebody most likely meant.

/// Advice on an unknown `key`: write the most similar of `known`, or choose among all of them.
pub(super) fn advice(key: &str, known: &[&str]) -> String {
    suggestion(key, known).unwrap_or_else(|| format!("known here: {}", known.join(", ")))
}

/// `did you mean …?` with the most similar of `known`, if one is similar.
pub(super) fn suggestion(key: &str, known: &[&str]) -> Option<String> {
    nearest(key, known).map(|name| format!("did you mean `{name}`?"))
}

/// The most similar of `known`, if so few letters lead to it, and most of it stands already.
pub(super) fn within<'a>(key: &str, known: &[&'a str], most: usize) -> Option<&'a str> {
    let similar = known.iter().map(|name| (distance(&key.to_lowercase(), &name.to_lowercase()), *name));
    let is_near = |distance: usize, name: &str| distance <= most && distance * 2 < name.chars().count();
    similar.filter(|(distance, name)| is_near(*distance, name)).min().map(|(_, name)| name)
}

/// The most similar name, if at least half of it stands already.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (distance(&key.to_lowercase(), &name.to_lowercase()), name.chars().count().max(key.chars().count()), *name))
        .filter(|(distance, length, _)| distance * 2 <= *length)
        .min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))
        .map(|(_, _, name)| name)
}

/// Insertions, deletions and replacements that lead from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (to, cell) in b.chars().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            *cell = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            diagonal = above;
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("log", "log", 0)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn names_what_was_meant() {
        let known = ["listeners", "realms", "default_realm", "log", "limits"];
        for (key, expected) in
            [("lisen", "listeners"), ("listener", "listeners"), ("realm", "realms"), ("LOG", "log"), ("limit", "limits")]
        {
            assert_eq!(nearest(key, &known), Some(expected), "{key}");
        }
        assert_eq!(nearest("xyzzy", &known), None);
        assert_eq!(within("LOGG", &known, 2), Some("log"));
        assert_eq!(within("foo", &known, 2), None);
        assert_eq!(advice("xyzzy", &["a", "b"]), "known here: a, b");
        assert_eq!(advice("logg", &known), "did you mean `log`?");
    }
}
