//! How bytes and messages come and go: byte streams here, WebSocket messages in `websocket`.
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gate::Output;

/// What takes input: uses some of it from the front and says how much.
pub type Taker<'a> = &'a mut dyn FnMut(&[u8]) -> usize;

/// A connected socket of any kind.
pub trait Transport: Send + Unpin {
    /// Gives what arrives to `take`, once; `Ready(Ok(false))` at the end of the stream.
    fn poll_receive(&mut self, context: &mut Context<'_>, take: Taker<'_>) -> Poll<io::Result<bool>>;

    /// Gives to `take` again what it left.
    fn offer_again(&mut self, take: Taker<'_>);

    /// Bytes received and not yet taken.
    fn leftover(&self) -> usize;

    /// Sends from the front of `output`; returns the bytes that the socket took, pending if it takes none.
    fn poll_send(&mut self, context: &mut Context<'_>, output: &mut Output) -> Poll<io::Result<usize>>;

    /// Bytes sent before that are still inside the transport.
    fn unsent(&self) -> usize;

    /// The transport waits for the rest of something that it cannot show to the gate yet.
    fn is_unfinished(&self) -> bool;

    /// The session is open: messages may be as large as they may ever be.
    fn set_open(&mut self);

    /// Ends the sending side.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what still comes, for nobody, until the other side has ended too.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Bytes read at a time. One buffer a thread serves all its connections, so that an idle one holds none.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Lends this thread's read buffer.
pub fn with_scratch<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| read(scratch))
}

/// Bytes that are copied in front of what is read next rather than the other way round.
const FEW_BYTES: usize = 8 * 1024;

/// Reads once behind what is `held`. `handle` gets both in one piece and says how many bytes it used of it; the rest is held.
/// `Ready(Ok(false))` at the end of the stream.
pub fn poll_read_behind(
    socket: &mut (impl AsyncRead + Unpin),
    held: &mut BytesMut,
    context: &mut Context<'_>,
    handle: impl FnOnce(&mut [u8]) -> usize,
) -> Poll<io::Result<bool>> {
    with_scratch(|scratch| {
        let (front, back) = scratch.split_at_mut(if held.len() <= FEW_BYTES { held.len() } else { 0 });
        let mut buffer = ReadBuf::new(back);
        ready!(Pin::new(socket).poll_read(context, &mut buffer))?;
        let arrived = buffer.filled();
        if arrived.is_empty() {
            return Poll::Ready(Ok(false));
        }
        if front.len() < held.len() {
            held.extend_from_slice(arrived);
            let used = handle(held);
            held.advance(used);
        } else {
            let end = front.len() + arrived.len();
            front.copy_from_slice(held);
            let input = scratch.get_mut(..end).unwrap_or_default();
            let used = handle(input);
            held.clear();
            held.extend_from_slice(input.get(used..).unwrap_or_default());
        }
        if held.is_empty() {
            *held = BytesMut::new();
        }
        Poll::Ready(Ok(true))
    })
}

/// Reads and forgets until the end of the stream.
pub fn poll_discard(socket: &mut (impl AsyncRead + Unpin), context: &mut Context<'_>) -> Poll<io::Result<()>> {
    with_scratch(|scratch| {
        loop {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    })
}

/// A byte stream: TCP, TLS, a Unix socket, or MQTT inside WebSocket frames.
#[derive(Debug)]
pub struct Stream<S> {
    socket: S,
    /// The start of something unfinished.
    partial: BytesMut,
}

impl<S> Stream<S> {
    /// A stream over `socket`, of which `arrived` has been read already.
    pub fn new(socket: S, arrived: BytesMut) -> Self {
        Stream { socket, partial: arrived }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for Stream<S> {
    fn poll_receive(&mut self, context: &mut Context<'_>, take: Taker<'_>) -> Poll<io::Result<bool>> {
        poll_read_behind(&mut self.socket, &mut self.partial, context, |input| take(input))
    }

    fn offer_again(&mut self, take: Taker<'_>) {
        let used = take(&self.partial);
        self.partial.advance(used);
        if self.partial.is_empty() {
            self.partial = BytesMut::new();
        }
    }

    fn leftover(&self) -> usize {
        self.partial.len()
    }

    fn poll_send(&mut self, context: &mut Context<'_>, output: &mut Output) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.socket).poll_write(context, &output.bytes))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        output.bytes.advance(sent);
        Poll::Ready(Ok(sent))
    }

    fn unsent(&self) -> usize {
        0
    }

    fn is_unfinished(&self) -> bool {
        false // the gate sees every byte
    }

    fn set_open(&mut self) {}

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_discard(&mut self.socket, context)
    }
}
