//! The sessions that may receive a publication, now and whenever it is read again.
use super::{Principal, SessionId};

/// Lists of sessions, each absent or possibly empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Audience {
    /// By session id.
    pub sessions: Option<Vec<SessionId>>,
    /// By authid.
    pub authids: Option<Vec<Box<str>>>,
    /// By authrole.
    pub authroles: Option<Vec<Box<str>>>,
}

impl Audience {
    /// For each list that is present, whether this session is in it.
    fn judge(&self, session: SessionId, principal: &Principal) -> impl Iterator<Item = bool> {
        let has = |names: &Vec<Box<str>>, name: &str| names.iter().any(|listed| **listed == *name);
        let lists = [
            self.sessions.as_ref().map(|ids| ids.contains(&session)),
            self.authids.as_ref().map(|names| has(names, &principal.authid)),
            self.authroles.as_ref().map(|names| has(names, &principal.authrole)),
        ];
        lists.into_iter().flatten()
    }
}

/// The sessions that may receive a publication, now and whenever it is read again (WAMP: Advanced, Subscriber Black- and
/// Whitelisting).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Readers {
    /// Only sessions inside each list that is present.
    pub eligible: Option<Audience>,
    /// No session inside any of these lists.
    pub exclude: Option<Audience>,
}

impl Readers {
    /// True if this session, acting for `principal`, may receive it.
    pub fn admit(&self, session: SessionId, principal: &Principal) -> bool {
        let is_eligible = self.eligible.as_ref().is_none_or(|lists| lists.judge(session, principal).all(|is_in| is_in));
        is_eligible && !self.exclude.as_ref().is_some_and(|lists| lists.judge(session, principal).any(|is_in| is_in))
    }

    /// True without a list of session ids. Session ids mean nothing to later sessions, so readers of the history do not see what
    /// is limited by them (WAMP: Advanced, Event History).
    pub fn is_lasting(&self) -> bool {
        [&self.eligible, &self.exclude].into_iter().flatten().all(|lists| lists.sessions.is_none())
    }

    /// Bytes of all lists, and 16 for each entry.
    pub fn weight(&self) -> usize {
        let names = |names: &Option<Vec<Box<str>>>| names.iter().flatten().map(|name| name.len() + 16).sum::<usize>();
        let lists = [&self.eligible, &self.exclude].into_iter().flatten();
        lists.map(|l| l.sessions.as_ref().map_or(0, |ids| ids.len() * 16) + names(&l.authids) + names(&l.authroles)).sum()
    }
}
