//! The data directory before and while it is opened: whose it is, how much room it has, and what to do where it cannot be used.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::amount::size;
use crate::model::Limits;
use crate::store::disk::free_bytes_at;
use crate::store::{Error, log};

/// Whether a start could use the directory at `path`, as far as that shows without reading the history: a sentence about it, or why
/// not and what to do. Nothing is made there.
pub fn probe(path: &Path, limits: &Limits) -> Result<String, String> {
    check(path)?;
    let shown = absolute(path);
    let shown = shown.display();
    if !path.exists() {
        let parent = nearest(path);
        is_writable(&parent).map_err(|error| no_directory(path, &error))?;
        has_room(&parent, limits)?;
        return Ok(format!("{shown} does not exist and can be made"));
    }
    is_writable(path).map_err(|error| no_directory(path, &error))?;
    match log::probe(path).map_err(|error| refusal(path, limits, &error))? {
        Some(format) => Ok(format!("{shown} has a history of format {format}, and nobody uses it")),
        None => has_room(path, limits).map(|()| format!("{shown} is empty and can be used")),
    }
}

/// The directory above that exists.
fn nearest(path: &Path) -> PathBuf {
    let path = absolute(path);
    path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn is_writable(path: &Path) -> io::Result<()> {
    use rustix::fs::Access;
    Ok(rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether the first segment has room on the disk of `path`.
fn has_room(path: &Path, limits: &Limits) -> Result<(), String> {
    let needed = limits.segment_bytes.saturating_add(limits.disk_reserve_bytes);
    let is_enough = free_bytes_at(path).is_ok_and(|free| free >= needed);
    if is_enough { Ok(()) } else { Err(refusal(path, limits, &Error::NoSpace)) }
}

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

/// Why the history in the directory at `path` cannot be opened or read, and what to do.
pub fn refusal(path: &Path, limits: &Limits, error: &Error) -> String {
    let shown = absolute(path);
    let shown = shown.display();
    match error {
        Error::Locked(holder) => {
            let holder = holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            format!("{shown} is in use by {holder}: stop that one, or name another directory with --data")
        }
        Error::NoSpace => {
            format!("{}; free some space, lower these, or name a directory on another disk with --data", room(path, limits))
        }
        Error::NewerFormat { found, known } => format!(
            "{shown} has format {found}, and this program knows formats up to {known}: start the newer Corsac that wrote it, or name \
             another directory with --data"
        ),
        Error::Corrupt { .. } | Error::RecordMissing { .. } | Error::UnknownVersion { .. } => format!(
            "cannot open the history in {shown}: {error}. Nothing was changed. Restore a copy of the whole directory, or move it away \
             and start with an empty history"
        ),
        Error::Io { file, source } if file == "." => no_directory(path, source),
        error => format!("cannot open the history in {shown}: {error}; name another directory with --data"),
    }
}

/// The room that is left in the directory at `path`, and the room that the history takes at a time, as a part of a sentence.
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
    fn a_probe_makes_nothing() {
        let directory = Directory::new("probe");
        let (new, limits) =
            (directory.0.join("a/b"), Limits { segment_bytes: 1 << 20, disk_reserve_bytes: 0, ..Limits::default() });
        assert!(probe(&new, &limits).is_ok_and(|line| line.ends_with("a/b does not exist and can be made")));
        assert!(probe(&directory.0, &limits).is_ok_and(|line| line.ends_with("is empty and can be used")));
        let greedy = Limits { disk_reserve_bytes: 1 << 62, ..limits.clone() };
        assert!(probe(&new, &greedy).is_err_and(|problem| problem.contains("needed: a segment of 1 MiB (limits.segment_bytes)")));
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
        fs::write(directory.0.join("identity"), "no identity").unwrap();
        assert!(probe(&directory.0, &limits).is_err_and(|problem| problem.contains("identity is damaged")));
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
