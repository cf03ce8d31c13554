//! The inbound side of a session: records on their way into the history, commands behind them, and the QoS 2 ids of its client.
use std::collections::{BTreeMap, VecDeque};

use crate::model::command::{Acknowledge, Call, SubscribeEntry, Yield};
use crate::model::limits::MAX_HELD_BYTES;
use crate::model::record::Ticket;
use crate::model::{Command, ConnectionId, PacketId, RequestId};

/// A SUBSCRIBE that waits for the history.
#[derive(Debug)]
pub struct Probing {
    /// The connection that is answered.
    pub connection: ConnectionId,
    /// The request that is answered.
    pub request: RequestId,
    /// The subscriptions asked for.
    pub entries: Vec<SubscribeEntry>,
    /// The number of the last event before it.
    pub since: u64,
}

/// The fate of a packet id under which something came as QoS 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketUse {
    /// The id is in use from now on.
    New,
    /// The id is in use already: this publication repeats the one taken under it.
    Repeated,
    /// The client repeats itself without DUP, again and again.
    Violation,
    /// The client uses more ids than it may [MQTT-3.3.4-7].
    TooMany,
}

/// An incoming QoS 2 id in use: what was published under it, and how often it was repeated on this connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Repeats {
    /// Hash of the message.
    fingerprint: u64,
    /// Identical repetitions.
    count: u8,
    /// The publication has its place: a restart knows of it.
    is_placed: bool,
}

/// The standing of a session towards the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The session owes nothing: its commands are handled at once.
    Now,
    /// A publication that is stored goes on, and one that is not follows this ticket.
    Behind(Ticket),
    /// Its commands wait.
    Later,
    /// The history is asked on its behalf: everything waits.
    Probing,
}

/// All that comes from the client of one session, as far as it is not over.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Tickets that have not come back.
    tickets: usize,
    /// The last of them.
    last: Ticket,
    /// A SUBSCRIBE that waits for the history, and holds up everything behind it.
    probing: Option<Box<Probing>>,
    /// The number of the last event before a SUBSCRIBE that the history has answered, while that is carried out.
    asked_behind: Option<u64>,
    /// Changes of state that it asked for and that have not come back. They hold up nothing but the reading of its socket.
    changes: usize,
    /// Those among them whose outcome decides where the next publication stands: conditions.
    undecided: usize,
    /// Commands that wait for all of them, with the connection that sent them.
    deferred: VecDeque<(ConnectionId, Command)>,
    /// Bytes of those, and of publications that follow tickets.
    held_bytes: usize,
    /// QoS 2 ids that were published and not released [MQTT-4.3.3-10].
    unreleased: BTreeMap<PacketId, Repeats>,
    /// The number of QoS 2 ids that were used, ever.
    uses: u64,
}

impl Inbound {
    /// True while nothing that the session sent is on its way.
    pub fn is_settled(&self) -> bool {
        self.tickets == 0 && self.changes == 0
    }

    /// True while so much of what the session sent waits that its connection is not to be read.
    pub fn is_over_its_share(&self) -> bool {
        self.held_bytes > MAX_HELD_BYTES
    }

    /// The standing of the next command to those on their way.
    pub fn turn(&self) -> Turn {
        match self.tickets {
            0 => Turn::Now,
            _ if self.probing.is_some() => Turn::Probing,
            _ if self.deferred.is_empty() && self.undecided == 0 => Turn::Behind(self.last),
            _ => Turn::Later,
        }
    }

    /// Something that the next commands are ordered around goes on its way.
    pub fn note_owed(&mut self) {
        self.tickets += 1;
    }

    /// The record has this ticket.
    pub fn note_sent(&mut self, ticket: Ticket) {
        self.last = ticket;
    }

    /// The record has come back.
    pub fn note_back(&mut self) {
        self.tickets = self.tickets.saturating_sub(1);
    }

    /// A change of state goes on its way.
    pub fn note_change(&mut self) {
        self.changes += 1;
    }

    /// The change has come back.
    pub fn note_changed(&mut self) {
        self.changes = self.changes.saturating_sub(1);
    }

    /// A condition goes on its way: it is owed, and where the next publication stands is decided by it.
    pub fn note_condition(&mut self) {
        self.tickets += 1;
        self.undecided += 1;
    }

    /// The condition is decided, or the session need not wait for that.
    pub fn note_decided(&mut self) {
        self.undecided = self.undecided.saturating_sub(1);
    }

    /// The answer owed for a condition (`is_owed`) is owed for its publication from now on; else that one is owed anew.
    pub fn note_granted(&mut self, is_owed: bool) {
        match is_owed {
            true => self.note_decided(),
            false => self.note_owed(),
        }
    }

    /// Has everything that comes wait for the history's answer to a SUBSCRIBE.
    pub fn begin_probe(&mut self, probing: Probing) {
        self.tickets += 1;
        self.probing = Some(Box::new(probing));
    }

    /// Takes that SUBSCRIBE back out.
    pub fn end_probe(&mut self) -> Option<Probing> {
        let probing = self.probing.take()?;
        self.asked_behind = Some(probing.since);
        self.note_back();
        Some(*probing)
    }

    /// The last event before the SUBSCRIBE that is carried out, if that has waited for the history.
    pub fn asked_behind(&self) -> Option<u64> {
        self.asked_behind
    }

    /// The SUBSCRIBE is carried out.
    pub fn note_answered(&mut self) {
        self.asked_behind = None;
    }

    /// A command waits.
    pub fn defer(&mut self, connection: ConnectionId, command: Command) {
        self.held_bytes += weight_of(&command);
        self.deferred.push_back((connection, command));
    }

    /// The command that has waited longest, if nothing is owed.
    pub fn next_deferred(&mut self) -> Option<(ConnectionId, Command)> {
        if self.tickets > 0 {
            return None;
        }
        let (connection, command) = self.deferred.pop_front()?;
        self.held_bytes = self.held_bytes.saturating_sub(weight_of(&command));
        Some((connection, command))
    }

    /// A publication of so many bytes follows a ticket.
    pub fn note_follower(&mut self, bytes: usize) {
        self.held_bytes += bytes;
    }

    /// The follower has gone out.
    pub fn note_followed(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    /// Takes a packet id into use. A repetition has DUP [MQTT-3.3.1-1]. A client that sends the second identical repetition
    /// without it on one connection has gone wrong. `max` is the number of ids that the client may have in use.
    pub fn take_packet_id(&mut self, id: PacketId, has_dup: bool, fingerprint: u64, max: Option<u16>) -> PacketUse {
        if let Some(repeats) = self.unreleased.get_mut(&id) {
            let is_same = repeats.fingerprint == fingerprint;
            let count = if is_same && !has_dup { repeats.count + 1 } else { 0 };
            *repeats = Repeats { fingerprint, count, ..*repeats };
            return if count > 1 { PacketUse::Violation } else { PacketUse::Repeated };
        }
        if max.is_some_and(|max| self.unreleased.len() >= usize::from(max)) {
            return PacketUse::TooMany;
        }
        self.unreleased.insert(id, Repeats { fingerprint, count: 0, is_placed: false });
        PacketUse::New
    }

    /// True for an id in use.
    pub fn uses_packet_id(&self, id: PacketId) -> bool {
        self.unreleased.contains_key(&id)
    }

    /// True for a publication under an id that is in use.
    pub fn is_repetition(&self, acknowledge: Acknowledge) -> bool {
        match acknowledge {
            Acknowledge::ExactlyOnce(id) | Acknowledge::ExactlyOnceAgain(id) => self.uses_packet_id(id),
            _ => false,
        }
    }

    /// The use of an id ends; false if it was not in use.
    pub fn release(&mut self, id: PacketId) -> bool {
        self.unreleased.remove(&id).is_some()
    }

    /// The publication under an id has its place.
    pub fn note_placed(&mut self, id: PacketId) {
        if let Some(repeats) = self.unreleased.get_mut(&id) {
            repeats.is_placed = true;
        }
    }

    /// A new connection: nothing was repeated on it.
    pub fn reconnect(&mut self) {
        self.unreleased.values_mut().for_each(|repeats| repeats.count = 0);
    }

    /// The number of one more use of an id.
    pub fn count_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// The number of ids that were used, ever.
    pub fn uses(&self) -> u64 {
        self.uses
    }

    /// Ids in use under which something has its place. A publication without a place may never have one: then its repetition is
    /// the first.
    pub fn placed_ids(&self) -> impl Iterator<Item = PacketId> {
        self.unreleased.iter().filter(|(_, repeats)| repeats.is_placed).map(|(id, _)| *id)
    }

    /// An earlier process took something under this id, which was its use of this number.
    pub fn restore_packet_id(&mut self, id: PacketId, uses: u64) {
        self.unreleased.insert(id, Repeats { fingerprint: 0, count: 0, is_placed: true });
        self.uses = self.uses.max(uses);
    }

    /// So many ids were used by an earlier process.
    pub fn restore_uses(&mut self, uses: u64) {
        self.uses = uses;
    }
}

/// Bytes that a command holds while it waits, about.
fn weight_of(command: &Command) -> usize {
    let body = match command {
        Command::Publish { publication, .. } => publication.weight(),
        Command::Call(call) => call_weight(call),
        Command::Yield(answer) => yield_weight(answer),
        Command::Subscribe { entries, .. } => entries.len() * size_of::<SubscribeEntry>(),
        Command::Unsubscribe { entries, .. } => entries.len() * size_of::<SubscribeEntry>(),
        _ => 0,
    };
    size_of::<Command>() + body
}

fn call_weight(call: &Call) -> usize {
    size_of::<Call>() + call.payload.len() + call.properties.as_deref().map_or(0, |properties| properties.text_bytes())
}

fn yield_weight(answer: &Yield) -> usize {
    size_of::<Yield>() + answer.payload.len() + answer.properties.as_deref().map_or(0, |properties| properties.text_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    #[test]
    fn what_comes_stands_behind_what_is_on_its_way() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.turn(), Turn::Now);
        inbound.note_owed();
        inbound.note_sent(Ticket(7));
        assert_eq!((inbound.turn(), inbound.is_settled()), (Turn::Behind(Ticket(7)), false));
        inbound.note_condition();
        assert_eq!(inbound.turn(), Turn::Later);
        inbound.note_granted(true);
        assert_eq!(inbound.turn(), Turn::Behind(Ticket(7)));
        inbound.begin_probe(Probing { connection: ConnectionId(1), request: RequestId(1), entries: Vec::new(), since: 0 });
        assert_eq!(inbound.turn(), Turn::Probing);
        inbound.defer(ConnectionId(1), Command::Release(id(1)));
        assert!(inbound.end_probe().is_some() && inbound.turn() == Turn::Later && inbound.next_deferred().is_none());
        inbound.note_back();
        inbound.note_back();
        assert!(matches!(inbound.next_deferred(), Some((_, Command::Release(_)))));
        assert!(inbound.next_deferred().is_none() && inbound.is_settled());
    }

    #[test]
    fn what_waits_is_counted_and_bounded() {
        let mut inbound = Inbound::default();
        inbound.note_follower(MAX_HELD_BYTES);
        assert!(!inbound.is_over_its_share());
        inbound.defer(ConnectionId(1), Command::Release(id(1)));
        assert!(inbound.is_over_its_share());
        assert!(inbound.next_deferred().is_some() && !inbound.is_over_its_share());
        inbound.note_followed(MAX_HELD_BYTES);
        assert_eq!(inbound.held_bytes, 0);
    }

    #[test]
    fn packet_ids_are_in_use_until_they_are_released() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.take_packet_id(id(1), false, 5, Some(1)), PacketUse::New);
        assert_eq!(inbound.take_packet_id(id(2), false, 5, Some(1)), PacketUse::TooMany);
        assert_eq!(inbound.take_packet_id(id(1), false, 5, Some(1)), PacketUse::Repeated);
        assert_eq!(inbound.take_packet_id(id(1), true, 5, Some(1)), PacketUse::Repeated);
        assert_eq!(inbound.take_packet_id(id(1), false, 5, Some(1)), PacketUse::Repeated);
        assert_eq!(inbound.take_packet_id(id(1), false, 5, Some(1)), PacketUse::Violation);
        assert!(inbound.placed_ids().next().is_none());
        inbound.note_placed(id(1));
        assert_eq!(inbound.placed_ids().collect::<Vec<_>>(), [id(1)]);
        assert!(inbound.release(id(1)) && !inbound.release(id(1)));
    }
}
