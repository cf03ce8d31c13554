//! Segments of one life that wait because they would leave a gap: bounded, and released in their order.
use std::collections::BTreeMap;

use super::segment::{Pseq, SegRef, SegmentNumber};

/// The segments of one owner that are held back at most. One above that is dropped, and its entry sends it again (E6).
pub const MAX_HELD: usize = 4096;
/// The bytes that they may take together, as [`SegRef::footprint`] counts it.
pub const MAX_HELD_BYTES: usize = 16 << 20;

/// The segments that wait, by their places.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    segments: BTreeMap<(Pseq, SegmentNumber, Pseq), SegRef>,
    bytes: usize,
}

impl Held {
    /// Takes a segment; `false` if there is no room for it.
    pub fn hold(&mut self, x: &SegRef) -> bool {
        let place = (x.from, x.key.segment, x.to);
        if self.segments.contains_key(&place) {
            return true; // Elected twice; places and stream are the identity of what is in it (I3).
        }
        let bytes = self.bytes.saturating_add(x.footprint());
        let has_room = self.segments.len() < MAX_HELD && bytes <= MAX_HELD_BYTES;
        if has_room {
            self.bytes = bytes;
            self.segments.insert(place, x.clone());
        }
        has_room
    }

    /// The first of them, if no item is missing between it and what is ordered up to `next`.
    pub fn release(&mut self, next: Pseq) -> Option<SegRef> {
        let first = self.segments.first_entry().filter(|first| first.get().from <= next)?.remove();
        self.bytes = self.bytes.saturating_sub(first.footprint());
        Some(first)
    }

    /// All of them, by place.
    pub fn iter(&self) -> impl Iterator<Item = &SegRef> {
        self.segments.values()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cluster::segment::{GroupId, Incarnation, Item, LedgerId, NodeId, SegmentKey, StreamId};

    fn segment(from: u64, control_bytes: usize) -> SegRef {
        let stream = StreamId { owner: NodeId(1), incarnation: Incarnation(1), ledger: LedgerId(0) };
        let key = SegmentKey { stream, segment: SegmentNumber(from) };
        let item = Item { body: Bytes::from(vec![0; control_bytes]), dedup: None, is_control: true, weight: 1 };
        SegRef::of(key, GroupId(0), Pseq(from), [&item]).unwrap()
    }

    #[test]
    fn what_follows_is_released_in_order_what_leaves_a_gap_is_not() {
        let mut held = Held::default();
        for from in [9, 4, 5, 4] {
            assert!(held.hold(&segment(from, 1)));
        }
        assert_eq!(held.release(Pseq(3)), None);
        assert_eq!([5, 5, 5].map(|next| held.release(Pseq(next)).map(|x| x.from.0)), [Some(4), Some(5), None]);
        assert_eq!(held.iter().count(), 1);
        assert_eq!(held.bytes, segment(9, 1).footprint());
    }

    #[test]
    fn bytes_are_bounded() {
        let mut held = Held::default();
        let taken = (1..=1000).filter(|from| held.hold(&segment(*from, 64 << 10))).count();
        assert_eq!(taken, MAX_HELD_BYTES / segment(1, 64 << 10).footprint());
        assert!(held.hold(&segment(1, 64 << 10)), "what is there already takes no room");
        while held.release(Pseq(u64::MAX)).is_some() {}
        assert_eq!(held.bytes, 0);
    }
}
