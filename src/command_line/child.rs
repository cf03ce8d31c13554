//! A command that serves one call: arguments on its standard input, result on its standard output.
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use corsac::model::names;
use parking_lot::Mutex;

use super::client::Outcome;
use super::client::body::Body;
use super::failure::Failure;

/// The most that a command may print, in bytes: what a message can carry.
const MAX_OUTPUT_BYTES: u64 = 16 << 20;
/// Bytes that are told of its standard error.
const MAX_ERROR_BYTES: u64 = 16 << 10;

/// A running command that can be stopped.
pub struct Running(Arc<Mutex<Child>>);

impl Running {
    /// This child.
    pub fn of(child: Arc<Mutex<Child>>) -> Self {
        Running(child)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.lock().id()
    }

    /// Kills the command; its outcome is told all the same.
    pub fn kill(&self) {
        self.0.lock().kill().ok(); // it may have ended by itself
    }
}

/// The exit codes of shells for a command that does not exist, and for one that may not run.
const NOT_FOUND: u8 = 127;
pub const NOT_EXECUTABLE: u8 = 126;

/// Refuses a program that cannot be started, as shells do: with 127 if it does not exist, with 126 if it may not run.
pub fn check(program: &str) -> Result<(), Failure> {
    let found = match program.contains('/') {
        true => Some(PathBuf::from(program)).filter(|path| path.exists()),
        false => {
            let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
            let all: Vec<PathBuf> = std::env::split_paths(&path).map(|directory| directory.join(program)).collect();
            let executable = all.iter().find(|path| may_run(path));
            executable.or_else(|| all.iter().find(|path| path.is_file())).cloned()
        }
    };
    match found {
        Some(path) if may_run(&path) => Ok(()),
        Some(path) => {
            let path = path.display();
            Err(Failure::with_code(format!("cannot run {path}: it is no executable file; try chmod +x"), NOT_EXECUTABLE))
        }
        None => Err(Failure::with_code(format!("cannot run {program}: there is no such command; check the name"), NOT_FOUND)),
    }
}

fn may_run(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Starts `program` with `arguments` and `input`. `on_end` is called on a thread of its own with its output as the result: JSON
/// if it parses, else text. Any exit status but 0 is an error with the text of standard error.
pub fn start(
    program: &str,
    arguments: &[String],
    input: String,
    on_end: impl FnOnce(Outcome) + Send + 'static,
) -> Result<Running, Outcome> {
    let spawned =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| failed(&format!("cannot run {program}: {error}")))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let child = Arc::new(Mutex::new(child));
    let running = Running(child.clone());
    thread::spawn(move || {
        // A command need not read its input, nor wait for all of it before it prints.
        thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let said = thread::spawn(move || stderr.map(first_of).unwrap_or_default());
        let mut printed = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut printed));
        let is_too_long = printed.len() as u64 > MAX_OUTPUT_BYTES;
        if is_too_long || read.is_err() {
            Running(child.clone()).kill();
        }
        let status = wait(&child);
        let said = said.join().unwrap_or_default();
        on_end(if is_too_long {
            failed(&format!("it printed more than {MAX_OUTPUT_BYTES} bytes"))
        } else {
            outcome(status, printed, &said)
        });
    });
    Ok(running)
}

/// Waits without keeping the lock that `kill` needs.
pub fn wait(child: &Mutex<Child>) -> io::Result<ExitStatus> {
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.lock().try_wait()? {
            return Ok(status);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn outcome(status: io::Result<ExitStatus>, printed: Vec<u8>, said: &str) -> Outcome {
    match status {
        Ok(status) if status.success() => Outcome::Result(result(printed)),
        Ok(status) if said.trim().is_empty() => failed(&status.to_string()),
        Ok(_) => failed(said.trim()),
        Err(error) => failed(&error.to_string()),
    }
}

/// Text loses the line end that commands put behind what they print.
fn result(printed: Vec<u8>) -> Body {
    match std::str::from_utf8(&printed) {
        Ok(text) => Body::of_text(text.strip_suffix('\n').unwrap_or(text)),
        Err(_) => Body::of_message(printed.into(), None, None),
    }
}

fn failed(why: &str) -> Outcome {
    Outcome::Error(names::COMMAND_FAILED.to_owned(), Body::text(why))
}

/// The first part of what comes, all of it read so that the command is not stopped.
fn first_of(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    // Text that can no longer be read is not told.
    stderr.by_ref().take(MAX_ERROR_BYTES).read_to_end(&mut said).ok();
    io::copy(&mut stderr, &mut io::sink()).ok();
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn run(script: &str, input: &str) -> (Result<Running, Outcome>, mpsc::Receiver<Outcome>) {
        let (tx, rx) = mpsc::channel();
        let arguments = ["-c".to_owned(), script.to_owned()];
        (start("sh", &arguments, input.to_owned(), move |outcome| tx.send(outcome).unwrap()), rx)
    }

    fn told(outcome: Outcome) -> String {
        match outcome {
            Outcome::Result(body) => body.json(),
            Outcome::Error(uri, body) => format!("{uri} {}", body.arguments_json()),
        }
    }

    #[test]
    fn what_it_prints_is_the_result() {
        for (script, input, expected) in [
            ("cat", "[1,\"a\"]", "[1,\"a\"]"),
            ("echo hello", "[]", "\"hello\""),
            ("echo '{\"a\": 1}'", "[]", "{\"a\":1}"),
            ("true", "[]", "null"),
            ("printf '\\377'", "[]", "\"\\u0000/w==\""),
            ("exit 3", "[]", "corsac.error.command_failed [\"exit status: 3\"]"),
            ("echo ignored; echo why >&2; exit 1", "[]", "corsac.error.command_failed [\"why\"]"),
            ("yes why | head -100000 >&2; exit 0", "[]", "null"),
        ] {
            let (running, rx) = run(script, input);
            assert!(running.is_ok());
            assert_eq!(told(rx.recv().unwrap()), expected, "{script}");
        }
    }

    #[test]
    fn a_program_that_cannot_run_is_refused_as_shells_do() {
        let code = |program: &str| check(program).map_err(|failure| failure.code);
        assert_eq!(["sh", "/bin/sh"].map(code), [Ok(()), Ok(())]);
        assert_eq!(["corsac-no-such-command", "/no/such", "./no-such"].map(code), [Err(127); 3]);
        assert_eq!(["/etc/passwd", "/"].map(code), [Err(126); 2]);
    }

    #[test]
    fn input_that_nobody_reads_stops_nothing() {
        let (_running, rx) = run("echo 1", &"x".repeat(1 << 20));
        assert_eq!(told(rx.recv().unwrap()), "1");
    }

    #[test]
    fn it_can_be_killed_and_need_not_exist() {
        let (running, rx) = run("exec sleep 60", "[]");
        running.ok().unwrap().kill();
        assert!(told(rx.recv().unwrap()).contains("signal"));
        let refused = start("corsac-no-such-command", &[], String::new(), |_| {}).err().unwrap();
        assert!(told(refused).contains("cannot run corsac-no-such-command"));
    }
}
