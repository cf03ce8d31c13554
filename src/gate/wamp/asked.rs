//! The requests of a session that are not answered yet, so that a refusal can say its subject.
use crate::model::sentence::{Wish, of_wish};
use crate::model::{EventId, Payload, Reason, Topic};
use crate::wire::wamp::RequestKind;

/// An open request.
#[derive(Debug)]
pub struct Asked {
    /// Which kind.
    pub kind: RequestKind,
    /// Its subject.
    pub about: About,
}

/// The subject of a request.
#[derive(Debug)]
pub enum About {
    /// Left to the part that answers.
    Unsaid,
    /// This topic.
    Topic(Topic),
    /// This name or id, as the client wrote it.
    Name(Box<str>),
    /// A call that publishes to this topic, as the client wrote it.
    Publication(Box<str>),
    /// The request was refused already, for this.
    Refused(Box<str>),
    /// The request was answered from here, and nothing that still comes of it is sent.
    Answered,
}

impl Asked {
    /// Why it is refused.
    pub fn sentence(&self, why: Reason) -> String {
        let name = match &self.about {
            About::Unsaid | About::Answered => return why.to_string(),
            About::Refused(sentence) => return sentence.to_string(),
            About::Publication(topic) => return of_wish(Wish::Publish, topic, why),
            About::Topic(topic) => topic.as_uri(),
            About::Name(name) => name,
        };
        match wish(self.kind) {
            Some(wish) => of_wish(wish, name, why),
            None => why.to_string(),
        }
    }
}

fn wish(kind: RequestKind) -> Option<Wish> {
    Some(match kind {
        RequestKind::Publish => Wish::Publish,
        RequestKind::Subscribe => Wish::Subscribe,
        RequestKind::Unsubscribe => Wish::Unsubscribe,
        RequestKind::Register => Wish::Register,
        RequestKind::Unregister => Wish::Unregister,
        RequestKind::Call => Wish::Call,
        RequestKind::Cancel | RequestKind::Invocation => return None,
    })
}

/// The arguments of an ERROR: the sentence, and behind it what a program can use.
pub fn arguments(sentence: &str, why: Reason) -> Payload {
    match why {
        Reason::HistoryTooOld(oldest) => Payload::of_values(&[sentence.into(), EventId::value(oldest).into()]),
        _ => Payload::of_text(sentence),
    }
}
