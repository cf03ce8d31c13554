//! The table `[limits]`: every bound of `model::Limits` under its own name.
use super::value::{Problem, Value};
use crate::model::Limits;
use crate::wire::mqtt::MAX_PACKET_BYTES;

macro_rules! limits {
    (numbers { $(#[doc = $about:literal] $number:ident >= $least:literal,)* }
     switches { $(#[doc = $meant:literal] $switch:ident,)* }) => {
        /// The name of each bound.
        pub(super) const NAMES: &[&str] = &[$(stringify!($number),)* $(stringify!($switch),)*];

        /// Sets the bound `name`; false if there is none of that name.
        pub(super) fn set(limits: &mut Limits, name: &str, value: Value) -> Result<bool, Problem> {
            match name {
                $(stringify!($number) => {
                    limits.$number = match name.ends_with("_bytes") {
                        true => value.size($least)?,
                        false => value.number($least)?,
                    };
                })*
                $(stringify!($switch) => limits.$switch = value.boolean()?,)*
                _ => return Ok(false),
            }
            Ok(true)
        }

        /// The bounds that differ from their defaults, as lines `name = value`.
        pub(super) fn changed(limits: &Limits) -> Vec<String> {
            let default = Limits::default();
            // Without `..`: a new bound does not compile until it is a key here.
            let Limits { $($number,)* $($switch,)* } = limits;
            let mut lines = Vec::new();
            $(if *$number != default.$number { lines.push(format!("{} = {}", stringify!($number), $number)); })*
            $(if *$switch != default.$switch { lines.push(format!("{} = {}", stringify!($switch), $switch)); })*
            lines
        }

        /// Each bound with its value as TOML writes it, and what it bounds.
        pub(super) fn rows(limits: &Limits) -> Vec<(&'static str, String, &'static str)> {
            vec![
                $((stringify!($number), limits.$number.to_string(), $about.trim_ascii()),)*
                $((stringify!($switch), limits.$switch.to_string(), $meant.trim_ascii()),)*
            ]
        }
    };
}

limits! {
    // 0 is refused where it would only mean that nothing works.
    numbers {
        /// Largest packet or message before authentication, in bytes.
        max_packet_before_auth_bytes >= 16,
        /// Largest packet or message after authentication, in bytes.
        max_packet_bytes >= 16,
        /// Largest head of an HTTP request, in bytes.
        max_http_head_bytes >= 256,
        /// Time from the first byte to CONNECT or HELLO.
        open_timeout_ms >= 1,
        /// Time in which a started packet or message has to end, or to come on by packet_progress_bytes.
        packet_timeout_ms >= 1,
        /// Bytes of a started packet that show that its line goes on: with as many it has the whole time again.
        packet_progress_bytes >= 1,
        /// A WebSocket without traffic is sent a PING after this time, and after each such time again; 0 = never.
        websocket_ping_ms >= 0,
        /// PINGs without an answer, or other traffic, after which a WebSocket is closed.
        websocket_unanswered_pings >= 1,
        /// Longest keep-alive that is accepted, in seconds; 0 = any.
        max_keep_alive_s >= 0,
        /// Connections in all.
        max_connections >= 1,
        /// Connections from one address.
        max_connections_per_address >= 1,
        /// New connections per second from one address; loopback is exempt unless limit_loopback.
        max_connection_rate_per_address >= 1,
        /// Levels of a topic or filter.
        max_topic_levels >= 1,
        /// Subscriptions of a session.
        max_subscriptions_per_session >= 0,
        /// Registrations of a session.
        max_registrations_per_session >= 0,
        /// Waiters in one line: for a lock, a queue or a busy callee.
        max_waiting >= 0,
        /// Calls of a session that wait for an answer, and invocations of a callee.
        max_pending_calls_per_session >= 0,
        /// Subscriptions with wildcards of a session.
        max_wildcards_per_session >= 0,
        /// Subscriptions with wildcards of a realm.
        max_wildcards_per_realm >= 0,
        /// Bytes waiting for one connection's socket.
        max_outbox_bytes >= 1,
        /// Time that a full outbox may pace a publisher at a time.
        pace_ms >= 0,
        /// Without a byte taken by the socket for this long, a connection with a full outbox is closed.
        stalled_outbox_timeout_ms >= 1,
        // A Receive Maximum of 0 is a protocol error (MQTT 5, 3.2.2.3.3).
        /// Messages of QoS 1 and 2 that a client may have unacknowledged (Receive Maximum).
        receive_maximum >= 1,
        /// Topic aliases that a client may use, and the most that Corsac uses towards it.
        topic_alias_maximum >= 0,
        /// Retained messages of a realm.
        max_retained >= 0,
        /// Bytes of retained messages of a realm.
        max_retained_bytes >= 0,
        /// Bytes that wait in a session for acknowledgements or for its client to come back.
        max_session_queue_bytes >= 0,
        /// Messages waiting in a session.
        max_session_queue >= 0,
        /// Sessions of a realm whose client is away.
        max_stored_sessions >= 0,
        /// Longest session expiry, in seconds; 4294967295 = any.
        max_session_expiry_s >= 0,
        /// Queues of a realm that are declared, hold something, or have somebody waiting.
        max_queues >= 0,
        /// Items in the queues of a realm.
        max_queued >= 0,
        /// Bytes of items in the queues of a realm.
        max_queued_bytes >= 0,
        /// Calls that wait for items of one queue.
        max_queue_takers >= 0,
        /// Realms created on first use.
        max_auto_realms >= 0,
        /// Bytes that stay free on the disk of the history. Small boards: less.
        disk_reserve_bytes >= 0,
        /// Bytes that the history takes from the disk at a time; twice max_packet_bytes at least. Small boards: less.
        segment_bytes >= 1_048_576,
    }
    switches {
        /// Apply the bounds of one address to loopback too.
        limit_loopback,
    }
}

/// The contradiction between bounds, if there is one.
pub(super) fn contradiction(limits: &Limits) -> Option<String> {
    if limits.max_packet_before_auth_bytes > limits.max_packet_bytes {
        return Some(format!(
            "limits.max_packet_before_auth_bytes ({}) is above limits.max_packet_bytes ({}): lower the first or raise the second",
            limits.max_packet_before_auth_bytes, limits.max_packet_bytes
        ));
    }
    let (segment, packet) = (limits.segment_bytes, limits.max_packet_bytes as u64);
    if segment < Limits::default().segment_bytes && segment / 2 < packet {
        return Some(format!(
            "limits.segment_bytes ({segment}) is less than twice limits.max_packet_bytes ({packet}), so that not every message could be \
             stored: set max_packet_bytes to at most {}, or segment_bytes to at least {}",
            segment / 2,
            packet * 2
        ));
    }
    if segment > 1 << 30 {
        return Some(format!("limits.segment_bytes ({segment}) is above {}: lower it", 1 << 30));
    }
    (limits.max_packet_bytes > MAX_PACKET_BYTES).then(|| {
        format!(
            "limits.max_packet_bytes ({}) is above the largest MQTT packet: at most {MAX_PACKET_BYTES}",
            limits.max_packet_bytes
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_can_be_set_by_its_name() {
        for name in NAMES {
            let mut limits = Limits::default();
            let number = if *name == "segment_bytes" { 2_000_000 } else { 1_001 };
            let value = if *name == "limit_loopback" { Value::Boolean(true) } else { Value::Integer(number) };
            assert_eq!(set(&mut limits, name, value), Ok(true), "{name}");
            let expected = if *name == "limit_loopback" { format!("{name} = true") } else { format!("{name} = {number}") };
            assert_eq!(changed(&limits), [expected]);
        }
        assert_eq!(set(&mut Limits::default(), "max_packets", Value::Integer(1)), Ok(false));
        assert!(changed(&Limits::default()).is_empty());
    }

    #[test]
    fn bounds_fit_together() {
        assert_eq!(contradiction(&Limits::default()), None);
        let board = Limits { segment_bytes: 4 << 20, ..Limits::default() };
        assert!(contradiction(&board).is_some_and(|text| text.contains("max_packet_bytes to at most 2097152")));
        assert_eq!(contradiction(&Limits { max_packet_bytes: 2 << 20, ..board }), None);
        let small = Limits { max_packet_bytes: 1_000, ..Limits::default() };
        assert!(contradiction(&small).is_some_and(|text| text.contains("max_packet_before_auth_bytes")));
        let large = Limits { max_packet_bytes: MAX_PACKET_BYTES + 1, ..Limits::default() };
        assert!(contradiction(&large).is_some_and(|text| text.contains("largest MQTT packet")));
    }
}
