//! Slow lines: a packet may take as long as it goes on (LIMITS.md, time for a started packet), and no drop keeps it open.
use super::support::wire::frame;
use super::*;

/// With 100 bytes in a second a packet goes on.
const SHORT_TIMES: &str = "limits.packet_timeout_ms = 1000\nlimits.packet_progress_bytes = 100\n";

const PAYLOAD_BYTES: usize = 1500;

/// The transport in which a packet or message comes.
#[derive(Clone, Copy, Debug)]
enum Line {
    MqttTcp,
    /// One frame, in pieces.
    MqttFrame,
    /// A frame for each piece.
    MqttFrames,
    RawSocket,
    /// One frame, in pieces.
    WampFrame,
    /// A message in pieces, each in a frame.
    WampPieces,
}

const LINES: [Line; 6] = [Line::MqttTcp, Line::MqttFrame, Line::MqttFrames, Line::RawSocket, Line::WampFrame, Line::WampPieces];

impl Line {
    fn is_mqtt(self) -> bool {
        matches!(self, Line::MqttTcp | Line::MqttFrame | Line::MqttFrames)
    }

    /// An open session; those of MQTT are silent for too long after 1.5 s.
    fn open(self, router: &Router) -> Wire {
        const CONNECT: &[u8] = b"\x10\x0D\0\x04MQTT\x05\x02\0\x01\0\0\0";
        const HELLO: &str = r#"[1,"realm1",{"roles":{"publisher":{}}}]"#;
        let mut wire = match self {
            Line::MqttTcp => Wire::tcp(router.mqtt),
            Line::MqttFrame | Line::MqttFrames => Wire::websocket(router.http, "/mqtt", "mqtt"),
            Line::RawSocket => Wire::tcp(router.http),
            Line::WampFrame | Line::WampPieces => Wire::websocket(router.http, "/ws", "wamp.2.json"),
        };
        match self {
            Line::RawSocket => {
                wire.send(b"\x7F\xF1\0\0").unwrap();
                while wire.arrived.len() < 4 {
                    wire.wait().unwrap();
                }
                wire.arrived.clear();
                wire.send(&[&[0, 0, 0, HELLO.len() as u8][..], HELLO.as_bytes()].concat()).unwrap();
            }
            Line::WampFrame | Line::WampPieces => wire.send_text(HELLO).unwrap(),
            _ => wire.send(CONNECT).unwrap(),
        }
        wire.wait().unwrap();
        wire.arrived.clear();
        wire
    }

    /// The bytes of one publication that is acknowledged, cut where a slow line cuts them.
    fn cut(self, piece: usize) -> Vec<Vec<u8>> {
        let payload = "x".repeat(PAYLOAD_BYTES);
        let message = if self.is_mqtt() {
            let length = 2 + 4 + 2 + 1 + payload.len();
            let head = [0x32, (length % 128) as u8 | 0x80, (length / 128) as u8, 0, 4];
            [&head[..], b"slow\0\x01\0", payload.as_bytes()].concat()
        } else {
            format!("[16,1,{{\"acknowledge\":true}},\"slow\",[\"{payload}\"]]").into_bytes()
        };
        let pieces = |bytes: &[u8]| -> Vec<Vec<u8>> { bytes.chunks(piece).map(<[u8]>::to_vec).collect() };
        match self {
            Line::MqttTcp => pieces(&message),
            Line::MqttFrame => pieces(&frame(0x82, &message)),
            Line::MqttFrames => message.chunks(piece).map(|piece| frame(0x82, piece)).collect(),
            Line::RawSocket => pieces(&[&(message.len() as u32).to_be_bytes()[..], &message].concat()),
            Line::WampFrame => pieces(&frame(0x81, &message)),
            Line::WampPieces => {
                let count = message.len().div_ceil(piece);
                let opcode = |at: usize| if at == 0 { 0x01 } else { 0x00 } | if at + 1 == count { 0x80 } else { 0 };
                message.chunks(piece).enumerate().map(|(at, piece)| frame(opcode(at), piece)).collect()
            }
        }
    }
}

/// For each kind of line at the same time.
fn on_every_line(router: &Router, test: impl Fn(Line, &Router) + Sync) {
    std::thread::scope(|scope| {
        for line in LINES {
            let test = &test;
            scope.spawn(move || test(line, router));
        }
    });
}

#[test]
fn a_packet_that_goes_on_may_take_its_time() {
    let router = Router::start(SHORT_TIMES);
    on_every_line(&router, |line, router| {
        let mut wire = line.open(router);
        let started = Instant::now();
        for piece in line.cut(50) {
            wire.send_raw(&piece).unwrap_or_else(|error| panic!("{line:?} after {:?}: {error}", started.elapsed()));
            let ended = wire.receive(Instant::now() + Duration::from_millis(80)) == Arrival::End;
            assert!(!ended, "{line:?} after {:?}: closed", started.elapsed());
        }
        assert!(started.elapsed() > Duration::from_millis(1600), "{:?} is no time", started.elapsed());
        let deadline = Instant::now() + PATIENCE;
        while wire.arrived.is_empty() {
            assert_eq!(wire.receive(deadline), Arrival::Bytes, "{line:?}: no acknowledgement");
        }
        let answer = if line.is_mqtt() { &b"\x40"[..] } else { b"[17,1," };
        assert!(wire.arrived.windows(answer.len()).any(|part| part == answer), "{line:?}: {:02X?}", wire.arrived);
    });
    assert_serves(&router);
}

/// A byte now and then is no progress, and neither are PINGs between the pieces of a message.
#[test]
fn a_packet_in_drops_is_given_up() {
    let router = Router::start(SHORT_TIMES);
    on_every_line(&router, |line, router| {
        let mut wire = line.open(router);
        let started = Instant::now();
        let mut pieces = line.cut(1).into_iter();
        loop {
            let mut bytes = pieces.next().expect("1,500 drops are enough");
            if matches!(line, Line::WampPieces) {
                bytes.extend(frame(0x89, &[0; 125]).repeat(3));
            }
            wire.send_raw(&bytes).ok();
            if wire.receive(Instant::now() + Duration::from_millis(60)) == Arrival::End {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{line:?}: still listened to");
        }
        let after = started.elapsed();
        assert!(after >= Duration::from_millis(950), "{line:?}: given up after {after:?}");
        let farewell = if line.is_mqtt() { &b"\xE0"[..] } else { b"corsac.error.too_slow" };
        assert!(wire.arrived.windows(farewell.len()).any(|part| part == farewell), "{line:?}: {:?}", wire.arrived);
    });
    assert_nobody_left(&router);
}
