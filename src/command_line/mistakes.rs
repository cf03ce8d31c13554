//! Command lines that cannot be parsed: what was probably meant, where clap would leave people alone.
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::{Failure, Usage};

/// All commands, for suggestions.
const COMMANDS: [&str; 12] =
    ["run", "check", "config", "pub", "sub", "history", "call", "register", "queue", "lock", "bench", "demo"];

/// Advice on commands that other programs have.
const INSTEAD: [(&[&str], &str); 5] = [
    (&["start", "serve", "server", "up", "daemon"], "`corsac` alone starts the router, as `corsac run` does"),
    (&["stop", "quit", "kill", "down", "restart", "shutdown"], "Ctrl-C stops the router, and so does `kill` with its process id"),
    (&["status", "info", "top", "stats", "ps", "ctl", "admin"], "a running router shows its state at http://127.0.0.1:8080/"),
    (&["version"], "write `corsac --version`"),
    (&["subscribe-all", "listen", "tail", "watch"], "`corsac sub '#'` prints everything that is published"),
];

/// Advice on flags that other programs have.
const FLAGS: [(&[&str], &str); 12] = [
    (&["-v"], "the version is shown by `corsac --version`"),
    (&["--port", "-p"], "the router's ports are set by --http 127.0.0.1:8080 and --mqtt 127.0.0.1:1883, a client's by --url"),
    (&["--host", "--bind", "--listen", "--address"], "the router's addresses are set by --http and --mqtt, a client's by --url"),
    (&["-t", "--topic"], "the topic stands alone: `corsac sub 'demo/#'`, `corsac pub demo/hello world`"),
    (&["-m", "--message"], "the message stands behind the topic: `corsac pub demo/hello world`"),
    (&["-q"], "write --qos"),
    (&["-r"], "write --retain"),
    (&["-f"], "write --file"),
    (&["-s"], "write --stdin"),
    (&["-C"], "write --count"),
    (&["-n"], "write --last or --count"),
    (
        &["-u", "-P", "--username", "--user", "--password"],
        "user and password stand in the URL: --url mqtt://USER:PASSWORD@127.0.0.1:1883",
    ),
];

/// A failure that says what was meant; or the error, where clap's own words are as good.
pub fn explained(error: clap::Error, arguments: &[String]) -> Result<Failure, clap::Error> {
    let said = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            text_of(&error, ContextKind::InvalidSubcommand).filter(|_| is_of_corsac(&error)).map(unknown_command)
        }
        ErrorKind::UnknownArgument => {
            text_of(&error, ContextKind::InvalidArg).and_then(|flag| unknown_flag(&error, flag, arguments))
        }
        ErrorKind::ArgumentConflict => options_before_command(arguments),
        _ => None,
    };
    match said {
        Some(said) => Ok(Usage(said).into()),
        None => Err(error),
    }
}

fn text_of(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

/// True if it is `corsac` that has no such command, not one of its commands.
fn is_of_corsac(error: &clap::Error) -> bool {
    match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string().contains("corsac [OPTIONS]"),
        _ => true,
    }
}

fn unknown_command(name: &str) -> String {
    let instead = INSTEAD.iter().find(|(names, _)| names.contains(&name)).map(|(_, instead)| (*instead).to_owned());
    let meant = || nearest(name).map(|command| format!("did you mean `corsac {command}`?"));
    let advice = instead.or_else(meant).unwrap_or_else(|| format!("commands are {}", COMMANDS.join(", ")));
    format!("there is no command {name:?}; {advice}")
}

/// The suggestion of clap is enough for an option that has a similar one.
fn unknown_flag(error: &clap::Error, flag: &str, arguments: &[String]) -> Option<String> {
    let name = flag.split('=').next().unwrap_or(flag);
    if let Some((_, instead)) = FLAGS.iter().find(|(names, _)| names.contains(&name)) {
        return Some(format!("there is no option {name} here; {instead}"));
    }
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return None };
    let usage = usage.to_string();
    let command: Vec<&str> = usage
        .split_whitespace()
        .skip_while(|word| *word != "corsac")
        .take_while(|word| !word.starts_with(['[', '<', '-']))
        .collect();
    let has_similar = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand].iter().any(|kind| error.get(*kind).is_some());
    let command = command.join(" ");
    if let Some(instead) = options_before_command(arguments).filter(|_| command == "corsac") {
        return Some(instead);
    }
    (!has_similar && !command.is_empty()).then(|| {
        format!("there is no option {name} here; `{command} --help` prints those that there are, and behind -- it is no option but a value")
    })
}

/// `corsac --threads 2 check`
fn options_before_command(arguments: &[String]) -> Option<String> {
    let at = arguments.iter().position(|argument| COMMANDS.contains(&argument.as_str())).filter(|at| *at > 0)?;
    let (before, from) = arguments.split_at_checked(at)?;
    let (command, behind) = from.split_first()?;
    let line: Vec<&str> = [command].into_iter().chain(before).chain(behind).map(String::as_str).collect();
    Some(format!("options stand behind the command: corsac {}", line.join(" ")))
}

/// The command that is at most two slips away, and at most half of the word.
fn nearest(name: &str) -> Option<&'static str> {
    let near = COMMANDS.iter().map(|command| (slips(name, command), *command));
    near.filter(|(slips, command)| *slips <= 2 && slips * 2 <= command.len().max(name.len())).min().map(|(_, command)| command)
}

/// Letters left out, added, replaced, or exchanged with their neighbour that lead from `a` to `b`.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Three rows of the table of all beginnings of both: the last two and the one that is made.
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let of = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut least = (of(&last, j) + usize::from(from != to)).min(of(&last, j + 1) + 1).min(of(&row, j) + 1);
            let are_exchanged = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            if are_exchanged {
                least = least.min(of(&before, j - 1) + 1);
            }
            row.push(least);
        }
        (before, last) = (last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::command_line::CommandLine;

    fn said(line: &str) -> Option<String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let parsed = CommandLine::try_parse_from(["corsac"].into_iter().chain(line.split(' ')));
        let failure = explained(parsed.err().unwrap_or_else(|| panic!("{line} is taken")), &arguments).ok()?;
        assert_eq!(failure.code, 2);
        Some(failure.message)
    }

    #[test]
    fn what_was_meant_is_named() {
        for (line, expected) in [
            ("sbu demo", "did you mean `corsac sub`?"),
            ("chekc", "did you mean `corsac check`?"),
            ("registre x", "did you mean `corsac register`?"),
            ("stop", "Ctrl-C stops the router"),
            ("serve", "`corsac` alone starts the router"),
            ("start", "`corsac` alone starts the router"),
            ("status", "http://127.0.0.1:8080/"),
            ("ctl", "http://127.0.0.1:8080/"),
            ("version", "corsac --version"),
            ("xyzzy", "commands are run, check, config, pub"),
            ("-v", "corsac --version"),
            ("--port 9000", "--http 127.0.0.1:8080"),
            ("--port=9000", "--http 127.0.0.1:8080"),
            ("sub -t demo", "the topic stands alone"),
            ("pub -t demo -m x", "the topic stands alone"),
            ("pub demo -m x", "the message stands behind the topic"),
            ("pub demo x -r", "write --retain"),
            ("sub demo -u joe", "mqtt://USER:PASSWORD@"),
            ("history demo -n 5", "write --last"),
            ("sub demo --qos 1", "`corsac sub --help`"),
            ("pub demo -x", "behind -- it is no option"),
            ("queue put jobs --priority 1", "`corsac queue put --help`"),
            ("--threads 2 check", "corsac check --threads 2"),
            ("--realm x sub demo", "corsac sub --realm x demo"),
        ] {
            let said = said(line).unwrap_or_else(|| panic!("nothing is said of {line}"));
            assert!(said.contains(expected), "{line}: {said}");
        }
        for line in ["queue lst", "sub", "pub demo --qos 3", "pub demo --retian", "--data x --memory"] {
            assert_eq!(said(line), None, "{line}");
        }
    }

    #[test]
    fn slips_are_counted() {
        let table =
            [("sbu", "sub", 1), ("sub", "sub", 0), ("", "ab", 2), ("ab", "", 2), ("kitten", "sitting", 3), ("cehck", "check", 1)];
        for (a, b, expected) in table {
            assert_eq!(slips(a, b), expected, "{a} {b}");
        }
    }
}
