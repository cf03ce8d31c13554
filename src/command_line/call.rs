//! `corsac call`: calls a procedure and prints its result.
use std::time::Duration;

use clap::Args;
use corsac::model::names as reserved;

use super::client::body::Body;
use super::client::target::Target;
use super::client::{Calling, Client, Outcome, names, refusal};
use super::failure::Failure;
use super::output;

/// The arguments of `corsac call`.
#[derive(Args)]
pub struct Call {
    /// The procedure: demo/add or demo.add
    procedure: String,
    /// Its arguments, each JSON if it parses, else text
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// Keyword arguments, a JSON object
    #[arg(long, value_name = "JSON")]
    kwargs: Option<String>,
    /// Give up after this time
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: Option<u64>,
    /// Print progressive results too, a line each
    #[arg(long)]
    progress: bool,
    /// Print the result byte for byte as MQTT carries it, without a line end
    #[arg(long)]
    raw: bool,
    /// Take JSON only
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// The extra time in which the router may say that the time is over.
const GRACE: Duration = Duration::from_secs(1);

/// Calls and prints; an error of the callee is ours.
pub async fn call(command: &Call) -> Result<(), Failure> {
    let procedure = names::topic(&command.procedure)?;
    let body = match command.arguments.as_slice() {
        // Typed or not, an empty argument of a call is an argument.
        [text] if text.is_empty() => Body::typed(&["\"\"".to_owned()], command.kwargs.as_deref(), command.json)?,
        arguments => Body::typed(arguments, command.kwargs.as_deref(), command.json)?,
    };
    let mut client = Client::open(&command.target).await?;
    let calling = Calling { timeout_ms: command.timeout_ms, with_progress: command.progress };
    let print = |body: &Body| match command.raw {
        true => output::print_bytes(&body.to_message().bytes),
        false => output::print(&body.json()),
    };
    let mut on_progress = |body: &Body| print(body).map(|_| ());
    let outcome = client.call(&procedure, &body, calling, &mut on_progress);
    let outcome = match command.timeout_ms {
        Some(timeout_ms) => tokio::time::timeout(Duration::from_millis(timeout_ms) + GRACE, outcome)
            .await
            .map_err(|_| refusal(reserved::TIMEOUT, &Body::default()))?,
        None => outcome.await,
    };
    let outcome = outcome?;
    client.close().await;
    match outcome {
        Outcome::Result(body) => print(&body).map(|_| ()).map_err(Failure::from),
        Outcome::Error(uri, body) => Err(refusal(&uri, &body).into()),
    }
}
