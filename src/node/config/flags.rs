//! The flags of `corsac run` and `corsac check`: the topmost layer of the configuration.
use std::path::PathBuf;

use super::error::{ConfigError, Place};
use super::settings::Settings;
use super::value::Value;

/// The flags of the command line.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// Read this TOML file
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The one port for HTTP, WebSocket, RawSocket and MQTT, or off [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<String>,
    /// The port for MQTT alone, or off [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub mqtt: Option<String>,
    /// Let anonymous clients of other machines connect
    #[arg(long)]
    pub allow_anonymous_remote: bool,
    /// Answer to this name over HTTP, besides localhost and addresses (repeatable)
    #[arg(long = "allow-host", value_name = "NAME")]
    pub allow_hosts: Vec<String>,
    /// Let web pages of this origin connect (repeatable)
    #[arg(long = "allow-origin", value_name = "https://HOST")]
    pub allow_origins: Vec<String>,
    /// Keep everything in memory and write nothing
    #[arg(long, conflicts_with = "data")]
    pub memory: bool,
    /// The directory of the history [default: corsac-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// 1: messages of different clients are handled in the order in which they arrive. More is faster on many cores, but that
    /// order is no longer kept [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<usize>,
    /// error, warn, info, debug, trace, off, or as info,corsac::net=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
}

/// Lays `flags` over `settings`.
pub(super) fn apply(settings: &mut Settings, flags: &Flags) -> Result<(), ConfigError> {
    let wrong =
        |flag: &'static str| move |problem| ConfigError::WrongValue { place: Place::Flag(flag), key: flag.to_owned(), problem };
    let text = |text: &String| Value::Text(text.clone());
    if let Some(http) = &flags.http {
        settings.place("http", text(http)).map_err(wrong("--http"))?;
    }
    if let Some(mqtt) = &flags.mqtt {
        settings.place("mqtt", text(mqtt)).map_err(wrong("--mqtt"))?;
    }
    if !flags.allow_hosts.is_empty() {
        settings.set("", "allow_hosts", Value::Texts(flags.allow_hosts.clone())).map_err(wrong("--allow-host"))?;
    }
    if !flags.allow_origins.is_empty() {
        settings.set("", "allow_origins", Value::Texts(flags.allow_origins.clone())).map_err(wrong("--allow-origin"))?;
    }
    if let Some(threads) = flags.threads {
        settings.set("", "threads", Value::Untyped(threads.to_string())).map_err(wrong("--threads"))?;
    }
    if let Some(log) = &flags.log {
        settings.set("", "log", text(log)).map_err(wrong("--log"))?;
    }
    settings.allow_anonymous_remote |= flags.allow_anonymous_remote;
    settings.memory |= flags.memory;
    if let Some(data) = &flags.data {
        settings.data_dir = data.clone();
        settings.memory = false; // a directory named here overrides `memory = true` below
    }
    Ok(())
}
