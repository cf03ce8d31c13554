//! News for a service manager (sd_notify): that the router serves, that it has heard SIGHUP, and that it stops.
use std::io::{self, IsTerminal};
use std::os::unix::net::UnixDatagram;

use super::banner::Shown;

/// Says something to the service manager that named its socket in `NOTIFY_SOCKET`, if one did. One that does not listen is nobody's
/// trouble but its own.
pub fn notify(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET").map(|address| address.to_string_lossy().into_owned()) else { return };
    if let Err(error) = send(&address, state) {
        tracing::warn!(target: "corsac::node", "cannot tell the service manager {state:?} at {address:?}: {error}");
    }
}

/// Says that the router has heard SIGHUP and serves as before: a service manager that sends it waits for both
/// (systemd's `Type=notify-reload`).
pub fn notify_reloaded() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now_us = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
    notify("READY=1");
}

/// `@` stands for the zero byte of a name that is no path.
fn send(address: &str, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    match address.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::net::SocketAddr;
            socket.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?)?;
        }
        _ => drop(socket.send_to(state.as_bytes(), address)?),
    }
    Ok(())
}

/// The part of the banner that the reader of standard output wants.
pub fn shown() -> Shown {
    if io::stdout().is_terminal() {
        Shown::Whole
    } else if std::env::var_os("NOTIFY_SOCKET").is_some() || is_journal() {
        Shown::Nothing
    } else {
        Shown::Short
    }
}

/// True where standard output is the stream that systemd says to be the journal's.
fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    rustix::fs::fstat(io::stdout()).is_ok_and(|found| stream == format!("{}:{}", found.st_dev, found.st_ino))
}
