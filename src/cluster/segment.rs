//! The things that are ordered, and their names: items, streams, segments, their digests, and the entries of the ledger.
use std::fmt;

use bytes::Bytes;

pub use crate::model::EventId;
pub use crate::model::record::{DedupKey, Ticket};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A process of the cluster.
    NodeId(u16)
}
number! {
    /// A life of an entry, granted by the ledger and never used twice; 0 = none yet.
    Incarnation(u32)
}
number! {
    /// One total order; one for each realm.
    LedgerId(u32)
}
number! {
    /// A replica set of ndb nodes.
    GroupId(u16)
}
number! {
    /// A segment within its stream, from 1.
    SegmentNumber(u64)
}
number! {
    /// The place of an item in its stream, from 1: with the stream it is the identity of the item.
    Pseq(u64)
}
number! {
    /// A place in the ledger, from 1; 0 = nothing decided.
    Slot(u64)
}
number! {
    /// Which sync of a machine is meant.
    SyncToken(u64)
}

/// A record to be ordered; its body is opaque here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Item {
    /// The record as the store writes it.
    pub body: Bytes,
    /// With a key: ordered once, however often it is submitted.
    pub dedup: Option<DedupKey>,
    /// Locks, queue claims, ends of sessions: also carried in the ledger, so that every projection sees it.
    pub is_control: bool,
    /// Bytes that it takes of a window.
    pub weight: u32,
}

/// The stream of one life of an entry in one ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId {
    /// The entry.
    pub owner: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// The order it writes to.
    pub ledger: LedgerId,
}

/// The name of a segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentKey {
    /// The stream that the segment is part of.
    pub stream: StreamId,
    /// Which.
    pub segment: SegmentNumber,
}

/// A segment by reference, as it is drafted and elected: exactly the items `from..=to`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SegRef {
    /// Which segment.
    pub key: SegmentKey,
    /// Where its bodies are.
    pub group: GroupId,
    /// The membership of the group that is meant.
    pub group_epoch: u32,
    /// The first item.
    pub from: Pseq,
    /// The last item.
    pub to: Pseq,
    /// Weight of the items.
    pub bytes: u64,
    /// The chain over `from..=to`.
    pub digest: Digest,
    /// The keys of the items that have one, by ascending place.
    pub dedup: Vec<(Pseq, DedupKey)>,
    /// The control items.
    pub inline: Vec<(Pseq, Item)>,
}

impl SegRef {
    /// The segment that consists of these items from `from` on; `None` without items.
    pub fn of<'a>(key: SegmentKey, group: GroupId, from: Pseq, items: impl IntoIterator<Item = &'a Item>) -> Option<Self> {
        let digest = Digest::default();
        let mut segment =
            SegRef { key, group, group_epoch: 0, from, to: from, bytes: 0, digest, dedup: Vec::new(), inline: Vec::new() };
        let mut at = from;
        for item in items {
            segment.to = at;
            segment.bytes = segment.bytes.saturating_add(u64::from(item.weight));
            segment.digest = segment.digest.chain(at, item);
            segment.dedup.extend(item.dedup.clone().map(|key| (at, key)));
            if item.is_control {
                segment.inline.push((at, item.clone()));
            }
            at = at.next();
        }
        (at > from).then_some(segment)
    }

    /// Bytes that this reference takes in memory, about: what it carries counts, its items do not.
    pub fn footprint(&self) -> usize {
        let dedup = self.dedup.iter().map(|(_, key)| size_of::<(Pseq, DedupKey)>() + key.owner.len() + key.key.len());
        let inline = self.inline.iter().map(|(_, item)| size_of::<(Pseq, Item)>() + item.body.len());
        dedup.chain(inline).fold(size_of::<SegRef>(), usize::saturating_add)
    }
}

/// A chain of 128 bits over items, equal for equal items in equal places. The chain finds faults, not forgers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Digest(pub u128);

/// Odd, with bits everywhere: multiplication by it can be undone, so one changed word always changes the digest.
const FACTOR: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;

impl Digest {
    /// The chain with this item at its end.
    #[must_use]
    pub fn chain(self, pseq: Pseq, item: &Item) -> Self {
        let key = item.dedup.as_ref().map_or(Digest::default(), |key| Digest::default().key(key));
        let shape = u128::from(pseq.0) << 64 | u128::from(item.weight) << 1 | u128::from(item.is_control);
        self.word(shape).word(key.0).bytes(&item.body)
    }

    /// The chain with one word at its end.
    #[must_use]
    pub fn word(self, word: u128) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(FACTOR);
        Digest((mixed ^ (mixed >> 64)).wrapping_add(FACTOR))
    }

    /// The chain with this key at its end.
    #[must_use]
    pub fn key(self, key: &DedupKey) -> Self {
        self.bytes(key.owner.as_bytes()).bytes(&key.key)
    }

    /// The chain with these bytes and their number at its end.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<16>();
        let whole = words.iter().fold(self, |digest, word| digest.word(u128::from_le_bytes(*word)));
        let last = rest.iter().rev().fold(0, |word: u128, byte| word << 8 | u128::from(*byte));
        whole.word(last).word(bytes.len() as u128)
    }
}

/// A decision that the ledger makes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Op {
    /// Order this segment.
    Segment(SegRef),
    /// Grant a life to an entry, and order what is left of the one before, in one (R8).
    Join(Join),
}

/// The grant of a life.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Join {
    /// To whom.
    pub owner: NodeId,
    /// Which life: void unless it follows the present one.
    pub incarnation: Incarnation,
    /// Chosen by the process at random, to know its grant again.
    pub nonce: u128,
    /// The nonce by which the same process joined before: its sessions live on.
    pub prev_nonce: Option<u128>,
    /// The tail of the life before.
    pub recovered: Vec<SegRef>,
}

/// The value of a slot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LedgerEntry {
    /// Milliseconds since 1970 as the proposer saw it; the resolver lets it only grow.
    pub dt_ms: u64,
    /// The decisions, in this order; an empty list is a no-op.
    pub ops: Vec<Op>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(body: &'static [u8]) -> Item {
        Item { body: Bytes::from_static(body), dedup: None, is_control: false, weight: body.len() as u32 }
    }

    fn key() -> SegmentKey {
        let stream = StreamId { owner: NodeId(1), incarnation: Incarnation(1), ledger: LedgerId(0) };
        SegmentKey { stream, segment: SegmentNumber(1) }
    }

    #[test]
    fn a_segment_covers_its_items() {
        let two = DedupKey { owner: "one".into(), key: Bytes::from_static(b"two") };
        let keyed = Item { dedup: Some(two.clone()), ..item(b"two") };
        let control = Item { is_control: true, ..item(b"three") };
        let items = [item(b"one"), keyed, control.clone()];
        let segment = SegRef::of(key(), GroupId(0), Pseq(5), &items).unwrap();
        assert_eq!((segment.from, segment.to, segment.bytes), (Pseq(5), Pseq(7), 11));
        assert_eq!(segment.dedup, [(Pseq(6), two)]);
        assert_eq!(segment.inline, [(Pseq(7), control)]);
        assert_eq!(SegRef::of(key(), GroupId(0), Pseq(5), &[]), None);
    }

    #[test]
    fn every_difference_changes_the_digest() {
        let base = Digest::default().chain(Pseq(1), &item(b"abc"));
        let long = item(b"0123456789abcdef");
        let others = [
            Digest::default().chain(Pseq(2), &item(b"abc")),
            Digest::default().chain(Pseq(1), &item(b"abd")),
            Digest::default().chain(Pseq(1), &item(b"abc\0")),
            Digest::default().chain(Pseq(1), &Item { weight: 9, ..item(b"abc") }),
            Digest::default().chain(Pseq(1), &Item { is_control: true, ..item(b"abc") }),
            Digest::default()
                .chain(Pseq(1), &Item { dedup: Some(DedupKey { owner: "".into(), key: Bytes::new() }), ..item(b"abc") }),
            base.chain(Pseq(2), &item(b"")),
            Digest::default().chain(Pseq(1), &long),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "{i}");
        }
        assert_eq!(base, Digest::default().chain(Pseq(1), &item(b"abc")));
        assert_ne!(Digest::default().bytes(b"0123456789abcdef"), Digest::default().bytes(b"1123456789abcdef"));
    }
}
