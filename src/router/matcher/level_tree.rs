//! A tree over the levels of MQTT filters that finds all that cover a topic, the most specific first.
use std::collections::HashMap;
use std::ops::ControlFlow;

use foldhash::fast::RandomState;
use slab::Slab;
use smallvec::SmallVec;

use super::shrink;
use crate::model::Topic;

/// A place in `nodes`.
type NodeId = u32;
/// A level's text that occurs in some filter.
type Symbol = u32;
const ROOT: NodeId = 0;
/// Stands for "no node" and for a text that no filter has.
const NONE: u32 = u32::MAX;

/// Filters of levels with their keys. Nodes lie in one table; no function recurses.
#[derive(Debug)]
pub(super) struct LevelTree<K> {
    /// The root at `ROOT`, and only nodes that lead to a key.
    nodes: Slab<Node<K>>,
    symbols: Symbols,
    len: usize,
}

#[derive(Debug)]
struct Node<K> {
    /// Of the filter that ends here.
    key: Option<K>,
    /// Of the filter that ends with a `#` behind this node.
    rest: Option<K>,
    /// The child for a level `+`, or `NONE`.
    any: NodeId,
    literals: Literals,
}

/// Children by text. Most nodes have one; they are spared a table, and by the box its size.
#[derive(Debug, Default)]
#[allow(clippy::box_collection)]
enum Literals {
    #[default]
    None,
    One(Symbol, NodeId),
    Many(Box<HashMap<Symbol, NodeId, RandomState>>),
}

/// One thing still to look at in a walk.
#[derive(Clone, Copy)]
enum WalkStep {
    /// This node, reached with so many levels of the topic.
    Node(NodeId, u32),
    /// The `#` behind this node.
    Rest(NodeId),
}

impl<K> Default for LevelTree<K> {
    fn default() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::default());
        LevelTree { nodes, symbols: Symbols::default(), len: 0 }
    }
}

impl<K> Default for Node<K> {
    fn default() -> Self {
        Node { key: None, rest: None, any: NONE, literals: Literals::None }
    }
}

impl<K> Node<K> {
    fn is_unused(&self) -> bool {
        self.key.is_none() && self.rest.is_none() && self.any == NONE && matches!(self.literals, Literals::None)
    }
}

impl<K: Copy> LevelTree<K> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts the filter spelled `levels` under `key`; the key it had.
    pub(super) fn insert(&mut self, levels: &str, key: K) -> Option<K> {
        let (path, has_rest) = split_rest(levels);
        let mut at = ROOT;
        for level in path {
            at = self.child_or_new(at, level);
        }
        let node = self.nodes.get_mut(at as usize)?;
        let slot = if has_rest { &mut node.rest } else { &mut node.key };
        let earlier = slot.replace(key);
        self.len += usize::from(earlier.is_none());
        earlier
    }

    fn child_or_new(&mut self, parent: NodeId, level: &str) -> NodeId {
        let child = self.child(parent, level);
        if child != NONE {
            return child;
        }
        let child = self.nodes.insert(Node::default()) as NodeId;
        let symbol = if level == "+" { NONE } else { self.symbols.acquire(level) };
        if let Some(node) = self.nodes.get_mut(parent as usize) {
            if symbol == NONE { node.any = child } else { node.literals.insert(symbol, child) }
        }
        child
    }

    /// The child of `parent` for a level of a filter.
    fn child(&self, parent: NodeId, level: &str) -> NodeId {
        match self.nodes.get(parent as usize) {
            None => NONE,
            Some(node) if level == "+" => node.any,
            Some(node) => node.literals.find(self.symbols.find(level)),
        }
    }

    /// The key of exactly the filter spelled `levels`.
    pub(super) fn find(&self, levels: &str) -> Option<K> {
        let (path, has_rest) = split_rest(levels);
        let at = path.into_iter().fold(ROOT, |at, level| self.child(at, level));
        let node = self.nodes.get(at as usize)?;
        if has_rest { node.rest } else { node.key }
    }

    /// Takes the filter spelled `levels` out, with the nodes that led to nothing else; the key it had.
    pub(super) fn remove(&mut self, levels: &str) -> Option<K> {
        let (path, has_rest) = split_rest(levels);
        let mut trail: SmallVec<[(NodeId, &str); 16]> = SmallVec::new();
        let mut at = ROOT;
        for level in path {
            trail.push((at, level));
            at = self.child(at, level);
        }
        let node = self.nodes.get_mut(at as usize)?;
        let key = if has_rest { node.rest.take()? } else { node.key.take()? };
        self.len -= 1;
        self.prune(at, trail);
        Some(key)
    }

    /// Frees unused nodes from `at` upwards; `trail` holds the way to it as parents, each with the level that leads on.
    fn prune(&mut self, mut at: NodeId, mut trail: SmallVec<[(NodeId, &str); 16]>) {
        while self.nodes.get(at as usize).is_some_and(Node::is_unused) {
            let Some((parent, level)) = trail.pop() else { break };
            let symbol = self.symbols.find(level);
            if let Some(node) = self.nodes.get_mut(parent as usize) {
                if level == "+" { node.any = NONE } else { node.literals.remove(symbol) }
            }
            if level != "+" {
                self.symbols.release(level);
            }
            self.nodes.remove(at as usize);
            at = parent;
        }
        if self.len == 0 {
            *self = Self::default();
        }
    }

    /// Calls `visit` with the key of every filter that covers `topic` until it breaks, and answers the number of nodes looked at.
    ///
    /// A literal goes before `+`, and `+` before `#`, at the first level where two filters differ. For filters that cover the
    /// same topic this is WAMP's order by the longest portion of literal levels before each wildcard. Up to that level their
    /// portions are equal, and there one goes on with its portion while the other ends it.
    pub(super) fn walk<B>(&self, topic: &Topic, mut visit: impl FnMut(K) -> ControlFlow<B>) -> (u64, Option<B>) {
        let levels: SmallVec<[Symbol; 128]> = topic.levels().map(|level| self.symbols.find(level)).collect();
        let is_hidden = topic.is_hidden();
        // The next step is the last one; at most two wait per level. Inline up to the default bound on levels: no allocation.
        let mut steps: SmallVec<[WalkStep; 260]> = SmallVec::new();
        steps.push(WalkStep::Node(ROOT, 0));
        let mut visits = 0;
        while let Some(step) = steps.pop() {
            let found = match step {
                WalkStep::Rest(id) => self.nodes.get(id as usize).and_then(|node| node.rest),
                WalkStep::Node(id, depth) => {
                    let Some(node) = self.nodes.get(id as usize) else { continue };
                    visits += 1;
                    // Filters that start with a wildcard do not cover hidden names [MQTT-4.7.2-1].
                    let hides_wildcards = is_hidden && id == ROOT;
                    if node.rest.is_some() && !hides_wildcards {
                        steps.push(WalkStep::Rest(id));
                    }
                    match levels.get(depth as usize) {
                        None => node.key,
                        Some(symbol) => {
                            if node.any != NONE && !hides_wildcards {
                                steps.push(WalkStep::Node(node.any, depth + 1));
                            }
                            let literal = node.literals.find(*symbol);
                            if literal != NONE {
                                steps.push(WalkStep::Node(literal, depth + 1));
                            }
                            None
                        }
                    }
                }
            };
            if let Some(ControlFlow::Break(end)) = found.map(&mut visit) {
                return (visits, Some(end));
            }
        }
        (visits, None)
    }
}

/// The levels of a filter without a last `#`, and whether there was one.
fn split_rest(levels: &str) -> (SmallVec<[&str; 16]>, bool) {
    let mut path: SmallVec<[&str; 16]> = levels.split('/').collect();
    let has_rest = path.last() == Some(&"#");
    if has_rest {
        path.pop();
    }
    (path, has_rest)
}

impl Literals {
    fn find(&self, symbol: Symbol) -> NodeId {
        match self {
            Literals::One(only, child) if *only == symbol => *child,
            Literals::Many(children) => children.get(&symbol).copied().unwrap_or(NONE),
            _ => NONE,
        }
    }

    /// Adds a child that was not there.
    fn insert(&mut self, symbol: Symbol, child: NodeId) {
        match self {
            Literals::None => *self = Literals::One(symbol, child),
            Literals::One(other, sibling) => {
                *self = Literals::Many(Box::new([(*other, *sibling), (symbol, child)].into_iter().collect()));
            }
            Literals::Many(children) => {
                children.insert(symbol, child);
            }
        }
    }

    fn remove(&mut self, symbol: Symbol) {
        match self {
            Literals::Many(children) => {
                children.remove(&symbol);
                shrink(children);
                let mut left = children.iter();
                if let (Some((symbol, child)), None) = (left.next(), left.next()) {
                    *self = Literals::One(*symbol, *child);
                }
            }
            Literals::One(only, _) if *only == symbol => *self = Literals::None,
            _ => {}
        }
    }
}

/// Texts of levels as numbers, so that nodes hold and compare four bytes.
#[derive(Debug, Default)]
struct Symbols {
    numbers: HashMap<Box<str>, Symbol, RandomState>,
    /// The number of edges of the tree that use a number.
    uses: Slab<usize>,
}

impl Symbols {
    fn find(&self, level: &str) -> Symbol {
        self.numbers.get(level).copied().unwrap_or(NONE)
    }

    fn acquire(&mut self, level: &str) -> Symbol {
        let known = self.find(level);
        if let Some(uses) = self.uses.get_mut(known as usize) {
            *uses += 1;
            return known;
        }
        let symbol = self.uses.insert(1) as Symbol;
        self.numbers.insert(level.into(), symbol);
        symbol
    }

    fn release(&mut self, level: &str) {
        let symbol = self.find(level) as usize;
        let Some(uses) = self.uses.get_mut(symbol) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.uses.remove(symbol);
            self.numbers.remove(level);
            shrink(&mut self.numbers);
        }
    }
}

#[cfg(test)]
impl<K> LevelTree<K> {
    /// Nodes (the root included) and symbols in use.
    pub(super) fn node_count(&self) -> (usize, usize) {
        assert_eq!(self.symbols.numbers.len(), self.symbols.uses.len());
        (self.nodes.len(), self.symbols.numbers.len())
    }
}
