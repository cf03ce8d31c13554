//! Bytes to messages: one pass over the envelope, payloads left as they are.
use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::cbor::CborReader;
use super::dict::{Dict, deeper, entries};
use super::fault::{DecodeError, ErrorKind, Fault};
use super::json::JsonReader;
use super::message::{Message, RequestKind, code, name_of};
use super::msgpack::MsgPackReader;
use super::token::{Kind, Open, Reader, Token, whole_decimal};
use crate::model::id::MAX_ID;
use crate::model::{Encoding, InvocationId, Payload, PublicationId, RegistrationId, RequestId, SessionId, SubscriptionId};

/// Decodes exactly one message. Its payload shares `input`; nothing of it is decoded, but all of it is validated.
pub fn decode(input: &Bytes, encoding: Encoding) -> Result<Message<'_>, DecodeError> {
    match encoding {
        Encoding::Json => decode_with::<JsonReader<'_>>(input, encoding),
        Encoding::MsgPack => decode_with::<MsgPackReader<'_>>(input, encoding),
        Encoding::Cbor => decode_with::<CborReader<'_>>(input, encoding),
    }
}

/// The code of the message at the start of `input`, without a look at anything behind it; a hint, not a validation.
pub fn message_code(input: &[u8], encoding: Encoding) -> Option<u64> {
    fn first<'a, R: Reader<'a>>(mut reader: R) -> Option<u64> {
        let Token::List(mut open) = reader.read().ok()? else { return None };
        reader.more(&mut open).ok()?.then(|| reader.read().ok())??.uint()
    }
    match encoding {
        Encoding::Json => {
            let rest = input.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start();
            let digits = rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E')).count();
            std::str::from_utf8(rest.get(..digits)?).ok().filter(|digits| !digits.is_empty()).and_then(whole_decimal)
        }
        Encoding::MsgPack => first(MsgPackReader::start(input).ok()?),
        Encoding::Cbor => first(CborReader::start(input).ok()?),
    }
}

fn decode_with<'a, R: Reader<'a>>(input: &'a Bytes, encoding: Encoding) -> Result<Message<'a>, DecodeError> {
    let mut reader = R::start(input).map_err(|malformed| describe(Fault::Malformed(malformed), &Read::default()))?;
    let open = match reader.read() {
        Ok(Token::List(open)) => open,
        Ok(_) => return Err(describe(Fault::Invalid("the message is not a list".into()), &Read::default())),
        Err(malformed) => return Err(describe(malformed.into(), &Read::default())),
    };
    let mut elements = Elements { reader, open, input, encoding, read: Read::default(), over: false };
    elements.message().map_err(|fault| describe(fault, &elements.read))
}

/// The part of a message that is known when a fault is met in it.
#[derive(Default)]
struct Read {
    code: Option<u64>,
    request: Option<RequestId>,
    /// The request is an invocation, which the message answers.
    is_answer: bool,
    /// The element being read, for errors.
    element: &'static str,
}

/// Says where a fault lies, in words.
fn describe(fault: Fault, read: &Read) -> DecodeError {
    let Read { code, request, is_answer, element } = *read;
    let name = code.map_or("message", name_of);
    let (kind, detail) = match fault {
        Fault::Malformed(at) => (ErrorKind::Malformed, format!("malformed {name}: {} at byte {}", at.what, at.at)),
        Fault::Unknown(code) => (ErrorKind::UnknownCode(code), format!("unknown message code {code}")),
        Fault::Invalid(what) => (ErrorKind::Invalid, format!("invalid {name}: {what}")),
        Fault::Excess(what) => (ErrorKind::Excess, format!("invalid {name}: {what}")),
        Fault::Option(key, must_be) => (ErrorKind::InvalidOption, format!("{name}.{element}.{key} must be {must_be}")),
    };
    let invocation = request.filter(|_| is_answer).map(|request| InvocationId(request.0));
    DecodeError { kind, detail: detail.into(), code, request, invocation }
}

/// The elements of one message, taken one after the other.
struct Elements<'a, R> {
    reader: R,
    open: Open,
    input: &'a Bytes,
    encoding: Encoding,
    read: Read,
    /// The last element was read.
    over: bool,
}

impl<'a, R: Reader<'a>> Elements<'a, R> {
    fn message(&mut self) -> Result<Message<'a>, Fault> {
        let Some(code) = self.next("message code")?.uint() else {
            return Fault::invalid("the message code is not an integer");
        };
        self.read.code = Some(code);
        let message = match code {
            code::HELLO..=code::GOODBYE => self.session_message(code)?,
            code::PUBLISH..=code::EVENT | code::EVENT_RECEIVED => self.event_message(code)?,
            code::CALL..=code::YIELD => self.call_message(code)?,
            code::ERROR => self.error()?,
            _ => return Err(Fault::Unknown(code)),
        };
        self.finish()?;
        Ok(message)
    }

    fn session_message(&mut self, code: u64) -> Result<Message<'a>, Fault> {
        Ok(match code {
            code::HELLO => Message::Hello { realm: self.text("Realm")?, details: Box::new(self.dict("Details")?) },
            code::WELCOME => {
                Message::Welcome { session: SessionId(self.id("Session")?), details: Box::new(self.dict("Details")?) }
            }
            code::ABORT => {
                Message::Abort { details: self.dict("Details")?, reason: self.text("Reason")?, payload: self.payload()? }
            }
            code::CHALLENGE => Message::Challenge { method: self.text("AuthMethod")?, extra: Box::new(self.dict("Extra")?) },
            code::AUTHENTICATE => {
                Message::Authenticate { signature: self.text("Signature")?, extra: Box::new(self.dict("Extra")?) }
            }
            code::GOODBYE => Message::Goodbye { details: self.dict("Details")?, reason: self.text("Reason")? },
            _ => return Err(Fault::Unknown(code)),
        })
    }

    fn event_message(&mut self, code: u64) -> Result<Message<'a>, Fault> {
        Ok(match code {
            code::PUBLISH => Message::Publish {
                request: self.request()?,
                options: self.dict("Options")?,
                topic: self.text("Topic")?,
                payload: self.payload()?,
            },
            code::PUBLISHED => {
                Message::Published { request: self.request()?, publication: PublicationId(self.id("Publication")?) }
            }
            code::SUBSCRIBE => {
                Message::Subscribe { request: self.request()?, options: self.dict("Options")?, topic: self.text("Topic")? }
            }
            code::SUBSCRIBED => {
                Message::Subscribed { request: self.request()?, subscription: SubscriptionId(self.id("Subscription")?) }
            }
            code::UNSUBSCRIBE => {
                Message::Unsubscribe { request: self.request()?, subscription: SubscriptionId(self.id("Subscription")?) }
            }
            code::UNSUBSCRIBED => {
                let (request, details) = self.revocable()?;
                Message::Unsubscribed { request, details }
            }
            code::EVENT => Message::Event {
                subscription: SubscriptionId(self.id("Subscription")?),
                publication: PublicationId(self.id("Publication")?),
                details: self.dict("Details")?,
                payload: self.payload()?,
            },
            code::EVENT_RECEIVED => Message::EventReceived { publication: PublicationId(self.id("Publication")?) },
            _ => return Err(Fault::Unknown(code)),
        })
    }

    fn call_message(&mut self, code: u64) -> Result<Message<'a>, Fault> {
        Ok(match code {
            code::CALL => Message::Call {
                request: self.request()?,
                options: self.dict("Options")?,
                procedure: self.text("Procedure")?,
                payload: self.payload()?,
            },
            code::CANCEL => Message::Cancel { request: self.request()?, options: self.dict("Options")? },
            code::RESULT => {
                Message::Result { request: self.request()?, details: self.dict("Details")?, payload: self.payload()? }
            }
            code::REGISTER => {
                Message::Register { request: self.request()?, options: self.dict("Options")?, procedure: self.text("Procedure")? }
            }
            code::REGISTERED => {
                Message::Registered { request: self.request()?, registration: RegistrationId(self.id("Registration")?) }
            }
            code::UNREGISTER => {
                Message::Unregister { request: self.request()?, registration: RegistrationId(self.id("Registration")?) }
            }
            code::UNREGISTERED => {
                let (request, details) = self.revocable()?;
                Message::Unregistered { request, details }
            }
            code::INVOCATION => Message::Invocation {
                invocation: self.invocation()?,
                registration: RegistrationId(self.id("Registration")?),
                details: self.dict("Details")?,
                payload: self.payload()?,
            },
            code::INTERRUPT => Message::Interrupt { invocation: self.invocation()?, options: self.dict("Options")? },
            code::YIELD => {
                self.read.is_answer = true;
                Message::Yield { invocation: self.invocation()?, options: self.dict("Options")?, payload: self.payload()? }
            }
            _ => return Err(Fault::Unknown(code)),
        })
    }

    fn error(&mut self) -> Result<Message<'a>, Fault> {
        let Some(kind) = self.next("REQUEST.Type")?.uint().and_then(RequestKind::new) else {
            return Fault::invalid("REQUEST.Type is not the code of a request");
        };
        self.read.is_answer = kind == RequestKind::Invocation;
        Ok(Message::Error {
            kind,
            request: self.request()?,
            details: self.dict("Details")?,
            error: self.text("Error")?,
            payload: self.payload()?,
        })
    }

    /// True if there is another element; may be asked again behind the last one.
    fn more(&mut self) -> Result<bool, Fault> {
        self.over = self.over || !self.reader.more(&mut self.open)?;
        Ok(!self.over)
    }

    /// The first token of the next element.
    fn next(&mut self, element: &'static str) -> Result<Token<'a>, Fault> {
        self.read.element = element;
        if !self.more()? {
            return Fault::invalid(format!("{element} is missing"));
        }
        Ok(self.reader.read()?)
    }

    fn text(&mut self, element: &'static str) -> Result<Cow<'a, str>, Fault> {
        match self.next(element)? {
            Token::Str(text) => Ok(text),
            _ => Fault::invalid(format!("{element} is not a string")),
        }
    }

    fn id(&mut self, element: &'static str) -> Result<u64, Fault> {
        match self.next(element)?.id() {
            Some(id) => Ok(id),
            None => Fault::invalid(format!("{element} is not an id from 1 to 9007199254740992")),
        }
    }

    fn request(&mut self) -> Result<RequestId, Fault> {
        let request = RequestId(self.id("Request")?);
        self.read.request = Some(request);
        Ok(request)
    }

    fn invocation(&mut self) -> Result<InvocationId, Fault> {
        self.request().map(|request| InvocationId(request.0))
    }

    /// Options or details; null stands for none.
    fn dict<D: Dict>(&mut self, element: &'static str) -> Result<D, Fault> {
        match self.next(element)? {
            Token::Null => Ok(D::default()),
            Token::Map(open) => entries(open, &mut self.reader, deeper(0)?),
            _ => Fault::invalid(format!("{element} is not a dictionary")),
        }
    }

    /// Request 0 comes with details, any other without (WAMP: Advanced, Subscription Revocation).
    fn revocable<D: Dict>(&mut self) -> Result<(RequestId, Option<D>), Fault> {
        match self.next("Request")?.uint() {
            Some(0) => Ok((RequestId(0), Some(self.dict("Details")?))),
            Some(id @ 1..=MAX_ID) => {
                self.read.request = Some(RequestId(id));
                Ok((RequestId(id), None))
            }
            _ => Fault::invalid("Request is not an id from 0 to 9007199254740992"),
        }
    }

    fn payload(&mut self) -> Result<Payload, Fault> {
        let args = self.part(Kind::List, "Arguments is not a list")?;
        let kwargs = self.part(Kind::Map, "ArgumentsKw is not a dictionary")?;
        let slice = |range: Range<usize>| self.input.slice(range);
        let args = match (args, &kwargs) {
            (Some(args), _) => slice(args),
            (None, None) => Bytes::new(),
            // Keyword arguments alone stand behind an empty list, as everybody else writes them.
            (None, Some(_)) => Bytes::from_static(match self.encoding {
                Encoding::Json => b"[]",
                Encoding::MsgPack => b"\x90",
                Encoding::Cbor => b"\x80",
            }),
        };
        Ok(Payload::Args { encoding: self.encoding, args, kwargs: kwargs.map_or_else(Bytes::new, slice) })
    }

    /// One part of a payload, if it is there; many clients write null where there are no arguments.
    fn part(&mut self, wanted: Kind, otherwise: &'static str) -> Result<Option<Range<usize>>, Fault> {
        if !self.more()? {
            return Ok(None);
        }
        match self.reader.skip()? {
            (kind, range) if kind == wanted => Ok(Some(range)),
            (Kind::Other, range) if R::start(self.input.get(range.clone()).unwrap_or_default())?.read()? == Token::Null => {
                Ok(None)
            }
            _ => Fault::invalid(otherwise),
        }
    }

    /// Nothing may follow, neither in the message nor behind it.
    fn finish(&mut self) -> Result<(), Fault> {
        if self.more()? {
            return Fault::invalid("there are more elements than it has");
        }
        Ok(self.reader.finish()?)
    }
}
