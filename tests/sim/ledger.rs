//! The ledger in the simulator: bare Paxos over slots, in place of the consensus library that the boundary is made for.
use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::segment::{LedgerEntry, Slot};

/// The number of a proposal: round, then node.
pub type Ballot = (u32, usize);

/// Between sync nodes.
#[derive(Clone, Debug)]
pub enum Vote {
    Claim { ballot: Ballot },
    Grant { ballot: Ballot, voter: usize, accepted: BTreeMap<Slot, (Ballot, LedgerEntry)>, chosen: BTreeMap<Slot, LedgerEntry> },
    Pick { ballot: Ballot, slot: Slot, entry: LedgerEntry },
    Accept { ballot: Ballot, slot: Slot, voter: usize },
    Refuse { promised: Ballot },
    Chosen { slot: Slot, entry: LedgerEntry },
}

#[derive(Clone, Debug)]
enum Role {
    Idle,
    Claiming { ballot: Ballot, voters: BTreeSet<usize>, accepted: BTreeMap<Slot, (Ballot, LedgerEntry)> },
    Leading { ballot: Ballot, next: Slot, open: BTreeMap<Slot, (LedgerEntry, BTreeSet<usize>)> },
}

/// One voter; everything but its role is on disk at once.
#[derive(Clone, Debug)]
pub struct Ledger {
    node: usize,
    nodes: usize,
    promised: Ballot,
    accepted: BTreeMap<Slot, (Ballot, LedgerEntry)>,
    pub chosen: BTreeMap<Slot, LedgerEntry>,
    role: Role,
    /// To whom, what.
    pub outbox: Vec<(usize, Vote)>,
    /// Newly chosen here.
    pub news: Vec<(Slot, LedgerEntry)>,
}

impl Ledger {
    pub fn new(node: usize, nodes: usize) -> Self {
        let (accepted, chosen) = (BTreeMap::new(), BTreeMap::new());
        Ledger { node, nodes, promised: (0, 0), accepted, chosen, role: Role::Idle, outbox: Vec::new(), news: Vec::new() }
    }

    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    /// Which leadership, if it leads.
    pub fn ballot(&self) -> Option<Ballot> {
        if let Role::Leading { ballot, .. } = self.role { Some(ballot) } else { None }
    }

    /// The process ends; a ledger that forgets loses its disk with it.
    pub fn crash(&mut self, forgets: bool) {
        self.role = Role::Idle;
        self.outbox.clear();
        if forgets {
            self.promised = (0, 0);
            self.accepted.clear();
            self.chosen.clear();
        }
    }

    fn all(&mut self, vote: &Vote) {
        self.outbox.extend((0..self.nodes).map(|to| (to, vote.clone())));
    }

    pub fn claim(&mut self) {
        let ballot = (self.promised.0 + 1, self.node);
        self.promised = ballot;
        self.role = Role::Claiming { ballot, voters: BTreeSet::new(), accepted: BTreeMap::new() };
        self.all(&Vote::Claim { ballot });
    }

    pub fn propose(&mut self, entry: LedgerEntry) {
        if let Role::Leading { ballot, next, open } = &mut self.role {
            let (ballot, slot) = (*ballot, *next);
            *next = slot.next();
            open.insert(slot, (entry.clone(), BTreeSet::new()));
            self.all(&Vote::Pick { ballot, slot, entry });
        }
    }

    pub fn send_again(&mut self) {
        if let Role::Leading { ballot, open, .. } = &self.role {
            let ballot = *ballot;
            let picks: Vec<Vote> =
                open.iter().map(|(slot, (entry, _))| Vote::Pick { ballot, slot: *slot, entry: entry.clone() }).collect();
            picks.iter().for_each(|pick| self.all(pick));
        }
    }

    fn choose(&mut self, slot: Slot, entry: LedgerEntry) {
        if self.chosen.insert(slot, entry.clone()).is_none() {
            self.news.push((slot, entry));
        }
    }

    pub fn handle(&mut self, vote: Vote) {
        match vote {
            Vote::Claim { ballot } => {
                if ballot >= self.promised {
                    if self.promised < ballot {
                        self.role = Role::Idle;
                    }
                    self.promised = ballot;
                    let (accepted, chosen) = (self.accepted.clone(), self.chosen.clone());
                    self.outbox.push((ballot.1, Vote::Grant { ballot, voter: self.node, accepted, chosen }));
                } else {
                    self.outbox.push((ballot.1, Vote::Refuse { promised: self.promised }));
                }
            }
            Vote::Grant { ballot, voter, accepted, chosen } => self.handle_grant(ballot, voter, accepted, chosen),
            Vote::Pick { ballot, slot, entry } => {
                if ballot >= self.promised {
                    if self.promised < ballot {
                        self.role = Role::Idle;
                    }
                    self.promised = ballot;
                    self.accepted.insert(slot, (ballot, entry));
                    self.outbox.push((ballot.1, Vote::Accept { ballot, slot, voter: self.node }));
                } else {
                    self.outbox.push((ballot.1, Vote::Refuse { promised: self.promised }));
                }
            }
            Vote::Accept { ballot, slot, voter } => self.handle_accept(ballot, slot, voter),
            Vote::Refuse { promised } => {
                let mine = match &self.role {
                    Role::Idle => return,
                    Role::Claiming { ballot, .. } | Role::Leading { ballot, .. } => *ballot,
                };
                if mine < promised {
                    self.role = Role::Idle;
                    self.promised = self.promised.max(promised);
                }
            }
            Vote::Chosen { slot, entry } => self.choose(slot, entry),
        }
    }

    fn handle_grant(
        &mut self,
        granted: Ballot,
        voter: usize,
        theirs: BTreeMap<Slot, (Ballot, LedgerEntry)>,
        chosen: BTreeMap<Slot, LedgerEntry>,
    ) {
        for (slot, entry) in chosen {
            self.choose(slot, entry);
        }
        let Role::Claiming { ballot, voters, accepted } = &mut self.role else { return };
        if *ballot != granted {
            return;
        }
        let ballot = *ballot;
        voters.insert(voter);
        for (slot, (at, entry)) in theirs {
            if accepted.get(&slot).is_none_or(|(known, _)| at > *known) {
                accepted.insert(slot, (at, entry));
            }
        }
        if voters.len() <= self.nodes / 2 {
            return;
        }
        let accepted = std::mem::take(accepted);
        let last = accepted.keys().chain(self.chosen.keys()).max().copied().unwrap_or_default();
        let mut first = Slot(1);
        while self.chosen.contains_key(&first) {
            first = first.next();
        }
        let value = |slot: u64| {
            let adopted = || accepted.get(&Slot(slot)).map(|(_, entry)| entry.clone()).unwrap_or_default();
            self.chosen.get(&Slot(slot)).cloned().unwrap_or_else(adopted)
        };
        let open = (first.0..=last.0).map(|slot| (Slot(slot), (value(slot), BTreeSet::new()))).collect();
        self.role = Role::Leading { ballot, next: last.next(), open };
        self.send_again();
    }

    fn handle_accept(&mut self, accepted: Ballot, slot: Slot, voter: usize) {
        let Role::Leading { ballot, open, .. } = &mut self.role else { return };
        let Some((entry, voters)) = open.get_mut(&slot).filter(|_| *ballot == accepted) else { return };
        voters.insert(voter);
        if voters.len() > self.nodes / 2 {
            let entry = entry.clone();
            open.remove(&slot);
            self.all(&Vote::Chosen { slot, entry: entry.clone() });
            self.choose(slot, entry);
        }
    }
}
