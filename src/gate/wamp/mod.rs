//! The WAMP gate: one connection, from HELLO to GOODBYE, over messages (WebSocket) or frames (RawSocket).
mod asked;
mod framing;
mod hello;
mod incoming;
mod outgoing;
mod requests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::gate::known::KnownNames;
use crate::gate::report::Ending;
use crate::gate::{Origin, Output, Settings};
use crate::model::limits::MAX_PING_BYTES;
use crate::model::{Command, Encoding, Principal, Reason, Topic};

use crate::wire::wamp::options::CloseDetails;
use crate::wire::wamp::{self, DecodeError, ErrorKind, Message, RequestKind, reason};
use asked::{About, Asked};
use framing::Framing;
use requests::OpenRequests;

/// Where a connection stands; the legal steps are Newcomer -> Opening -> Open -> Closed, and any -> Closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits for HELLO.
    Newcomer,
    /// HELLO is with the realm; nothing is read until it answers.
    Opening,
    /// Open for everything.
    Open,
    /// Nothing more is read or written.
    Closed,
}

/// One WAMP connection.
#[derive(Debug)]
pub struct WampGate {
    settings: Arc<Settings>,
    origin: Origin,
    framing: Framing,
    encoding: Encoding,
    state: State,
    /// The realm and who the client is in it, for WELCOME.
    joined: Option<(Box<str>, Arc<Principal>)>,
    /// The last request id of the client, for those that must count. Any first one is taken: wampy goes on counting when it comes
    /// back in a new session.
    last_request: Option<u64>,
    /// Requests that wait for their answers.
    requests: OpenRequests<Asked>,
    /// URIs that the client publishes to and calls.
    known: KnownNames,
    /// The bodies of PINGs that are not answered yet, in their order.
    pings: VecDeque<Bytes>,
    ping_bytes: usize,
    opened_by_ms: u64,
}

impl WampGate {
    /// A connection whose every input is one whole message (WebSocket).
    pub fn messages(settings: Arc<Settings>, origin: Origin, encoding: Encoding, now_ms: u64) -> Self {
        Self::new(settings, origin, Framing::Messages, encoding, now_ms)
    }

    /// A connection that begins with the RawSocket handshake.
    pub fn rawsocket(settings: Arc<Settings>, origin: Origin, now_ms: u64) -> Self {
        Self::new(settings, origin, Framing::Handshake, Encoding::Json, now_ms)
    }

    fn new(settings: Arc<Settings>, origin: Origin, framing: Framing, encoding: Encoding, now_ms: u64) -> Self {
        WampGate {
            origin,
            framing,
            encoding,
            state: State::Newcomer,
            joined: None,
            last_request: None,
            requests: OpenRequests::default(),
            known: KnownNames::default(),
            pings: VecDeque::new(),
            ping_bytes: 0,
            opened_by_ms: now_ms + settings.limits.open_timeout_ms,
            settings,
        }
    }

    /// Where the connection comes from.
    pub fn peer(&self) -> &str {
        &self.origin.peer
    }

    /// True while input is welcome; false between HELLO and WELCOME, and while too many PINGs wait for their answers.
    pub fn wants_input(&self) -> bool {
        self.state != State::Opening && self.ping_bytes <= MAX_PING_BYTES
    }

    /// One whole message.
    fn handle_message(&mut self, input: &[u8], now_ms: u64, output: &mut Output) {
        if input.len() > self.max_message_bytes() {
            let text = format!("a message of {} bytes, at most {}", input.len(), self.max_message_bytes());
            return self.end(Reason::MessageTooLarge, &text, output);
        }
        output.received += 1;
        // One copy, so that a payload that stays (retained, queued) pins its own message only.
        let input = Bytes::copy_from_slice(input);
        // Looked at where it is: a message is large.
        match &mut wamp::decode(&input, self.encoding) {
            Ok(message) => self.dispatch(message, now_ms, output),
            Err(error) => self.refuse(error, output),
        }
    }

    fn max_message_bytes(&self) -> usize {
        let limits = &self.settings.limits;
        if self.state == State::Newcomer { limits.max_packet_before_auth_bytes } else { limits.max_packet_bytes }
    }

    fn dispatch(&mut self, message: &mut Message<'_>, now_ms: u64, output: &mut Output) {
        match (self.state, message) {
            (State::Newcomer, Message::Hello { realm, details }) => self.handle_hello(realm, details, output),
            (State::Newcomer, Message::Abort { .. }) => {
                output.report.end(Ending::Lost("aborted before HELLO".into()));
                self.close(output);
            }
            (State::Newcomer, _) => self.end(Reason::ProtocolViolation, "HELLO must come first", output),
            (State::Open, message) => self.handle_request(message, now_ms, output),
            (State::Opening | State::Closed, _) => {}
        }
    }

    /// The name that a URI spells, for publishing and calling.
    fn name(&mut self, uri: &str) -> Result<Topic, Reason> {
        if let Some(name) = self.known.find(uri.as_bytes()) {
            return Ok(name);
        }
        let name = Topic::from_uri(uri)?;
        self.known.remember(uri.as_bytes(), &name);
        Ok(name)
    }

    /// Answers a message that cannot be decoded. A message of known kind and id costs its sender no more than that message: a
    /// request is refused, an invocation fails in the callee's place. A message that cannot be answered ends the session.
    fn refuse(&mut self, error: &DecodeError, output: &mut Output) {
        let is_sound = self.state == State::Open && matches!(error.kind, ErrorKind::Invalid | ErrorKind::InvalidOption);
        let kind = error.code.and_then(RequestKind::new).filter(|kind| *kind != RequestKind::Invocation);
        match (error.invocation, kind, error.request) {
            (Some(invocation), ..) if is_sound => incoming::fail_invocation(invocation, &error.detail, output),
            (None, Some(kind), Some(request)) if is_sound => {
                if self.count(kind, request, output) {
                    self.fail(kind, request, About::Refused(error.detail.clone()), Reason::InvalidArgument, output);
                }
            }
            _ => self.end(Reason::ProtocolViolation, &error.detail, output),
        }
    }

    /// Ends the connection from this side: ABORT says why.
    fn end(&mut self, why: Reason, message: &str, output: &mut Output) {
        if self.state == State::Open {
            output.commands.push(Command::Lost(why));
        }
        self.say_end(why, message, output);
    }

    fn say_end(&mut self, why: Reason, message: &str, output: &mut Output) {
        output.report.end(Ending::Cut(why, message.to_owned().into()));
        let is_abort = reason::is_abort(why) || self.state != State::Open;
        let end = |message: Option<Box<str>>| {
            let (details, reason) = (CloseDetails { message, ..CloseDetails::default() }, reason::close_uri(why).into());
            if is_abort {
                Message::Abort { details, reason, payload: crate::model::Payload::empty() }
            } else {
                Message::Goodbye { details, reason }
            }
        };
        self.send_first([end(Some(message.into())), end(None)], output);
        self.close(output);
    }

    fn close(&mut self, output: &mut Output) {
        self.state = State::Closed;
        output.close = true;
    }

    /// The socket has ended.
    pub fn handle_end(&mut self, output: &mut Output) {
        if matches!(self.state, State::Open | State::Opening) {
            output.commands.push(Command::Lost(Reason::ConnectionLost));
        }
        self.state = State::Closed;
    }

    /// A message has begun that does not go on.
    pub fn handle_slow(&mut self, output: &mut Output) {
        match self.state {
            State::Open => self.end(Reason::TooSlow, "message not finished in time", output),
            State::Newcomer | State::Opening => self.give_up(output),
            State::Closed => {}
        }
    }

    /// Ends a connection that never opened.
    fn give_up(&mut self, output: &mut Output) {
        output.report.end(Ending::cut(Reason::TooSlow));
        self.handle_end(output);
        output.close = true;
    }

    /// Connections that never open.
    pub fn handle_timeout(&mut self, now_ms: u64, output: &mut Output) {
        if self.poll_timeout().is_some_and(|due_ms| now_ms >= due_ms) {
            self.give_up(output);
        }
    }

    /// When `handle_timeout` is next needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Newcomer | State::Opening => Some(self.opened_by_ms),
            State::Open | State::Closed => None,
        }
    }
}
