//! The ways by which bytes and messages come and go: byte streams here, WebSocket messages in `websocket`.
use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::gate::{Arrived, Output, Used};

/// A function that takes input: uses some of it from the front and says how much.
pub type Taker<'a> = &'a mut dyn FnMut(Arrived<'_>) -> Used;

/// A connected socket of any kind.
pub trait Transport: Send + Unpin {
    /// Whether [`Transport::ping`] asks.
    const HAS_PING: bool = false;

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

    /// Bytes of something whose end has not come; 0 if there is nothing of the kind.
    fn unfinished(&self) -> usize;

    /// Asks the other side for a sign of life, if the transport has a way to.
    fn ping(&mut self) {}

    /// The session is open: messages may be as large as they may ever be.
    fn set_open(&mut self);

    /// The kind of output that it is given: payloads apart from the rest, if it can send several pieces as one.
    fn output(&self) -> Output;

    /// The fault of the input, where the transport ended it for that.
    fn fault(&self) -> Option<String> {
        None
    }

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

/// Reads once behind what is `held`. `handle` gets both in one piece and says what it used of it; the rest is held.
/// `Ready(Ok(false))` at the end of the stream.
pub fn poll_read_behind(
    socket: &mut (impl AsyncRead + Unpin),
    held: &mut BytesMut,
    context: &mut Context<'_>,
    handle: impl FnOnce(&mut [u8]) -> Used,
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
            let used = handle(held).bytes;
            held.advance(used);
        } else {
            let end = front.len() + arrived.len();
            front.copy_from_slice(held);
            let input = scratch.get_mut(..end).unwrap_or_default();
            let used = handle(input);
            let rest = input.get(used.bytes..).unwrap_or_default();
            if rest.len() > FEW_BYTES {
                *held = copy_with_room(rest, used.unfinished);
            } else {
                held.clear();
                held.extend_from_slice(rest);
            }
        }
        if held.is_empty() {
            *held = BytesMut::new();
        }
        Poll::Ready(Ok(true))
    })
}

/// The beginning of something that will have `expected` bytes, with room for more of it: as much as has arrived, not as was announced.
fn copy_with_room(beginning: &[u8], expected: usize) -> BytesMut {
    let mut copy = BytesMut::with_capacity(expected.clamp(beginning.len(), 2 * beginning.len()));
    copy.extend_from_slice(beginning);
    copy
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
    /// The length that this will have, or 0.
    expected: usize,
}

/// Pieces that are sent as one.
const PIECES: usize = 16;

impl<S> Stream<S> {
    /// A stream over `socket`, of which `arrived` has been read already.
    pub fn new(socket: S, arrived: BytesMut) -> Self {
        Stream { socket, partial: arrived, expected: 0 }
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Reads the rest of something large to where its beginning is: there it can stay.
    fn poll_receive_large(&mut self, context: &mut Context<'_>, take: Taker<'_>) -> Poll<io::Result<bool>> {
        if self.partial.len() == self.partial.capacity() {
            self.partial = copy_with_room(&self.partial, self.expected);
        }
        let room = self.partial.capacity().min(self.expected).saturating_sub(self.partial.len());
        let mut end = (&mut self.partial).limit(room);
        if ready!(pin!(self.socket.read_buf(&mut end)).poll(context))? == 0 {
            return Poll::Ready(Ok(false));
        }
        let used;
        if self.partial.len() < self.expected {
            used = take(Arrived::Lent(&self.partial));
            self.partial.advance(used.bytes);
        } else {
            let whole = std::mem::take(&mut self.partial).freeze();
            used = take(Arrived::Shared(&whole));
            self.partial.extend_from_slice(whole.get(used.bytes..).unwrap_or_default());
        }
        self.expected = used.unfinished;
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for Stream<S> {
    fn poll_receive(&mut self, context: &mut Context<'_>, take: Taker<'_>) -> Poll<io::Result<bool>> {
        if self.partial.len() > FEW_BYTES && self.partial.len() < self.expected {
            return self.poll_receive_large(context, take);
        }
        let Stream { socket, partial, expected } = self;
        poll_read_behind(socket, partial, context, |input| {
            let used = take(Arrived::Lent(input));
            *expected = used.unfinished;
            used
        })
    }

    fn offer_again(&mut self, take: Taker<'_>) {
        let used = take(Arrived::Lent(&self.partial));
        self.partial.advance(used.bytes);
        self.expected = used.unfinished;
        if self.partial.is_empty() {
            self.partial = BytesMut::new();
        }
    }

    fn leftover(&self) -> usize {
        self.partial.len()
    }

    fn poll_send(&mut self, context: &mut Context<'_>, output: &mut Output) -> Poll<io::Result<usize>> {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let filled = pieces.iter_mut().zip(output.pieces()).map(|(place, piece)| *place = IoSlice::new(piece)).count();
        let pieces = pieces.get(..filled).unwrap_or_default();
        let socket = Pin::new(&mut self.socket);
        let sent = ready!(match pieces {
            [one] => socket.poll_write(context, one),
            pieces => socket.poll_write_vectored(context, pieces),
        })?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        output.advance(sent);
        Poll::Ready(Ok(sent))
    }

    fn unsent(&self) -> usize {
        0
    }

    fn unfinished(&self) -> usize {
        self.partial.len()
    }

    fn set_open(&mut self) {}

    fn output(&self) -> Output {
        Output::in_pieces()
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_discard(&mut self.socket, context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    /// Packets of these sizes, each behind its length.
    fn packets(sizes: &[usize]) -> Vec<Vec<u8>> {
        let body = |(at, size): (usize, &usize)| (0..*size).map(|byte| (byte + at) as u8).collect();
        sizes.iter().enumerate().map(body).collect()
    }

    fn framed(packets: &[Vec<u8>]) -> Vec<u8> {
        packets.iter().flat_map(|packet| [&(packet.len() as u32).to_be_bytes()[..], packet].concat()).collect()
    }

    /// The whole packets at the front of `bytes`.
    fn split(mut bytes: &[u8]) -> (Vec<Vec<u8>>, Used) {
        let (mut found, mut used) = (Vec::new(), Used::default());
        loop {
            let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return (found, used) };
            let length = u32::from_be_bytes(*length) as usize;
            let Some((packet, rest)) = rest.split_at_checked(length) else {
                return (found, Used { unfinished: 4 + length, ..used });
            };
            found.push(packet.to_vec());
            used.bytes += 4 + length;
            bytes = rest;
        }
    }

    #[tokio::test]
    async fn packets_of_all_sizes_arrive_and_the_ends_of_large_ones_are_read_to_their_beginnings() {
        let sizes = [3, 70_000, 0, 65_532, 65_531, 9_000, 1_000_000, 1, 8_192, 200_000, 200_000];
        let expected = packets(&sizes);
        for piece in [700, 65_536, 4_000_000] {
            let (mut sender, receiver) = tokio::io::duplex(piece);
            let bytes = framed(&expected);
            let sending = tokio::spawn(async move {
                tokio::io::AsyncWriteExt::write_all(&mut sender, &bytes).await.unwrap();
            });
            let mut stream = Stream::new(receiver, BytesMut::new());
            let (mut arrived, mut shared) = (Vec::new(), 0);
            loop {
                let is_open = poll_fn(|context| {
                    stream.poll_receive(context, &mut |input| {
                        let (found, used) = split(input.bytes());
                        shared += usize::from(matches!(input, Arrived::Shared(_)) && used.bytes == input.bytes().len());
                        arrived.extend(found);
                        used
                    })
                });
                if !is_open.await.unwrap() {
                    break;
                }
            }
            sending.await.unwrap();
            assert!(arrived == expected, "in pieces of {piece}");
            assert!(shared >= 3, "{shared} of them can stay where they are");
            assert_eq!(stream.leftover(), 0);
        }
    }

    #[tokio::test]
    async fn payloads_are_sent_in_their_places() {
        let (sender, mut receiver) = tokio::io::duplex(30_000);
        let mut stream = Stream::new(sender, BytesMut::new());
        let (mut output, mut expected) = (stream.output(), Vec::new());
        for (at, packet) in packets(&[10_000; 20]).into_iter().enumerate() {
            let head = vec![at as u8; at];
            expected.extend([&head[..], &packet].concat());
            output.bytes.extend_from_slice(&head);
            output.put_payload(&packet.into());
        }
        let reading = tokio::spawn(async move {
            let mut received = Vec::new();
            receiver.read_to_end(&mut received).await.unwrap();
            received
        });
        while !output.is_empty() {
            poll_fn(|context| stream.poll_send(context, &mut output)).await.unwrap();
        }
        drop(stream);
        assert!(reading.await.unwrap() == expected);
    }
}
