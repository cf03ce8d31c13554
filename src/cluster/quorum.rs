//! The counting of votes: groups of ndb nodes, their write and fence quorums, and certificates of equal drafts.
use std::collections::{BTreeMap, BTreeSet};

use super::rule::{Rule, Rules};
use super::segment::{GroupId, NodeId, SegRef};

/// A replica set of ndb nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// Its nodes.
    pub members: Vec<NodeId>,
    /// W: copies that make a certificate.
    pub write_quorum: usize,
}

impl Group {
    /// F = n - W + 1: so many replies meet every set of W members.
    pub fn fence_quorum(&self, rules: Rules) -> usize {
        if !rules.keeps(Rule::FenceQuorum) {
            return 1;
        }
        self.members.len().saturating_sub(self.write_quorum).saturating_add(1)
    }

    /// W, unless a test says otherwise.
    pub fn write_quorum(&self, rules: Rules) -> usize {
        if rules.keeps(Rule::WriteQuorum) { self.write_quorum } else { 1 }
    }

    /// Whether this node is one of them.
    pub fn has(&self, node: NodeId) -> bool {
        self.members.contains(&node)
    }
}

/// The nodes of a ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// The groups of ndb nodes.
    pub groups: Vec<Group>,
    /// The sync nodes.
    pub syncs: Vec<NodeId>,
    /// The entries.
    pub entries: Vec<NodeId>,
}

impl Members {
    /// The group with this name.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }
}

/// Most segments for which drafts are kept; above it, those in order of their names last are dropped and announced again (N5).
pub const MAX_DRAFTED: usize = 65_536;

/// Drafts by segment: only equal ones count together (R1, R4).
#[derive(Clone, Debug, Default)]
pub struct Drafts {
    by_segment: BTreeMap<SegRef, BTreeSet<NodeId>>,
}

impl Drafts {
    /// One more vote; votes of nodes outside the group do not count.
    pub fn vote(&mut self, members: &Members, segment: SegRef, ndb: NodeId) {
        if members.group(segment.group).is_some_and(|group| group.has(ndb)) {
            self.by_segment.entry(segment).or_default().insert(ndb);
            if self.by_segment.len() > MAX_DRAFTED {
                self.by_segment.pop_last();
            }
        }
    }

    /// Whether W members hold exactly this segment.
    pub fn is_certified(&self, members: &Members, segment: &SegRef, rules: Rules) -> bool {
        let needed = members.group(segment.group).map_or(usize::MAX, |group| group.write_quorum(rules));
        let needed = if rules.keeps(Rule::Certificate) { needed } else { 1 };
        self.by_segment.get(segment).is_some_and(|voters| voters.len() >= needed)
    }

    /// The segments with a certificate, by stream and place.
    pub fn certified<'a>(&'a self, members: &'a Members, rules: Rules) -> impl Iterator<Item = &'a SegRef> {
        self.by_segment.keys().filter(move |segment| self.is_certified(members, segment, rules))
    }

    /// Keeps the segments for which this says so.
    pub fn retain(&mut self, is_open: impl Fn(&SegRef) -> bool) {
        self.by_segment.retain(|segment, _| is_open(segment));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_segment.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::segment::{Digest, Incarnation, LedgerId, Pseq, SegmentKey, SegmentNumber, StreamId};

    fn group(nodes: u16, write_quorum: usize) -> Group {
        Group { id: GroupId(0), members: (0..nodes).map(NodeId).collect(), write_quorum }
    }

    #[test]
    fn every_fence_quorum_meets_every_write_quorum() {
        for nodes in 1..8u16 {
            for write in 1..=usize::from(nodes) {
                let fence = group(nodes, write).fence_quorum(Rules::default());
                assert_eq!(fence + write, usize::from(nodes) + 1, "n = {nodes}, W = {write}");
            }
        }
    }

    #[test]
    fn only_equal_drafts_of_members_count() {
        let members = Members { groups: vec![group(3, 2)], syncs: vec![], entries: vec![] };
        let stream = StreamId { owner: NodeId(0), incarnation: Incarnation(1), ledger: LedgerId(0) };
        let key = SegmentKey { stream, segment: SegmentNumber(1) };
        let digest = Digest::default();
        let (from, to, dedup, inline) = (Pseq(1), Pseq(2), Vec::new(), Vec::new());
        let segment = SegRef { key, group: GroupId(0), group_epoch: 0, from, to, bytes: 0, digest, dedup, inline };
        let other = SegRef { digest: Digest(1), ..segment.clone() };
        let mut drafts = Drafts::default();
        drafts.vote(&members, segment.clone(), NodeId(0));
        drafts.vote(&members, segment.clone(), NodeId(0));
        drafts.vote(&members, other.clone(), NodeId(1));
        drafts.vote(&members, segment.clone(), NodeId(9));
        assert_eq!(drafts.certified(&members, Rules::default()).count(), 0);
        drafts.vote(&members, segment.clone(), NodeId(2));
        assert_eq!(drafts.certified(&members, Rules::default()).collect::<Vec<_>>(), [&segment]);
        drafts.retain(|segment| *segment == other);
        assert!(!drafts.is_certified(&members, &segment, Rules::default()));
    }
}
