//! A filter as it is recorded: a subscription or registration that a session has, or gives up.
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::command::{
    CalleeForm, InvokePolicy, Past, RegisterOptions, RetainHandling, Selection, SubscribeEntry, SubscribeOptions,
    UnsubscribeEntry,
};
use crate::model::{EventId, Filter, Qos};

/// A filter as it is recorded, with what was asked for. Earlier versions did not record what comes before live events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    pub filter: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Box<str>>,
    /// A procedure, served as a publication (1) or by id (2); 0 is a topic.
    #[serde(default)]
    pub form: u8,
    #[serde(default)]
    pub qos: u8,
    /// 1 no local, 2 retain as published, 4 retained only; for a procedure 1 shared in turn.
    #[serde(default)]
    pub flags: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<u32>,
    /// Only events whose body fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Value>,
    /// Retained messages: 1 always, 2 if it is new; 0 never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retained: u8,
    /// Past events behind this one first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// So many past events first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The subscription ends behind these.
    #[serde(default, skip_serializing_if = "is_false")]
    pub snapshot: bool,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

pub fn is_false(value: &bool) -> bool {
    !*value
}

impl Entry {
    pub fn of_subscribe(entry: &SubscribeEntry) -> Option<Entry> {
        match entry {
            SubscribeEntry::Topic { filter, share, options } => Entry::of_topic(filter, share.clone(), options, None),
            // With QoS 0 nothing is owed: a snapshot ends with the process, and any other subscription goes on with live events.
            SubscribeEntry::Selected { options, selection, .. } if options.qos == Qos::AtMostOnce && selection.is_snapshot => {
                None
            }
            SubscribeEntry::Selected { filter, options, selection } if options.qos == Qos::AtMostOnce => {
                Entry::of_topic(filter, None, options, selection.pattern.clone())
            }
            SubscribeEntry::Selected { filter, options, selection } => Entry::of_selected(filter, options, selection),
            SubscribeEntry::Procedure { filter, options } => Some(Entry {
                filter: filter.as_mqtt()?.into(),
                share: None,
                form: form_number(options.form),
                qos: options.qos.bits(),
                flags: u8::from(options.invoke != InvokePolicy::Single),
                identifier: options.identifier,
                ..Entry::default()
            }),
            SubscribeEntry::Refused(_) => None,
        }
    }

    pub fn of_topic(
        filter: &Filter,
        share: Option<Box<str>>,
        options: &SubscribeOptions,
        pattern: Option<Value>,
    ) -> Option<Entry> {
        let flags = [options.no_local, options.retain_as_published, options.retained_only];
        let flags = flags.iter().rev().fold(0, |flags, is_set| flags << 1 | u8::from(*is_set));
        let (qos, identifier) = (options.qos.bits(), options.identifier);
        let retained = match options.retain_handling {
            RetainHandling::Always if options.qos > Qos::AtMostOnce => 1,
            RetainHandling::IfNew if options.qos > Qos::AtMostOnce => 2,
            _ => 0,
        };
        Some(Entry { filter: filter.as_mqtt()?.into(), share, qos, flags, identifier, pattern, retained, ..Entry::default() })
    }

    pub fn of_selected(filter: &Filter, options: &SubscribeOptions, selection: &Selection) -> Option<Entry> {
        let (after, last) = match selection.past {
            Some(Past::After(after)) => (Some(after.map_or(0, EventId::value)), None),
            Some(Past::Last(count)) => (None, Some(count)),
            None => (None, None),
        };
        let entry = Entry::of_topic(filter, None, options, selection.pattern.clone())?;
        Some(Entry { after, last, snapshot: selection.is_snapshot, ..entry })
    }

    /// True if what its session published does not come to it.
    pub fn has_no_local(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The past events that are asked for.
    pub fn past(&self) -> Option<Past> {
        let after = self.after.map(|after| Past::After(EventId::new(after)));
        after.or(self.last.map(Past::Last))
    }

    pub fn of_unsubscribe(entry: &UnsubscribeEntry) -> Option<Entry> {
        let (filter, share, form) = match entry {
            UnsubscribeEntry::Topic { filter, share } => (filter, share.clone(), 0),
            UnsubscribeEntry::Procedure { filter, form } => (filter, None, form_number(*form)),
            _ => return None,
        };
        Some(Entry { filter: filter.as_mqtt()?.into(), share, form, ..Entry::default() })
    }

    pub fn to_subscribe(&self) -> Option<SubscribeEntry> {
        let filter = Filter::from_mqtt(&self.filter).ok()?;
        let qos = Qos::from_bits(self.qos)?;
        let identifier = self.identifier;
        Some(match form_of(self.form) {
            Some(form) => {
                let invoke = if self.flags == 0 { InvokePolicy::Single } else { InvokePolicy::RoundRobin };
                let options = RegisterOptions { invoke, form, qos, identifier, ..RegisterOptions::default() };
                SubscribeEntry::Procedure { filter, options }
            }
            None => {
                let options = SubscribeOptions {
                    qos,
                    no_local: self.flags & 1 != 0,
                    retain_as_published: self.flags & 2 != 0,
                    retained_only: self.flags & 4 != 0,
                    retain_handling: match self.retained {
                        1 => RetainHandling::Always,
                        2 => RetainHandling::IfNew,
                        _ => RetainHandling::Never,
                    },
                    identifier,
                };
                let selection = Selection { past: self.past(), is_snapshot: self.snapshot, pattern: self.pattern.clone() };
                match selection == Selection::default() {
                    true => SubscribeEntry::Topic { filter, share: self.share.clone(), options },
                    false => SubscribeEntry::Selected { filter, options, selection: Box::new(selection) },
                }
            }
        })
    }

    pub fn to_unsubscribe(&self) -> Option<UnsubscribeEntry> {
        let filter = Filter::from_mqtt(&self.filter).ok()?;
        Some(match form_of(self.form) {
            Some(form) => UnsubscribeEntry::Procedure { filter, form },
            None => UnsubscribeEntry::Topic { filter, share: self.share.clone() },
        })
    }
}

pub fn form_number(form: CalleeForm) -> u8 {
    match form {
        CalleeForm::Invocation | CalleeForm::Publication => 1,
        CalleeForm::PublicationById => 2,
    }
}

pub fn form_of(number: u8) -> Option<CalleeForm> {
    match number {
        1 => Some(CalleeForm::Publication),
        2 => Some(CalleeForm::PublicationById),
        _ => None,
    }
}
