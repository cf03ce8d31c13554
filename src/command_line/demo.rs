//! `corsac demo`: the device that the demo page talks to.
use std::time::Duration;

use clap::Args;

use super::client::target::{Scheme, Url};
use super::device;
use super::failure::{Failure, Usage};
use super::output;

/// The arguments of `corsac demo`.
#[derive(Args)]
pub struct Demo {
    /// Where the router speaks MQTT
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    url: Url,
}

/// Between two readings of the thermometer.
const TICK: Duration = Duration::from_secs(1);

/// Runs the device until it is told to stop.
pub async fn demo(command: &Demo) -> Result<(), Failure> {
    let Url { scheme, host, port, user, .. } = &command.url;
    if *scheme != Scheme::Mqtt {
        return Err(Usage(format!("the device speaks MQTT: write --url mqtt://{host}:1883")).into());
    }
    output::print("open http://127.0.0.1:8080/demo to see this device; Ctrl-C stops it")?;
    let mut stop = output::stop()?;
    tokio::select! {
        () = device::serve(user.clone(), host, *port, TICK) => {}
        () = stop.requested() => {}
    }
    Ok(())
}
