//! Processor time and memory of processes and threads, as the system tells them in /proc.
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
    /// The processes that listen at `addresses`, which have to be the same user's; `pid` if that was given.
    pub(super) fn find(addresses: &[SocketAddr], pid: Option<u32>) -> Option<Self> {
        let mut pids = pid.map_or_else(|| addresses.iter().copied().flat_map(listening).collect(), |pid| vec![pid]);
        pids.sort_unstable();
        pids.dedup();
        if pids.is_empty() { None } else { Some(Router { pids }) }
    }

    /// Processor time that it has used, in seconds, user and system; `None` if one of its processes cannot be seen.
    pub(super) fn cpu_s(&self) -> Option<f64> {
        let of = |pid: &u32| cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
        Some(self.pids.iter().map(of).sum::<Option<f64>>()? / TICKS_PER_SECOND)
    }

    /// Resident memory in bytes; `None` if one of its processes cannot be seen.
    pub(super) fn rss_bytes(&self) -> Option<u64> {
        let of = |pid: &u32| rss_kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
        Some(self.pids.iter().map(of).sum::<Option<u64>>()? * 1024)
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
    let found: Vec<(Nearness, &str)> = lines.lines().filter_map(|line| inode(line, address)).collect();
    // Others may listen at the same port of other addresses: who is nearest gets the connections.
    let nearest = found.iter().map(|(nearness, _)| *nearness).min();
    let of_nearest = found.iter().filter(|(nearness, _)| Some(*nearness) == nearest);
    let sockets: Vec<String> = of_nearest.map(|(_, inode)| format!("socket:[{inode}]")).collect();
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

/// The exactness with which a socket listens at an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Nearness {
    /// At this one.
    Same,
    /// At all of its kind.
    Any,
    /// At all, of IPv6 and IPv4.
    AnyOfBoth,
}

/// The inode in a line of /proc/net/tcp, if that is a socket that listens at `address`, and how exactly.
fn inode(line: &str, address: SocketAddr) -> Option<(Nearness, &str)> {
    const LISTENS: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (host, port) = fields.get(1)?.rsplit_once(':')?;
    if *fields.get(3)? != LISTENS || u16::from_str_radix(port, 16).ok()? != address.port() {
        return None;
    }
    // Addresses stand there as numbers in the order of the machine, which is not that of the network.
    let words = |octets: &[u8]| {
        let word = |word: &[u8]| word.iter().rev().map(|byte| format!("{byte:02X}")).collect::<String>();
        octets.chunks(4).map(word).collect::<String>()
    };
    let (own, mapped) = match address.ip() {
        IpAddr::V4(ip) => (words(&ip.octets()), words(&ip.to_ipv6_mapped().octets())),
        IpAddr::V6(ip) => (words(&ip.octets()), String::new()),
    };
    let is_any = host.bytes().all(|digit| digit == b'0');
    let nearness = if host == own || host == mapped {
        Nearness::Same
    } else if is_any && host.len() == own.len() {
        Nearness::Any
    } else if is_any && address.is_ipv4() {
        Nearness::AnyOfBoth
    } else {
        return None;
    };
    Some((nearness, fields.get(9)?))
}

/// A thread of this process.
#[derive(Clone, Debug)]
pub(super) struct Thread(PathBuf);

/// The time of a thread so far.
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

    /// Its time so far; `None` where the system does not say or the thread has ended.
    pub(super) fn times(&self) -> Option<ThreadTimes> {
        let text = fs::read_to_string(self.0.join("schedstat")).ok()?;
        let mut seconds = text.split_ascii_whitespace().map(|number| Some(number.parse::<f64>().ok()? / 1e9));
        Some(ThreadTimes { running_s: seconds.next()??, waiting_s: seconds.next()?? })
    }
}

/// The files that this process may have open.
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
    fn who_listens_nearest_is_the_router() {
        let nearness = |host: &str, address: &str| {
            let line = format!("0: {host}:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1");
            inode(&line, address.parse().unwrap()).map(|(nearness, _)| nearness)
        };
        let (v4, v6) = ("127.0.0.1:80", "[::1]:80");
        let (any_v4, any_v6) = ("0".repeat(8), "0".repeat(32));
        assert_eq!(nearness("0100007F", v4), Some(Nearness::Same));
        assert_eq!(nearness("0000000000000000FFFF00000100007F", v4), Some(Nearness::Same));
        assert_eq!(nearness("00000000000000000000000001000000", v6), Some(Nearness::Same));
        assert_eq!((nearness(&any_v4, v4), nearness(&any_v6, v6)), (Some(Nearness::Any), Some(Nearness::Any)));
        assert_eq!((nearness(&any_v6, v4), nearness(&any_v4, v6)), (Some(Nearness::AnyOfBoth), None));
        assert_eq!((nearness("0200007F", v4), nearness("0100007F", "127.0.0.1:81")), (None, None));
    }

    #[test]
    fn memory_and_processor_time_are_read() {
        let this = Router { pids: vec![std::process::id()] };
        assert!(this.rss_bytes().unwrap() > 100_000);
        assert_eq!(cpu_ticks("1 (a) b) S 1 1 1 0 -1 4 1 0 0 0 150 50 0 0 20"), Some(200.0));
        assert_eq!(cpu_ticks("1 (cut"), None);
        let gone = Router { pids: vec![std::process::id(), u32::MAX] };
        assert_eq!((gone.cpu_s(), gone.rss_bytes()), (None, None));
    }

    #[test]
    fn a_busy_thread_shows() {
        let thread = Thread::current().unwrap();
        let start = std::time::Instant::now();
        let mut sum = 0_u64;
        while start.elapsed().as_millis() < 30 {
            sum = std::hint::black_box(sum + 1);
        }
        let times = thread.times().unwrap();
        assert!(times.running_s + times.waiting_s > 0.02, "{times:?}");
    }
}
