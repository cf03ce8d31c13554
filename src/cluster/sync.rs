//! A sync: turns drafts into certificates and certificates into proposals, and recovers the tail of a life that ended.
//!
//! The ledger itself is beyond the boundary: a sync that leads it proposes entries, and every sync is told what is decided.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::learner::Learner;
use super::message::{Effect, Message, Peer, Report};
use super::quorum::{Drafts, Members};
use super::rule::{Rule, Rules};
use super::segment::{Incarnation, Item, Join, LedgerEntry, NodeId, Op, SegRef, SegmentKey, Slot};

/// A request for a life.
#[derive(Clone, Copy, Debug)]
struct Request {
    nonce: u128,
    prev_nonce: Option<u128>,
}

/// The way from a request to its Join (section 8.1).
#[derive(Debug)]
struct Recovery {
    owner: NodeId,
    /// The life that ends.
    incarnation: Incarnation,
    request: Request,
    replies: BTreeMap<NodeId, Vec<Report>>,
    /// The recovered tail, once enough have replied.
    tail: Option<Vec<(SegRef, Vec<Item>)>>,
}

/// One sync node, for one ledger.
#[derive(Debug)]
pub struct Sync {
    node: NodeId,
    members: Members,
    rules: Rules,
    learner: Learner,
    leads: bool,
    drafts: Drafts,
    proposed: BTreeSet<SegRef>,
    requests: BTreeMap<NodeId, Request>,
    recovery: Option<Recovery>,
    effects: VecDeque<Effect>,
}

impl Sync {
    /// Starts without memory; the ledger tells it every slot again.
    pub fn start(node: NodeId, members: Members) -> Self {
        Self::start_with(node, members, Rules::default())
    }

    pub(crate) fn start_with(node: NodeId, members: Members, rules: Rules) -> Self {
        Sync {
            node,
            members,
            rules,
            learner: Learner::new(rules),
            leads: false,
            drafts: Drafts::default(),
            proposed: BTreeSet::new(),
            requests: BTreeMap::new(),
            recovery: None,
            effects: VecDeque::new(),
        }
    }

    /// The resolver of this node.
    pub fn resolver(&self) -> &super::resolver::Resolver {
        &self.learner.resolver
    }

    /// The effect that is to be carried out next; `now_ms` is the time since 1970 that a proposal made now gets.
    pub fn poll_effect(&mut self, now_ms: u64) -> Option<Effect> {
        if self.effects.is_empty() && self.leads {
            self.propose_certified(now_ms);
            self.advance_recovery(now_ms);
        }
        self.effects.pop_front()
    }

    /// The ledger says whether this node leads it. Proposals made before may be lost, so they are made again.
    pub fn handle_leading(&mut self, leads: bool) {
        self.leads = leads;
        self.proposed.clear();
        self.recovery = None;
    }

    /// A message arrived.
    pub fn handle_message(&mut self, message: Message) {
        match message {
            Message::GenerateDraft { segment, ndb } if self.learner.resolver.is_open(&segment) => {
                self.drafts.vote(&self.members, segment, ndb);
            }
            Message::InitEntry { owner, nonce, prev_nonce } => {
                let is_granted = self.learner.resolver.granted(owner, nonce).is_some();
                if self.members.entries.contains(&owner) && (!is_granted || !self.rules.keeps(Rule::StaleInit)) {
                    self.requests.insert(owner, Request { nonce, prev_nonce });
                }
            }
            Message::EntryFenced { owner, incarnation, nonce, ndb, reports } => {
                self.handle_fenced(owner, incarnation, nonce, ndb, reports);
            }
            Message::Learn { from, after } => self.effects.push_back(Effect::Teach { to: from, after }),
            _ => {}
        }
    }

    /// The ledger decided a slot: everybody hears of it from the one that leads.
    pub fn handle_decided(&mut self, slot: Slot, entry: LedgerEntry) {
        if self.leads {
            let ndbs = self.members.groups.iter().flat_map(|group| &group.members).map(|node| Peer::Ndb(*node));
            for to in ndbs.chain(self.members.entries.iter().map(|node| Peer::Entry(*node))) {
                let message = Message::AdvanceSegmentResolved { slot, entry: entry.clone() };
                self.effects.push_back(Effect::Send { to, message });
            }
        }
        match self.learner.handle_decided(slot, entry) {
            Ok(all) => {
                for applied in all {
                    self.effects.push_back(Effect::Resolved { slot: applied.slot, outcomes: applied.outcomes });
                }
            }
            Err(breach) => return self.effects.push_back(Effect::Fatal(breach)),
        }
        let resolver = &self.learner.resolver;
        self.drafts.retain(|segment| resolver.is_open(segment));
        self.proposed.retain(|segment| resolver.is_open(segment));
        if self.rules.keeps(Rule::StaleInit) {
            self.requests.retain(|owner, request| resolver.granted(*owner, request.nonce).is_none());
        }
    }

    /// Called every so often: what a recovery waits for is asked again.
    pub fn handle_tick(&mut self) {
        let Some(recovery) = self.recovery.as_ref().filter(|_| self.leads) else { return };
        let mut sends = Vec::new();
        match &recovery.tail {
            None => {
                let ndbs = self.members.groups.iter().flat_map(|group| &group.members);
                for ndb in ndbs.filter(|ndb| !recovery.replies.contains_key(ndb)) {
                    sends.push((Peer::Ndb(*ndb), self.fence(recovery)));
                }
            }
            Some(tail) => {
                for (segment, items) in tail {
                    for ndb in self.members.group(segment.group).iter().flat_map(|group| &group.members) {
                        let message = Message::CopyAdvanceHistory { segment: segment.clone(), items: items.clone() };
                        sends.push((Peer::Ndb(*ndb), message));
                    }
                }
            }
        }
        self.effects.extend(sends.into_iter().map(|(to, message)| Effect::Send { to, message }));
    }

    fn fence(&self, recovery: &Recovery) -> Message {
        let Recovery { owner, incarnation, request, .. } = recovery;
        Message::FenceEntry { owner: *owner, incarnation: *incarnation, sync: self.node, nonce: request.nonce }
    }

    /// Every certified segment that was not proposed, in one slot (S4).
    fn propose_certified(&mut self, now_ms: u64) {
        let certified = self.drafts.certified(&self.members, self.rules);
        let mut new: Vec<SegRef> = certified.filter(|segment| !self.proposed.contains(*segment)).cloned().collect();
        if !new.is_empty() {
            new.sort_by_key(|segment| (segment.key.stream, segment.from, segment.to));
            self.proposed.extend(new.iter().cloned());
            self.propose(new.into_iter().map(Op::Segment).collect(), now_ms);
        }
    }

    fn propose(&mut self, ops: Vec<Op>, now_ms: u64) {
        let dt_ms = self.learner.resolver.dt_ms().max(now_ms);
        self.effects.push_back(Effect::Propose(LedgerEntry { dt_ms, ops }));
    }

    fn handle_fenced(&mut self, owner: NodeId, incarnation: Incarnation, nonce: u128, ndb: NodeId, reports: Vec<Report>) {
        let Some(recovery) = &mut self.recovery else { return };
        let is_asked = recovery.owner == owner && recovery.incarnation == incarnation && recovery.request.nonce == nonce;
        if !is_asked || recovery.tail.is_some() {
            return;
        }
        recovery.replies.insert(ndb, reports);
        let replies = &recovery.replies;
        let has_quorum = self
            .members
            .groups
            .iter()
            .all(|group| replies.keys().filter(|ndb| group.has(**ndb)).count() >= group.fence_quorum(self.rules));
        if has_quorum {
            recovery.tail = Some(longest(replies));
            self.handle_tick();
        }
    }

    /// Takes up the next request, or goes on with the one at hand (S7).
    fn advance_recovery(&mut self, now_ms: u64) {
        let resolver = &self.learner.resolver;
        let is_over = |recovery: &Recovery| {
            let is_granted = resolver.granted(recovery.owner, recovery.request.nonce).is_some();
            resolver.owner(recovery.owner).0 != recovery.incarnation || (is_granted && self.rules.keeps(Rule::StaleInit))
        };
        if self.recovery.as_ref().is_some_and(is_over) {
            self.recovery = None;
        }
        if self.recovery.is_none() {
            let Some((owner, request)) = self.requests.pop_first() else { return };
            let incarnation = self.learner.resolver.owner(owner).0;
            self.recovery = Some(Recovery { owner, incarnation, request, replies: BTreeMap::new(), tail: None });
            return self.handle_tick();
        }
        let resolver = &self.learner.resolver;
        let Some(recovery) = &mut self.recovery else { return };
        let Some(tail) = &mut recovery.tail else { return };
        tail.retain(|(segment, _)| resolver.is_open(segment));
        let (drafts, members, rules) = (&self.drafts, &self.members, self.rules);
        if !tail.iter().all(|(segment, _)| drafts.is_certified(members, segment, rules)) {
            return;
        }
        let recovered: Vec<SegRef> = tail.iter().map(|(segment, _)| segment.clone()).collect();
        let Recovery { owner, incarnation, request: Request { nonce, prev_nonce }, .. } = *recovery;
        self.recovery = None;
        let join = |recovered| Op::Join(Join { owner, incarnation: incarnation.next(), nonce, prev_nonce, recovered });
        if self.rules.keeps(Rule::AtomicJoin) {
            self.propose(vec![join(recovered)], now_ms);
        } else {
            self.propose(vec![join(Vec::new())], now_ms);
            self.propose(recovered.into_iter().map(Op::Segment).collect(), now_ms);
        }
    }
}

/// Of each segment the longest part that anybody reported.
fn longest(replies: &BTreeMap<NodeId, Vec<Report>>) -> Vec<(SegRef, Vec<Item>)> {
    let mut best: BTreeMap<SegmentKey, &Report> = BTreeMap::new();
    for report in replies.values().flatten() {
        let known = best.entry(report.key).or_insert(report);
        if report.items.len() > known.items.len() {
            *known = report;
        }
    }
    let refer = |report: &Report| Some((SegRef::of(report.key, report.group, report.from, &report.items)?, report.items.clone()));
    best.into_values().filter_map(refer).collect()
}

#[cfg(test)]
mod tests;
