//! Subscriptions and who receives a publication: the matcher's answer, merged per session and cached per topic.
pub mod plan;
pub mod selection;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};
use slab::Slab;
use smallvec::SmallVec;

use crate::model::command::SubscribeOptions;
use crate::model::{Filter, SubscriptionId, Topic};
use crate::router::base::key::SubscriptionName;
use crate::router::base::key::{SelectionKey, SessionKey};
use crate::router::broker::plan::{Plan, Receiver};
use crate::router::matcher::Matcher;

/// Bytes that the cache of plans may hold before it starts anew.
const CACHED_BYTES: usize = 64 * 1024 * 1024;

/// Plans that are looked through when a subscription by pattern comes or goes.
const MAX_SCANNED: usize = 1_024;

/// The terms on which a session has a subscription.
#[derive(Clone, Copy, Debug)]
struct Member {
    options: SubscribeOptions,
    /// Its client speaks MQTT.
    is_mqtt: bool,
    selection: Option<SelectionKey>,
}

/// One subscription: everybody who asked for the same filter.
#[derive(Debug)]
struct Subscription {
    id: SubscriptionId,
    filter: Filter,
    members: BTreeMap<SessionKey, Member>,
    groups: BTreeMap<Box<str>, u32>,
}

/// A share group of one filter.
#[derive(Debug)]
pub struct Group {
    /// Its members with what each asked for, in the order of joining.
    pub members: Vec<(SessionKey, SubscribeOptions)>,
    /// The member whose turn it is.
    pub turn: usize,
    /// Something waits in the line of a member, for whoever has room first.
    is_behind: bool,
}

/// Subscriptions of a realm.
#[derive(Debug, Default)]
pub struct Broker {
    matcher: Matcher<u32>,
    subscriptions: Slab<Subscription>,
    /// By a number that is never used again: deliveries remember it for longer than the group may last.
    groups: HashMap<u32, Group, FixedState>,
    last_group: u32,
    /// Groups that are behind.
    behind: usize,
    plans: HashMap<Topic, Arc<Plan>, RandomState>,
    planned: usize,
    by_id: HashMap<SubscriptionId, u32, FixedState>,
    last_id: u64,
    wildcards: usize,
    members: usize,
    shared_members: usize,
}

impl Broker {
    /// Adds or replaces a session's subscription; true if the session did not have it.
    pub fn subscribe(
        &mut self,
        session: SessionKey,
        filter: &Filter,
        share: Option<&str>,
        options: SubscribeOptions,
        is_mqtt: bool,
    ) -> (SubscriptionId, bool) {
        self.forget_plans(filter);
        let key = self.subscription(filter);
        let Some(subscription) = self.subscriptions.get_mut(key as usize) else { return (SubscriptionId(0), false) };
        let id = subscription.id;
        let Some(share) = share else {
            let is_new = subscription.members.insert(session, Member { options, is_mqtt, selection: None }).is_none();
            self.wildcards += usize::from(is_new && !matches!(filter, Filter::Exact(_)));
            self.members += usize::from(is_new);
            return (id, is_new);
        };
        let group_key = *subscription.groups.entry(share.into()).or_insert_with(|| {
            self.last_group = self.last_group.wrapping_add(1);
            self.last_group
        });
        let group = self.groups.entry(group_key).or_insert_with(|| Group { members: Vec::new(), turn: 0, is_behind: false });
        let place = group.members.iter_mut().find(|(member, _)| *member == session);
        let is_new = place.is_none();
        match place {
            Some((_, old)) => *old = options,
            None => group.members.push((session, options)),
        }
        self.wildcards += usize::from(is_new && !matches!(filter, Filter::Exact(_)));
        self.members += usize::from(is_new);
        self.shared_members += usize::from(is_new);
        (id, is_new)
    }

    pub fn subscription(&mut self, filter: &Filter) -> u32 {
        if let Some(key) = self.matcher.find(filter) {
            return key;
        }
        self.last_id += 1;
        let id = SubscriptionId(self.last_id);
        let subscription = Subscription { id, filter: filter.clone(), members: BTreeMap::new(), groups: BTreeMap::new() };
        let key = self.subscriptions.insert(subscription) as u32;
        self.matcher.insert(filter, key);
        self.by_id.insert(id, key);
        key
    }

    /// Takes a session's subscription away; false if there was none.
    pub fn unsubscribe(&mut self, session: SessionKey, filter: &Filter, share: Option<&str>) -> bool {
        let Some(key) = self.matcher.find(filter) else { return false };
        let Some(subscription) = self.subscriptions.get_mut(key as usize) else { return false };
        let was_member = match share {
            None => subscription.members.remove(&session).is_some(),
            Some(share) => match subscription.groups.get(share).copied() {
                Some(group_key) => {
                    let group = self.groups.get_mut(&group_key);
                    let (left, is_empty) = group.map_or((false, true), |group| group.leave(session));
                    if is_empty {
                        subscription.groups.remove(share);
                        let gone = self.groups.remove(&group_key);
                        self.behind -= usize::from(gone.is_some_and(|group| group.is_behind));
                    }
                    left
                }
                None => false,
            },
        };
        if subscription.members.is_empty() && subscription.groups.is_empty() {
            self.matcher.remove(filter);
            self.by_id.remove(&subscription.id);
            self.subscriptions.try_remove(key as usize);
        }
        if was_member {
            self.forget_plans(filter);
            self.wildcards -= usize::from(!matches!(filter, Filter::Exact(_)));
            self.members -= 1;
            self.shared_members -= usize::from(share.is_some());
        }
        was_member
    }

    /// The share group of this name on `filter`.
    pub fn group_of(&self, filter: &Filter, share: &str) -> Option<u32> {
        self.subscriptions.get(self.matcher.find(filter)? as usize)?.groups.get(share).copied()
    }

    /// The members of the share groups among the subscriptions with these names.
    pub fn fellows<'a>(&self, names: impl Iterator<Item = &'a SubscriptionName>) -> Vec<SessionKey> {
        let groups = names.filter_map(|(filter, share)| {
            let subscription = self.subscriptions.get(self.matcher.find(filter)? as usize)?;
            self.groups.get(subscription.groups.get(share.as_deref()?)?)
        });
        groups.flat_map(|group| group.members.iter().map(|(member, _)| *member)).collect()
    }

    /// Makes a session's subscription to `filter` a selective one, or a plain one again.
    pub fn select(&mut self, session: SessionKey, filter: &Filter, selection: Option<SelectionKey>) {
        let Some(key) = self.matcher.find(filter) else { return };
        let subscription = self.subscriptions.get_mut(key as usize);
        if let Some(member) = subscription.and_then(|subscription| subscription.members.get_mut(&session)) {
            member.selection = selection;
            self.forget_plans(filter);
        }
    }

    /// The filter of the subscription with this id.
    pub fn filter_of(&self, id: SubscriptionId) -> Option<&Filter> {
        let key = self.by_id.get(&id)?;
        self.subscriptions.get(*key as usize).map(|subscription| &subscription.filter)
    }

    /// Wildcard subscriptions of the realm.
    pub fn wildcards(&self) -> usize {
        self.wildcards
    }

    /// Subscriptions of all sessions, shared ones included.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Those of them that are shared.
    pub fn shared_members(&self) -> usize {
        self.shared_members
    }

    /// Something waits in the line of a member of this group, or nothing does any more.
    pub fn note_behind(&mut self, key: u32, is_behind: bool) {
        let Some(group) = self.groups.get_mut(&key).filter(|group| group.is_behind != is_behind) else { return };
        group.is_behind = is_behind;
        self.behind = if is_behind { self.behind + 1 } else { self.behind.saturating_sub(1) };
    }

    /// True if something waits in the line of a member of any group.
    pub fn is_any_behind(&self) -> bool {
        self.behind > 0
    }

    /// The members of a group if something waits in the line of one of them.
    pub fn members_behind(&self, key: u32) -> Vec<SessionKey> {
        let group = self.groups.get(&key).filter(|group| group.is_behind);
        group.map_or(Vec::new(), |group| group.members.iter().map(|(member, _)| *member).collect())
    }

    /// The share group with this number.
    pub fn group_mut(&mut self, key: u32) -> Option<&mut Group> {
        self.groups.get_mut(&key)
    }

    /// Everybody who receives `topic`; made on first use, kept until a subscription that covers the topic changes.
    pub fn plan(&mut self, topic: &Topic) -> Arc<Plan> {
        if let Some(plan) = self.plans.get(topic) {
            return plan.clone();
        }
        let plan = Arc::new(self.make_plan(topic));
        let weight = plan.weight(topic);
        if self.planned + weight > CACHED_BYTES {
            self.plans.clear();
            self.planned = 0;
        }
        self.planned += weight;
        self.plans.insert(topic.clone(), plan.clone());
        plan
    }

    pub fn make_plan(&self, topic: &Topic) -> Plan {
        let mut plan = Plan::default();
        let mut merged: HashMap<SessionKey, usize, FixedState> = HashMap::default();
        self.matcher.match_topic(topic, |key| {
            let Some(subscription) = self.subscriptions.get(key as usize) else { return };
            plan.groups.extend(subscription.groups.values());
            for (session, member) in &subscription.members {
                let is_mqtt = member.is_mqtt;
                let receiver = receiver(*session, subscription, *member);
                if receiver.selection.is_some() {
                    plan.receivers.push(receiver);
                    continue;
                }
                match merged.get(session).and_then(|index| plan.receivers.get_mut(*index)) {
                    Some(earlier) if is_mqtt => merge(earlier, receiver),
                    _ => {
                        merged.insert(*session, plan.receivers.len());
                        plan.receivers.push(receiver);
                    }
                }
            }
        });
        plan
    }

    /// Drops what is remembered about the topics that a changed filter covers.
    pub fn forget_plans(&mut self, filter: &Filter) {
        match filter {
            Filter::Exact(topic) => {
                if let Some(plan) = self.plans.remove(topic) {
                    self.planned -= plan.weight(topic);
                }
            }
            // To look through many would hold up everybody: they are made anew.
            _ if self.plans.len() > MAX_SCANNED => {
                self.plans.clear();
                self.planned = 0;
            }
            filter => {
                let planned = &mut self.planned;
                self.plans.retain(|topic, plan| {
                    let is_kept = !filter.covers(topic);
                    *planned -= if is_kept { 0 } else { plan.weight(topic) };
                    is_kept
                });
            }
        }
    }
}

impl Group {
    pub fn leave(&mut self, session: SessionKey) -> (bool, bool) {
        let before = self.members.len();
        self.members.retain(|(member, _)| *member != session);
        (self.members.len() < before, self.members.is_empty())
    }
}

fn receiver(session: SessionKey, subscription: &Subscription, member: Member) -> Receiver {
    let Member { options, is_mqtt, selection } = member;
    let mut subscriptions = SmallVec::new();
    match (is_mqtt, options.identifier) {
        (true, Some(identifier)) => subscriptions.push(u64::from(identifier)),
        (true, None) => {}
        (false, _) => subscriptions.push(subscription.id.0),
    }
    Receiver {
        session,
        qos: options.qos,
        retain_as_published: options.retain_as_published,
        no_local: options.no_local,
        retained_only: options.retained_only,
        selection,
        by_pattern: !matches!(subscription.filter, Filter::Exact(_)),
        subscriptions,
    }
}

/// Overlapping subscriptions of one MQTT session get one copy with the highest QoS and every identifier
/// [MQTT-3.3.4-2], [MQTT-3.3.4-3].
fn merge(earlier: &mut Receiver, more: Receiver) {
    earlier.qos = earlier.qos.max(more.qos);
    earlier.retain_as_published |= more.retain_as_published;
    earlier.no_local |= more.no_local;
    earlier.retained_only &= more.retained_only;
    earlier.by_pattern |= more.by_pattern;
    earlier.subscriptions.extend(more.subscriptions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::from_mqtt(text).unwrap()
    }

    fn topic(text: &str) -> Topic {
        Topic::from_mqtt(text).unwrap()
    }

    /// A reconnect storm by pattern must not have every topic planned anew.
    #[test]
    fn a_changed_pattern_forgets_the_plans_that_it_covers_alone() {
        let mut broker = Broker::default();
        let who = |place| SessionKey::new(place, 1);
        broker.subscribe(who(1), &filter("a/b"), None, SubscribeOptions::default(), true);
        let (near, far) = (broker.plan(&topic("a/b")), broker.plan(&topic("c")));
        broker.subscribe(who(2), &filter("a/+"), None, SubscribeOptions::default(), true);
        assert_eq!((near.receivers.len(), broker.plan(&topic("a/b")).receivers.len()), (1, 2));
        assert!(Arc::ptr_eq(&far, &broker.plan(&topic("c"))));
        assert!(broker.unsubscribe(who(2), &filter("a/+"), None));
        assert_eq!(broker.plan(&topic("a/b")).receivers.len(), 1);
        assert!(Arc::ptr_eq(&far, &broker.plan(&topic("c"))));
        let expected = [near.weight(&topic("a/b")), far.weight(&topic("c"))].iter().sum::<usize>();
        assert_eq!(broker.planned, expected);
    }

    #[test]
    fn what_is_known_of_more_topics_than_are_looked_through_is_forgotten_at_once() {
        let mut broker = Broker::default();
        let far = broker.plan(&topic("far"));
        (0..MAX_SCANNED).for_each(|number| drop(broker.plan(&topic(&format!("a/{number}")))));
        broker.subscribe(SessionKey::new(1, 1), &filter("a/+"), None, SubscribeOptions::default(), true);
        assert!(broker.planned == 0 && !Arc::ptr_eq(&far, &broker.plan(&topic("far"))));
        assert_eq!(broker.plan(&topic("a/1")).receivers.len(), 1);
    }
}
