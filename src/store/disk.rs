//! The disk as the log needs it, and the disk of the operating system.
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One directory without subdirectories. Nothing survives a power cut before it is synced, files and their names separately.
pub trait Disk: Clone + Send + Sync + 'static {
    /// A file of it.
    type File: DiskFile;

    /// Takes the directory for this process as long as any clone of this value lives; `false` if another one has it.
    fn lock(&self) -> io::Result<bool>;
    /// The process that has taken the directory, if it says so.
    fn holder(&self) -> Option<u32> {
        None
    }
    /// The names of its files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A file that exists, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// A new file, empty; a file of this name is emptied.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Gives a file another name, atomically; a file that has it is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what happened to names survive a power cut.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that this process could still write.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file. Readers and the writer share it; only one value writes.
pub trait DiskFile: Send + Sync + 'static {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Reads at `offset` until `buffer` is full or the file ends; says how much.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Extends it with zeros to `length` and reserves the space, so that writing there needs no more.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Cuts it to `length`.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes its content survive a power cut (`fdatasync`). After a failure the content is unknown.
    fn sync(&self) -> io::Result<()>;
    /// Lets synced bytes of this range leave memory: a later reader of them can wait for the disk.
    fn release(&self, range: Range<u64>);
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct OsDisk {
    path: PathBuf,
    lock: Arc<File>,
}

const LOCK_FILE: &str = "lock";

impl OsDisk {
    /// The directory at `path`, made if it is missing, readable by its owner alone.
    pub fn new(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        if !path.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            // The directory's own name must survive too.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path.join(LOCK_FILE))?;
        Ok(OsDisk { path: path.to_owned(), lock: Arc::new(lock) })
    }
}

impl Disk for OsDisk {
    type File = File;

    fn lock(&self) -> io::Result<bool> {
        match self.lock.try_lock() {
            Ok(()) => {
                // For whoever finds the directory taken; without it the lock is as good.
                let pid = std::process::id().to_string();
                self.lock.set_len(0).and_then(|()| self.lock.write_all_at(pid.as_bytes(), 0)).ok();
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn holder(&self) -> Option<u32> {
        fs::read_to_string(self.path.join(LOCK_FILE)).ok()?.trim().parse().ok()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && entry.file_type()?.is_file()
                && name != LOCK_FILE
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        free_bytes_at(&self.path)
    }
}

/// Bytes that are left to this user on the disk of `path`.
pub fn free_bytes_at(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let present = self.length()?;
        if length <= present {
            return Ok(());
        }
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), present, length - present) {
            // Some file systems cannot reserve; then a full disk shows when writing.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.set_len(length),
            result => Ok(result?),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn release(&self, range: Range<u64>) {
        #[cfg(target_os = "linux")]
        if let Some(length) = std::num::NonZeroU64::new(range.end.saturating_sub(range.start)) {
            // Advice: where it is not taken, nothing is lost.
            let _ = rustix::fs::fadvise(self, range.start, Some(length), rustix::fs::Advice::DontNeed);
        }
    }
}

/// True for what a full disk or an exhausted quota says.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
