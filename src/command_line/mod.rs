//! The subcommands of `corsac`, one file each; without one it runs the router.
mod again;
mod bench;
mod call;
mod check;
mod child;
mod client;
mod config;
mod demo;
mod device;
mod failure;
mod help;
mod history;
mod lock;
mod log;
mod mistakes;
mod output;
mod publish;
mod queue;
mod register;
mod run;
mod subscribe;

use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use corsac::node::config::{Config, ConfigError, Flags};
use failure::Usage;
use tokio::runtime::Runtime;

pub use failure::Failure;
pub use output::say;

/// Routes messages between WAMP and MQTT clients on shared topics and procedures
///
/// Without a command, corsac runs the router: WAMP at ws://127.0.0.1:8080/ws, MQTT at 127.0.0.1:1883
/// and ws://127.0.0.1:8080/mqtt, a status page at http://127.0.0.1:8080/.
#[derive(Parser)]
#[command(name = "corsac", bin_name = "corsac", version, args_conflicts_with_subcommands = true, after_help = help::ROUTER)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Run the router (the default)
    #[command(after_help = help::ROUTER)]
    Run(Flags),
    /// Validate the configuration that `run` would use, and print what it comes to
    #[command(after_help = help::ROUTER)]
    Check(check::Check),
    /// Print every key of the configuration file with its default
    Config(config::Config),
    /// Publish messages: typed, or the lines of standard input
    #[command(name = "pub", alias = "publish", after_help = help::PUB)]
    Publish(publish::Publish),
    /// Print the events of topics, a line each
    #[command(name = "sub", alias = "subscribe", after_help = help::SUB)]
    Subscribe(subscribe::Subscribe),
    /// Print what was published, a line each
    #[command(after_help = help::HISTORY)]
    History(history::History),
    /// Call a procedure and print its result
    #[command(after_help = help::CALL)]
    Call(call::Call),
    /// Serve a procedure by running a command for each call
    #[command(after_help = help::REGISTER)]
    Register(register::Register),
    /// Put items into a queue, take them, and say what became of them
    #[command(after_help = help::QUEUE)]
    Queue(queue::Queue),
    /// Run a command while holding a lock
    #[command(after_help = help::LOCK)]
    Lock(lock::Lock),
    /// Run the device of the demo page: a thermometer and a heat lamp that speak MQTT
    #[command(after_help = help::DEMO)]
    Demo(demo::Demo),
    /// Measure a router, this one or any other that speaks MQTT or WAMP
    Bench(bench::Bench),
}

impl CommandLine {
    /// The command line of this process, parsed. Help, and what clap says well enough by itself, ends the process here.
    pub fn of_process() -> Result<Self, Failure> {
        Self::try_parse().map_err(|error| {
            let arguments: Vec<String> = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
            mistakes::explained(error, &arguments).unwrap_or_else(|error| error.exit())
        })
    }

    /// Runs the command; a failure is one message that says what to do next.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let done = match self.command.unwrap_or(Command::Run(self.flags)) {
            Command::Run(flags) => run::run(&flags),
            Command::Check(command) => check::check(&command),
            Command::Config(command) => config::config(&command).map_err(Failure::from),
            Command::Publish(command) => run_client(publish::publish(&command)),
            Command::Subscribe(command) => run_client(subscribe::subscribe(&command)),
            Command::History(command) => run_client(history::history(&command)),
            Command::Call(command) => run_client(call::call(&command)),
            Command::Register(command) => run_client(register::register(&command)),
            Command::Queue(command) => run_client(queue::queue(&command)),
            Command::Lock(command) => return run_client(lock::lock(&command)),
            Command::Demo(command) => run_client(demo::demo(&command)),
            Command::Bench(bench) => bench::bench(&bench).map_err(Failure::from),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Runs a small client on this thread.
fn run_client<T>(client: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime()?.block_on(client)
}

/// A runtime that uses this thread alone.
fn runtime() -> Result<Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}; raise the limit of open files (ulimit -n)"))
}

/// The configuration that these flags come to in the environment of this process.
fn load(flags: &Flags) -> Result<Config, Failure> {
    Config::load(flags, std::env::vars_os()).map_err(|error: ConfigError| match error.is_of_command_line() {
        true => Usage(error.to_string()).into(),
        false => error.to_string().into(),
    })
}
