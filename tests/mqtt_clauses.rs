//! Every normative statement of MQTT 5.0 and 3.1.1 stands in `tests/mqtt_clauses.txt`; what is held is cited in code and tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#[allow(dead_code, reason = "the test of the house uses the rest")]
#[path = "tidy/scan.rs"]
mod scan;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const V5: &str = "5.0";
const V311: &str = "3.1.1";

/// Clauses of each version: its appendix B, and what the text numbers beyond it.
const COUNTS: [(&str, usize); 2] = [(V5, 251), (V311, 141)];

const BINDS: [&str; 3] = ["server", "client", "both"];

const START: &str = "[MQTT-";

/// Version and number, e.g. `("3.1.1", "MQTT-3.1.0-1")`.
type Clause = (&'static str, String);

/// A line of the table, without its clause.
#[derive(Debug)]
struct Entry {
    binds: String,
    status: String,
    words: String,
}

/// Where a clause is cited.
#[derive(Debug)]
struct Citation {
    clause: Clause,
    place: String,
    /// In the code of the server, not in a test of it.
    is_production: bool,
}

fn parse(text: &str) -> Result<BTreeMap<Clause, Entry>, String> {
    let mut table = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [version, number, binds, status, words @ ..] = &fields[..] else { return Err(format!("too short: {line}")) };
        let version = [V5, V311].into_iter().find(|known| known == version).ok_or(format!("no such version: {line}"))?;
        let entry = Entry { binds: (*binds).into(), status: (*status).into(), words: words.join(" ") };
        if table.insert((version, (*number).to_owned()), entry).is_some() {
            return Err(format!("twice: {line}"));
        }
    }
    Ok(table)
}

/// The faults of the table by itself.
fn faults(table: &BTreeMap<Clause, Entry>) -> Vec<String> {
    let fault = |(clause, entry): (&Clause, &Entry)| {
        let has_words = entry.words.split(' ').count() > 1;
        let is_sound = match entry.status.as_str() {
            "held" => has_words,
            "never" | "not-yet" => has_words && entry.binds != "client",
            "client" => has_words && entry.binds == "client",
            "same" => clause.0 == V311 && stands_for(table, entry).is_some_and(|other| other.status == "held"),
            _ => false,
        };
        (!is_sound || !BINDS.contains(&entry.binds.as_str())).then(|| format!("{clause:?} {entry:?}"))
    };
    table.iter().filter_map(fault).collect()
}

/// The entry of 5.0 that one of 3.1.1 refers to.
fn stands_for<'a>(table: &'a BTreeMap<Clause, Entry>, entry: &Entry) -> Option<&'a Entry> {
    let number = entry.words.split(' ').next()?;
    table.get(&(V5, number.to_owned()))
}

/// The clauses that a line cites, with the byte at which each citation begins. `3.1.1:` before a citation says that it is one
/// of 3.1.1, `5.0:` that it is not, or no longer.
fn cited_in(line: &str) -> Vec<(usize, Clause)> {
    let mut cited = Vec::new();
    for (at, _) in line.match_indices(START) {
        let before = &line[..at];
        let old = before.rfind("3.1.1:").map_or(0, |found| found + 1);
        let version = if old > before.rfind("5.0:").map_or(0, |found| found + 1) { V311 } else { V5 };
        let number = line[at + 1..].split(']').next().unwrap_or_default();
        cited.push((at, (version, number.to_owned())));
    }
    cited
}

/// Citations in a Rust file below `src`, those in its tests told from the others.
fn of_source(path: &str, text: &str) -> Vec<Citation> {
    let found = text.lines().enumerate().flat_map(|(index, line)| cited_in(line).into_iter().map(move |cited| (index, cited)));
    let found: Vec<_> = found.collect();
    // A mark in place of each citation tells whether its place is blanked out with the tests.
    let mut lines: Vec<Vec<char>> = scan::code_of(text).lines().map(|line| line.chars().collect()).collect();
    let column = |index: usize, at: usize| text.lines().nth(index).map_or(0, |line| line[..at].chars().count());
    for (index, (at, _)) in &found {
        lines[*index][column(*index, *at)] = '§';
    }
    let marked = lines.iter().map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join("\n");
    let production = scan::production_of(&marked);
    let production: Vec<Vec<char>> = production.lines().map(|line| line.chars().collect()).collect();
    let is_for_tests = path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("src/command_line/");
    let citation = |(index, (at, clause)): (usize, (usize, Clause))| {
        let is_kept = production.get(index).and_then(|line| line.get(column(index, at))) == Some(&'§');
        Citation { clause, place: format!("{path}:{}", index + 1), is_production: is_kept && !is_for_tests }
    };
    found.into_iter().map(citation).collect()
}

/// Citations in anything else; of a file of sequences only what the sequences say that they show.
fn of_test(path: &str, text: &str) -> Vec<Citation> {
    let is_table = path.starts_with("tests/sequences/") && path.ends_with(".txt");
    let lines = text.lines().enumerate().filter(|(_, line)| !is_table || line.starts_with(':'));
    let cited = lines.flat_map(|(index, line)| cited_in(line).into_iter().map(move |(_, clause)| (index, clause)));
    let citation = |(index, clause)| Citation { clause, place: format!("{path}:{}", index + 1), is_production: false };
    cited.map(citation).collect()
}

fn citations() -> Vec<Citation> {
    let (mut files, mut found) = (Vec::new(), Vec::new());
    text_files(&root().join("src"), &mut files);
    text_files(&root().join("tests"), &mut files);
    for file in files {
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        // The table cites nothing, and this file only what it needs for its own tests.
        if path == "tests/mqtt_clauses.txt" || path == "tests/mqtt_clauses.rs" {
            continue;
        }
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let is_source = path.starts_with("src/") && path.ends_with(".rs");
        found.extend(if is_source { of_source(&path, &text) } else { of_test(&path, &text) });
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `directory` that may cite clauses.
fn text_files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy();
        if entry.is_dir() {
            if !name.starts_with('.') && !matches!(&*name, "target" | "node_modules" | "data" | "corpus") {
                text_files(&entry, found);
            }
        } else if [".rs", ".txt", ".md", ".py"].iter().any(|ending| name.ends_with(ending)) {
            found.push(entry);
        }
    }
}

/// The clauses that the table holds and no citation does, and the other way round.
fn disagreements(table: &BTreeMap<Clause, Entry>, citations: &[Citation]) -> Vec<String> {
    let mut found = Vec::new();
    for (clause, entry) in table.iter().filter(|(_, entry)| entry.status == "held") {
        for (is_production, what) in [(true, "beside the code"), (false, "in a test")] {
            if !citations.iter().any(|cited| cited.clause == *clause && cited.is_production == is_production) {
                found.push(format!("{} [{}] ({}) is not cited {what}", clause.0, clause.1, entry.words));
            }
        }
    }
    let unknown = citations.iter().filter(|cited| !table.contains_key(&cited.clause));
    found.extend(unknown.map(|cited| format!("{}: there is no [{}] in {}", cited.place, cited.clause.1, cited.clause.0)));
    found
}

#[test]
fn the_table_is_whole() {
    let table = parse(&fs::read_to_string(root().join("tests/mqtt_clauses.txt")).unwrap()).unwrap();
    for (version, count) in COUNTS {
        assert_eq!(table.keys().filter(|clause| clause.0 == version).count(), count, "clauses of {version}");
    }
    let faults = faults(&table);
    assert!(faults.is_empty(), "{} unsound lines:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_clause_that_is_held_is_cited_in_code_and_in_a_test() {
    let table = parse(&fs::read_to_string(root().join("tests/mqtt_clauses.txt")).unwrap()).unwrap();
    let citations = citations();
    assert!(citations.len() > 400, "only {} citations found", citations.len());
    let found = disagreements(&table, &citations);
    assert!(found.is_empty(), "{} disagreements:\n{}", found.len(), found.join("\n"));
}

/// A table of three clauses, made wrong by `change`.
fn small_table(change: impl Fn(&str) -> String) -> Result<BTreeMap<Clause, Entry>, String> {
    let text = "# words\n5.0 MQTT-1.0-1 server held two words\n5.0 MQTT-1.0-2 client client two words\n\
                3.1.1 MQTT-1.0-1 both same MQTT-1.0-1\n";
    parse(&change(text))
}

#[test]
fn unsound_tables_are_found() {
    let table = small_table(str::to_owned).unwrap();
    assert!(faults(&table).is_empty(), "{table:?}");
    for (from, to) in [
        ("server held", "nobody held"),
        ("server held", "server hold"),
        ("server held", "server not-yet"),
        ("held two words", "never two"),
        ("client client two", "both client two"),
        ("client client two", "client never two"),
        ("same MQTT-1.0-1", "same MQTT-1.0-2"),
        ("same MQTT-1.0-1", "same MQTT-1.0-3"),
        ("5.0 MQTT-1.0-2 client client two words", "5.0 MQTT-1.0-2 client same MQTT-1.0-1"),
    ] {
        assert!(!faults(&small_table(|text| text.replace(from, to)).unwrap()).is_empty(), "{from} -> {to}");
    }
    for (from, to) in [("1.0-2", "1.0-1"), ("3.1.1 ", "3.1.2 "), ("client client two words", "")] {
        assert!(small_table(|text| text.replacen(from, to, 1)).is_err(), "{from} -> {to}");
    }
}

#[test]
fn missing_and_unknown_citations_are_found() {
    let table = small_table(str::to_owned).unwrap();
    let code = "a(); // [MQTT-1.0-1]\n#[cfg(test)]\nmod tests {\n  // é [MQTT-1.0-2]\n}\nb(); // é [MQTT-1.0-3]\n";
    let source = of_source("src/gate/a.rs", code);
    let where_found: Vec<_> = source.iter().map(|cited| (&*cited.clause.1, cited.is_production)).collect();
    assert_eq!(where_found, [("MQTT-1.0-1", true), ("MQTT-1.0-2", false), ("MQTT-1.0-3", true)]);
    assert!(of_source("src/gate/tests.rs", code).iter().all(|cited| !cited.is_production));
    let said = disagreements(&table, &source).join("\n");
    assert!(said.contains("5.0 [MQTT-1.0-1] (two words) is not cited in a test"), "{said}");
    assert!(said.contains("src/gate/a.rs:6: there is no [MQTT-1.0-3] in 5.0"), "{said}");
    let shown = of_test("tests/sequences/a.txt", "# [MQTT-1.0-2]\n: [MQTT-1.0-1]\n");
    assert_eq!(shown.len(), 1, "{shown:?}");
    let all: Vec<_> = source.into_iter().take(2).chain(shown).collect();
    assert!(disagreements(&table, &all).is_empty());
}

#[test]
fn citations_are_of_the_version_that_stands_before_them() {
    let versions = |line| cited_in(line).into_iter().map(|(_, clause)| clause.0).collect::<Vec<_>>();
    assert_eq!(versions("// [MQTT-1.0-1]; 3.1.1: [MQTT-1.0-2], [MQTT-1.0-3]"), [V5, V311, V311]);
    assert_eq!(versions(": 3.1.1: [MQTT-1.0-1]; 5.0: [MQTT-1.0-1]"), [V311, V5]);
}
