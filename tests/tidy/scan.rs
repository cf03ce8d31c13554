//! A small reader of Rust source: tells code from comments, strings and tests, without a parser.

use std::ops::Range;

/// The source with every comment, string and character literal blanked out; lines stay where they were.
pub fn code_of(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match literal_end(&chars, at) {
            Some(end) => end,
            None => {
                code.push(chars[at]);
                at += 1;
                continue;
            }
        };
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `None` if none starts there.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied().unwrap_or(' ');
    match chars[at] {
        '/' if next == '/' => Some(chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n)),
        '/' if next == '*' => Some(block_comment_end(chars, at)),
        '"' => Some(string_end(chars, at)),
        '\'' => char_end(chars, at),
        'r' if !is_word_before(chars, at) && matches!(next, '"' | '#') => raw_string_end(chars, at + 1),
        'b' if !is_word_before(chars, at) && next == 'r' => raw_string_end(chars, at + 2),
        _ => None,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_word_before(chars: &[char], at: usize) -> bool {
    // `br"…"`: the b belongs to the literal.
    let before = if at > 0 && chars[at - 1] == 'b' { at.checked_sub(2) } else { at.checked_sub(1) };
    before.is_some_and(|before| is_word(chars[before]))
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(chars: &[char], start: usize) -> Option<usize> {
    if chars.get(start + 1) == Some(&'\\') {
        let close = chars.get(start + 3..)?.iter().position(|c| *c == '\'')?;
        return Some(start + 3 + close + 1);
    }
    (chars.get(start + 2) == Some(&'\'')).then_some(start + 3)
}

/// The end of a raw string whose `#`s or quote stand at `at`; `None` for a raw identifier.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars.get(at..)?.iter().take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut end = at + hashes + 1;
    while end < chars.len() {
        let is_end = chars[end] == '"' && chars[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        end += 1;
        if is_end {
            return Some(end + hashes);
        }
    }
    Some(chars.len())
}

/// The paragraphs of the comments, each with the number of its first line; code in backticks is left out.
pub fn paragraphs(source: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut at, mut line): (Vec<(usize, String)>, _, _) = (Vec::new(), 0, 1);
    // The line and the marker of the comment line that a next one may continue.
    let mut before = (0, String::new());
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at + 1);
        if chars[at..].starts_with(&['/', '/']) {
            let comment: String = chars[at..end].iter().collect();
            let text = comment.trim_start_matches(['/', '!']);
            let marker = comment[..comment.len() - text.len()].to_owned();
            let text = text.trim();
            let is_whole_line = chars[..at].iter().rev().take_while(|c| **c != '\n').all(|c| c.is_whitespace());
            let goes_on = is_whole_line && before == (line - 1, marker.clone()) && !text.starts_with(['-', '*', '|', '#']);
            match found.last_mut().filter(|_| goes_on && !text.is_empty()) {
                Some((_, paragraph)) => *paragraph = format!("{paragraph} {text}"),
                None => found.push((line, text.to_owned())),
            }
            before = if is_whole_line && !text.is_empty() { (line, marker) } else { (0, String::new()) };
        }
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    let without_code = |text: &str| text.split('`').step_by(2).collect::<Vec<_>>().join("`");
    found.iter().map(|(line, text)| (*line, without_code(text))).collect()
}

/// Code without what is compiled for tests only: every item behind `#[cfg(test)]` blanked out.
pub fn production_of(code: &str) -> String {
    let mut production = code.to_owned();
    for item in tests_of(code) {
        let blank: String = production[item.clone()].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        production.replace_range(item, &blank);
    }
    production
}

/// Where the items behind `#[cfg(test)]` are, in order, from the mark to the end of the item.
fn tests_of(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(start) = code[from..].find(MARK).map(|at| from + at) {
        from = item_end(code, start + MARK.len());
        found.push(start..from);
    }
    found
}

/// The strings in `source` outside of tests, as they are written between their quotes, each with its line.
pub fn strings_of(source: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = source.chars().collect();
    // One byte for each character, so that places in it are places among the characters.
    let code: String = code_of(source).chars().map(|c| if c.is_ascii() { c } else { 'x' }).collect();
    let tests = tests_of(&code);
    let is_test = |at: usize| tests.iter().any(|item| item.contains(&at));
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at + 1).min(chars.len());
        let text: String = chars[at..end].iter().collect();
        let quoted = text.trim_start_matches(['b', 'r', '#']).strip_prefix('"');
        if let Some(quoted) = quoted.filter(|_| !is_test(at)) {
            found.push((line, quoted.trim_end_matches('#').trim_end_matches('"').to_owned()));
        }
        line += text.matches('\n').count();
        at = end;
    }
    found
}

/// Where the item that starts at `start` ends: behind its closing brace, or behind its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let open = code[start..].find(['{', ';']).map_or(code.len(), |n| start + n);
    if code[open..].starts_with('{') { block_end(code, open) } else { (open + 1).min(code.len()) }
}

/// Behind the brace that closes the one at `open`.
fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

/// The lines of `code` from its first to its last one that holds something, blank ones between them included.
pub fn line_count(code: &str) -> usize {
    code.trim_end().lines().count()
}

/// Every word of the code with the byte at which it starts.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + code[rest..].find(is_word)?;
        let length = code[start..].find(|c| !is_word(c)).unwrap_or(code.len() - start);
        rest = start + length;
        Some((start, &code[start..rest]))
    })
}

/// The line, counted from 1, of a byte of the code.
pub fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Items: where their name stands, what they are, and the name.
pub fn declarations(code: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    const KINDS: &[&str] = &["fn", "struct", "enum", "trait", "type", "mod", "const", "static", "union"];
    let (mut previous, mut end) = ("", 0);
    words(code).filter_map(move |(at, word)| {
        let kind = std::mem::replace(&mut previous, word);
        let gap = &code[std::mem::replace(&mut end, at + word.len())..at];
        (KINDS.contains(&kind) && !gap.is_empty() && gap.trim().is_empty()).then_some((at, kind, word))
    })
}

/// Every function with a body: the byte at which it starts, its name and how many lines it takes.
pub fn functions(code: &str) -> Vec<(usize, &str, usize)> {
    let mut functions = Vec::new();
    for (at, kind, name) in declarations(code) {
        if kind == "fn"
            && let Some(open) = body_start(code, at)
        {
            functions.push((at, name, code[at..block_end(code, open)].matches('\n').count() + 1));
        }
    }
    functions
}

/// The brace that opens the body of the function whose name stands at `at`; `None` for a signature alone.
fn body_start(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (n, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at + n),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Every floor that the code names as `crate::floor`, `crate::{floor, …}` or as `super::…::floor` from a module `depth`
/// levels below the crate, with the byte at which it is named.
pub fn floors_named(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let mut named = Vec::new();
    let mut climbed = 0;
    let mut end = 0;
    for (at, word) in words(code) {
        let is_path = code[end..at].trim() == "::";
        climbed = match word {
            "super" => {
                if is_path {
                    climbed + 1
                } else {
                    1
                }
            }
            _ => 0,
        };
        end = at + word.len();
        let is_root = word == "crate" || (word == "super" && climbed >= depth);
        let Some(rest) = code[end..].strip_prefix("::").filter(|_| is_root) else { continue };
        let start = code.len() - rest.len();
        if rest.starts_with('{') {
            named.extend(group_heads(&code[start..block_end(code, start)]).into_iter().map(|(n, word)| (start + n, word)));
        } else if let Some((n, word)) = words(rest).next().filter(|(_, word)| *word != "super") {
            named.push((start + n, word));
        }
    }
    named
}

/// Every path that begins with `crate` or `super`, group by group, with the byte at which it starts.
pub fn paths(code: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found = Vec::new();
    let mut end = 0;
    for (at, word) in words(code) {
        let is_start = at >= end && matches!(word, "crate" | "super") && !code[..at].trim_end().ends_with("::");
        if is_start {
            let (paths, behind) = path_at(code, at);
            end = behind;
            found.extend(paths.into_iter().map(|path| (at, path)));
        }
    }
    found
}

/// The paths that start at `at`, and where they end.
fn path_at(code: &str, at: usize) -> (Vec<Vec<&str>>, usize) {
    let mut path = Vec::new();
    let mut end = at;
    loop {
        if code[end..].starts_with('{') {
            let close = block_end(code, end);
            let (mut all, mut start) = (Vec::new(), end + 1);
            while start + 1 < close {
                let gap = code[start..close].find(|c: char| is_word(c)).map_or(close, |n| start + n);
                if gap >= close {
                    break;
                }
                let (members, behind) = path_at(code, gap);
                all.extend(members.into_iter().map(|member| [path.clone(), member].concat()));
                start = behind.max(gap + 1);
            }
            return (all, close);
        }
        let length = code[end..].find(|c| !is_word(c)).unwrap_or(code.len() - end);
        if length == 0 {
            return (vec![path], end);
        }
        path.push(&code[end..end + length]);
        end += length;
        match code[end..].strip_prefix("::") {
            Some(_) => end += 2,
            None => return (vec![path], end),
        }
    }
}

/// The text between the braces of a struct.
pub fn struct_body(code: &str, name: &str) -> Option<String> {
    let (at, ..) = declarations(code).find(|(_, kind, declared)| *kind == "struct" && *declared == name)?;
    let open = at + code[at..].find(['{', '(', ';'])?;
    let end = match code[open..].chars().next()? {
        '{' => block_end(code, open),
        _ => open + code[open..].find(';')?,
    };
    Some(code[open..end].to_owned())
}

/// True if nothing but `pub` and the keyword stands before this byte on its line.
pub fn is_at_line_start(code: &str, at: usize) -> bool {
    let start = code[..at].rfind('\n').map_or(0, |n| n + 1);
    !code[start..at].starts_with(' ')
}

/// The first word of each member of a `{…}` of a use declaration.
fn group_heads(group: &str) -> Vec<(usize, &str)> {
    let (mut depth, mut is_head, mut heads) = (0, false, Vec::new());
    let mut word_end = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => (depth, is_head) = (depth + 1, depth == 0),
            '}' => depth -= 1,
            ',' if depth == 1 => is_head = true,
            c if is_word(c) && is_head && at >= word_end => {
                let length = group[at..].find(|c| !is_word(c)).unwrap_or(group.len() - at);
                word_end = at + length;
                heads.push((at, &group[at..word_end]));
                is_head = false;
            }
            _ => {}
        }
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let source = "a // b\n/* c /* d */ e */ f \"g \\\" h\" i r#\"j \" k\"# 'l' '\\'' m<'n> b\"o\" '\\u{7f}' p";
        let words: Vec<_> = code_of(source).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["a", "f", "i", "m<'n>", "b", "p"]);
        assert_eq!(code_of(source).lines().count(), source.lines().count());
        assert_eq!(code_of("for r in x { r#try }"), "for r in x { r#try }");
    }

    #[test]
    fn tests_are_no_production() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { {} }\n}\n#[cfg(test)]\nmod more;\nfn c() {}\n";
        let production = production_of(code);
        assert!(production.contains("fn a") && production.contains("fn c"));
        assert!(!production.contains("fn b") && !production.contains("more"));
        assert_eq!(line_count(&production_of("fn a() {}\n\n#[cfg(test)]\nmod tests {\n\n}\n")), 1);
    }

    #[test]
    fn paragraphs_are_joined_from_comments_of_one_kind() {
        let source = "//! a\n// b `c` d\n// e\n//\n// f\nlet g = \"// h\"; // i\n// j\n// - k\n\n// l";
        let found = paragraphs(source);
        let found: Vec<_> =
            found.iter().filter(|(_, text)| !text.is_empty()).map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(found, [(1, "a"), (2, "b ` d e"), (5, "f"), (6, "i"), (7, "j"), (8, "- k"), (10, "l")]);
    }

    #[test]
    fn strings_are_found_with_their_lines() {
        let source = "// \"no\"\nconst A: &str = \"a\\\"b\";\nlet b = (b\"c\", r#\"d\"#, '\"');\n#[cfg(test)]\nmod tests {\n const E: &str = \"e\";\n}\nlet f = \"\u{e9}f\";\n";
        let expected = [(2, "a\\\"b"), (3, "c"), (3, "d"), (8, "\u{e9}f")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(strings_of(source), expected);
    }

    #[test]
    fn functions_are_found_with_their_length() {
        let code = "impl A {\n  fn a(b: [u8; 2]) -> u8 {\n    if c {\n    }\n  }\n}\ntrait T { fn d(); fn e() {} }\ntype F = fn(u8);\nfn(a) {}";
        let found: Vec<_> = functions(code).into_iter().map(|(_, name, lines)| (name, lines)).collect();
        assert_eq!(found, [("a", 4), ("e", 1)]);
    }

    #[test]
    fn paths_are_taken_apart_by_groups() {
        let code = "use crate::a::{b, c::{d, e}}; fn f() { super::super::g::h(crate::i) }";
        let found: Vec<String> = paths(code).into_iter().map(|(_, path)| path.join("/")).collect();
        assert_eq!(found, ["crate/a/b", "crate/a/c/d", "crate/a/c/e", "super/super/g/h", "crate/i"]);
    }

    #[test]
    fn paths_lead_to_floors() {
        let named = |code, depth| floors_named(code, depth).into_iter().map(|(_, floor)| floor.to_owned()).collect::<Vec<_>>();
        assert_eq!(named("use crate::net::x; fn f() { crate::gate::y() }", 1), ["net", "gate"]);
        assert_eq!(named("use crate::{model::{A, B}, wire, net::{c}};", 1), ["model", "wire", "net"]);
        assert_eq!(named("use super::x; use super::super::router::y;", 2), ["router"]);
        assert_eq!(named("use super::super::super::router::y;", 2), ["router"], "inside an inline module");
    }
}
