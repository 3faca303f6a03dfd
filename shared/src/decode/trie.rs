//! The named pointers of one root as a tree, walked beside the JSON so that other fields are skipped.

use crate::catalog::Pointer;

/// A place in [`Trie::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(usize);

/// Where the text of one pointer is put. The same pointer has one slot, whoever names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(pub(super) usize);

/// A tree of pointers. Slots are numbered from 0 in the order of insertion.
#[derive(Clone, Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    slots: usize,
}

/// One value that a pointer names or passes through.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// The slot of this value, when a pointer ends here.
    pub(super) slot: Option<SlotId>,
    /// The slot that tells what became of `rows`, when its pointer ends here.
    pub(super) rows: Option<SlotId>,
    /// Members (or elements) that pointers go on to, in the order of insertion: producers often write fields in the
    /// order of the catalog.
    pub(super) children: Vec<Child>,
    /// The places of the children, by name.
    by_name: Vec<usize>,
    /// The slots strictly below this value, and that of `rows`.
    pub(super) below: Vec<SlotId>,
}

/// One step of a pointer.
#[derive(Clone, Debug)]
pub(super) struct Child {
    name: Box<str>,
    /// The name as an array index, in the only form that RFC 6901 allows.
    index: Option<usize>,
    /// Where the step leads.
    pub(super) node: NodeId,
}

impl Trie {
    pub(super) const ROOT: NodeId = NodeId(0);

    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            slots: 0,
        }
    }

    /// Adds a pointer and returns its slot.
    pub(super) fn insert(&mut self, pointer: &Pointer) -> SlotId {
        let (node, path) = self.grow(pointer);
        if let Some(slot) = self.nodes[node.0].slot {
            return slot;
        }
        let slot = self.next_slot(&path);
        self.nodes[node.0].slot = Some(slot);
        slot
    }

    /// Adds the pointer of `rows`, of which there is at most one, and returns the slot for what became of it.
    pub(super) fn insert_rows(&mut self, pointer: &Pointer) -> SlotId {
        let (node, path) = self.grow(pointer);
        let slot = self.next_slot(&path);
        self.nodes[node.0].rows = Some(slot);
        self.nodes[node.0].below.push(slot);
        slot
    }

    /// Returns how many slots there are.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Makes the nodes of a pointer; returns the last one and those above it.
    fn grow(&mut self, pointer: &Pointer) -> (NodeId, Vec<NodeId>) {
        let mut node = Self::ROOT;
        let mut path = Vec::with_capacity(pointer.0.len());
        for name in &pointer.0 {
            path.push(node);
            let new = NodeId(self.nodes.len());
            let above = &mut self.nodes[node.0];
            node = match above.search(name) {
                Ok(place) => above.children[place].node,
                Err(place) => {
                    above.by_name.insert(place, above.children.len());
                    above.children.push(Child {
                        name: name.as_str().into(),
                        index: array_index(name),
                        node: new,
                    });
                    self.nodes.push(Node::default());
                    new
                }
            };
        }
        (node, path)
    }

    fn next_slot(&mut self, path: &[NodeId]) -> SlotId {
        let slot = SlotId(self.slots);
        self.slots += 1;
        for node in path {
            self.nodes[node.0].below.push(slot);
        }
        slot
    }
}

impl Node {
    /// Finds a member by name; returns its place among the children. It is found fastest at the place of the hint.
    pub(super) fn child(&self, name: &str, hint: usize) -> Option<usize> {
        if self.children.get(hint).is_some_and(|child| *child.name == *name) {
            return Some(hint);
        }
        if self.children.len() <= 8 {
            return self.children.iter().position(|child| *child.name == *name);
        }
        self.search(name).ok()
    }

    /// Finds a child by name, or else its place in `by_name`.
    fn search(&self, name: &str) -> Result<usize, usize> {
        let found = self
            .by_name
            .binary_search_by(|&child| (*self.children[child].name).cmp(name));
        found.map(|place| self.by_name[place])
    }

    /// Finds an array element by its index.
    pub(super) fn element(&self, index: usize) -> Option<&Child> {
        self.children.iter().find(|child| child.index == Some(index))
    }

    /// Tells whether any pointer goes on into an array here.
    pub(super) fn has_elements(&self) -> bool {
        self.children.iter().any(|child| child.index.is_some())
    }
}

impl Child {
    /// Tells whether the step can be one into an array.
    pub(super) fn is_element(&self) -> bool {
        self.index.is_some()
    }
}

fn array_index(name: &str) -> Option<usize> {
    let plain = name == "0" || (name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0'));
    if plain { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer(text.split('/').skip(1).map(str::to_owned).collect())
    }

    #[test]
    fn one_pointer_has_one_slot_and_its_ancestors_know_it() {
        let mut trie = Trie::new();
        let date = trie.insert(&pointer("/a/date"));
        assert_eq!(trie.insert(&pointer("/a/date")), date);
        let whole = trie.insert(&pointer("/a"));
        assert_eq!(trie.slots(), 2);
        assert_eq!(trie.node(Trie::ROOT).below, [date, whole]);
        let inner = trie.node(trie.node(Trie::ROOT).children[0].node);
        assert_eq!((inner.slot, inner.below.as_slice()), (Some(whole), [date].as_slice()));
    }

    #[test]
    fn members_are_found_by_name() {
        let mut trie = Trie::new();
        let names: Vec<_> = (0..20).map(|number| format!("name{number}")).collect();
        for name in &names {
            trie.insert(&Pointer(vec![name.clone()]));
        }
        let root = trie.node(Trie::ROOT);
        for (place, name) in names.iter().enumerate() {
            for hint in [place, 0, 20] {
                assert_eq!(root.child(name, hint), Some(place));
            }
        }
        assert_eq!(root.child("other", 0), None);
    }

    #[test]
    fn array_indexes_have_one_form() {
        assert_eq!(
            ["0", "10", "01", "-", "", "x", "99999999999999999999"].map(array_index),
            [Some(0), Some(10), None, None, None, None, None]
        );
    }
}
