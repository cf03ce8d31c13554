//! The device of `corsac demo` by itself, as an example of an MQTT 5 client: `cargo run --example device -- HOST:PORT`.
#[path = "../src/command_line/device.rs"]
mod client;

use std::time::Duration;

#[allow(unused_imports)] // by the example itself
pub use client::serve;

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code)] // the test of the demo calls `serve`
async fn main() -> Result<(), String> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1883".to_owned());
    let (host, port) = address.rsplit_once(':').ok_or("write the router's address as HOST:PORT")?;
    let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
    println!("open http://127.0.0.1:8080/demo to see this device");
    serve(None, host, port, Duration::from_secs(1)).await;
    Ok(())
}
