//! The log of the router: lines that a thread of their own writes, so that a slow or closed reader holds up nobody.
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use corsac::model::limits::MAX_LOG_WAITING;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The time for which the end of the process waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// One thing for the thread to do.
enum Job {
    /// Write these bytes.
    Line(Vec<u8>),
    /// Say that everything before has been written.
    Flush(SyncSender<()>),
}

/// Where lines are put; what finds no room is counted and lost.
#[derive(Clone)]
struct Lines {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the thread that writes to `out`.
    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(MAX_LOG_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(out, &waiting, &counted))?;
        Ok(Lines { jobs, lost })
    }

    /// Waits, not for long, until everything is written.
    fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        // A queue that is full belongs to a reader that reads nothing.
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            is_done.recv_timeout(PATIENCE).ok();
        }
    }
}

/// One call is one line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::Line(line.to_vec())) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Writes what comes. An error is nobody's to mend: a log without a reader is no reason to stop. The loss of lines is told behind
/// those that waited before them.
fn write_all(mut out: impl Write, jobs: &Receiver<Job>, lost: &AtomicU64) {
    let mut written = 0;
    loop {
        let next = jobs.try_recv();
        if next.is_err() || written >= MAX_LOG_WAITING {
            written = 0;
            match lost.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => drop(writeln!(out, "WARN {lost} lines of this log were lost: its reader was too slow")),
            }
        }
        match next.or_else(|_| jobs.recv()) {
            Ok(Job::Line(line)) => drop(out.write_all(&line)),
            Ok(Job::Flush(done)) => drop(done.send(())),
            Err(_) => return,
        }
        written += 1;
    }
}

/// The log while the router runs; its end writes the last lines.
pub struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Sends the log to standard error from now on, coloured where that is a terminal which shows colours; a panic is a line of it.
pub fn start(log: &str) -> Result<Log, String> {
    let filter = EnvFilter::try_new(directives(log)).map_err(|error| format!("--log {log}: {error}"))?;
    let lines = Lines::start(io::stderr())
        .map_err(|error| format!("cannot start a thread: {error}; raise the limit of processes (ulimit -u)"))?;
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() && !is_dumb;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone()).with_ansi(colour).init();
    std::panic::set_hook(Box::new(|panic| {
        // A panic of sled over damaged files is caught where they are opened.
        if panic.location().is_some_and(|place| place.file().contains("sled")) {
            return tracing::debug!(target: "corsac", "{panic}");
        }
        tracing::error!(target: "corsac", "a fault of the router's own: {panic}; please report it");
    }));
    Ok(Log(lines))
}

/// A level that stands alone is the router's: below info, what its libraries say of themselves would drown it.
fn directives(log: &str) -> String {
    let ours = |part: &str| match part.to_ascii_lowercase().as_str() {
        level @ ("debug" | "trace") => format!("info,corsac={level}"),
        part => part.to_owned(),
    };
    log.split(',').map(ours).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use parking_lot::Mutex;

    use super::*;

    /// A reader that reads when it is let.
    #[derive(Clone, Default)]
    struct Slow {
        gate: Arc<Mutex<()>>,
        read: Arc<Mutex<String>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _gate = self.gate.lock();
            self.read.lock().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A pipe whose other end is closed.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_slow_reader_holds_up_nobody_and_is_told_what_it_missed() {
        let slow = Slow::default();
        let lines = Lines::start(slow.clone()).unwrap();
        let closed = slow.gate.lock();
        let (done, is_done) = channel();
        let writing = lines.clone();
        std::thread::spawn(move || {
            (0..MAX_LOG_WAITING + 100).for_each(|n| (&writing).write_all(format!("line {n}\n").as_bytes()).unwrap());
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(10)).expect("the writer of lines does not wait");
        drop(closed);
        while slow.read.lock().matches("lost").count() == 0 {
            std::thread::yield_now();
        }
        lines.flush();
        let read = slow.read.lock().clone();
        assert!(read.starts_with("line 0\nline 1\n"), "{read}");
        let lost: u64 = read.lines().find_map(|line| line.strip_prefix("WARN ")?.split(' ').next()?.parse().ok()).unwrap();
        assert_eq!(lost as usize + read.matches("line ").count(), MAX_LOG_WAITING + 100);
    }

    #[test]
    fn a_level_alone_is_the_routers() {
        for (log, expected) in [
            ("INFO", "info"),
            ("debug", "info,corsac=debug"),
            ("TRACE,sled=off", "info,corsac=trace,sled=off"),
            ("off,corsac::net=debug", "off,corsac::net=debug"),
        ] {
            assert_eq!(directives(log), expected);
            assert!(EnvFilter::try_new(directives(log)).is_ok());
        }
    }

    #[test]
    fn a_closed_pipe_is_no_fault() {
        let lines = Lines::start(Broken).unwrap();
        for _ in 0..10 {
            (&lines).write_all(b"a line\n").unwrap();
        }
        lines.flush();
        (&lines).write_all(b"a line\n").unwrap();
    }
}
