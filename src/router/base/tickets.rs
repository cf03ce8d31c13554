//! The tickets of a realm on their way into the history, in the order in which they were sent there.
use std::collections::VecDeque;

use crate::model::record::Ticket;

/// A line of tickets that come back in their order; `W` is what comes of one.
#[derive(Debug)]
pub struct Tickets<W> {
    first: Ticket,
    waiting: VecDeque<W>,
}

impl<W> Default for Tickets<W> {
    fn default() -> Self {
        Tickets { first: Ticket::default(), waiting: VecDeque::new() }
    }
}

impl<W> Tickets<W> {
    /// True if nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The ticket that the next one gets.
    pub fn next(&self) -> Ticket {
        Ticket(self.first.0 + self.waiting.len() as u64)
    }

    /// The last that has not come back.
    pub fn last(&self) -> Option<Ticket> {
        let before = self.waiting.len().checked_sub(1)?;
        Some(Ticket(self.first.0 + before as u64))
    }

    /// Sends one more on its way.
    pub fn push(&mut self, waiting: W) -> Ticket {
        let ticket = self.next();
        self.waiting.push_back(waiting);
        ticket
    }

    /// True while this ticket has not come back.
    pub fn has(&self, ticket: Ticket) -> bool {
        ticket >= self.first
    }

    /// The work that waits for a ticket which has not come back.
    pub fn at_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        let index = ticket.0.checked_sub(self.first.0)?;
        self.waiting.get_mut(usize::try_from(index).ok()?)
    }

    /// Takes the oldest out, if it is this one.
    pub fn take(&mut self, ticket: Ticket) -> Option<W> {
        if ticket != self.first {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        self.first.0 += 1;
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_come_back_in_their_order() {
        let mut tickets = Tickets::default();
        assert_eq!(tickets.last(), None);
        let (first, second) = (tickets.push('a'), tickets.push('b'));
        assert_eq!((tickets.take(second), tickets.at_mut(second).copied()), (None, Some('b')));
        assert_eq!(tickets.last(), Some(second));
        assert_eq!((tickets.take(first), tickets.has(first), tickets.has(second)), (Some('a'), false, true));
        assert_eq!(tickets.at_mut(first), None);
        assert_eq!((tickets.take(second), tickets.is_empty()), (Some('b'), true));
        assert!(tickets.push('c') > second);
    }
}
