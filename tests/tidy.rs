//! The house rules of `src/ARCHITECTURE.md` as a test: who may know whom, what pure floors may not touch, names and sizes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#[path = "tidy/scan.rs"]
mod scan;

use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate, what of ours it may use, and whether it is pure.
const FLOORS: &[(&str, &[&str], bool)] = &[
    ("model", &[], true),
    ("wire", &["model"], true),
    ("gate", &["model", "wire"], true),
    ("router", &["model"], true),
    ("cluster", &["model"], true),
    ("store", &["model"], false),
    ("net", &["model", "wire", "gate"], false),
    ("node", &["model", "wire", "gate", "router", "cluster", "store", "net"], false),
    // The program above the library.
    ("command_line", &["model", "wire", "gate", "router", "cluster", "store", "net", "node"], false),
];

/// Words that reach a clock, chance, a thread, a socket, the disk or the process: time and random bytes are arguments.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "sleep",
    "tokio",
    "mio",
    "socket2",
    "hyper",
    "axum",
    "tungstenite",
    "tokio_tungstenite",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "getrandom",
    "rand",
    "thread_rng",
    "new_v4",
    "now_v7",
    "thread",
    "thread_local",
    "spawn",
    "File",
    "OpenOptions",
    "read_dir",
    "stdin",
    "stdout",
    "stderr",
    "println",
    "eprintln",
    "print",
    "eprint",
    "sled",
    "parking_lot",
    "DefaultHasher",
];

/// Modules of `std` that do the same.
const IMPURE_STD: &[&str] = &["fs", "env", "process", "thread", "os"];

/// What the top level may hold, besides dot files and what a build or a run leaves.
const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "src", "tests", "demo", "supervisord", "target", "corsac-data"];

const MAX_FUNCTION_LINES: usize = 70;
const MAX_FILE_LINES: usize = 800;

/// A source file, read and taken apart.
struct Source {
    /// Below the repository, with `/`.
    path: String,
    text: String,
    /// Without comments and literals.
    code: String,
    /// Without tests too.
    production: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = scan::code_of(text);
        let production = if is_test(path) { String::new() } else { scan::production_of(&code) };
        Source { path: path.to_owned(), text: text.to_owned(), code, production }
    }

    fn complain(&self, at: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, scan::line_of(&self.code, at))
    }

    /// `gate::mqtt::names` as its parts; empty for the roots of the crates.
    fn module(&self) -> Vec<&str> {
        let Some(path) = self.path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else { return Vec::new() };
        let mut parts: Vec<&str> = path.split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"main" | &"lib")) {
            parts.pop();
        }
        parts
    }
}

/// Files that are compiled for tests alone, by their place.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Takes the production out of files that their parents declare for tests alone.
fn set_tests_aside(sources: &mut [Source]) {
    let declares = |code: &str, name: &str| scan::declarations(code).any(|(_, kind, declared)| kind == "mod" && declared == name);
    let is_for_tests = |source: &Source| {
        let module = source.module();
        let Some((name, parent)) = module.split_last() else { return false };
        let mut parents = sources.iter().filter(|other| other.path.starts_with("src/") && other.module() == parent);
        parents.any(|parent| declares(&parent.code, name) && !declares(&parent.production, name))
    };
    let aside: Vec<bool> = sources.iter().map(is_for_tests).collect();
    for (source, _) in sources.iter_mut().zip(aside).filter(|(_, is_aside)| *is_aside) {
        source.production = String::new();
    }
}

/// Every rule that one file can break.
fn violations(source: &Source) -> Vec<String> {
    let rules: [fn(&Source) -> Vec<String>; 8] = [first_line, floor, imports, purity, sizes, names, panics, unsafe_code];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

fn first_line(source: &Source) -> Vec<String> {
    let line = source.text.lines().next().unwrap_or_default();
    let is_sentence =
        line.strip_prefix("//! ").is_some_and(|sentence| sentence.len() > 10 && sentence.ends_with(['.', '!', '?']));
    if is_sentence { Vec::new() } else { vec![source.complain(0, "the first line is no `//!` sentence of one line")] }
}

fn floor(source: &Source) -> Vec<String> {
    let module = source.module();
    let mut found = Vec::new();
    if let Some(first) = module.first()
        && !FLOORS.iter().any(|(name, ..)| name == first)
    {
        found.push(source.complain(0, "a module that is no floor of the house"));
    }
    if module.contains(&"core") || scan::declarations(&source.code).any(|(_, kind, name)| kind == "mod" && name == "core") {
        found.push(source.complain(0, "a module called core"));
    }
    found
}

fn imports(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some((name, allowed, _)) = module.first().and_then(|first| FLOORS.iter().find(|(name, ..)| name == first)) else {
        return Vec::new();
    };
    let named = scan::floors_named(&source.production, module.len());
    let is_floor = |word: &str| FLOORS.iter().any(|(floor, ..)| *floor == word);
    let wrong = named.into_iter().filter(|(_, word)| is_floor(word) && word != name && !allowed.contains(word));
    wrong.map(|(at, word)| source.complain(at, &format!("{name} may not use {word}"))).collect()
}

fn purity(source: &Source) -> Vec<String> {
    let is_pure = source.module().first().is_some_and(|first| FLOORS.iter().any(|(name, _, pure)| name == first && *pure));
    if !is_pure {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut previous = (0, "");
    for (at, word) in scan::words(&source.production) {
        let gap = source.production[previous.0..at].trim();
        let is_std = previous.1 == "std" && gap == "::" && IMPURE_STD.contains(&word);
        // A field or a method of ours may have any name; paths, macros and types may not.
        let is_own = gap.ends_with('.') || matches!(previous.1, "fn" | "mod" | "let" | "struct" | "pub");
        if is_std || (IMPURE.contains(&word) && !is_own) {
            found.push(source.complain(at, &format!("`{word}` on a pure floor")));
        }
        previous = (at + word.len(), word);
    }
    found
}

fn sizes(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let counted = if source.production.is_empty() { &source.code } else { &source.production };
    let lines = scan::line_count(counted);
    if lines > MAX_FILE_LINES {
        found.push(source.complain(0, &format!("{lines} lines, at most {MAX_FILE_LINES}")));
    }
    for (at, name, lines) in scan::functions(&source.code) {
        if lines > MAX_FUNCTION_LINES {
            found.push(source.complain(at, &format!("fn {name} has {lines} lines, at most {MAX_FUNCTION_LINES}")));
        }
    }
    found
}

fn names(source: &Source) -> Vec<String> {
    let is_bad = |name: &str| {
        ["get_", "do_", "process_"].iter().any(|prefix| name.starts_with(prefix))
            || ["Manager", "Helper", "Util"].iter().any(|word| name.contains(word))
            || matches!(name, "manager" | "helper" | "helpers" | "util" | "utils")
    };
    let bad = scan::declarations(&source.code).filter(|(_, _, name)| is_bad(name));
    bad.map(|(at, kind, name)| source.complain(at, &format!("{kind} {name}: a name that says nothing"))).collect()
}

fn panics(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for pattern in [".unwrap(", ".expect(", "panic!", "todo!", "unimplemented!"] {
        let all = source.production.match_indices(pattern);
        // A parser may have a method of its own called so.
        for (at, _) in all.filter(|(at, _)| !source.production[..*at].ends_with("self")) {
            found.push(source.complain(at, &format!("`{pattern}` outside tests")));
        }
    }
    found
}

fn unsafe_code(source: &Source) -> Vec<String> {
    let wrong = scan::words(&source.code).filter(|(_, word)| matches!(*word, "unsafe" | "extern"));
    wrong.map(|(at, word)| source.complain(at, &format!("`{word}`"))).collect()
}

/// Files below `src` that no `mod` names: they are not compiled, so nothing holds them true.
fn orphans(sources: &[Source]) -> Vec<String> {
    let is_declared = |source: &&Source| {
        let module = source.module();
        let Some((name, parent)) = module.split_last() else { return true };
        let parents = sources.iter().filter(|other| other.path.starts_with("src/") && other.module() == parent);
        parents.flat_map(|parent| scan::declarations(&parent.code)).any(|(_, kind, declared)| kind == "mod" && declared == *name)
    };
    let below_src = sources.iter().filter(|source| source.path.starts_with("src/"));
    below_src.filter(|source| !is_declared(source)).map(|source| source.complain(0, "no module declares this file")).collect()
}

fn strangers(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_stranger = |name: &String| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str());
    names.filter(is_stranger).map(|name| format!("{name}: not one of the entries of the top level")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `directory`.
fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy();
        if entry.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            rust_files(&entry, found);
        } else if name.ends_with(".rs") {
            found.push(entry);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    rust_files(&root().join("demo"), &mut files);
    files.sort();
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        Source::new(&path, &fs::read_to_string(file).unwrap())
    };
    let mut sources: Vec<Source> = files.iter().map(read).collect();
    set_tests_aside(&mut sources);
    sources
}

#[test]
fn the_house_is_tidy() {
    let sources = sources();
    assert!(sources.len() > 50, "only {} files found", sources.len());
    let mut found: Vec<String> = sources.iter().flat_map(violations).collect();
    found.extend(orphans(&sources));
    found.extend(strangers(fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into())));
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

/// What is said about a file with this text below a sound first line.
fn said_about(path: &str, text: &str) -> String {
    violations(&Source::new(path, &format!("//! A file of the test.\n{text}"))).join("\n")
}

#[test]
fn a_sound_file_is_left_alone() {
    let text = "use crate::model::Topic;\n// unwrap() in words, std::time::Instant too\nfn a<'a>(b: &'a str) -> &'a str { \"panic!\" }\n\
                #[cfg(test)]\nmod tests { use std::time::Instant; use crate::net; fn f() { x.unwrap() } }\n";
    assert_eq!(said_about("src/router/a.rs", text), "");
}

#[test]
fn each_rule_can_be_broken() {
    let long = format!("fn long() {{\n{}}}\n", "    a();\n".repeat(69));
    for (path, text, expected) in [
        ("src/model/a.rs", "use crate::wire::x;", "a.rs:2: model may not use wire"),
        ("src/wire/mqtt/a.rs", "use super::super::super::gate::x;", "wire may not use gate"),
        ("src/gate/a.rs", "use crate::{model::Topic, net::{Realm}};", "gate may not use net"),
        ("src/router/a.rs", "fn f() { crate::wire::g() }", "router may not use wire"),
        ("src/net/a.rs", "use crate::node::x;", "net may not use node"),
        ("src/gate/a.rs", "use std::time::{Duration, Instant};", "`Instant` on a pure floor"),
        ("src/router/a.rs", "\n\nuse std::fs::read;", "a.rs:4: `fs` on a pure floor"),
        ("src/wire/a.rs", "use rand::Rng;", "`rand` on a pure floor"),
        ("src/cluster/a.rs", "fn f() { std::thread::spawn(g) }", "`thread` on a pure floor"),
        ("src/core.rs", "", "a module called core"),
        ("src/model/a.rs", "mod core;", "a module called core"),
        ("src/broker/a.rs", "", "no floor of the house"),
        ("src/net/a.rs", &long, "fn long has 71 lines"),
        ("src/net/a.rs", &"fn f() {}\n".repeat(800), "801 lines"),
        ("src/net/a.rs", "fn get_it() {}", "fn get_it"),
        ("src/net/a.rs", "struct SocketManager;", "struct SocketManager"),
        ("src/net/a.rs", "fn f() { g().unwrap() }", "`.unwrap(` outside tests"),
        ("src/net/a.rs", "fn f() { todo!() }", "`todo!` outside tests"),
        ("src/net/a.rs", "unsafe fn f() {}", "`unsafe`"),
        ("src/net/a.rs", "extern \"C\" fn f() {}", "`extern`"),
    ] {
        let said = said_about(path, text);
        assert!(said.contains(expected), "{path} {text:?}: {said:?}");
    }
    assert!(violations(&Source::new("src/net/a.rs", "use x;\n")).concat().contains("first line"));
    assert!(violations(&Source::new("src/net/a.rs", "//! A sentence that goes\n//! on.\n")).concat().contains("first line"));
}

#[test]
fn modules_for_tests_alone_are_no_production() {
    let text = "//! A file.\nfn f() { g().unwrap() }\n";
    let mut sources = [
        Source::new("src/net/mod.rs", "//! A test of it.\nmod b;\n#[cfg(test)]\nmod a;\n"),
        Source::new("src/net/a.rs", text),
        Source::new("src/net/b.rs", text),
    ];
    set_tests_aside(&mut sources);
    assert!(panics(&sources[1]).is_empty());
    assert_eq!(panics(&sources[2]).len(), 1);
}

#[test]
fn undeclared_files_and_strangers_are_found() {
    let source = |path, text| Source::new(path, text);
    let sources = [
        source("src/lib.rs", "mod net;"),
        source("src/net/mod.rs", "mod a;"),
        source("src/net/a.rs", ""),
        source("src/net/b.rs", ""),
    ];
    assert_eq!(orphans(&sources), ["src/net/b.rs:1: no module declares this file"]);
    let names = [".ci", "src", "target", "benches"].map(str::to_owned);
    assert_eq!(strangers(names.into_iter()), ["benches: not one of the entries of the top level"]);
}
