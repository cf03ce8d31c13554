//! A router and clients as processes of their own, none of which outlives its test.
#![allow(dead_code, clippy::expect_used)] // not every test uses all of it
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The time after which anything here counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn corsac(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corsac"));
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that does not outlive its test.
pub struct Running {
    pub child: Child,
    pub stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().map(BufReader::new);
        Running { child, stdout }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().expect("not closed").read_line(&mut line).expect("UTF-8");
        line.trim_end().to_owned()
    }

    /// The next line of what it says on stderr, for people.
    pub fn said(&mut self) -> String {
        // Byte by byte: what is behind the line stays for whoever reads on.
        let stderr = self.child.stderr.as_mut().expect("piped");
        let mut line = Vec::new();
        let mut byte = [0];
        while stderr.read(&mut byte).expect("a pipe") == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("UTF-8")
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Exit code and what is left of stdout and stderr.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("a child of ours") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.as_mut().map(|pipe| pipe.read_to_string(&mut stdout)).transpose().expect("UTF-8");
        self.child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut stderr)).transpose().expect("UTF-8");
        (status.code(), stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A router of its own for each test.
pub struct Router {
    pub running: Running,
    /// HOST:PORT of the one port.
    pub http: String,
    /// HOST:PORT of MQTT alone.
    pub mqtt: String,
}

impl Router {
    pub fn start() -> Self {
        Self::start_with(&["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--memory"])
    }

    /// On these ports (0 for any), with its history in this directory.
    pub fn start_on(http: &str, mqtt: &str, data: &str) -> Self {
        Self::start_with(&["--http", http, "--mqtt", mqtt, "--data", data])
    }

    pub fn start_with(flags: &[&str]) -> Self {
        let mut command = corsac(&["run"]);
        command.args(flags).stderr(Stdio::inherit());
        let mut running = Running::start(command);
        let (mut http, mut mqtt) = (String::new(), String::new());
        loop {
            let line = running.line();
            let Some(url) = line.split_whitespace().next() else { continue };
            if let Some(address) = url.strip_prefix("rs://") {
                http = address.to_owned();
            }
            if let Some(address) = url.strip_prefix("mqtt://") {
                mqtt = address.to_owned(); // the last listener is the one for MQTT alone
            }
            if url == "Realm" {
                return Router { running, http, mqtt };
            }
        }
    }

    /// Flags that lead a client here, one set for each way.
    pub fn ways(&self) -> Vec<Vec<String>> {
        let way = |url: String, more: &[&str]| {
            let mut way = vec!["--url".to_owned(), url];
            way.extend(more.iter().map(|text| (*text).to_owned()));
            way
        };
        vec![
            way(format!("ws://{}/ws", self.http), &[]),
            way(format!("ws://{}/ws", self.http), &["--serializer", "msgpack"]),
            way(format!("rs://{}", self.http), &["--serializer", "cbor"]),
            way(format!("mqtt://{}", self.mqtt), &[]),
            way(format!("mqtt://{}", self.http), &["--realm", "realm1"]),
        ]
    }

    pub fn ws(&self) -> String {
        format!("ws://{}/ws", self.http)
    }

    pub fn mqtt(&self) -> String {
        format!("mqtt://{}", self.mqtt)
    }
}
