//! The data directory before and while it is opened: whose it is, how much room it has, and what to do where it cannot be used.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::history::size;
use crate::model::Limits;
use crate::store::disk::free_bytes_at;
use crate::store::{Error, log};

/// Names that file systems, desktops and version control leave where nobody asked them to.
const NOBODYS: &[&str] = &["lost+found", ".snapshot", ".snapshots", ".zfs", ".DS_Store", ".gitkeep", ".gitignore", ".keep"];

/// The directory as everybody would name it, whatever the present one is.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Why the directory cannot be used before anything is written to it; an error is one sentence that says what to do.
pub fn check(path: &Path) -> Result<(), String> {
    let shown = absolute(path);
    let shown = shown.display();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(no_directory(path, &error)),
    };
    let mut strangers = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| no_directory(path, &error))?.file_name().to_string_lossy().into_owned();
        if name == log::IDENTITY_FILE {
            return Ok(());
        }
        if !log::is_own_name(&name) && !NOBODYS.contains(&name.as_str()) {
            strangers.push(name);
        }
    }
    strangers.sort();
    match strangers.as_slice() {
        [] => Ok(()),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Err(format!(
                "{shown} holds other files ({}{more}) and no history: name an empty or a new directory with --data, or move them away",
                first.escape_debug()
            ))
        }
    }
}

/// Why there is no such directory, and what to do.
pub fn no_directory(path: &Path, error: &io::Error) -> String {
    let shown = absolute(path);
    let shown = shown.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            format!("{shown} is no directory, or part of its path is a file: name a directory with --data")
        }
        io::ErrorKind::PermissionDenied => format!(
            "this user may not read and write {shown}: give the directory to the user that runs Corsac (chown), or name another \
             with --data"
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{shown} is on a file system that is mounted read-only: name another directory with --data, or use --memory")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("there is no room to make {shown}: free some space, or name a directory on another disk with --data")
        }
        _ => format!("cannot use {shown}: {error}; name another directory with --data, or use --memory"),
    }
}

/// Why the history in the directory that `config` names cannot be opened, and what to do.
pub fn refusal(config: &Config, error: &Error) -> String {
    let path = &config.data_dir;
    let shown = absolute(path);
    let shown = shown.display();
    match error {
        Error::Locked(holder) => {
            let holder = holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            format!("{shown} is in use by {holder}: stop that one, or name another directory with --data")
        }
        Error::NoSpace => no_room(config),
        Error::NewerFormat { found, known } => format!(
            "{shown} has format {found}, and this program knows formats up to {known}: start the newer Corsac that wrote it, or name \
             another directory with --data"
        ),
        Error::Corrupt { .. } | Error::UnknownVersion { .. } => format!(
            "cannot open the history in {shown}: {error}. Nothing was changed. Restore a copy of the whole directory, or move it away \
             and start with an empty history"
        ),
        Error::Io { file, source } if file == "." => no_directory(path, source),
        error => format!("cannot open the history in {shown}: {error}; name another directory with --data"),
    }
}

/// How much room there is, and how much is needed, for the least that is written.
fn no_room(config: &Config) -> String {
    let room = room(&config.data_dir, &config.limits);
    format!("{room}; free some space, lower these, or name a directory on another disk with --data")
}

/// How much room is left in the directory at `path`, and how much the history takes at a time, as a part of a sentence.
pub fn room(path: &Path, limits: &Limits) -> String {
    let free = free_bytes_at(path).map_or("too little".to_owned(), size);
    let (segment, reserve) = (limits.segment_bytes, limits.disk_reserve_bytes);
    format!(
        "{free} free in {}, {} needed: a segment of {} (limits.segment_bytes) and {} that stay free (limits.disk_reserve_bytes)",
        absolute(path).display(),
        size(segment.saturating_add(reserve)),
        size(segment),
        size(reserve)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("corsac-data-dir-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let directory = Directory::new("strangers");
        assert_eq!(check(&directory.0), Ok(()), "empty");
        assert_eq!(check(&directory.0.join("missing")), Ok(()));
        for name in ["lost+found", ".gitkeep", "lock", "segment-000000000001.log.new"] {
            fs::write(directory.0.join(name), "").unwrap();
            assert_eq!(check(&directory.0), Ok(()), "{name}");
        }
        fs::write(directory.0.join(".profile"), "").unwrap();
        let refused = check(&directory.0).unwrap_err();
        assert!(refused.contains("(.profile)"), "{refused}");
        fs::remove_file(directory.0.join(".profile")).unwrap();
        fs::write(directory.0.join("notes.txt"), "").unwrap();
        fs::write(directory.0.join("segment-of-a-novel.txt"), "").unwrap();
        let refused = check(&directory.0).unwrap_err();
        assert!(refused.contains("(notes.txt and 1 more)") && refused.contains("--data"), "{refused}");
        fs::write(directory.0.join("identity"), "").unwrap();
        assert_eq!(check(&directory.0), Ok(()), "what is ours is judged where it is opened");
    }

    #[test]
    fn what_is_no_directory_is_named_with_the_way_out() {
        let directory = Directory::new("file");
        let file = directory.0.join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let refused = check(&path).unwrap_err();
            assert!(refused.contains("is no directory") && refused.contains("--data"), "{refused}");
        }
        for (kind, expected) in [
            (io::ErrorKind::PermissionDenied, "chown"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only"),
            (io::ErrorKind::StorageFull, "no room"),
            (io::ErrorKind::Other, "--memory"),
        ] {
            let refused = no_directory(Path::new("/x"), &kind.into());
            assert!(refused.contains("/x") && refused.contains(expected), "{refused}");
        }
    }
}
