//! The README's code stands in the files that `tests/interop` runs, and what it links to is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The fenced blocks of a page: language and text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n')).collect()
}

#[test]
fn each_snippet_is_quoted_as_its_file_stands() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = blocks(&readme);
    for entry in fs::read_dir(root().join("demo/clients")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // A page, a flow for an editor, and what that page tells of.
        if name == "README.md" || name == "node-red.json" || name.starts_with("more-") {
            continue;
        }
        let file = fs::read_to_string(root().join("demo/clients").join(&name)).unwrap();
        assert!(
            blocks.iter().any(|(_, text)| *text == file.trim_end()),
            "the README does not quote demo/clients/{name} as it stands"
        );
    }
}

#[test]
fn whatever_a_page_links_to_is_there() {
    for page in ["README.md", "demo/clients/README.md", "supervisord/README.md", "tests/bench/README.md"] {
        let page = root().join(page);
        let text = fs::read_to_string(&page).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        let files = targets.filter(|target| !target.starts_with("http"));
        for target in files {
            assert!(
                page.parent().map(|folder: &Path| folder.join(target)).unwrap().exists(),
                "{} links to {target}",
                page.display()
            );
        }
    }
}

/// Every file below a folder of the sources.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn every_error_of_the_routers_own_is_explained() {
    let page = fs::read_to_string(root().join("demo/clients/README.md")).unwrap();
    let mut known = 0;
    for path in sources(&root().join("src")).iter().filter(|path| path.extension().is_some_and(|name| name == "rs")) {
        let text = fs::read_to_string(path).unwrap();
        for rest in text.split("\"corsac.error.").skip(1) {
            let (name, _) = rest.split_once('"').unwrap();
            if name.chars().all(|character| character.is_ascii_lowercase() || character == '_') && !name.is_empty() {
                known += 1;
                assert!(page.contains(&format!("| `corsac.error.{name}` |")), "{} has corsac.error.{name}", path.display());
            }
        }
    }
    assert!(known > 10, "only {known} were found");
}
