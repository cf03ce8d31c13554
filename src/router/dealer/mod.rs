//! Registrations: who serves a procedure, and which of several callees takes the next call.
pub mod calls;
pub mod remembered;

use std::collections::HashMap;

use foldhash::fast::FixedState;
use slab::Slab;

use crate::model::command::{CalleeForm, InvokePolicy, RegisterOptions};
use crate::model::{Filter, Reason, RegistrationId, Topic};
use crate::router::base::key::SessionKey;
use crate::router::base::random::Random;
use crate::router::matcher::Matcher;

/// Everybody who serves the same filter, in the order of registering; never empty.
#[derive(Debug)]
struct Registration {
    id: RegistrationId,
    filter: Filter,
    policy: InvokePolicy,
    callees: Vec<Callee>,
    /// The callee whose turn it is (`InvokePolicy::RoundRobin`).
    turn: usize,
}

/// One session that serves a registration; it is connected.
#[derive(Clone, Copy, Debug)]
pub struct Callee {
    /// The session that serves.
    pub session: SessionKey,
    /// The terms of its service.
    pub options: RegisterOptions,
}

/// The callee that takes a call, and through which registration.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The callee.
    pub callee: Callee,
    /// The registration that the procedure fits.
    pub registration: RegistrationId,
    /// The registration is a pattern: the callee must be told what was called.
    pub by_pattern: bool,
}

/// Registrations of a realm.
#[derive(Debug, Default)]
pub struct Dealer {
    matcher: Matcher<u32>,
    registrations: Slab<Registration>,
    by_id: HashMap<RegistrationId, u32, FixedState>,
    last_id: u64,
}

impl Dealer {
    /// Adds a callee (WAMP: Advanced, Shared Registration). An MQTT session that repeats its own SUBSCRIBE replaces its options
    /// [MQTT-3.8.4-3]; any other repetition is refused.
    pub fn register(&mut self, session: SessionKey, filter: &Filter, options: RegisterOptions) -> Result<RegistrationId, Reason> {
        let registration = self.matcher.find(filter).and_then(|place| self.registrations.get_mut(place as usize));
        let Some(registration) = registration else {
            return Ok(self.add(Callee { session, options }, filter));
        };
        if registration.policy != options.invoke {
            return Err(Reason::InvocationPolicyConflict);
        }
        match registration.callees.iter_mut().find(|callee| callee.session == session) {
            Some(callee) if options.form != CalleeForm::Invocation && callee.options.form == options.form => {
                callee.options = options;
            }
            Some(_) => return Err(Reason::ProcedureAlreadyExists),
            None if registration.policy == InvokePolicy::Single => return Err(Reason::ProcedureAlreadyExists),
            None => registration.callees.push(Callee { session, options }),
        }
        Ok(registration.id)
    }

    fn add(&mut self, callee: Callee, filter: &Filter) -> RegistrationId {
        self.last_id += 1;
        let id = RegistrationId(self.last_id);
        let policy = callee.options.invoke;
        let registration = Registration { id, filter: filter.clone(), policy, callees: vec![callee], turn: 0 };
        let place = self.registrations.insert(registration) as u32;
        self.matcher.insert(filter, place);
        self.by_id.insert(id, place);
        id
    }

    /// Takes a callee away; false if it did not serve this filter.
    pub fn unregister(&mut self, session: SessionKey, filter: &Filter) -> bool {
        let Some(place) = self.matcher.find(filter) else { return false };
        let Some(registration) = self.registrations.get_mut(place as usize) else { return false };
        let Some(index) = registration.callees.iter().position(|callee| callee.session == session) else { return false };
        registration.callees.remove(index);
        if index < registration.turn {
            registration.turn -= 1;
        }
        if registration.callees.is_empty() {
            self.matcher.remove(filter);
            self.by_id.remove(&registration.id);
            self.registrations.try_remove(place as usize);
        }
        true
    }

    /// The filter of the registration with this id.
    pub fn filter_of(&self, id: RegistrationId) -> Option<&Filter> {
        let place = self.by_id.get(&id)?;
        self.registrations.get(*place as usize).map(|registration| &registration.filter)
    }

    /// The callee that takes a call of `procedure`; `None` if nobody serves it.
    pub fn choose(&mut self, procedure: &Topic, random: &mut Random) -> Option<Choice> {
        let place = self.matcher.best_match(procedure)?;
        let registration = self.registrations.get_mut(place as usize)?;
        let count = registration.callees.len();
        let index = match registration.policy {
            InvokePolicy::Single | InvokePolicy::First => 0,
            InvokePolicy::Last => count.checked_sub(1)?,
            InvokePolicy::Random => random.below(count),
            InvokePolicy::RoundRobin => {
                let index = registration.turn % count.max(1);
                registration.turn = index + 1;
                index
            }
        };
        let callee = *registration.callees.get(index)?;
        let by_pattern = !matches!(registration.filter, Filter::Exact(_));
        Some(Choice { callee, registration: registration.id, by_pattern })
    }

    /// Distinct registrations.
    pub fn len(&self) -> usize {
        self.registrations.len()
    }
}
