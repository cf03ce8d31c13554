//! Several messages in one WebSocket message (WAMP: Advanced, Message Batching).
use bytes::{BufMut, Bytes, BytesMut};

use crate::model::Encoding;

/// Follows each message in JSON, where it cannot stand inside one.
const RECORD_SEPARATOR: u8 = 0x1E;
/// Bytes of the length before each message in MsgPack and CBOR.
const LENGTH_BYTES: usize = 4;

/// A WebSocket message whose last message is not whole. The connection has to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotABatch;

/// Takes the first message off `batch`; `Ok(None)` behind the last one. To send a batch without any message is a fault too.
pub fn split_first(batch: &mut Bytes, encoding: Encoding) -> Result<Option<Bytes>, NotABatch> {
    if batch.is_empty() {
        return Ok(None);
    }
    if encoding == Encoding::Json {
        let end = batch.iter().position(|byte| *byte == RECORD_SEPARATOR).ok_or(NotABatch)?;
        let message = batch.split_to(end);
        drop(batch.split_to(1));
        return Ok(Some(message));
    }
    let length = batch.first_chunk::<LENGTH_BYTES>().ok_or(NotABatch)?;
    let end = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if end > batch.len() - LENGTH_BYTES {
        return Err(NotABatch);
    }
    drop(batch.split_to(LENGTH_BYTES));
    Ok(Some(batch.split_to(end)))
}

/// Appends one message to a batch; `write` appends it to the buffer as it is without batching.
pub fn append(batch: &mut BytesMut, encoding: Encoding, write: impl FnOnce(&mut BytesMut)) {
    if encoding == Encoding::Json {
        write(batch);
        return batch.put_u8(RECORD_SEPARATOR);
    }
    let start = batch.len();
    batch.put_u32(0);
    write(batch);
    let length = u32::try_from(batch.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
    if let Some(head) = batch.get_mut(start..start + LENGTH_BYTES) {
        head.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(mut batch: Bytes, encoding: Encoding) -> Result<Vec<Bytes>, NotABatch> {
        let mut messages = Vec::new();
        while let Some(message) = split_first(&mut batch, encoding)? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn what_is_appended_is_split_again() {
        for encoding in [Encoding::Json, Encoding::MsgPack, Encoding::Cbor] {
            let mut batch = BytesMut::new();
            for message in ["[1]", "", "[16,1,{}]"] {
                append(&mut batch, encoding, |out| out.extend_from_slice(message.as_bytes()));
            }
            let found = split(batch.freeze(), encoding);
            assert_eq!(found, Ok(vec![Bytes::from("[1]"), Bytes::new(), Bytes::from("[16,1,{}]")]));
        }
        let mut batch = BytesMut::new();
        append(&mut batch, Encoding::Json, |out| out.extend_from_slice(b"[1]"));
        assert_eq!(batch, b"[1]\x1e"[..]);
        batch.clear();
        append(&mut batch, Encoding::Cbor, |out| out.extend_from_slice(b"ab"));
        assert_eq!(batch, b"\0\0\0\x02ab"[..]);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        assert_eq!(split(Bytes::from("[1]"), Encoding::Json), Err(NotABatch));
        assert_eq!(split(Bytes::from("[1]\x1e[2]"), Encoding::Json), Err(NotABatch));
        for batch in [&b"\0\0"[..], b"\0\0\0\x02a", b"\xFF\xFF\xFF\xFFabc", b"\0\0\0\0\0"] {
            assert_eq!(split(Bytes::from_static(batch), Encoding::MsgPack), Err(NotABatch));
        }
    }
}
