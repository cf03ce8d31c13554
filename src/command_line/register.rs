//! `corsac register`: serves a procedure by a command, or by returning what it is given.
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use clap::Args;
use corsac::model::{Topic, names as reserved};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::again::{self, Again};
use super::child::{self, Running};
use super::client::body::Body;
use super::client::target::Target;
use super::client::{CANCELED, Client, Outcome, Trouble, Work, names};
use super::failure::{Failure, Usage};
use super::output::{self, Stop, say};

/// The arguments of `corsac register`.
#[derive(Args)]
pub struct Register {
    /// The procedure: demo/add or demo.add
    procedure: String,
    /// Serve by returning the arguments
    #[arg(long, conflicts_with = "command")]
    echo: bool,
    /// Calls at a time [default: 8]; if given, the router queues the others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Option<u32>,
    /// End with the connection instead of connecting again
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    target: Target,
    /// The command to run for each call, after --
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Calls that may wait here until one that is served has ended; more are refused.
const MAX_WAITING: usize = 1_000;
/// The time for which the procedure may be somebody else's after a loss: a router may see later than we that a connection has
/// gone.
const HELD: Duration = Duration::from_secs(60);

/// Serves until it is told to stop.
pub async fn register(command: &Register) -> Result<(), Failure> {
    let procedure = names::topic(&command.procedure)?;
    match command.command.first() {
        Some(program) => child::check(program)?,
        None if command.echo => {}
        None => {
            let name = &command.procedure;
            let why = format!("say what serves {name}: a command behind -- (corsac register {name} -- date), or --echo");
            return Err(Usage(why).into());
        }
    }
    let mut client = open(command, &procedure).await?;
    say(&format!("serving {}; Ctrl-C stops it", command.procedure));
    let mut stop = output::stop()?;
    while let Some(why) = serve(command, client, &mut stop).await? {
        if command.once {
            return Err(why.into());
        }
        client = tokio::select! {
            client = open_again(command, &procedure, &why) => client?,
            () = stop.requested() => return Ok(()),
        };
    }
    Ok(())
}

async fn open(command: &Register, procedure: &Topic) -> Result<Client, Trouble> {
    let mut client = Client::open(&command.target).await?;
    client.register(procedure, command.concurrency).await?;
    Ok(client)
}

async fn open_again(command: &Register, procedure: &Topic, why: &str) -> Result<Client, Failure> {
    let (mut again, began) = (Again::after(why), Instant::now());
    loop {
        again.pause().await;
        match open(command, procedure).await {
            Ok(client) => {
                again::say_connected("");
                return Ok(client);
            }
            Err(Trouble::Lost(_)) => {}
            Err(Trouble::Refused(..)) if began.elapsed() < HELD => {}
            Err(trouble) => return Err(trouble.into()),
        }
    }
}

/// Serves as long as the connection lasts; returns why it was lost, or nothing once it is told to stop.
async fn serve(command: &Register, mut client: Client, stop: &mut Stop) -> Result<Option<String>, Failure> {
    let (ended, mut outcomes) = mpsc::unbounded_channel();
    let mut callee = Callee { command, ended, running: HashMap::new(), waiting: VecDeque::new() };
    let why = loop {
        let answers = tokio::select! {
            work = client.next_work() => match work {
                Ok(work) => callee.handle(work),
                Err(why) => break Some(why),
            },
            Some((id, outcome)) = outcomes.recv() => callee.handle_ended(id, outcome),
            () = stop.requested() => break None,
        };
        if let Err(why) = answer(&mut client, answers).await {
            break Some(why);
        }
    };
    // Nobody waits for them any longer, and on another connection their numbers are those of other calls.
    callee.running.values().for_each(Running::kill);
    if why.is_none() {
        client.close().await;
    }
    Ok(why)
}

async fn answer(client: &mut Client, answers: Answers) -> Result<(), String> {
    for (id, outcome) in answers {
        client.answer(id, outcome).await?;
    }
    Ok(())
}

/// Answers that are due: the call's number and how it ended.
type Answers = Vec<(u64, Outcome)>;

/// The calls being served, and those that wait for it.
struct Callee<'a> {
    command: &'a Register,
    ended: mpsc::UnboundedSender<(u64, Outcome)>,
    running: HashMap<u64, Running>,
    waiting: VecDeque<(u64, Body)>,
}

impl Callee<'_> {
    fn handle(&mut self, work: Work) -> Answers {
        match work {
            Work::Invocation(id, body) if self.command.echo => vec![(id, Outcome::Result(body))],
            Work::Invocation(id, _) if self.waiting.len() >= MAX_WAITING => {
                vec![(id, Outcome::Error(reserved::SERVER_BUSY.to_owned(), Body::default()))]
            }
            Work::Invocation(id, body) => {
                self.waiting.push_back((id, body));
                self.start_waiting()
            }
            Work::Cancel(id) => self.cancel(id),
        }
    }

    fn cancel(&mut self, id: u64) -> Answers {
        let was_waiting = self.waiting.len();
        self.waiting.retain(|(waiting, _)| *waiting != id);
        match self.running.remove(&id) {
            Some(running) => running.kill(),
            None if self.waiting.len() == was_waiting => return Vec::new(), // answered before
            None => {}
        }
        let mut answers = self.start_waiting();
        answers.push((id, Outcome::Error(CANCELED.to_owned(), Body::default())));
        answers
    }

    fn handle_ended(&mut self, id: u64, outcome: Outcome) -> Answers {
        if self.running.remove(&id).is_none() {
            return Vec::new(); // canceled, and answered then
        }
        let mut answers = vec![(id, outcome)];
        answers.append(&mut self.start_waiting());
        answers
    }

    /// Starts calls as long as there is room; those that cannot be started are answered.
    fn start_waiting(&mut self) -> Answers {
        let mut refused = Vec::new();
        let room = self.command.concurrency.unwrap_or(8) as usize;
        let Some((program, arguments)) = self.command.command.split_first() else { return refused };
        while self.running.len() < room {
            let Some((id, body)) = self.waiting.pop_front() else { break };
            let ended = self.ended.clone();
            let on_end = move |outcome| {
                ended.send((id, outcome)).ok(); // nobody waits for it after the end
            };
            match child::start(program, arguments, body.arguments_json(), on_end) {
                Ok(running) => {
                    self.running.insert(id, running);
                }
                Err(outcome) => refused.push((id, outcome)),
            }
        }
        refused
    }
}
