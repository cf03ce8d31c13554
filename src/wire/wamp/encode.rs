//! Messages to bytes: every message, and short ways for those that a router sends most.
use bytes::BytesMut;

use super::cbor::CborWriter;
use super::dict::{Dict, write_dict, write_optional_dict};
use super::json::JsonWriter;
use super::message::Message;
use super::message::code;
use super::msgpack::MsgPackWriter;
use super::options::{EventDetails, InvocationDetails, ResultDetails};
use super::token::Writer;
use crate::model::{Encoding, InvocationId, Payload, PublicationId, RegistrationId, RequestId, SubscriptionId};
use crate::wire::payload;

/// Runs `$body` with `$writer` bound to the writer of `$encoding`, appending to `$out`.
macro_rules! with_writer {
    ($encoding:expr, $out:expr, $writer:ident => $body:expr) => {
        match $encoding {
            Encoding::Json => {
                let $writer = &mut JsonWriter::new($out);
                $body
            }
            Encoding::MsgPack => {
                let $writer = &mut MsgPackWriter::new($out);
                $body
            }
            Encoding::Cbor => {
                let $writer = &mut CborWriter::new($out);
                $body
            }
        }
    };
}

/// Appends `message` to `out`. A payload of another form is converted first; one that fits is copied as it is.
pub fn encode(message: &Message<'_>, encoding: Encoding, out: &mut BytesMut) {
    let payload = message.payload().map(|payload| payload::to_args(payload, None, encoding));
    let parts = Parts::of(payload.as_ref());
    with_writer!(encoding, out, writer => {
        writer.list(message.elements() + parts.count());
        writer.uint(message.code());
        write_elements(message, writer);
        parts.write(writer);
        writer.end_list();
    });
}

/// Appends an EVENT. `args` and `kwargs` are encoded already, or empty where absent, as `details` are.
pub fn encode_event(
    encoding: Encoding,
    out: &mut BytesMut,
    subscription: SubscriptionId,
    publication: PublicationId,
    details: Option<&EventDetails>,
    args: &[u8],
    kwargs: &[u8],
) {
    let parts = Parts { args, kwargs };
    out.reserve(64 + args.len() + kwargs.len());
    with_writer!(encoding, out, writer => {
        writer.list(4 + parts.count());
        writer.uint(code::EVENT);
        writer.uint(subscription.0);
        writer.uint(publication.0);
        write_optional_dict(details, writer);
        parts.write(writer);
        writer.end_list();
    });
}

/// Appends a RESULT. `args` and `kwargs` are encoded already, or empty where absent, as `details` are.
pub fn encode_result(
    encoding: Encoding,
    out: &mut BytesMut,
    request: RequestId,
    details: Option<&ResultDetails>,
    args: &[u8],
    kwargs: &[u8],
) {
    let parts = Parts { args, kwargs };
    out.reserve(64 + args.len() + kwargs.len());
    with_writer!(encoding, out, writer => {
        writer.list(3 + parts.count());
        writer.uint(code::RESULT);
        writer.uint(request.0);
        write_optional_dict(details, writer);
        parts.write(writer);
        writer.end_list();
    });
}

/// Appends an INVOCATION. `args` and `kwargs` are encoded already, or empty where absent, as `details` are.
pub fn encode_invocation(
    encoding: Encoding,
    out: &mut BytesMut,
    invocation: InvocationId,
    registration: RegistrationId,
    details: Option<&InvocationDetails>,
    args: &[u8],
    kwargs: &[u8],
) {
    let parts = Parts { args, kwargs };
    out.reserve(64 + args.len() + kwargs.len());
    with_writer!(encoding, out, writer => {
        writer.list(4 + parts.count());
        writer.uint(code::INVOCATION);
        writer.uint(invocation.0);
        writer.uint(registration.0);
        write_optional_dict(details, writer);
        parts.write(writer);
        writer.end_list();
    });
}

/// Appends a PUBLISHED.
pub fn encode_published(encoding: Encoding, out: &mut BytesMut, request: RequestId, publication: PublicationId) {
    with_writer!(encoding, out, writer => {
        writer.list(3);
        writer.uint(code::PUBLISHED);
        writer.uint(request.0);
        writer.uint(publication.0);
        writer.end_list();
    });
}

/// The encoded parts of a payload. `kwargs` cannot stand without `args`, which are then an empty list.
struct Parts<'p> {
    args: &'p [u8],
    kwargs: &'p [u8],
}

impl<'p> Parts<'p> {
    /// Of a payload that is in the encoding of the message already.
    fn of(payload: Option<&'p Payload>) -> Self {
        match payload {
            Some(Payload::Args { args, kwargs, .. }) => Parts { args, kwargs },
            Some(Payload::Bytes(_) | Payload::List(_)) | None => Parts { args: &[], kwargs: &[] },
        }
    }

    fn count(&self) -> usize {
        match (self.args, self.kwargs) {
            ([], []) => 0,
            (_, []) => 1,
            _ => 2,
        }
    }

    fn write<W: Writer>(&self, writer: &mut W) {
        if self.count() == 0 {
            return;
        }
        if self.args.is_empty() {
            writer.list(0);
            writer.end_list();
        } else {
            writer.raw(self.args);
        }
        if !self.kwargs.is_empty() {
            writer.raw(self.kwargs);
        }
    }
}

impl Message<'_> {
    /// The payload, where the message can have one.
    pub fn payload(&self) -> Option<&Payload> {
        match self {
            Message::Abort { payload, .. }
            | Message::Error { payload, .. }
            | Message::Publish { payload, .. }
            | Message::Event { payload, .. }
            | Message::Call { payload, .. }
            | Message::Result { payload, .. }
            | Message::Invocation { payload, .. }
            | Message::Yield { payload, .. } => Some(payload),
            _ => None,
        }
    }

    /// Elements before the payload, the code among them.
    fn elements(&self) -> usize {
        match self {
            Message::Unsubscribed { details: None, .. }
            | Message::Unregistered { details: None, .. }
            | Message::EventReceived { .. } => 2,
            Message::Publish { .. }
            | Message::Subscribe { .. }
            | Message::Event { .. }
            | Message::Call { .. }
            | Message::Register { .. }
            | Message::Invocation { .. } => 4,
            Message::Error { .. } => 5,
            _ => 3,
        }
    }
}

/// Writes what stands between the code and the payload.
fn write_elements<W: Writer>(message: &Message<'_>, writer: &mut W) {
    match message {
        Message::Hello { realm, details } => text_dict(writer, realm, details.as_ref()),
        Message::Welcome { session, details } => id_dict(writer, session.0, details.as_ref()),
        Message::Abort { details, reason, .. } | Message::Goodbye { details, reason } => {
            write_dict(details, writer);
            writer.str(reason);
        }
        Message::Challenge { method, extra } => text_dict(writer, method, extra.as_ref()),
        Message::Authenticate { signature, extra } => text_dict(writer, signature, extra.as_ref()),
        Message::Error { kind, request, details, error, .. } => {
            writer.uint(kind.code());
            id_dict(writer, request.0, details);
            writer.str(error);
        }
        Message::Publish { request, options, topic, .. } => id_dict_text(writer, request.0, options, topic),
        Message::Published { request, publication } => ids(writer, request.0, publication.0),
        Message::Subscribe { request, options, topic } => id_dict_text(writer, request.0, options, topic),
        Message::Subscribed { request, subscription } => ids(writer, request.0, subscription.0),
        Message::Unsubscribe { request, subscription } => ids(writer, request.0, subscription.0),
        Message::Unsubscribed { request, details } => revocable(writer, request.0, details.as_ref()),
        Message::Event { subscription, publication, details, .. } => {
            writer.uint(subscription.0);
            id_dict(writer, publication.0, details);
        }
        Message::EventReceived { publication } => writer.uint(publication.0),
        Message::Call { request, options, procedure, .. } => id_dict_text(writer, request.0, options, procedure),
        Message::Cancel { request, options } => id_dict(writer, request.0, options),
        Message::Result { request, details, .. } => id_dict(writer, request.0, details),
        Message::Register { request, options, procedure } => id_dict_text(writer, request.0, options, procedure),
        Message::Registered { request, registration } => ids(writer, request.0, registration.0),
        Message::Unregister { request, registration } => ids(writer, request.0, registration.0),
        Message::Unregistered { request, details } => revocable(writer, request.0, details.as_ref()),
        Message::Invocation { invocation, registration, details, .. } => {
            writer.uint(invocation.0);
            id_dict(writer, registration.0, details);
        }
        Message::Interrupt { invocation, options } => id_dict(writer, invocation.0, options),
        Message::Yield { invocation, options, .. } => id_dict(writer, invocation.0, options),
    }
}

fn ids<W: Writer>(writer: &mut W, first: u64, second: u64) {
    writer.uint(first);
    writer.uint(second);
}

fn id_dict<W: Writer, D: Dict>(writer: &mut W, id: u64, dict: &D) {
    writer.uint(id);
    write_dict(dict, writer);
}

fn text_dict<W: Writer, D: Dict>(writer: &mut W, text: &str, dict: &D) {
    writer.str(text);
    write_dict(dict, writer);
}

fn id_dict_text<W: Writer, D: Dict>(writer: &mut W, id: u64, dict: &D, text: &str) {
    id_dict(writer, id, dict);
    writer.str(text);
}

fn revocable<W: Writer, D: Dict>(writer: &mut W, id: u64, details: Option<&D>) {
    match details {
        Some(details) => id_dict(writer, id, details),
        None => writer.uint(id),
    }
}
