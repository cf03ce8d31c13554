//! The table `[limits]`: every bound of `model::Limits` under its own name.
use super::value::{Problem, Value};
use crate::model::Limits;
use crate::wire::mqtt::MAX_PACKET_BYTES;

macro_rules! limits {
    (numbers { $($number:ident >= $least:literal,)* } switches { $($switch:ident,)* }) => {
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
    };
}

limits! {
    // 0 is refused where it would only mean that nothing works.
    numbers {
        max_packet_before_auth_bytes >= 16,
        max_packet_bytes >= 16,
        max_http_head_bytes >= 256,
        open_timeout_ms >= 1,
        packet_timeout_ms >= 1,
        packet_progress_bytes >= 1,
        websocket_ping_ms >= 0,
        websocket_unanswered_pings >= 1,
        max_keep_alive_s >= 0,
        max_connections >= 1,
        max_connections_per_address >= 1,
        max_connection_rate_per_address >= 1,
        max_topic_levels >= 1,
        max_subscriptions_per_session >= 0,
        max_registrations_per_session >= 0,
        max_waiting >= 0,
        max_pending_calls_per_session >= 0,
        max_wildcards_per_session >= 0,
        max_wildcards_per_realm >= 0,
        max_outbox_bytes >= 1,
        pace_ms >= 0,
        stalled_outbox_timeout_ms >= 1,
        // A Receive Maximum of 0 is a protocol error (MQTT 5, 3.2.2.3.3).
        receive_maximum >= 1,
        topic_alias_maximum >= 0,
        max_retained >= 0,
        max_retained_bytes >= 0,
        max_session_queue_bytes >= 0,
        max_session_queue >= 0,
        max_stored_sessions >= 0,
        max_session_expiry_s >= 0,
        max_queues >= 0,
        max_queued >= 0,
        max_queued_bytes >= 0,
        max_queue_takers >= 0,
        max_auto_realms >= 0,
        disk_reserve_bytes >= 0,
        segment_bytes >= 1_048_576,
    }
    switches {
        limit_loopback,
    }
}

/// What is wrong between bounds.
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
