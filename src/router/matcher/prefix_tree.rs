//! A radix tree over WAMP URI prefixes that finds all that a topic's URI begins with, the shortest first.
use slab::Slab;
use smallvec::SmallVec;

use crate::model::Topic;

type PrefixId = usize;
const ROOT: PrefixId = 0;

/// String prefixes with their keys. Nodes lie in one table; no function recurses.
#[derive(Debug)]
pub(super) struct PrefixTree<K> {
    /// The root at `ROOT`; every other node has a key or at least two children.
    nodes: Slab<PrefixNode<K>>,
    len: usize,
}

#[derive(Debug)]
struct PrefixNode<K> {
    /// The bytes between the parent and this node: not empty, except at the root.
    label: Box<[u8]>,
    key: Option<K>,
    /// Sorted by the first byte of the child's label, which differ.
    children: Vec<(u8, PrefixId)>,
}

impl<K> Default for PrefixTree<K> {
    fn default() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(PrefixNode { label: Box::default(), key: None, children: Vec::new() });
        PrefixTree { nodes, len: 0 }
    }
}

impl<K> PrefixNode<K> {
    /// The child whose label begins as `bytes` does.
    fn child(&self, bytes: &[u8]) -> Option<PrefixId> {
        let index = self.children.binary_search_by_key(bytes.first()?, |(byte, _)| *byte).ok()?;
        self.children.get(index).map(|(_, child)| *child)
    }

    /// Adds `child`, or puts it in the place of the one that begins with the same byte.
    fn put_child(&mut self, byte: u8, child: PrefixId) {
        match self.children.binary_search_by_key(&byte, |(byte, _)| *byte) {
            Ok(index) => self.children.get_mut(index).into_iter().for_each(|slot| slot.1 = child),
            Err(index) => self.children.insert(index, (byte, child)),
        }
    }
}

impl<K: Copy> PrefixTree<K> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `prefix` under `key`; the key it had.
    pub(super) fn insert(&mut self, prefix: &str, key: K) -> Option<K> {
        let mut at = ROOT;
        let mut rest = prefix.as_bytes();
        while !rest.is_empty() {
            (at, rest) = match self.step(at, rest) {
                Some((child, common)) if common == self.label_len(child) => (child, rest.get(common..)?),
                Some((child, common)) => (self.split(at, child, common)?, rest.get(common..)?),
                None => (self.grow(at, rest)?, b"".as_slice()),
            };
        }
        let earlier = self.nodes.get_mut(at)?.key.replace(key);
        self.len += usize::from(earlier.is_none());
        earlier
    }

    /// The child of `at` that shares a beginning with `rest`, and how many bytes they share (at least 1).
    fn step(&self, at: PrefixId, rest: &[u8]) -> Option<(PrefixId, usize)> {
        let child = self.nodes.get(at)?.child(rest)?;
        let common = self.nodes.get(child)?.label.iter().zip(rest).take_while(|(a, b)| a == b).count();
        Some((child, common))
    }

    fn label_len(&self, id: PrefixId) -> usize {
        self.nodes.get(id).map_or(0, |node| node.label.len())
    }

    /// Puts a node between `parent` and `child` that takes the first `at` bytes of the child's label.
    fn split(&mut self, parent: PrefixId, child: PrefixId, at: usize) -> Option<PrefixId> {
        let node = self.nodes.get_mut(child)?;
        let (head, tail) = node.label.split_at_checked(at)?;
        let (first, next) = (*head.first()?, *tail.first()?);
        let head: Box<[u8]> = head.into();
        node.label = tail.into();
        let between = self.nodes.insert(PrefixNode { label: head, key: None, children: vec![(next, child)] });
        self.nodes.get_mut(parent)?.put_child(first, between);
        Some(between)
    }

    /// Adds a leaf below `parent`.
    fn grow(&mut self, parent: PrefixId, label: &[u8]) -> Option<PrefixId> {
        let first = *label.first()?;
        let leaf = self.nodes.insert(PrefixNode { label: label.into(), key: None, children: Vec::new() });
        self.nodes.get_mut(parent)?.put_child(first, leaf);
        Some(leaf)
    }

    /// The way from the root to the node of exactly `prefix`, the root first.
    fn trail(&self, prefix: &str) -> Option<SmallVec<[PrefixId; 16]>> {
        let mut trail: SmallVec<[PrefixId; 16]> = SmallVec::from_slice(&[ROOT]);
        let mut rest = prefix.as_bytes();
        while !rest.is_empty() {
            let (child, common) = self.step(*trail.last()?, rest)?;
            if common < self.label_len(child) {
                return None;
            }
            trail.push(child);
            rest = rest.get(common..)?;
        }
        Some(trail)
    }

    /// The key of exactly `prefix`.
    pub(super) fn find(&self, prefix: &str) -> Option<K> {
        let trail = self.trail(prefix)?;
        self.nodes.get(*trail.last()?)?.key
    }

    /// Takes `prefix` out; the key it had. Nodes that no longer tell anything apart go with it.
    pub(super) fn remove(&mut self, prefix: &str) -> Option<K> {
        let mut trail = self.trail(prefix)?;
        let at = trail.pop()?;
        let key = self.nodes.get_mut(at)?.key.take()?;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
            return Some(key);
        }
        if let Some(parent) = trail.pop() {
            self.tidy(at, parent);
            if let Some(grandparent) = trail.pop() {
                self.tidy(parent, grandparent);
            }
        }
        Some(key)
    }

    /// Restores "a key or at least two children" for `id`, a child of `parent`: drops a leaf, merges a node with its only child.
    fn tidy(&mut self, id: PrefixId, parent: PrefixId) -> Option<()> {
        let node = self.nodes.get(id)?;
        if node.key.is_some() || node.children.len() > 1 {
            return None;
        }
        let only = node.children.first().map(|(_, child)| *child);
        let removed = self.nodes.try_remove(id)?;
        let first = *removed.label.first()?;
        let above = self.nodes.get_mut(parent)?;
        match only {
            None => above.children.retain(|(byte, _)| *byte != first),
            Some(child) => {
                above.put_child(first, child);
                let node = self.nodes.get_mut(child)?;
                node.label = [&*removed.label, &*node.label].concat().into();
            }
        }
        Some(())
    }

    /// Calls `visit` with the key of every prefix that covers `topic`, and answers the number of nodes looked at. A hidden name
    /// is covered only by prefixes at least as long as its root.
    pub(super) fn walk(&self, topic: &Topic, mut visit: impl FnMut(K)) -> u64 {
        let uri = topic.as_uri().as_bytes();
        let shortest = topic.hidden_root_len();
        let (mut at, mut rest, mut visits) = (ROOT, uri, 0);
        while let Some(node) = self.nodes.get(at) {
            visits += 1;
            if let Some(key) = node.key.filter(|_| uri.len() - rest.len() >= shortest) {
                visit(key);
            }
            let Some(child) = node.child(rest) else { break };
            let Some(tail) = self.nodes.get(child).and_then(|node| rest.strip_prefix(&*node.label)) else { break };
            (at, rest) = (child, tail);
        }
        visits
    }
}

#[cfg(test)]
impl<K> PrefixTree<K> {
    /// Nodes, the root included; each of the others must tell something apart.
    pub(super) fn node_count(&self) -> usize {
        let is_useful = |(id, node): (PrefixId, &PrefixNode<K>)| id == ROOT || node.key.is_some() || node.children.len() > 1;
        assert!(self.nodes.iter().all(is_useful));
        self.nodes.len()
    }
}
