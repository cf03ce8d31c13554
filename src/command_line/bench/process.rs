//! What the system says about processes and threads: processor time and memory, read from /proc.
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Ticks of the processor times in /proc/PID/stat to a second; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A router, as far as its processes can be seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Router {
    /// The processes, mostly one.
    pub pids: Vec<u32>,
}

impl Router {
    /// The processes that listen at `address`, which have to be the same user's; `pid` if that was given.
    pub(super) fn find(address: SocketAddr, pid: Option<u32>) -> Option<Self> {
        let pids = pid.map_or_else(|| listening(address), |pid| vec![pid]);
        if pids.is_empty() { None } else { Some(Router { pids }) }
    }

    /// Processor time that it has used, in seconds, user and system.
    pub(super) fn cpu_s(&self) -> f64 {
        self.pids.iter().filter_map(|pid| cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).sum::<f64>()
            / TICKS_PER_SECOND
    }

    /// Resident memory in bytes.
    pub(super) fn rss_bytes(&self) -> u64 {
        let of = |pid: &u32| rss_kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
        self.pids.iter().filter_map(of).sum::<u64>() * 1024
    }
}

/// Fields 14 and 15 of /proc/PID/stat; the second field, in parentheses, may hold anything.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}

fn rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Processes of this user that hold a socket that listens at `address`.
fn listening(address: SocketAddr) -> Vec<u32> {
    let table = if address.is_ipv4() { ["/proc/net/tcp", "/proc/net/tcp6"] } else { ["/proc/net/tcp6", "/proc/net/tcp"] };
    let lines = table.iter().filter_map(|path| fs::read_to_string(path).ok()).collect::<String>();
    let sockets: Vec<String> =
        lines.lines().filter_map(|line| inode(line, address)).map(|inode| format!("socket:[{inode}]")).collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| holds_one_of(*pid, &sockets))
        .collect()
}

fn holds_one_of(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|file| sockets.iter().any(|socket| file.to_str() == Some(socket)))
}

/// The inode in a line of /proc/net/tcp, if that is a socket that listens at `address`.
fn inode(line: &str, address: SocketAddr) -> Option<&str> {
    const LISTENS: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (host, port) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == LISTENS && u16::from_str_radix(port, 16).ok()? == address.port();
    let any = host.bytes().all(|digit| digit == b'0');
    // Addresses stand there as numbers in the order of the machine, which is not that of the network.
    let same = match address.ip() {
        IpAddr::V4(ip) => host == format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let words: String = ip
                .octets()
                .chunks(4)
                .map(|word| word.iter().rev().map(|byte| format!("{byte:02X}")).collect::<String>())
                .collect();
            host == words
        }
    };
    if listens && (any || same) { fields.get(9).copied() } else { None }
}

/// A thread of this process.
#[derive(Clone, Debug)]
pub(super) struct Thread(PathBuf);

/// What a thread has used so far.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct ThreadTimes {
    /// Time on a processor, in seconds.
    pub running_s: f64,
    /// Time for which it could have run, but no processor was free, in seconds.
    pub waiting_s: f64,
}

impl Thread {
    /// The thread that calls this.
    pub(super) fn current() -> Option<Self> {
        Some(Thread(PathBuf::from("/proc").join(fs::read_link("/proc/thread-self").ok()?)))
    }

    /// What it has used so far; zero where the system does not say or the thread has ended.
    pub(super) fn times(&self) -> ThreadTimes {
        let text = fs::read_to_string(self.0.join("schedstat")).unwrap_or_default();
        let mut numbers = text.split_ascii_whitespace().map(|number| number.parse::<f64>().unwrap_or(0.0) / 1e9);
        ThreadTimes { running_s: numbers.next().unwrap_or(0.0), waiting_s: numbers.next().unwrap_or(0.0) }
    }
}

/// How many files this process may have open.
pub(super) fn open_files_limit() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_socket() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let mut address = listener.local_addr().unwrap();
            if address.ip().is_unspecified() {
                address.set_ip("127.0.0.1".parse().unwrap());
            }
            assert_eq!(listening(address), [std::process::id()]);
            drop(listener);
            assert!(listening(address).is_empty());
        }
    }

    #[test]
    fn memory_and_processor_time_are_read() {
        let this = Router { pids: vec![std::process::id()] };
        assert!(this.rss_bytes() > 100_000);
        assert_eq!(cpu_ticks("1 (a) b) S 1 1 1 0 -1 4 1 0 0 0 150 50 0 0 20"), Some(200.0));
        assert_eq!(cpu_ticks("1 (cut"), None);
        assert_eq!(Router { pids: vec![u32::MAX] }.cpu_s(), 0.0);
    }

    #[test]
    fn a_busy_thread_shows() {
        let thread = Thread::current().unwrap();
        let start = std::time::Instant::now();
        let mut sum = 0_u64;
        while start.elapsed().as_millis() < 30 {
            sum = std::hint::black_box(sum + 1);
        }
        let times = thread.times();
        assert!(times.running_s + times.waiting_s > 0.02, "{times:?}");
    }
}
