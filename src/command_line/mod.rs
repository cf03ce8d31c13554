//! The subcommands of `corsac`, one file each; without one it runs the router.
mod bench;
mod call;
mod check;
mod child;
mod client;
mod history;
mod lock;
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

const PUB_HELP: &str = "\
Names are topics in either spelling: with a / MQTT's (demo/hello), else WAMP's (demo.hello).

  corsac pub demo/hello world
  corsac pub --url mqtt://127.0.0.1:1883 demo/temperature 21.5 --retain
  vmstat 1 | corsac pub demo/vmstat

Exit code: 0 every message was taken (QoS 0: sent), 1 it was not, 2 the command line is wrong.";

const SUB_HELP: &str = "\
A line is the topic and the payload: a text as it is, anything else as JSON. Events of several arguments are JSON lists.

  corsac sub 'demo/#'
  corsac sub --match prefix demo.temp
  corsac sub --json 'demo/+/state' | jq .args[0]

Exit code: 0 stopped by --count, --timeout-ms, a signal or its reader, 1 the connection failed or --count was not reached
in --timeout-ms, 2 the command line is wrong.";

const CALL_HELP: &str = "\
The result is a line of JSON: the value, or a list or an object of several, or null for none. An error goes to standard error:
its URI and what the callee says.

  corsac call demo.add 2 3
  corsac call --timeout-ms 500 --kwargs '{\"unit\":\"C\"}' demo.temperature

Exit code: 0 there is a result, 1 an error came instead or the connection failed, 2 the command line is wrong.";

const REGISTER_HELP: &str = "\
The command gets the arguments on standard input, a JSON list, or {\"args\":[...],\"kwargs\":{...}} if there are keyword
arguments. What it prints is the result: JSON if it parses, else text. Any exit status but 0 is the error
corsac.error.command_failed with what it said on standard error. A call that is canceled kills it.

  corsac register demo.add -- jq add
  corsac register demo.date --concurrency 1 -- date
  corsac register demo.echo --echo

Exit code: 0 stopped by a signal, 1 the procedure cannot be served or the connection failed, 2 the command line is wrong.";

const HISTORY_HELP: &str = "\
A line is the event's id, its time, its topic and its payload: a text as it is, anything else as JSON. The id of the last line is
where --after goes on.

  corsac history 'demo/#' --last 10
  corsac history demo.hello --after 4711 --follow
  corsac history --json 'demo/+/state' | jq .args[0]

Exit code: 0 everything was printed, or a signal or its reader stopped it, 1 there is no such history or the connection failed,
2 the command line is wrong.";

const QUEUE_HELP: &str = "\
Whoever takes an item says that it is done with (ack), or it comes again when its time is over. A line that `take` prints is the
token and the item; with --ack it is the item alone.

  corsac queue put jobs '{\"n\":1}' '{\"n\":2}'
  ls *.jpg | corsac queue put jobs
  corsac queue take jobs --ack --wait-ms 60000 | xargs resize
  corsac queue take jobs --max 10 --json | jq -r .token | xargs corsac queue ack
  corsac queue declare jobs --visibility-ms 60000 --max-deliveries 5 --dead-letter jobs.dead

Exit code: 0 done, 1 it was refused, or there was no item to take, 2 the command line is wrong.";

const LOCK_HELP: &str = "\
The command runs while the lock is held, with the fencing token in CORSAC_LOCK_TOKEN: a number that is larger than that of
every holder before. Have the resource refuse smaller ones: a holder that is stopped for a while, or whose `corsac lock` alone
is killed, does not know yet that it has lost the lock. If the lock is lost the command is killed.

  corsac lock demo/printer -- ./print-report
  corsac lock demo/nightly --wait-ms 0 -- ./backup        # not twice at the same time
  corsac call corsac.lock.inspect demo/printer

Exit code: that of the command (128 and the signal that ended it), 1 the lock was not granted or is lost, or the connection
failed, 2 the command line is wrong.";

#[derive(Subcommand)]
enum Command {
    /// Run the router (the default)
    #[command(after_help = AFTER_HELP)]
    Run(Flags),
    /// Validate the configuration that `run` would use, and print what it comes to
    #[command(after_help = AFTER_HELP)]
    Check(Flags),
    /// Publish messages: typed, or the lines of standard input
    #[command(name = "pub", after_help = PUB_HELP)]
    Publish(publish::Publish),
    /// Print the events of topics, a line each
    #[command(name = "sub", after_help = SUB_HELP)]
    Subscribe(subscribe::Subscribe),
    /// Print what was published, a line each
    #[command(after_help = HISTORY_HELP)]
    History(history::History),
    /// Call a procedure and print its result
    #[command(after_help = CALL_HELP)]
    Call(call::Call),
    /// Serve a procedure by running a command for each call
    #[command(after_help = REGISTER_HELP)]
    Register(register::Register),
    /// Put items into a queue, take them, and say what became of them
    #[command(after_help = QUEUE_HELP)]
    Queue(queue::Queue),
    /// Run a command while holding a lock
    #[command(after_help = LOCK_HELP)]
    Lock(lock::Lock),
    /// Measure a router, this one or any other that speaks MQTT or WAMP
    Bench(bench::Bench),
}

impl CommandLine {
    /// Runs the command; an error is one message that says what to do next.
    pub fn run(self) -> Result<ExitCode, String> {
        let done = match self.command.unwrap_or(Command::Run(self.flags)) {
            Command::Run(flags) => run::run(&flags),
            Command::Check(flags) => check::check(&flags),
            Command::Publish(command) => run_client(publish::publish(&command)),
            Command::Subscribe(command) => run_client(subscribe::subscribe(&command)),
            Command::History(command) => run_client(history::history(&command)),
            Command::Call(command) => run_client(call::call(&command)),
            Command::Register(command) => run_client(register::register(&command)),
            Command::Queue(command) => run_client(queue::queue(&command)),
            Command::Lock(command) => return run_client(lock::lock(&command)),
            Command::Bench(bench) => bench::bench(&bench),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Runs a small client on this thread.
fn run_client<T>(client: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}; raise the limit of open files (ulimit -n)"))?.block_on(client)
}

/// The configuration that these flags come to in the environment of this process.
fn load(flags: &Flags) -> Result<Config, String> {
    Config::load(flags, std::env::vars_os()).map_err(|error: ConfigError| error.to_string())
}
