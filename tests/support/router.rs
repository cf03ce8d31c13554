//! The real binary as a child process: started on free ports, asked for its figures, stopped.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The longest time for anything that takes no time.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running router, killed when it goes out of scope.
pub struct Router {
    child: Mutex<Child>,
    pid: u32,
    /// Kept open: the router may write to it.
    _stdout: BufReader<ChildStdout>,
    config: PathBuf,
    /// The port for MQTT alone.
    pub mqtt: SocketAddr,
    /// The one port: HTTP, WebSocket, RawSocket, MQTT.
    pub http: SocketAddr,
}

impl Router {
    /// Starts it in memory with a configuration file of these lines; both listeners and realms on demand are added.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &["--memory", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"], None)
    }

    /// The same, with its history in this directory. Dropping it is SIGKILL.
    pub fn start_in(data: &Path, config: &str) -> Self {
        let data = data.to_str().unwrap();
        Self::start_with(config, &["--data", data, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"], None)
    }

    /// The same; what it has to say goes to this file, warnings too.
    pub fn start_saying(data: &Path, config: &str, said: &Path) -> Self {
        Self::start_telling(data, config, "warn", said)
    }

    /// The same; what it has to say from this level on goes to this file.
    pub fn start_telling(data: &Path, config: &str, level: &str, said: &Path) -> Self {
        let data = data.to_str().unwrap();
        let said = std::fs::File::create(said).unwrap();
        Self::start_at(config, &["--data", data, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"], None, (level, Some(said)))
    }

    /// In memory, with this log level; what it has to say goes to this file.
    pub fn start_logging(config: &str, level: &str, said: &Path) -> Self {
        let said = std::fs::File::create(said).unwrap();
        let flags = ["--memory", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];
        Self::start_at(config, &flags, None, (level, Some(said)))
    }

    /// The same on these ports.
    pub fn start_on_disk(data: &Path, http: &str, mqtt: &str) -> Self {
        let data = data.to_str().unwrap();
        Self::start_with("", &["--data", data, "--http", http, "--mqtt", mqtt], None)
    }

    /// The same; it aborts at the failpoint, as in `after_sync:7`, where it is a debug build.
    pub fn start_failing(data: &std::path::Path, failpoint: Option<&str>) -> Self {
        let data = data.to_str().unwrap();
        Self::start_with("", &["--data", data, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"], failpoint)
    }

    fn start_with(config: &str, flags: &[&str], failpoint: Option<&str>) -> Self {
        Self::start_at(config, flags, failpoint, ("error", None))
    }

    fn start_at(config: &str, flags: &[&str], failpoint: Option<&str>, log: (&str, Option<std::fs::File>)) -> Self {
        let (level, said) = log;
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("corsac-test-{}-{}.toml", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let realms = if config.contains("auto_create_realms") { "" } else { "auto_create_realms = true\n" };
        std::fs::write(&path, format!("{realms}{config}")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_corsac"))
            .arg("run")
            .args(flags)
            .args(["--log", level, "--config"])
            .arg(&path)
            .env_clear()
            .envs(failpoint.map(|failpoint| ("FAILPOINT", failpoint)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said.map_or_else(Stdio::inherit, Stdio::from))
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (http, mqtt) = ports(&mut stdout);
        Router { pid: child.id(), child: Mutex::new(child), _stdout: stdout, config: path, mqtt, http }
    }

    /// Ends it as a power loss does: nothing is said, nothing is written.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks it to stop, as a service manager does.
    pub fn terminate(&self) {
        assert_eq!(self.page("/healthz"), "ok");
        let status = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.pid())).status().unwrap();
        assert!(status.success());
    }

    /// Its exit status; panics if it has not gone within `patience`.
    pub fn wait(&self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.lock().unwrap().try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the router has not stopped within {patience:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// True while the process lives.
    pub fn is_alive(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }

    /// Processor time that it has used, in milliseconds, counted in steps of ten.
    pub fn cpu_ms(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
        ticks.sum::<u64>() * 10
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The body of a page.
    pub fn page(&self, path: &str) -> String {
        self.ask(path, &self.http.to_string()).1
    }

    /// Head and body of the answer to a request that names this host.
    pub fn ask(&self, path: &str, host: &str) -> (String, String) {
        let mut socket = TcpStream::connect(self.http).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_owned(), body.to_owned())
    }

    /// A figure of the status page, of the router or summed over its realms.
    pub fn figure(&self, name: &str) -> u64 {
        let status: serde_json::Value = serde_json::from_str(&self.page("/status.json")).unwrap();
        match status.get(name) {
            Some(value) => value.as_u64().unwrap(),
            None => status["realms"].as_array().unwrap().iter().map(|realm| realm[name].as_u64().unwrap()).sum(),
        }
    }

    /// Waits until a figure fits; panics with the last one after 10 s.
    pub fn await_figure(&self, name: &str, fits: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let figure = self.figure(name);
            if fits(figure) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} stays at {figure}");
        }
    }
}

/// The addresses that the first lines of the router name.
fn ports(stdout: &mut impl BufRead) -> (SocketAddr, SocketAddr) {
    let (mut http, mut mqtt) = (None, None);
    for line in stdout.lines() {
        let line = line.unwrap();
        let url = line.split_whitespace().next().unwrap_or_default();
        if let Some(address) = url.strip_prefix("http://") {
            http = address.trim_end_matches('/').parse().ok();
        }
        if let Some(address) = url.strip_prefix("mqtt://") {
            mqtt = address.parse().ok(); // the last one is the listener for MQTT alone
        }
        if line.contains("curl ") {
            break; // the last line
        }
    }
    (http.expect("an HTTP listener"), mqtt.expect("an MQTT listener"))
}

impl Drop for Router {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        child.kill().ok();
        child.wait().ok();
        std::fs::remove_file(&self.config).ok();
    }
}
