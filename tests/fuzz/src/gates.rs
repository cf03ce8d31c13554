//! A gate and a realm that answers only what must be answered: what goes in, in whatever pieces, and what comes out.
use std::sync::Arc;

use corsac::gate::{Arrived, Gate, Origin, Output, RequestIds, Settings};
use corsac::model::{Command, Delivery, Limits, Reason, SessionId};

use crate::choice::NOW_MS;

/// Settings that let everybody in, with small bounds; an odd `choice` binds to a realm.
pub fn settings(choice: u8) -> Arc<Settings> {
    let limits = Limits {
        max_packet_before_auth_bytes: 512,
        max_packet_bytes: 2_048,
        topic_alias_maximum: 3,
        max_topic_levels: 8,
        max_keep_alive_s: if choice & 2 == 0 { 0 } else { 30 },
        max_session_expiry_s: if choice & 4 == 0 { u32::MAX } else { 30 },
        ..Limits::default()
    };
    Arc::new(Settings {
        limits,
        default_realm: "realm1".into(),
        named_realms: Arc::default(),
        realm_from_user: false,
        listener_realm: (choice & 1 != 0).then(|| "factory".into()),
        allow_anonymous: choice & 24 != 24,
        refused_filters: vec!["test/nosubscribe".into()],
        server_reference: (choice & 32 != 0).then(|| "elsewhere".into()),
        has_history: choice & 1 != 0,
        request_ids: if choice & 64 == 0 { RequestIds::Any } else { RequestIds::CountingByOne },
    })
}

/// Where every connection comes from.
pub fn origin() -> Origin {
    Origin { peer: "127.0.0.1:1".into(), transport: "tcp", random: [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210] }
}

/// The answer to the wish to open a session.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    /// Granted at once.
    Granted,
    /// Refused at once.
    Refused(Reason),
    /// Answered by a delivery that comes later.
    Asked,
}

/// A connection as a realm sees it: everything the gate has said so far.
#[derive(Debug)]
pub struct Connection {
    gate: Gate,
    opening: Opening,
    unused: Vec<u8>,
    /// Every command, written out.
    pub commands: Vec<String>,
    /// Every command since somebody took them.
    pub asked: Vec<Command>,
    /// Everything that was sent.
    pub bytes: Vec<u8>,
    /// Where messages end in `bytes`.
    pub ends: Vec<usize>,
    /// The realm that was named.
    pub realm: Option<Box<str>>,
    /// The gate wants the socket closed.
    pub is_closed: bool,
    is_over: bool,
    now_ms: u64,
}

impl Connection {
    /// A connection whose wish to open is answered so.
    pub fn new(gate: Gate, opening: Opening) -> Self {
        let (commands, asked, bytes, ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (realm, is_closed, is_over) = (None, false, false);
        Connection { gate, opening, unused: Vec::new(), commands, asked, bytes, ends, realm, is_closed, is_over, now_ms: NOW_MS }
    }

    /// A piece of the client's stream.
    pub fn receive(&mut self, piece: &[u8]) {
        self.unused.extend_from_slice(piece);
        loop {
            if !self.gate.wants_input() {
                return;
            }
            let unused = std::mem::take(&mut self.unused);
            let mut output = Output::default();
            let used = match unused.len() % 2 {
                0 => self.gate.handle_bytes(Arrived::Shared(&unused.clone().into()), self.now_ms, &mut output),
                _ => self.gate.handle_bytes(&unused[..], self.now_ms, &mut output),
            }
            .bytes;
            assert!(used <= unused.len());
            self.unused = unused[used..].to_vec();
            let is_opening = self.take(output);
            if is_opening {
                self.answer_open();
            }
            if !is_opening || self.unused.is_empty() || self.is_closed {
                return;
            }
        }
    }

    fn answer_open(&mut self) {
        assert!(!self.gate.wants_input(), "open is not answered yet");
        let delivery = match self.opening {
            Opening::Refused(reason) => Delivery::Refused(reason),
            Opening::Granted => Delivery::Opened { session: SessionId(7), session_present: false },
            Opening::Asked => return,
        };
        self.deliver(delivery);
    }

    /// A delivery of the realm; what the gate did not want before is offered again.
    pub fn deliver(&mut self, delivery: Delivery) {
        let mut output = Output::default();
        let is_end = matches!(delivery, Delivery::Close(_) | Delivery::Refused(_));
        self.gate.handle_delivery(delivery, self.now_ms, &mut output);
        self.take(output);
        assert!(!is_end || self.is_closed, "ended by the realm, and still open");
        self.is_over |= is_end;
        if !self.unused.is_empty() && !self.is_closed {
            self.receive(&[]);
        }
    }

    /// Deliveries were lost.
    pub fn drop(&mut self, count: u64) {
        self.gate.handle_dropped(count);
    }

    /// Time goes on.
    pub fn wait(&mut self, time_ms: u64) {
        self.now_ms += time_ms;
        let now_ms = self.now_ms;
        let mut output = Output::default();
        let was_due = self.gate.poll_timeout().is_some_and(|due_ms| due_ms <= now_ms);
        self.gate.handle_timeout(now_ms, &mut output);
        let has_acted = !output.commands.is_empty() || !output.bytes.is_empty() || output.close;
        assert!(was_due || !has_acted, "nothing was due");
        self.take(output);
        assert!(self.gate.poll_timeout().is_none_or(|due_ms| due_ms > now_ms), "due for ever");
    }

    /// The socket ends.
    pub fn end(&mut self) {
        let mut output = Output::default();
        self.gate.handle_end(&mut output);
        self.take(output);
        assert!(!self.is_open(), "open without a socket");
        self.is_closed = true;
    }

    /// The realm knows of this connection, and has not been told of its end.
    pub fn is_open(&self) -> bool {
        !self.commands.is_empty() && !self.is_over
    }

    /// Notes what the gate says, if it may say it; true if it asks to open a session.
    fn take(&mut self, output: Output) -> bool {
        assert!(!self.is_closed || (output.bytes.is_empty() && output.commands.is_empty()), "more behind the end: {output:?}");
        let is_opening = matches!(output.commands.first(), Some(Command::Open(_)));
        assert_eq!(is_opening, output.realm.is_some());
        assert!(output.commands.is_empty() || is_opening == self.commands.is_empty(), "open comes first: {output:?}");
        for command in &output.commands {
            assert!(!self.is_over, "a command behind the last one: {command:?}");
            self.is_over = matches!(command, Command::Close(_) | Command::Lost(_));
            match command {
                // Those of one read are one command: where it ends is not the client's to know.
                Command::Acknowledge(steps) => self.commands.extend(steps.iter().map(|step| format!("{step:?}"))),
                command => self.commands.push(format!("{command:?}")),
            }
        }
        self.asked.extend(output.commands);
        self.realm = output.realm.or(self.realm.take());
        let start = self.bytes.len();
        self.ends.extend(output.ends.iter().map(|end| start + end));
        self.bytes.extend_from_slice(&output.bytes);
        self.is_closed |= output.close;
        is_opening
    }

    /// Asserts that both have said the same.
    pub fn assert_same(&self, other: &Connection) {
        for (number, (command, others)) in self.commands.iter().zip(&other.commands).enumerate() {
            assert_eq!(command, others, "command {number}");
        }
        assert_eq!(self.commands.len(), other.commands.len(), "{:?} {:?}", self.commands.last(), other.commands.last());
        assert_eq!(self.realm, other.realm);
        assert_eq!(self.bytes, other.bytes);
        assert_eq!(self.is_closed, other.is_closed);
    }
}

/// The same stream whole, byte by byte and in pieces of these lengths, which must all come to the same.
pub fn check_splits(gate: impl Fn() -> Gate, opening: Opening, stream: &[u8], lengths: &[u8]) {
    let mut whole = Connection::new(gate(), opening);
    whole.receive(stream);
    let mut single = Connection::new(gate(), opening);
    stream.chunks(1).for_each(|byte| single.receive(byte));
    single.assert_same(&whole);
    let mut pieces = Connection::new(gate(), opening);
    let mut rest = stream;
    for length in lengths.iter().cycle() {
        let (piece, behind) = rest.split_at(usize::from(*length).clamp(1, rest.len().max(1)).min(rest.len()));
        pieces.receive(piece);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    pieces.receive(rest);
    pieces.assert_same(&whole);
    for mut connection in [whole, single, pieces] {
        connection.end();
    }
}
