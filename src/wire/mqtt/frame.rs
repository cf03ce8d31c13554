//! Finds packet boundaries in a stream and judges a packet by its fixed header (2.1) before its body has arrived.

use super::{Error, PacketType, Peer, Version};

/// The frame at the head of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Not yet a whole packet. This is not a fault: read on until the input holds at least this many bytes, and ask again.
    Incomplete {
        /// Bytes that the input must hold, counted from its start; never more than the maximum packet size, and at least 2.
        at_least: usize,
    },
    /// A whole packet of this many bytes, fixed header included.
    Complete {
        /// Length of the packet in bytes.
        length: usize,
    },
}

/// Looks for one packet at the head of `input`, of at most `max_packet_size` bytes with its header (3.1.2.11.4).
///
/// Every fault that the header alone proves is refused at once: a packet type that `from` may not send, reserved flags, a
/// remaining length of five bytes, a size above the maximum. While `from` is [`Peer::Newcomer`] the version is not known yet and
/// only CONNECT passes.
pub fn frame(input: &[u8], max_packet_size: u32, version: Version, from: Peer) -> Result<Frame, Error> {
    let Some((first, rest)) = input.split_first() else {
        return Ok(Frame::Incomplete { at_least: 2 });
    };
    check_first_byte(*first, version, from)?;
    check_ping(*first, rest, from)?;
    let Some(length) = remaining_length(rest, version == Version::V5 && from != Peer::Newcomer)? else {
        return Ok(Frame::Incomplete { at_least: input.len().saturating_add(1).max(2) });
    };
    let total = length.bytes + 1 + length.value;
    if u32::try_from(total).map_or(true, |total| total > max_packet_size) {
        return Err(Error::TooLarge); // [MQTT-3.2.2-15]
    }
    if input.len() < total {
        return Ok(Frame::Incomplete { at_least: total });
    }
    Ok(Frame::Complete { length: total })
}

/// The number of bytes that the packet at the head of `input` declares, header included, be it valid or not. `None` where the
/// remaining length is not complete or not valid.
pub fn declared_bytes(input: &[u8]) -> Option<usize> {
    let (_, rest) = input.split_first()?;
    let length = remaining_length(rest, false).ok()??;
    Some(length.bytes + 1 + length.value)
}

/// A remaining length and how many bytes it took.
#[derive(Clone, Copy)]
struct RemainingLength {
    value: usize,
    bytes: usize,
}

/// Reads the remaining length; `None` where it goes on behind the input. 5.0 wants the shortest form [MQTT-1.5.5-1].
#[inline]
fn remaining_length(input: &[u8], minimal: bool) -> Result<Option<RemainingLength>, Error> {
    let mut value = 0;
    for (at, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            if minimal && *byte == 0 && at > 0 {
                return Err(Error::RemainingLength);
            }
            return Ok(Some(RemainingLength { value, bytes: at + 1 }));
        }
    }
    if input.len() < 4 { Ok(None) } else { Err(Error::RemainingLength) }
}

/// The first byte and the body of a whole packet.
#[inline]
pub(super) fn split(frame: &[u8], version: Version) -> Result<(u8, &[u8]), Error> {
    let (first, rest) = frame.split_first().ok_or(Error::Truncated)?;
    let length = remaining_length(rest, version == Version::V5)?.ok_or(Error::Truncated)?;
    let (_, body) = rest.split_at_checked(length.bytes).ok_or(Error::Truncated)?;
    match body.len().cmp(&length.value) {
        std::cmp::Ordering::Less => Err(Error::Truncated),
        std::cmp::Ordering::Equal => Ok((*first, body)),
        std::cmp::Ordering::Greater => Err(Error::TrailingBytes),
    }
}

/// Pings have no body, which their length tells before anything else is asked (3.12.2, 3.13.2).
fn check_ping(first: u8, rest: &[u8], from: Peer) -> Result<(), Error> {
    let empty = rest.first().is_none_or(|length| matches!(length, 0x00 | 0x80));
    if !empty && matches!(first, 0xC0 | 0xD0) && from != Peer::Newcomer {
        return Err(Error::PingNotEmpty);
    }
    Ok(())
}

/// The packet type of a first byte, if this peer may send it with these flags.
#[inline]
pub(super) fn check_first_byte(first: u8, version: Version, from: Peer) -> Result<PacketType, Error> {
    let packet = PacketType::from_first_byte(first);
    if from == Peer::Newcomer && packet != Some(PacketType::Connect) {
        return Err(Error::ConnectExpected); // [MQTT-3.1.0-1]
    }
    let packet = packet.ok_or(Error::ReservedPacketType)?;
    // A packet with bad flags is malformed before it is misplaced, except that the catalogues want CONNACK misplaced first.
    if packet == PacketType::ConnAck {
        check_sender(packet, version, from)?;
    }
    check_flags(packet, first & 0x0F, version)?;
    check_sender(packet, version, from)?;
    Ok(packet)
}

fn check_sender(packet: PacketType, version: Version, from: Peer) -> Result<(), Error> {
    use PacketType::{Auth, ConnAck, Connect, Disconnect, PingReq, PingResp, SubAck, Subscribe, UnsubAck, Unsubscribe};
    match (from, packet) {
        (_, Auth) if version != Version::V5 => Err(Error::ReservedPacketType),
        (Peer::Client, Connect) => Err(Error::SecondConnect), // [MQTT-3.1.0-2]
        (Peer::Client, ConnAck | SubAck | UnsubAck | PingResp) => Err(Error::WrongDirection(packet)),
        (Peer::Server, Connect | Subscribe | Unsubscribe | PingReq) => Err(Error::WrongDirection(packet)),
        (Peer::Server, Disconnect) if version != Version::V5 => Err(Error::WrongDirection(packet)),
        _ => Ok(()),
    }
}

/// The flags of the fixed header [MQTT-2.1.3-1]. 3.1 uses DUP on more packets than PUBLISH, and its CONNECT ignores the flags:
/// those of CONNECT are therefore judged once its version is known.
fn check_flags(packet: PacketType, flags: u8, version: Version) -> Result<(), Error> {
    let duplicate_ignored = if version == Version::V31 { flags & !0x08 } else { flags };
    let legal = match packet {
        PacketType::Connect => true,
        PacketType::Publish => return check_publish_flags(flags, version),
        // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => duplicate_ignored == 0x02,
        _ => flags == 0, // [MQTT-3.14.1-1], [MQTT-3.15.1-1] and all others
    };
    if legal { Ok(()) } else { Err(Error::FixedHeaderFlags(packet)) }
}

fn check_publish_flags(flags: u8, version: Version) -> Result<(), Error> {
    match flags & 0x06 {
        0x06 => Err(Error::Qos3), // [MQTT-3.3.1-4]
        // [MQTT-3.3.1-2]; 3.1 only says that DUP means nothing without a QoS.
        0x00 if flags & 0x08 != 0 && version != Version::V31 => Err(Error::DupWithoutQos),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 65_536;

    #[test]
    fn headers_are_judged_as_soon_as_they_are_readable() {
        let client = |input: &[u8]| frame(input, MAX, Version::V5, Peer::Client);
        assert_eq!(client(&[]), Ok(Frame::Incomplete { at_least: 2 }));
        assert_eq!(client(&[0x30]), Ok(Frame::Incomplete { at_least: 2 }));
        assert_eq!(client(&[0x30, 0x80]), Ok(Frame::Incomplete { at_least: 3 }));
        assert_eq!(client(&[0x30, 0x05]), Ok(Frame::Incomplete { at_least: 7 }));
        assert_eq!(client(&[0xC0, 0x00, 0xC0]), Ok(Frame::Complete { length: 2 }));
        assert_eq!(client(&[0x36]), Err(Error::Qos3));
        assert_eq!(client(&[0x38]), Err(Error::DupWithoutQos));
        assert_eq!(client(&[0x80]), Err(Error::FixedHeaderFlags(PacketType::Subscribe)));
        assert_eq!(client(&[0x20]), Err(Error::WrongDirection(PacketType::ConnAck)));
        assert_eq!(client(&[0xB0]), Err(Error::WrongDirection(PacketType::UnsubAck)));
        assert_eq!(client(&[0x10]), Err(Error::SecondConnect));
        assert_eq!(client(&[0x00]), Err(Error::ReservedPacketType));
    }

    #[test]
    fn only_connect_comes_first() {
        let newcomer = |input: &[u8]| frame(input, MAX, Version::V311, Peer::Newcomer);
        assert_eq!(newcomer(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]), Err(Error::ConnectExpected));
        assert_eq!(newcomer(&[0x20, 0x02, 0x00, 0x00]), Err(Error::ConnectExpected));
        assert_eq!(newcomer(&[0x10, 0x80, 0x80, 0x80, 0x80, 0x01]), Err(Error::RemainingLength));
        assert_eq!(newcomer(&[0x10, 0x80, 0x80, 0x80, 0x80]), Err(Error::RemainingLength));
        assert_eq!(newcomer(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]), Err(Error::TooLarge));
        assert_eq!(newcomer(&[0x14, 0x0F]), Ok(Frame::Incomplete { at_least: 17 }));
    }

    #[test]
    fn the_maximum_counts_the_whole_packet() {
        let mut input = vec![0x30, 0x05, 0x00, 0x01, b'a', 1, 2];
        assert_eq!(frame(&input, 7, Version::V311, Peer::Client), Ok(Frame::Complete { length: 7 }));
        assert_eq!(frame(&input, 6, Version::V311, Peer::Client), Err(Error::TooLarge));
        input.truncate(2);
        assert_eq!(frame(&input, 6, Version::V311, Peer::Client), Err(Error::TooLarge));
    }

    #[test]
    fn the_remaining_length_is_minimal_in_5_only() {
        let input = [0xC0, 0x80, 0x00];
        assert_eq!(frame(&input, MAX, Version::V5, Peer::Client), Err(Error::RemainingLength));
        assert_eq!(frame(&input, MAX, Version::V311, Peer::Client), Ok(Frame::Complete { length: 3 }));
    }

    #[test]
    fn version_3_1_may_repeat_with_dup() {
        for first in [0x6A, 0x8A, 0xAA] {
            assert!(check_first_byte(first, Version::V31, Peer::Client).is_ok());
            assert!(check_first_byte(first, Version::V311, Peer::Client).is_err());
        }
    }
}
