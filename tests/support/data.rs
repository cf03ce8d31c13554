//! A test's own directory, and a router with its history in it.
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::router::Router;

/// A directory that goes with its test; that of a failed one stays to be looked at.
pub struct Data(pub PathBuf);

impl Data {
    /// A path where nothing is yet.
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let binary = std::env::current_exe().unwrap();
        let binary = binary.file_stem().unwrap().to_string_lossy().into_owned();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Data(std::env::temp_dir().join(format!("corsac-{binary}-{}-{number}", std::process::id())))
    }

    /// The same, with a directory there.
    pub fn created() -> Self {
        let data = Data::new();
        std::fs::create_dir_all(&data.0).unwrap();
        data
    }

    /// A router with its history there. Dropping it is SIGKILL.
    pub fn start(&self) -> Router {
        Router::start_in(&self.0, "")
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }
}
