//! WebSocket (RFC 6455) under a gate: its frames between our own reads and writes.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

pub use super::frames::Carries;
use super::frames::Frames;
use super::transport::{Taker, Transport, poll_discard, poll_read_behind};
use crate::gate::{Output, Used};
use crate::model::Limits;

/// A WebSocket on the server's side.
pub struct WebSocket<S> {
    socket: S,
    /// A frame that is not whole.
    arrived: BytesMut,
    frames: Frames,
}

impl<S> WebSocket<S> {
    /// A WebSocket over a socket that has been upgraded; `arrived` came behind the request.
    pub fn new(socket: S, arrived: &[u8], carries: Carries, limits: &Limits) -> Self {
        let (mut frames, mut arrived) = (Frames::new(carries, limits), BytesMut::from(arrived));
        let used = frames.decode(&mut arrived, &mut |_| Used::default());
        arrived.advance(used);
        WebSocket { socket, arrived, frames }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for WebSocket<S> {
    const HAS_PING: bool = true;

    fn poll_receive(&mut self, context: &mut Context<'_>, take: Taker<'_>) -> Poll<io::Result<bool>> {
        let WebSocket { socket, arrived, frames } = self;
        if frames.has_ended() {
            return Poll::Ready(Ok(false));
        }
        let decode = |input: &mut [u8]| Used { bytes: frames.decode(input, take), unfinished: 0 };
        let is_open = ready!(poll_read_behind(socket, arrived, context, decode))?;
        if is_open {
            frames.offer_again(take);
        }
        Poll::Ready(Ok(is_open))
    }

    fn offer_again(&mut self, take: Taker<'_>) {
        self.frames.offer_again(take);
    }

    fn leftover(&self) -> usize {
        self.frames.leftover()
    }

    fn set_open(&mut self) {
        self.frames.set_open();
    }

    fn poll_send(&mut self, context: &mut Context<'_>, output: &mut Output) -> Poll<io::Result<usize>> {
        if !output.bytes.is_empty() {
            self.frames.encode(output);
        }
        let out = self.frames.out();
        if out.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sent = ready!(Pin::new(&mut self.socket).poll_write(context, out))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        out.advance(sent);
        if out.is_empty() {
            *out = BytesMut::new();
        }
        Poll::Ready(Ok(sent))
    }

    fn unsent(&self) -> usize {
        self.frames.unsent()
    }

    fn output(&self) -> Output {
        Output::default()
    }

    fn unfinished(&self) -> usize {
        self.arrived.len() + self.frames.unfinished()
    }

    fn ping(&mut self) {
        self.frames.ping();
    }

    fn fault(&self) -> Option<String> {
        self.frames.fault().map(|fault| format!("WebSocket: {fault}"))
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.close();
        let out = self.frames.out();
        while !out.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, out))?;
            out.advance(sent);
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_discard(&mut self.socket, context)
    }
}
