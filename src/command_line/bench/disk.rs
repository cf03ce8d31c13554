//! The syncs that a disk can do in a second, to be read beside the rate of a router that stores before it acknowledges.
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes written before each sync.
const WRITTEN: [u8; 4096] = [0xA5; 4096];
/// Reserved before, as a log does: where a file grows with each write, each sync has its length to store too.
const RESERVED_BYTES: u64 = 64 * 1024 * 1024;

/// Writes 4 KiB and syncs (`fdatasync`) in a loop for `time`, one after the other in a file of its own in `directory`; how often
/// in a second. The file is reserved before, where the file system can.
pub(super) fn syncs_per_second(directory: &Path, time: Duration) -> Result<f64, String> {
    let path = directory.join(format!("corsac-bench-{}.tmp", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let measured = file.and_then(|file| measure(file, time));
    fs::remove_file(&path).ok();
    measured.map_err(|error| format!("cannot measure the disk of {}: {error}", directory.display()))
}

fn measure(mut file: File, time: Duration) -> std::io::Result<f64> {
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVED_BYTES).ok();
    file.sync_all()?;
    let start = Instant::now();
    let mut syncs = 0_u32;
    loop {
        file.write_all(&WRITTEN)?;
        file.sync_data()?;
        syncs += 1;
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok(f64::from(syncs) / elapsed.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_counted_and_nothing_is_left() {
        let directory = std::env::temp_dir().join(format!("corsac-disk-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        assert!(syncs_per_second(&directory, Duration::from_millis(20)).unwrap() > 0.0);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir(&directory).unwrap();
        let refused = syncs_per_second(&directory, Duration::ZERO).unwrap_err();
        assert!(refused.contains(&*directory.to_string_lossy()), "{refused}");
    }
}
