//! The real binary: what `corsac check` and `corsac run` accept, refuse and print.
#![allow(clippy::expect_used)]
use std::path::PathBuf;
use std::process::Command;

/// Exit code, stdout and stderr of `corsac` with these arguments and no environment but `environment`.
fn corsac(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_corsac"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A configuration file that is removed when this goes out of scope.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corsac-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).expect("the file can be written");
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn check_without_anything_shows_the_defaults() {
    let (code, stdout, stderr) = corsac(&["check"], &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("OK\n"), "{stdout}");
    for expected in ["127.0.0.1:8080 auto", "/ws", "/mqtt", "127.0.0.1:1883 mqtt", "realms = realm1", "anonymous = true"] {
        assert!(stdout.contains(expected), "{stdout}");
    }
}

#[test]
fn an_unknown_key_names_place_and_nearest() {
    let file = File::new("unknown", "log = \"info\"\nlisen = \"127.0.0.1:1\"\n");
    for command in ["check", "run"] {
        let (code, stdout, stderr) = corsac(&[command, "--config", file.path()], &[]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        let expected = format!("corsac: {}:2:1: unknown key `lisen`, did you mean `listeners`?\n", file.path());
        assert_eq!(stderr, expected);
    }
}

#[test]
fn flags_override_environment_overrides_file() {
    let file = File::new("precedence", "log = \"error\"\n[limits]\nmax_connections = 11\n");
    let check = |arguments: &[&str], environment: &[(&str, &str)]| {
        let all: Vec<&str> = ["check", "--config", file.path()].iter().chain(arguments).copied().collect();
        let (code, stdout, stderr) = corsac(&all, environment);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let stdout = check(&[], &[]);
    assert!(stdout.contains("log = error") && stdout.contains("limits.max_connections = 11"), "{stdout}");
    let environment = [("CORSAC_LOG", "warn"), ("CORSAC_LIMITS_MAX_CONNECTIONS", "12"), ("CORSAC_MQTT", "127.0.0.1:2883")];
    let stdout = check(&[], &environment);
    for expected in ["log = warn", "limits.max_connections = 12", "127.0.0.1:2883 mqtt"] {
        assert!(stdout.contains(expected), "{stdout}");
    }
    let stdout = check(&["--log", "debug", "--mqtt", "127.0.0.1:3883", "--memory"], &environment);
    for expected in ["log = debug", "limits.max_connections = 12", "127.0.0.1:3883 mqtt", "memory = true"] {
        assert!(stdout.contains(expected), "{stdout}");
    }
}

#[test]
fn the_environment_may_name_the_file() {
    let file = File::new("environment", "default_realm = \"factory\"\n");
    let (code, stdout, _) = corsac(&["check"], &[("CORSAC_CONFIG", file.path())]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("realms = factory\n"), "{stdout}");
    // One that is none of ours stops nobody.
    let (code, stdout, stderr) = corsac(&["check"], &[("CORSAC_MEMORI", "true"), ("CORSAC_LOCK_NAME", "x")]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("warning: the environment variable `CORSAC_MEMORI` has no effect"), "{stdout}");
    assert!(stdout.contains("did you mean `CORSAC_MEMORY`?") && !stdout.contains("LOCK_NAME"), "{stdout}");
}

#[test]
fn beyond_loopback_only_with_the_named_flag() {
    for arguments in [&["run", "--http", "0.0.0.0:0"][..], &["--mqtt", "[::]:0"], &["check", "--http", "0.0.0.0:0"]] {
        let (code, stdout, stderr) = corsac(arguments, &[]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(stderr.contains("no users are configured") && stderr.contains("--allow-anonymous-remote"), "{stderr}");
    }
    let (code, stdout, _) = corsac(&["check", "--http", "0.0.0.0:0", "--allow-anonymous-remote"], &[]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("warning: anonymous clients of other machines"), "{stdout}");
}

#[test]
fn wrong_values_and_files_are_named() {
    for (arguments, environment, code, expected) in [
        (&["--http", "localhost"][..], &[][..], 2, "--http must be ADDRESS:PORT"),
        (&["--http", ":1"], &[], 2, "--http must be ADDRESS:PORT"),
        (&["--mqtt", "1.2.3.4"], &[], 2, "--mqtt must be ADDRESS:PORT"),
        (&["--log", "inof"], &[], 2, "--log must be one of error, warn"),
        (&["--threads", "0"], &[], 2, "--threads must be an integer from 1 to "),
        (&["--threads", "100000"], &[], 2, "four for each processor of this machine, not \"100000\""),
        (&["--threads", "two"], &[], 2, "invalid value 'two'"),
        (&["--allow-origin", "example.com"], &[], 2, "--allow-origin cannot hold \"example.com\""),
        (&["--allow-host", "a/b"], &[], 2, "--allow-host cannot hold \"a/b\""),
        // A file or the environment is no command line.
        (&["--config", "no/such.toml"], &[], 1, "cannot read no/such.toml"),
        (&[], &[("CORSAC_LOG", "inof")], 1, "CORSAC_LOG must be one of error, warn"),
        (&[], &[("CORSAC_THREADS", "100000")], 1, "CORSAC_THREADS must be an integer from 1 to "),
    ] {
        for command in ["check", "run"] {
            let all: Vec<&str> = [command].iter().chain(arguments).copied().collect();
            let (found, stdout, stderr) = corsac(&all, environment);
            assert_eq!((found, stdout.as_str()), (Some(code), ""), "{all:?} {stderr}");
            assert!(stderr.contains(expected), "{all:?}: {stderr}");
        }
    }
}

#[test]
fn the_defaults_are_a_file_that_changes_nothing() {
    let (code, text, stderr) = corsac(&["config", "--defaults"], &[]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let file = File::new("defaults", &text);
    let (without, with) = (corsac(&["check"], &[]), corsac(&["check", "--config", file.path()], &[]));
    assert_eq!(with.0, Some(0), "{}", with.2);
    assert_eq!(with, without);
    // An unknown variable sends people there.
    let (_, stdout, _) = corsac(&["check"], &[("CORSAC_VERSION", "1")]);
    assert!(stdout.contains("`corsac config --defaults`"), "{stdout}");
    assert_eq!(corsac(&["config"], &[]).0, Some(2));
}

#[test]
fn ports_and_directory_can_be_tried_before_a_start() {
    let directory = std::env::temp_dir().join(format!("corsac-places-{}", std::process::id()));
    let data = directory.join("data");
    std::fs::create_dir_all(&directory).expect("it can be made");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let check = |mqtt: &str, data: &std::path::Path| {
        let data = data.to_str().expect("UTF-8");
        corsac(&["check", "--ports", "--http", "127.0.0.1:0", "--mqtt", mqtt, "--data", data], &[])
    };
    let (code, stdout, stderr) = check("127.0.0.1:0", &data);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("127.0.0.1:0 is free\n") && stdout.contains("data does not exist and can be made\n"), "{stdout}");
    assert!(!data.exists());
    // Both are said, a line each.
    std::fs::write(directory.join("notes.txt"), "mine").expect("it can be written");
    let (code, stdout, stderr) = check(&address, &directory);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 2), "{stderr}");
    assert!(stderr.contains("is taken: stop what uses it or move Corsac with --mqtt 127.0.0.1:PORT"), "{stderr}");
    assert!(stderr.contains("holds other files (notes.txt)") && stderr.contains("--data"), "{stderr}");
    std::fs::remove_dir_all(&directory).expect("it can be removed");
}

#[test]
fn help_and_version() {
    let (code, stdout, _) = corsac(&["--help"], &[]);
    assert_eq!(code, Some(0));
    for expected in ["run", "check", "--config", "--http", "--mqtt", "--allow-anonymous-remote", "--memory", "--data", "--log"] {
        assert!(stdout.contains(expected), "{expected} {stdout}");
    }
    let (code, stdout, _) = corsac(&["--version"], &[]);
    assert_eq!((code, stdout), (Some(0), format!("corsac {}\n", env!("CARGO_PKG_VERSION"))));
    // Exit code 2 is a command line that cannot be parsed; 1 is a configuration or a run that failed.
    let (code, _, stderr) = corsac(&["--lgo", "info"], &[]);
    assert_eq!(code, Some(2), "{stderr}");
}

const COMMANDS: [&str; 12] =
    ["run", "check", "config", "pub", "sub", "history", "call", "register", "queue", "lock", "demo", "bench"];

#[test]
fn help_fits_the_terminal_and_looks_alike_everywhere() {
    for columns in [80, 100] {
        for command in COMMANDS.into_iter().chain(["queue put", "queue take", "queue stats", "queue list"]) {
            let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
            let (code, stdout, stderr) = corsac(&arguments, &[("COLUMNS", &columns.to_string())]);
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
            for line in stdout.lines() {
                assert!(line.chars().count() <= columns, "{command} in {columns} columns: {line}");
            }
            // There is no other form, which clap would lay out in another way.
            let short: Vec<&str> = command.split(' ').chain(["-h"]).collect();
            assert_eq!(corsac(&short, &[("COLUMNS", &columns.to_string())]).1, stdout, "{command}");
        }
    }
}

#[test]
fn what_was_probably_meant_is_named() {
    for (arguments, expected) in [
        (&["sbu", "demo"][..], "did you mean `corsac sub`?"),
        (&["stop"], "Ctrl-C stops the router"),
        (&["status"], "http://127.0.0.1:8080/"),
        (&["-v"], "corsac --version"),
        (&["--port", "9000"], "--http 127.0.0.1:8080"),
        (&["sub", "-t", "demo"], "the topic stands alone"),
        (&["--threads", "2", "check"], "corsac check --threads 2"),
    ] {
        let (code, stdout, stderr) = corsac(arguments, &[]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?} {stderr}");
        assert!(stderr.starts_with("corsac: ") && stderr.contains(expected), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
