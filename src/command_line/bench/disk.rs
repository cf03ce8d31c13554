//! How often a disk can sync: what no router that stores before it acknowledges can outrun one by one.
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes appended before each sync.
const APPENDED: [u8; 4096] = [0xA5; 4096];

/// Appends 4 KiB and syncs (`fdatasync`) in a loop for `time`, in a file of its own in `directory`; how often in a second.
pub(super) fn syncs_per_second(directory: &Path, time: Duration) -> Result<f64, String> {
    let path = directory.join(format!("corsac-bench-{}.tmp", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let measured = file.and_then(|file| measure(file, time));
    fs::remove_file(&path).ok();
    measured.map_err(|error| format!("cannot measure the disk of {}: {error}", directory.display()))
}

fn measure(mut file: File, time: Duration) -> std::io::Result<f64> {
    let start = Instant::now();
    let mut syncs = 0_u32;
    loop {
        file.write_all(&APPENDED)?;
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
