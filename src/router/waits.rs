//! Clients that connect, and SUBSCRIBEs, wait here for the places of records that were asked for before.
//!
//! All that a CONNECT brings about comes before anything that its client does then, stored or not [MQTT-3.1.4-3]: the ends of the
//! connection and the session before, their wills, the session's own record. CONNACK waits until the last of these has its place,
//! and for the remains of a session of the client that ended earlier. A SUBSCRIBE waits for the changes of retained values that came
//! before it, so that a value that was cleared is not told any more.
use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::model::ConnectionId;
use crate::model::record::Ticket;
use crate::router::base::key::SessionKey;

/// The one who goes on when a ticket has come back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Waiter {
    /// The client of a session, which is to be let in by this connection.
    Client(SessionKey, ConnectionId),
    /// A session with its next command.
    Session(SessionKey),
    /// Nobody: the remains of a session of this client have their places.
    Left(Box<str>),
}

/// Everybody who waits for a ticket of others. Each of them stands for a ticket that has not come back, or for a connection with a
/// command, and is bounded by the bounds of these.
#[derive(Debug, Default)]
pub struct Waits {
    by_ticket: BTreeMap<Ticket, SmallVec<[Waiter; 1]>>,
    /// The last ticket by the time that a session of this client ended, until that has come back.
    left: HashMap<Box<str>, Ticket, RandomState>,
}

impl Waits {
    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.by_ticket.is_empty()
    }

    /// One more waits for this ticket.
    pub fn push(&mut self, ticket: Ticket, waiter: Waiter) {
        self.by_ticket.entry(ticket).or_default().push(waiter);
    }

    /// A session of this client has ended, and the last of its remains may have this ticket.
    pub fn note_left(&mut self, client: Box<str>, last: Ticket) {
        self.left.insert(client.clone(), last);
        self.push(last, Waiter::Left(client));
    }

    /// The ticket behind which all remains of ended sessions of this client have their places.
    pub fn left_by(&self, client: &str) -> Option<Ticket> {
        self.left.get(client).copied()
    }

    /// A ticket has come back: those who waited for it, or for one before.
    pub fn take(&mut self, ticket: Ticket) -> Vec<Waiter> {
        let mut taken = Vec::new();
        while let Some(entry) = self.by_ticket.first_entry().filter(|entry| *entry.key() <= ticket) {
            for waiter in entry.remove() {
                match waiter {
                    Waiter::Left(client) if self.left.get(&client).is_some_and(|last| *last <= ticket) => {
                        self.left.remove(&client);
                    }
                    Waiter::Left(_) => {}
                    waiter => taken.push(waiter),
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_go_on_with_their_tickets() {
        let mut waits = Waits::default();
        let (a, b) = (Waiter::Session(SessionKey::new(1, 1)), Waiter::Client(SessionKey::new(2, 2), ConnectionId(3)));
        waits.push(Ticket(5), a.clone());
        waits.push(Ticket(3), b.clone());
        waits.note_left("c".into(), Ticket(4));
        waits.note_left("c".into(), Ticket(6));
        assert_eq!((waits.take(Ticket(2)), waits.left_by("c")), (Vec::new(), Some(Ticket(6))));
        assert_eq!(waits.take(Ticket(4)), [b]);
        assert_eq!((waits.take(Ticket(5)), waits.left_by("c")), (vec![a], Some(Ticket(6))));
        assert_eq!((waits.take(Ticket(6)), waits.left_by("c"), waits.is_empty()), (Vec::new(), None, true));
    }
}
