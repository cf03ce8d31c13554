//! The payload of each message: a mark, then publisher and sequence number in a spelling that every encoding leaves alone.

/// Stands before a stamp; must not occur in topics.
const MARK: u8 = b'@';
/// Letters of a stamp, without the mark.
pub(super) const LETTERS: usize = 16;
/// The smallest payload that has room for a stamp: the mark, the letters and the quotes of a JSON string.
pub(super) const MIN_BYTES: usize = LETTERS + 3;
/// Bits of the sequence number; the publisher's number is above them.
const SEQUENCE_BITS: u32 = 48;

/// The sender of a message, and the message's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// The publisher, 0 to 65,535.
    pub publisher: u16,
    /// Its messages count from 0, to 2^48.
    pub sequence: u64,
}

impl Stamp {
    /// The letters: one for each four bits, `a` to `p`, the highest bits first.
    #[inline]
    pub(super) fn encode(self) -> [u8; LETTERS] {
        let mut rest = u64::from(self.publisher) << SEQUENCE_BITS | self.sequence;
        let mut letters = [0; LETTERS];
        for letter in letters.iter_mut().rev() {
            *letter = b'a' + (rest & 0xF) as u8;
            rest >>= 4;
        }
        letters
    }

    /// The stamp that these letters spell.
    #[inline]
    pub(super) fn decode(letters: &[u8; LETTERS]) -> Option<Self> {
        let mut all = 0;
        let mut legal = true;
        for letter in letters {
            let value = letter.wrapping_sub(b'a');
            legal &= value < 16;
            all = all << 4 | u64::from(value & 0xF);
        }
        legal.then_some(Stamp { publisher: (all >> SEQUENCE_BITS) as u16, sequence: all & ((1 << SEQUENCE_BITS) - 1) })
    }
}

/// The stamp whose mark stands at `at`.
#[inline]
fn stamp_at(bytes: &[u8], at: usize) -> Option<Stamp> {
    let (mark, letters) = bytes.get(at..)?.split_first()?;
    if *mark == MARK { Stamp::decode(letters.first_chunk()?) } else { None }
}

/// Where the first stamp in `bytes` begins, with its mark. A mark without letters behind it is none: ids and lengths have such bytes too.
pub(super) fn position(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|at| stamp_at(bytes, *at).is_some())
}

/// Finds stamps; remembers where the last one stood, because the next one mostly stands there too.
#[derive(Default)]
pub(super) struct Finder {
    last_at: usize,
}

impl Finder {
    /// The first stamp in `bytes`, or one that stands where the last one did.
    #[inline]
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<Stamp> {
        if let Some(stamp) = stamp_at(bytes, self.last_at) {
            return Some(stamp);
        }
        self.last_at = position(bytes)?;
        stamp_at(bytes, self.last_at)
    }
}

/// Watches that the messages of each publisher come in their order.
#[derive(Default, Debug)]
pub(super) struct Order {
    next: Vec<u64>,
    repeated: u64,
}

impl Order {
    /// A message has arrived.
    #[inline]
    pub(super) fn see(&mut self, stamp: Stamp) {
        let publisher = usize::from(stamp.publisher);
        if publisher >= self.next.len() {
            self.next.resize(publisher + 1, 0);
        }
        if let Some(next) = self.next.get_mut(publisher) {
            if stamp.sequence < *next {
                self.repeated += 1;
            } else {
                *next = stamp.sequence + 1;
            }
        }
    }

    /// Messages since the last call that came again or behind later ones.
    pub(super) fn newly_repeated(&mut self) -> u64 {
        std::mem::take(&mut self.repeated)
    }
}

/// A payload of `size` bytes, as JSON text: a string that begins with a stamp if there is room for one.
pub(super) fn payload(size: usize) -> Vec<u8> {
    match size {
        0 => Vec::new(),
        1 => b"1".to_vec(),
        _ => {
            let mut text = vec![b'"'];
            if size >= MIN_BYTES {
                text.push(MARK);
                text.extend(Stamp { publisher: 0, sequence: 0 }.encode());
            }
            text.resize(size - 1, b'x');
            text.push(b'"');
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_their_spelling() {
        for stamp in [(0, 0), (0, 1), (1, 0x1234_5678_9ABC), (u16::MAX, (1 << SEQUENCE_BITS) - 1)] {
            let stamp = Stamp { publisher: stamp.0, sequence: stamp.1 };
            assert_eq!(Stamp::decode(&stamp.encode()), Some(stamp));
        }
        assert_eq!(&Stamp { publisher: 0x0F00, sequence: 0x21 }.encode(), b"apaaaaaaaaaaaacb");
        assert_eq!(Stamp::decode(b"aaaaaaaaaaaaaaaq"), None);
    }

    #[test]
    fn stamps_are_found_wherever_they_move() {
        let mut finder = Finder::default();
        for sequence in 0..40 {
            let stamp = Stamp { publisher: 3, sequence };
            let mut bytes = vec![b' '; usize::try_from(sequence % 7).unwrap()];
            bytes.push(MARK);
            bytes.extend(stamp.encode());
            assert_eq!(finder.find(&bytes), Some(stamp));
        }
        assert_eq!(finder.find(b"@ @ @aaaaaaaaaaaaaaac"), Some(Stamp { publisher: 0, sequence: 2 }));
        assert_eq!(finder.find(b"no mark"), None);
        assert_eq!(finder.find(b"@aaaa"), None);
    }

    #[test]
    fn payloads_have_the_size_that_was_asked_for() {
        for size in [0, 1, 2, 18, 19, 64, 1000] {
            let payload = payload(size);
            assert_eq!(payload.len(), size);
            assert_eq!(Finder::default().find(&payload).is_some(), size >= MIN_BYTES);
            assert!(size == 0 || serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
        }
    }

    #[test]
    fn disorder_is_seen_for_each_publisher() {
        let mut order = Order::default();
        for (publisher, sequence) in [(0, 0), (0, 1), (1, 0), (0, 3), (1, 1)] {
            order.see(Stamp { publisher, sequence });
        }
        assert_eq!(order.newly_repeated(), 0, "a gap is a loss, which the counts show");
        order.see(Stamp { publisher: 0, sequence: 2 });
        order.see(Stamp { publisher: 1, sequence: 1 });
        assert_eq!((order.newly_repeated(), order.newly_repeated()), (2, 0));
    }
}
