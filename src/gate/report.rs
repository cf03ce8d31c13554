//! The facts that a gate reports for the log alone: who has come, the refusals, and why a connection ended.
use std::borrow::Cow;

use crate::model::command::Protocol;
use crate::model::limits::MAX_NOTES;
use crate::model::{Reason, SessionId};

/// The client that opens a session, as it says itself: nothing of this is believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// MQTT's client id, also where the router gave it.
    pub client_id: Option<Box<str>>,
    /// The user name.
    pub user: Option<Box<str>>,
    /// The realm that it asks for.
    pub realm: Box<str>,
    /// The protocol that it speaks.
    pub protocol: Protocol,
    /// The id of a new session.
    pub session: SessionId,
    /// The client sent a password, which nobody looks at.
    pub has_unchecked_password: bool,
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The client said goodbye (DISCONNECT, GOODBYE).
    Goodbye,
    /// The client ended it otherwise, or the network did: how.
    Lost(Cow<'static, str>),
    /// The router ended it: why, and more of it where there is more to say.
    Cut(Reason, Cow<'static, str>),
}

impl Ending {
    /// The router's end of it, with no more to say than the reason.
    pub fn cut(reason: Reason) -> Self {
        Ending::Cut(reason, Cow::Borrowed(""))
    }
}

/// A request that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// `publish`, `subscribe`, `register` or `call`.
    pub what: &'static str,
    /// The name that the client gave.
    pub name: Box<str>,
    /// Why.
    pub reason: Reason,
}

/// The facts since the connection last looked.
#[derive(Debug, Default)]
pub struct Report {
    /// Said once, with the command that opens the session.
    pub introduction: Option<Box<Introduction>>,
    /// Said once: the first reason counts.
    pub ending: Option<Ending>,
    /// The first refusals; the rest is counted.
    pub notes: Vec<Note>,
    /// Refusals that are only counted.
    pub unsaid: u64,
}

impl Report {
    /// The connection ends.
    pub fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    /// A request is refused.
    pub fn refuse(&mut self, what: &'static str, name: &str, reason: Reason) {
        if self.notes.len() >= MAX_NOTES {
            self.unsaid += 1;
            return;
        }
        self.notes.push(Note { what, name: name.into(), reason });
    }
}

/// The first bytes of other protocols, and the text for their sender.
const STRANGERS: &[(&[u8], &str)] = &[
    (b"\x16\x03", "a TLS handshake: no port speaks TLS, so connect with ws://, http:// or mqtt://, or through a TLS proxy"),
    (b"SSH-", "an SSH client: this is no SSH server"),
    (b"PROXY ", "a PROXY protocol header: switch it off in the proxy"),
    (b"\r\n\r\n\0\r\nQUIT\n", "a PROXY protocol header: switch it off in the proxy"),
    (b"PRI * HTTP/2", "HTTP/2: use HTTP/1.1"),
    (b"GET ", "an HTTP request: the port for HTTP and WebSocket is that of --http"),
    (b"POST ", "an HTTP request: the port for HTTP and WebSocket is that of --http"),
    (b"HEAD ", "an HTTP request: the port for HTTP and WebSocket is that of --http"),
    (b"OPTIONS ", "an HTTP request: the port for HTTP and WebSocket is that of --http"),
    (b"\x7F", "WAMP RawSocket: its port is that of --http"),
    (b"\x10", "MQTT: its port is that of --mqtt, or that of --http"),
];

/// The protocol that a connection speaks instead of its port's, by its first bytes, with advice on it.
pub fn stranger(first: &[u8]) -> Option<&'static str> {
    STRANGERS.iter().find(|(head, _)| first.starts_with(head)).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_counts() {
        let mut report = Report::default();
        report.end(Ending::cut(Reason::Malformed));
        report.end(Ending::Lost("closed".into()));
        assert_eq!(report.ending, Some(Ending::cut(Reason::Malformed)));
    }

    #[test]
    fn refusals_beyond_the_bound_are_counted() {
        let mut report = Report::default();
        (0..MAX_NOTES + 7).for_each(|_| report.refuse("publish", "a", Reason::NotAuthorized));
        assert_eq!((report.notes.len(), report.unsaid), (MAX_NOTES, 7));
    }

    #[test]
    fn strangers_are_told_apart() {
        for (first, expected) in [
            (&b"\x16\x03\x01\x02\0"[..], "TLS"),
            (b"SSH-2.0-OpenSSH", "SSH"),
            (b"GET / HTTP/1.1", "--http"),
            (b"PRI * HTTP/2.0", "HTTP/1.1"),
            (b"\x7F\xF1\0\0", "RawSocket"),
        ] {
            assert!(stranger(first).is_some_and(|text| text.contains(expected)), "{first:?}");
        }
        assert_eq!(stranger(b"rubbish"), None);
        assert_eq!(stranger(b""), None);
    }
}
