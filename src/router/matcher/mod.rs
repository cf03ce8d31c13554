//! From a topic to the keys of all filters that cover it: a hash map, a tree of levels and a radix tree of URI prefixes.
mod level_tree;
mod prefix_tree;

use std::collections::HashMap;
use std::ops::ControlFlow;

use foldhash::fast::RandomState;

use level_tree::LevelTree;
use prefix_tree::PrefixTree;

use crate::model::{Filter, Topic};

/// Distinct filters, each with one key (a subscription's or registration's id).
#[derive(Debug)]
pub struct Matcher<K> {
    exact: HashMap<Topic, K, RandomState>,
    levels: LevelTree<K>,
    prefixes: PrefixTree<K>,
}

impl<K> Default for Matcher<K> {
    fn default() -> Self {
        Matcher { exact: HashMap::default(), levels: LevelTree::default(), prefixes: PrefixTree::default() }
    }
}

impl<K: Copy> Matcher<K> {
    /// Nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `filter` under `key`; the key it had, if it was there.
    pub fn insert(&mut self, filter: &Filter, key: K) -> Option<K> {
        match filter {
            Filter::Exact(topic) => self.exact.insert(topic.clone(), key),
            Filter::Levels(levels) => self.levels.insert(levels, key),
            Filter::Prefix(prefix) => self.prefixes.insert(prefix, key),
        }
    }

    /// Takes `filter` out; the key it had.
    pub fn remove(&mut self, filter: &Filter) -> Option<K> {
        match filter {
            Filter::Exact(topic) => {
                let key = self.exact.remove(topic);
                shrink(&mut self.exact);
                key
            }
            Filter::Levels(levels) => self.levels.remove(levels),
            Filter::Prefix(prefix) => self.prefixes.remove(prefix),
        }
    }

    /// The key of exactly this filter.
    pub fn find(&self, filter: &Filter) -> Option<K> {
        match filter {
            Filter::Exact(topic) => self.exact.get(topic).copied(),
            Filter::Levels(levels) => self.levels.find(levels),
            Filter::Prefix(prefix) => self.prefixes.find(prefix),
        }
    }

    /// The number of filters.
    pub fn len(&self) -> usize {
        self.exact.len() + self.levels.len() + self.prefixes.len()
    }

    /// True without filters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` once with the key of every filter that covers `topic`, never cut short. The exact one comes first, then
    /// prefixes from short to long, then patterns of levels from specific to general. Answers the number of nodes that were
    /// looked at, for metrics.
    pub fn match_topic(&self, topic: &Topic, mut visit: impl FnMut(K)) -> u64 {
        let mut visits = 1;
        if let Some(key) = self.exact.get(topic) {
            visit(*key);
        }
        if !self.prefixes.is_empty() {
            visits += self.prefixes.walk(topic, &mut visit);
        }
        if !self.levels.is_empty() {
            let every = |key| {
                visit(key);
                ControlFlow::<()>::Continue(())
            };
            visits += self.levels.walk(topic, every).0;
        }
        visits
    }

    /// The one registration that a call of `topic` goes to: the exact one, else the longest prefix, else the best pattern. That
    /// is the one with the longest portion of literal levels before its first wildcard, then before its second, and so on; `+`
    /// goes before `#`. (WAMP: Advanced, Pattern-based Registrations, "Calls matching multiple registrations": the algorithm MUST
    /// be applied.)
    pub fn best_match(&self, topic: &Topic) -> Option<K> {
        if let Some(key) = self.exact.get(topic) {
            return Some(*key);
        }
        let mut best = None;
        if !self.prefixes.is_empty() {
            self.prefixes.walk(topic, |key| best = Some(key));
        }
        if best.is_none() && !self.levels.is_empty() {
            best = self.levels.walk(topic, ControlFlow::Break).1;
        }
        best
    }
}

/// Gives memory back once a table is mostly empty; rare enough to cost nothing on average.
fn shrink<Q: Eq + std::hash::Hash, V>(map: &mut HashMap<Q, V, RandomState>) {
    if map.capacity() > 64 && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::MatchPolicy;

    fn topic(mqtt: &str) -> Topic {
        Topic::from_mqtt(mqtt).unwrap()
    }

    fn matched(matcher: &Matcher<usize>, topic: &Topic) -> Vec<usize> {
        let mut keys = Vec::new();
        matcher.match_topic(topic, |key| keys.push(key));
        keys
    }

    /// Numbers that look random and are the same in every run (Marsaglia's xorshift).
    pub struct Chance(pub u64);

    impl Chance {
        pub fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 20) as usize % bound
        }

        fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
            from[self.below(from.len())]
        }

        fn joined(&mut self, max_levels: usize, separator: &str, alphabet: &[&str]) -> String {
            let count = 1 + self.below(max_levels);
            (0..count).map(|_| self.pick(alphabet)).collect::<Vec<_>>().join(separator)
        }

        pub fn topic(&mut self) -> Topic {
            let root = self.pick(&["a", "b", "", "wamp", "corsac", "$SYS", "$", "wampa", "a.b"]);
            match self.below(4) {
                0 if !root.is_empty() => topic(root),
                _ => topic(&format!("{root}/{}", self.joined(4, "/", &["a", "b", "ab", "", "a.b", "*", "%2E"]))),
            }
        }

        /// Any kind of filter; `None` where chance made no valid one.
        pub fn filter(&mut self) -> Option<Filter> {
            match self.below(4) {
                0 => Some(Filter::Exact(self.topic())),
                1 => {
                    let mut uri = self.topic().as_uri().to_owned();
                    uri.truncate((0..=self.below(uri.len() + 1)).rev().find(|at| uri.is_char_boundary(*at)).unwrap());
                    Filter::from_uri(&uri, MatchPolicy::Prefix).ok()
                }
                2 => Filter::from_uri(&self.joined(4, ".", &["a", "b", "", "ab", "wamp", "a%2Eb"]), MatchPolicy::Wildcard).ok(),
                _ => {
                    let levels = self.joined(4, "/", &["a", "b", "+", "+", "ab", "", "$SYS", "wamp", "a.b", "*"]);
                    let rest = self.pick(&["", "", "/#"]);
                    Filter::from_mqtt(&format!("{levels}{rest}")).or_else(|_| Filter::from_mqtt("#")).ok()
                }
            }
        }
    }

    fn is_bare<K>(matcher: &Matcher<K>) -> bool {
        matcher.exact.is_empty() && matcher.levels.node_count() == (1, 0) && matcher.prefixes.node_count() == 1
    }

    #[test]
    fn keys_are_put_found_replaced_and_taken() {
        let mut matcher = Matcher::new();
        let filters = [
            Filter::from_mqtt("a/b"),
            Filter::from_mqtt("a/+"),
            Filter::from_mqtt("a/#"),
            Filter::from_mqtt("#"),
            Filter::from_mqtt("+"),
            Filter::from_uri("a.b", MatchPolicy::Wildcard),
            Filter::from_uri("a.b", MatchPolicy::Prefix),
            Filter::from_uri("a.", MatchPolicy::Prefix),
            Filter::from_uri("", MatchPolicy::Prefix),
        ]
        .map(Result::unwrap);
        for (key, filter) in filters.iter().enumerate() {
            assert_eq!(matcher.find(filter), None);
            assert_eq!(matcher.insert(filter, key), None);
            assert_eq!(matcher.insert(filter, key + 100), Some(key));
        }
        assert_eq!(matcher.len(), filters.len());
        for (key, filter) in filters.iter().enumerate() {
            assert_eq!(matcher.find(filter), Some(key + 100));
            assert_eq!(matcher.remove(filter), Some(key + 100));
            assert_eq!(matcher.remove(filter), None);
            assert_eq!(matcher.find(filter), None);
        }
        assert!(matcher.is_empty() && is_bare(&matcher));
    }

    #[test]
    fn the_matcher_agrees_with_covers_on_a_million_pairs() {
        let mut chance = Chance(88_172_645_463_325_252);
        let mut matcher = Matcher::new();
        let (mut pairs, mut hits) = (0, 0);
        let mut filters: BTreeMap<usize, Filter> = BTreeMap::new();
        for round in 0..40 {
            for key in 0..400 {
                let Some(filter) = chance.filter().filter(|filter| matcher.find(filter).is_none()) else { continue };
                assert_eq!(matcher.insert(&filter, round * 400 + key), None);
                filters.insert(round * 400 + key, filter);
            }
            for _ in 0..120 {
                let topic = chance.topic();
                let mut keys = matched(&matcher, &topic);
                keys.sort_unstable();
                let expected: Vec<usize> =
                    filters.iter().filter(|(_, filter)| filter.covers(&topic)).map(|(key, _)| *key).collect();
                assert_eq!(keys, expected, "{topic:?}");
                assert_eq!(matcher.best_match(&topic), best_by_rank(&filters, &topic), "{topic:?}");
                pairs += filters.len();
                hits += keys.len();
            }
            assert_eq!(matcher.len(), filters.len());
            // Some filters leave, so that the tree is pruned and merged all the time.
            filters.retain(|key, filter| chance.below(4) > 0 || matcher.remove(filter) != Some(*key));
        }
        assert!(pairs > 1_000_000 && hits > 30_000, "{pairs} {hits}");
        filters.retain(|key, filter| matcher.remove(filter) != Some(*key));
        assert!(filters.is_empty() && is_bare(&matcher));
    }

    /// WAMP's algorithm word by word: exact, longest prefix, then the portions of literal levels compared in turn.
    fn best_by_rank(filters: &BTreeMap<usize, Filter>, topic: &Topic) -> Option<usize> {
        let rank = |filter: &Filter| match filter {
            Filter::Exact(_) => (2, Vec::new(), false),
            Filter::Prefix(prefix) => (1, vec![prefix.len()], false),
            Filter::Levels(levels) => {
                let portions = levels.split('/').fold(vec![0], |mut portions, level| {
                    match level {
                        "+" => portions.push(0),
                        "#" => {}
                        _ => *portions.last_mut().unwrap() += 1,
                    }
                    portions
                });
                (0, portions, !levels.ends_with('#'))
            }
        };
        let covering = filters.iter().filter(|(_, filter)| filter.covers(topic));
        covering.max_by_key(|(_, filter)| rank(filter)).map(|(key, _)| *key)
    }

    #[test]
    fn calls_go_to_the_registration_that_the_specification_names() {
        use MatchPolicy::{Exact, Prefix, Wildcard};
        let registered = [
            ("a1.b2.c3.d4.e55", Exact),
            ("a1.b2.c3", Prefix),
            ("a1.b2.c3.d4", Prefix),
            ("a1.b2..d4.e5", Wildcard),
            ("a1.b2.c33..e5", Wildcard),
            ("a1.b2..d4.e5..g7", Wildcard),
            ("a1.b2..d4..f6.g7", Wildcard),
        ];
        let mut matcher = Matcher::new();
        for (number, (uri, policy)) in (1..).zip(registered) {
            matcher.insert(&Filter::from_uri(uri, policy).unwrap(), number);
        }
        let calls = [
            ("a1.b2.c3.d4.e55", Some(1)),
            ("a1.b2.c3.d98.e74", Some(2)),
            ("a1.b2.c3.d4.e325", Some(3)),
            ("a1.b2.c55.d4.e5", Some(4)),
            // The example says 5 and "no prefix match", yet the same section lets `myobject1` cover `myobject1-mysubobject1`.
            ("a1.b2.c33.d4.e5", Some(2)),
            ("a1.b2.c88.d4.e5.f6.g7", Some(6)),
            ("a2.b2.c2.d2.e2", None),
        ];
        for (uri, expected) in calls {
            assert_eq!(matcher.best_match(&Topic::from_uri(uri).unwrap()), expected, "{uri}");
        }
        assert_eq!(matcher.remove(&Filter::Prefix("a1.b2.c3".into())), Some(2));
        assert_eq!(matcher.best_match(&Topic::from_uri("a1.b2.c33.d4.e5").unwrap()), Some(5));
    }

    #[test]
    fn reserved_names_are_hidden_from_open_filters_and_registrations() {
        let mut matcher = Matcher::new();
        for (key, mqtt) in ["#", "+/+", "+/#", "wamp/+", "$SYS/#"].into_iter().enumerate() {
            matcher.insert(&Filter::from_mqtt(mqtt).unwrap(), key);
        }
        matcher.insert(&Filter::Prefix("".into()), 5);
        matcher.insert(&Filter::Prefix("wam".into()), 6);
        assert_eq!(matched(&matcher, &topic("wamp/a")), [3]);
        assert_eq!(matched(&matcher, &topic("$SYS/a")), [4]);
        assert_eq!(matched(&matcher, &topic("wampa/a")), [5, 6, 1, 2, 0]);
        assert_eq!(matcher.best_match(&topic("corsac/a")), None);
    }

    #[test]
    fn every_combination_of_sixteen_levels_costs_two_visits_each() {
        let mut matcher = Matcher::new();
        for bits in 0..65_536_usize {
            let levels: Vec<&str> = (0..16).map(|at| if bits >> at & 1 == 1 { "+" } else { "x" }).collect();
            matcher.insert(&Filter::Levels(levels.join("/").into()), bits);
        }
        let name = topic(&["x"; 16].join("/"));
        let mut count = 0;
        let visits = matcher.match_topic(&name, |_| count += 1);
        assert_eq!((count, visits), (65_536, 131_072));
        assert_eq!(matcher.best_match(&name), Some(0));
    }

    #[test]
    fn deep_and_long_names_need_no_recursion() {
        let deep = "/".repeat(65_535);
        let mut matcher = Matcher::new();
        let filters = [
            Filter::Levels(format!("{}#", "+/".repeat(32_000)).into()),
            Filter::Levels(format!("{}+", "/".repeat(65_000)).into()),
            Filter::Prefix(".".repeat(65_000).into()),
        ];
        for (key, filter) in filters.iter().enumerate() {
            matcher.insert(filter, key);
        }
        assert_eq!(matched(&matcher, &topic(&deep)), [2, 0]);
        filters.iter().for_each(|filter| assert!(matcher.remove(filter).is_some()));
        assert!(is_bare(&matcher));
    }
}
