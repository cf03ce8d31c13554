//! The subcommands of `corsac`, one file each; without one it runs the router.
mod check;
mod run;

use clap::{Parser, Subcommand};
use corsac::node::config::{Config, ConfigError, Flags};

/// Routes messages between WAMP and MQTT clients on shared topics and procedures
///
/// Without a command, corsac runs the router: WAMP at ws://127.0.0.1:8080/ws, MQTT at 127.0.0.1:1883
/// and ws://127.0.0.1:8080/mqtt, a status page at http://127.0.0.1:8080/.
#[derive(Parser)]
#[command(name = "corsac", version, verbatim_doc_comment, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

const AFTER_HELP: &str = "\
Flags override the environment, which overrides the file given by --config, which overrides the defaults.
Environment: CORSAC_CONFIG, CORSAC_HTTP, CORSAC_MQTT, and CORSAC_ with every key of the file in capitals,
as CORSAC_LOG, CORSAC_DATA_DIR, CORSAC_LIMITS_MAX_CONNECTIONS; lists are separated by commas.";

#[derive(Subcommand)]
enum Command {
    /// Run the router (the default)
    #[command(after_help = AFTER_HELP)]
    Run(Flags),
    /// Validate the configuration that `run` would use, and print what it comes to
    #[command(after_help = AFTER_HELP)]
    Check(Flags),
}

impl CommandLine {
    /// Runs the command; an error is one message that says what to do next.
    pub fn run(self) -> Result<(), String> {
        match self.command.unwrap_or(Command::Run(self.flags)) {
            Command::Run(flags) => run::run(&flags),
            Command::Check(flags) => check::check(&flags),
        }
    }
}

/// The configuration that these flags come to in the environment of this process.
fn load(flags: &Flags) -> Result<Config, String> {
    Config::load(flags, std::env::vars_os()).map_err(|error: ConfigError| error.to_string())
}
