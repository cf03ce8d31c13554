//! A client's socket: TCP, or a WebSocket over it, read with a deadline.
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The time that the other side may take for anything it owes.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The arrival that a deadline found.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// More bytes.
    Bytes,
    /// The other side has ended.
    End,
    /// Nothing.
    Silence,
}

/// The other side is gone.
#[derive(Debug)]
pub struct Ended;

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Self {
        Ended
    }
}

/// A connected socket with what has arrived on it.
pub struct Wire {
    socket: TcpStream,
    /// Bytes of the protocol, not yet used.
    pub arrived: Vec<u8>,
    /// WebSocket: bytes of frames that are not whole yet.
    frames: Option<Vec<u8>>,
    /// WebSocket: the opcodes and payloads of control frames that came.
    pub controls: Vec<(u8, Vec<u8>)>,
    has_ended: bool,
}

impl Wire {
    pub fn tcp(address: SocketAddr) -> Self {
        Self::try_tcp(address).unwrap()
    }

    /// The same, of a router that may be gone.
    pub fn try_tcp(address: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire { socket, arrived: Vec::new(), frames: None, controls: Vec::new(), has_ended: false })
    }

    /// A WebSocket that has been accepted with this subprotocol.
    pub fn websocket(address: SocketAddr, path: &str, subprotocol: &str) -> Self {
        Self::try_websocket(address, path, subprotocol).unwrap()
    }

    /// The same, of a router that may be gone.
    pub fn try_websocket(address: SocketAddr, path: &str, subprotocol: &str) -> std::io::Result<Self> {
        let mut wire = Wire::try_tcp(address)?;
        wire.send_raw(upgrade_request(address, path, subprotocol, "").as_bytes())?;
        let head = wire.read_head();
        if !head.ends_with("\r\n\r\n") {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.to_lowercase().contains(&format!("sec-websocket-protocol: {subprotocol}\r\n")), "{head}");
        wire.frames = Some(std::mem::take(&mut wire.arrived));
        wire.unframe();
        Ok(wire)
    }

    /// The head of an HTTP answer, with the empty line behind it; what has come when the other side ends.
    pub fn read_head(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.arrived.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.arrived.drain(..end + 4).collect();
                return String::from_utf8_lossy(&head).into_owned();
            }
            match self.receive(deadline) {
                Arrival::Bytes => {}
                Arrival::End => return String::from_utf8_lossy(&std::mem::take(&mut self.arrived)).into_owned(),
                Arrival::Silence => panic!("no answer: {}", String::from_utf8_lossy(&self.arrived)),
            }
        }
    }

    /// Sends bytes of the protocol: as they are, or in one binary frame.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.frames.is_some() { self.send_raw(&frame(0x82, bytes)) } else { self.send_raw(bytes) }
    }

    /// Sets the time after which a send fails.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.socket.set_write_timeout(Some(timeout)).unwrap();
    }

    /// Sends a text frame.
    pub fn send_text(&mut self, text: &str) -> std::io::Result<()> {
        self.send_raw(&frame(0x81, text.as_bytes()))
    }

    /// Sends bytes below any framing.
    pub fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Waits for more, until the deadline.
    pub fn receive(&mut self, deadline: Instant) -> Arrival {
        let before = self.arrived.len();
        while !self.has_ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Arrival::Silence;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 64 * 1024];
            match self.socket.read(&mut buffer) {
                Ok(0) => self.has_ended = true,
                Ok(count) => match &mut self.frames {
                    Some(frames) => {
                        frames.extend_from_slice(&buffer[..count]);
                        self.unframe();
                    }
                    None => self.arrived.extend_from_slice(&buffer[..count]),
                },
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.has_ended = true,
            }
            if self.arrived.len() > before {
                return Arrival::Bytes;
            }
        }
        Arrival::End
    }

    /// Waits for more; a router that lives and says nothing is a fault.
    pub fn wait(&mut self) -> Result<(), Ended> {
        match self.receive(Instant::now() + PATIENCE) {
            Arrival::Bytes => Ok(()),
            Arrival::End => Err(Ended),
            Arrival::Silence => panic!("nothing comes: {}", String::from_utf8_lossy(&self.arrived)),
        }
    }

    /// Waits for the other side to end; what arrives meanwhile stays in `arrived`.
    pub fn await_end(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.receive(deadline) {
                Arrival::Bytes => {}
                Arrival::End => return true,
                Arrival::Silence => return false,
            }
        }
    }

    /// Ends the sending side without a word of the protocol, and waits until the other side has noticed.
    pub fn close(mut self) -> bool {
        self.socket.shutdown(Shutdown::Write).ok();
        self.await_end(PATIENCE)
    }

    /// Takes the payloads of whole frames: data to `arrived`, control frames aside.
    fn unframe(&mut self) {
        let Some(frames) = &mut self.frames else { return };
        while let Some((opcode, payload, length)) = split_frame(frames) {
            if opcode < 8 {
                self.arrived.extend(&payload);
            } else {
                self.controls.push((opcode, payload));
            }
            frames.drain(..length);
        }
    }
}

/// The request that opens a WebSocket; `more` are further header lines.
pub fn upgrade_request(address: SocketAddr, path: &str, subprotocol: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {subprotocol}\r\n{more}\r\n"
    )
}

/// One masked frame; `first` is FIN, reserved bits and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Opcode, payload and whole length of the server's frame at the head; servers do not mask.
fn split_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server masks nothing");
    let (length, head) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
        length => (usize::from(length), 2),
    };
    Some((first & 0x0F, bytes.get(head..head + length)?.to_vec(), head + length))
}
