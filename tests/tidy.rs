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

/// The inner floors of the router, from low to high: none knows one above it.
const INNER_FLOORS: &[&[&str]] = &[
    &["base", "matcher"],
    // The closed parts.
    &["session", "broker", "dealer", "lock", "queue", "retained", "waits", "will"],
    &["waiting", "realm"],
    &["flow"],
    &["procedure"],
];

/// Parts that see another, read-only: a replay holds its place among retained messages.
const PARTS_THAT_SEE: &[(&str, &str)] = &[("session", "retained")];

/// The flows, from low to high: what would be a call upward is a `Consequence`.
const FLOWS: &[&str] = &[
    "append",
    "deliver",
    "route",
    "answer",
    "progress",
    "lost",
    "holders",
    "locks",
    "queues",
    "order",
    "call",
    "replay",
    "backlog",
    "window",
    "wills",
    "session",
    "subscribe",
    "publish",
    "place",
    "restart",
    "pieces",
    "due",
];

/// The closed types: these have no public field.
const CLOSED: &[(&str, &str)] = &[
    ("base/catching.rs", "Catching"),
    ("base/on_the_way.rs", "OnTheWay"),
    ("base/piece.rs", "Changes"),
    ("base/reads.rs", "Reads"),
    ("base/tickets.rs", "Tickets"),
    ("broker/mod.rs", "Broker"),
    ("dealer/calls.rs", "Calls"),
    ("dealer/mod.rs", "Dealer"),
    ("retained/mod.rs", "Retained"),
    ("session/backlog.rs", "Backlog"),
    ("session/backlog.rs", "Finished"),
    ("session/inbound.rs", "Inbound"),
    ("session/mod.rs", "Saying"),
    ("session/mod.rs", "Sessions"),
    ("session/window.rs", "Inflight"),
    ("will.rs", "Wills"),
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

/// The entries of the top level, besides dot files and the leavings of a build or a run.
const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "src", "tests", "demo", "supervisord", "target", "corsac-data"];

/// Folders and files whose comments name their subjects.
const PLAIN: &[&str] = &["src/", "tests/", "demo/"];

/// Words that hide the subject of a sentence which begins with them.
const HIDING: &[&str] = &["What", "Whatever", "Who", "Whoever", "Whose", "How", "It"];

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
    let rules: [fn(&Source) -> Vec<String>; 11] =
        [first_line, floor, imports, inner_floors, open_fields, purity, sizes, names, panics, unsafe_code, subjects];
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

/// A comment names its subject.
fn subjects(source: &Source) -> Vec<String> {
    if !PLAIN.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, text) in scan::paragraphs(&source.text) {
        for sentence in text.replace(['(', ')'], "").replace(['!', '?'], ".").split(". ") {
            let first =
                sentence.trim_start_matches(['-', '*', ' ']).split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            if HIDING.contains(&first) {
                found.push(format!("{}:{line}: a sentence begins with {first}: name its subject", source.path));
            }
        }
    }
    found
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

/// Paths below the crate that a file names in its production.
fn paths_named(source: &Source) -> Vec<(usize, Vec<String>)> {
    let module = source.module();
    let mut named = Vec::new();
    for (at, words) in scan::paths(&source.production) {
        let climbed = words.iter().take_while(|word| **word == "super").count();
        let path: Vec<&str> = match words.first() {
            Some(&"crate") => words[1..].to_vec(),
            Some(&"super") if climbed <= module.len() => [&module[..module.len() - climbed], &words[climbed..]].concat(),
            _ => continue,
        };
        named.push((at, path.iter().map(|word| (*word).to_owned()).collect()));
    }
    named
}

/// Modules that a file of the router names of the router, and items of them.
fn inner_named(source: &Source) -> Vec<(usize, Vec<String>)> {
    let named = paths_named(source).into_iter().filter(|(_, path)| path.len() > 1 && path[0] == "router");
    named.map(|(at, path)| (at, path[1..].to_vec())).collect()
}

/// The circle that is there: WAMP's messages carry payloads, and payloads are written by the encodings that stand among WAMP's.
const CIRCLES: &[&str] = &["src/wire/: payload, wamp know one another"];

/// Circles in any folder below `src`, but for those in [`CIRCLES`]. The files of a folder stand in an order: no two of them know each
/// other, directly or through others. The `mod.rs` above them may know all.
fn new_circles(sources: &[Source]) -> Vec<String> {
    let folders = sources.iter().filter_map(|source| source.path.rsplit_once('/')).map(|(folder, _)| format!("{folder}/"));
    let folders: std::collections::BTreeSet<String> =
        folders.filter(|folder| folder.starts_with("src/") && folder != "src/").collect();
    let found: Vec<String> = folders.iter().flat_map(|folder| circles(sources, folder)).collect();
    let gone = CIRCLES.iter().filter(|known| !found.iter().any(|circle| circle == *known));
    let gone = gone.map(|known| format!("{known} no more: take them out of CIRCLES"));
    found.iter().filter(|circle| !CIRCLES.contains(&circle.as_str())).cloned().chain(gone).collect()
}

/// Circles among the files of one folder.
fn circles(sources: &[Source], folder: &str) -> Vec<String> {
    let parent: Vec<&str> = folder.trim_start_matches("src/").trim_end_matches('/').split('/').collect();
    let mut knows: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    for source in sources.iter().filter(|source| source.path.starts_with(folder)) {
        let module = source.module();
        let Some(child) = module.get(parent.len()) else { continue };
        let named =
            paths_named(source).into_iter().filter(|(_, path)| path.len() > parent.len() && path[..parent.len()] == parent);
        let others = named.map(|(_, path)| path[parent.len()].clone()).filter(|other| other != child);
        knows.entry((*child).to_owned()).or_default().extend(others);
    }
    // A file that knows no other that is left is in no circle.
    loop {
        let left: Vec<String> = knows.keys().cloned().collect();
        knows.retain(|_, others| others.iter().any(|other| left.contains(other)));
        if knows.len() == left.len() {
            break;
        }
    }
    // Nor is one that no other knows.
    loop {
        let known: Vec<String> = knows.values().flatten().cloned().collect();
        let before = knows.len();
        knows.retain(|name, _| known.contains(name));
        if knows.len() == before {
            break;
        }
    }
    let names: Vec<String> = knows.into_keys().collect();
    if names.is_empty() { Vec::new() } else { vec![format!("{folder}: {} know one another", names.join(", "))] }
}

/// Rules of the router's inner floors; `mod.rs` on top may know everything.
fn inner_floors(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some((&"router", [inner, rest @ ..])) = module.split_first() else { return Vec::new() };
    let floor_of = |name: &str| INNER_FLOORS.iter().position(|floor| floor.contains(&name));
    let Some(floor) = floor_of(inner) else {
        return if source.production.is_empty() {
            Vec::new()
        } else {
            vec![source.complain(0, "on no inner floor of the router")]
        };
    };
    let mut found = Vec::new();
    for (at, path) in inner_named(source) {
        let other = path[0].as_str();
        let is_other_part = floor == 1 && other != *inner && floor_of(other) == Some(1);
        let is_above = floor_of(other).is_some_and(|other| other > floor);
        if is_above || (is_other_part && !PARTS_THAT_SEE.contains(&(inner, other))) {
            found.push(source.complain(at, &format!("{inner} may not know {other}")));
        }
        let rank = |name: &str| FLOWS.iter().position(|flow| *flow == name);
        if let (true, Some(me), Some(flow)) = (other == "flow" && *inner == "flow", rest.first(), path.get(1))
            && rank(flow) >= rank(me)
        {
            found.push(source.complain(at, &format!("flow {me} may not call {flow}")));
        }
    }
    let door = scan::words(&source.production).zip(scan::words(&source.production).skip(1));
    let doors = door.filter(|((_, first), (_, second))| *first == "impl" && *second == "Router");
    found.extend(doors.map(|((at, _), _)| source.complain(at, "`impl Router` outside of `router/mod.rs`")));
    found
}

/// Public fields of what is closed.
fn open_fields(source: &Source) -> Vec<String> {
    let Some(path) = source.path.strip_prefix("src/router/") else { return Vec::new() };
    let closed = CLOSED.iter().filter(|(file, _)| *file == path);
    let field_of = |name: &str| {
        let Some(body) = scan::struct_body(&source.code, name) else {
            return Some(source.complain(0, &format!("there is no struct {name}")));
        };
        let is_open = scan::words(&body).any(|(_, word)| word == "pub");
        is_open.then(|| source.complain(0, &format!("{name} has a public field")))
    };
    closed.filter_map(|(_, name)| field_of(name)).collect()
}

/// Names of types of the router that are declared twice.
fn twins(sources: &[Source]) -> Vec<String> {
    let mut seen: std::collections::BTreeMap<&str, &str> = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.module().first() == Some(&"router")) {
        for (at, kind, name) in scan::declarations(&source.production) {
            // Associated types have the name that their trait gives them.
            let is_type =
                matches!(kind, "struct" | "enum" | "trait") || (kind == "type" && scan::is_at_line_start(&source.production, at));
            if let Some(first) = is_type.then(|| seen.insert(name, &source.path)).flatten() {
                found.push(source.complain(at, &format!("a type {name} is in {first} too")));
            }
        }
    }
    found
}

/// Where the names stand that mean something to the router.
const NAMES: &str = "src/model/names.rs";

/// A client that spells names as any other client does, so that it can be read as an example.
const EXAMPLES: &[&str] = &["src/command_line/device.rs"];

/// True for strings that are a name of the router's: the URI of a procedure or an error, a user property, or a topic below `$`.
fn is_reserved(text: &str) -> bool {
    let is_name = |rest: &str| rest.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '/' | '_' | '-'));
    let uri = ["corsac.", "corsac-", "corsac/", "wamp."].iter().find_map(|root| text.strip_prefix(root));
    let topic = text.strip_prefix('$').and_then(|rest| rest.split_once(['/', '.'])).filter(|(root, _)| !root.is_empty());
    uri.is_some_and(is_name) || topic.is_some_and(|(root, _)| root.chars().all(|c| c.is_ascii_alphabetic()))
}

/// Reserved names that are spelled although `model/names.rs` has them, or in two files although it could.
fn spelled_names(sources: &[Source]) -> Vec<String> {
    let written = |source: &Source| scan::strings_of(&source.text).into_iter().filter(|(_, text)| is_reserved(text));
    let known: Vec<String> =
        sources.iter().filter(|source| source.path == NAMES).flat_map(written).map(|(_, text)| text).collect();
    let is_known = |text: &str| {
        known.iter().any(|name| {
            text == name || (name.starts_with('$') && text.starts_with(name.as_str())) || text == name.replace('.', "/")
        })
    };
    let mut seen: std::collections::BTreeMap<String, &str> = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    let of_src = |source: &&Source| source.path.starts_with("src/") && source.path != NAMES && !source.production.is_empty();
    for source in sources.iter().filter(of_src).filter(|source| !EXAMPLES.contains(&source.path.as_str())) {
        for (line, text) in written(source) {
            let other = seen.insert(text.clone(), &source.path).filter(|other| *other != source.path);
            if is_known(&text) || other.is_some() {
                found.push(format!("{}:{line}: {text:?} belongs into {NAMES}", source.path));
            }
        }
    }
    found
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

/// The texts that a path with `{one,other}` in it stands for.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((choices, behind)) = rest.split_once('}') else { return vec![path.to_owned()] };
    choices.split(',').flat_map(|choice| expanded(&format!("{before}{choice}{behind}"))).collect()
}

/// Files and folders that a page of ours names in backticks, and that are not there.
fn misdirections(page: &str, text: &str) -> Vec<String> {
    let is_path = |word: &&str| {
        let begins = FLOORS.iter().any(|(floor, ..)| word.strip_prefix(floor).is_some_and(|rest| rest.starts_with('/')));
        (begins || word.ends_with(".rs") || word.starts_with("tests/")) && !word.contains(['*', ' ', '<', '…', ':'])
    };
    let named = text.split('`').skip(1).step_by(2).filter(is_path).flat_map(expanded);
    let is_there = |path: &String| ["src", "tests", ""].iter().any(|place| root().join(place).join(path).exists());
    let is_module = |path: &String| root().join("src").join(format!("{path}.rs")).exists();
    named.filter(|path| !is_there(path) && !is_module(path)).map(|path| format!("{page}: there is no {path}")).collect()
}

#[test]
fn the_pages_lead_to_files_that_are_there() {
    let pages = ["src/ARCHITECTURE.md", "src/DECISIONS.md", "tests/README.md"]
        .map(|page| (page, fs::read_to_string(root().join(page)).unwrap()));
    let found: Vec<String> = pages.iter().flat_map(|(page, text)| misdirections(page, text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let text = "`router/flow/nowhere.rs`, `model/{topic,nothing}.rs`, `$call/add`, `net/outbox`";
    assert_eq!(misdirections("page", text), ["page: there is no router/flow/nowhere.rs", "page: there is no model/nothing.rs"]);
}

#[test]
fn the_house_is_tidy() {
    let sources = sources();
    assert!(sources.len() > 50, "only {} files found", sources.len());
    PLAIN.iter().for_each(|place| assert!(root().join(place).exists(), "PLAIN: there is no {place}"));
    let mut found: Vec<String> = sources.iter().flat_map(violations).collect();
    found.extend(orphans(&sources));
    found.extend(twins(&sources));
    found.extend(new_circles(&sources));
    found.extend(spelled_names(&sources));
    found.extend(strangers(fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into())));
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

/// The complaints about a file with this text below a sound first line.
fn said_about(path: &str, text: &str) -> String {
    violations(&Source::new(path, &format!("//! A file of the test.\n{text}"))).join("\n")
}

#[test]
fn a_sound_file_is_left_alone() {
    let text = "use crate::model::Topic;\n// unwrap() in words, std::time::Instant too\nfn a<'a>(b: &'a str) -> &'a str { \"panic!\" }\n\
                // - `What` is a word, \"Who\" too.\n//\n// \"How\" as well, however\nconst WHO: &str = \"// What is it?\";\n\
                #[cfg(test)]\nmod tests { use std::time::Instant; use crate::net; fn f() { x.unwrap() } }\n";
    assert_eq!(said_about("src/router/flow/due.rs", text), "");
    assert_eq!(said_about("src/gate/mqtt/a.rs", text), "");
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
        ("src/router/a.rs", "", "on no inner floor"),
        ("src/router/base/a.rs", "use crate::router::session::Session;", "base may not know session"),
        ("src/router/session/a.rs", "use crate::router::{realm::Realm};", "session may not know realm"),
        ("src/router/lock/a.rs", "fn f() { super::super::queue::g() }", "lock may not know queue"),
        ("src/router/flow/route.rs", "use crate::router::flow::{append, answer};", "flow route may not call answer"),
        ("src/router/flow/route.rs", "use super::session::end;", "flow route may not call session"),
        ("src/router/flow/route.rs", "use crate::router::procedure::x;", "flow may not know procedure"),
        ("src/router/flow/route.rs", "impl Router {}", "`impl Router` outside"),
        ("src/net/a.rs", "fn get_it() {}", "fn get_it"),
        ("src/net/a.rs", "struct SocketManager;", "struct SocketManager"),
        ("src/net/a.rs", "fn f() { g().unwrap() }", "`.unwrap(` outside tests"),
        ("src/net/a.rs", "fn f() { todo!() }", "`todo!` outside tests"),
        ("src/net/a.rs", "unsafe fn f() {}", "`unsafe`"),
        ("src/net/a.rs", "extern \"C\" fn f() {}", "`extern`"),
        ("src/net/a.rs", "/// What a connection says.\nfn f() {}", "a.rs:2: a sentence begins with What"),
        ("src/net/a.rs", "fn f() {} // Whoever calls waits.", "a.rs:2: a sentence begins with Whoever"),
        ("tests/a.rs", "// - (What a test sees.)\n", "a.rs:2: a sentence begins with What"),
        ("src/net/a.rs", "// A rule (of `a`.) It goes on.\n", "a.rs:2: a sentence begins with It"),
        ("src/net/a.rs", "\n// A rule, of `a`. Is it so? How\n// far is open.", "a.rs:3: a sentence begins with How"),
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
fn circles_among_the_files_of_a_folder_are_found() {
    let source = |path, text| Source::new(path, text);
    let mut sources = vec![
        source("src/node/mod.rs", "mod a; mod b; mod c; mod d; use a::A;"),
        source("src/node/a.rs", "use super::b::{B, C}; use crate::model::Topic;"),
        source("src/node/b.rs", "#[cfg(test)]\nmod tests { use super::super::a::A; }"),
        source("src/node/c.rs", "use crate::node::a::A;"),
        source("src/node/d/e.rs", "fn f() { crate::node::c::g() }"),
    ];
    assert_eq!(circles(&sources, "src/node/"), Vec::<String>::new());
    sources.push(source("src/node/b/f.rs", "use super::super::d;"));
    assert_eq!(circles(&sources, "src/node/"), ["src/node/: a, b, c, d know one another"]);
    sources.pop();
    sources.push(source("src/node/g.rs", "use super::h::H; use super::c;"));
    sources.push(source("src/node/h.rs", "use super::{a, g::G};"));
    assert_eq!(circles(&sources, "src/node/"), ["src/node/: g, h know one another"]);
}

#[test]
fn names_that_are_spelled_again_are_found() {
    let source = |path, text| Source::new(path, text);
    let sources = [
        source(NAMES, "const CALL: &str = \"$call/\"; const PUT: &str = \"corsac.queue.put\";"),
        source("src/net/a.rs", "fn f() { g(\"$call/{procedure}\", \"corsac/queue/put\", \"corsac-data\", \"$\") }"),
        source(
            "src/net/b.rs",
            "fn f() { g(\"corsac-data\", \"corsac-{id}\", \"wamp.once\") }\n#[cfg(test)]\nmod tests { const A: &str = \"$call/a\"; }",
        ),
        source("src/net/tests/c.rs", "fn f() { g(\"$call/a\") }"),
        source(EXAMPLES[0], "fn f() { g(\"$call/a\") }"),
    ];
    let found = spelled_names(&sources);
    let expected = ["a.rs:1: \"$call/{procedure}\"", "a.rs:1: \"corsac/queue/put\"", "b.rs:1: \"corsac-data\""];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(found, expected)| found.contains(expected)), "{found:?}");
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
