//! The conversations that one socket listens to.

use shared::domain::ConversationId;

use super::chosen::Listening;

/// See the module. In the order of their ids: most sockets have few, some a thousand, and a list is
/// smaller than a map and found through as fast.
#[derive(Debug, Default)]
pub(super) struct Listened(Vec<(ConversationId, Box<Listening>)>);

impl Listened {
    pub(super) fn get(&self, id: ConversationId) -> Option<&Listening> {
        let index = self.place(id).ok()?;
        self.0.get(index).map(|(_, it)| &**it)
    }

    pub(super) fn get_mut(&mut self, id: ConversationId) -> Option<&mut Listening> {
        let index = self.place(id).ok()?;
        self.0.get_mut(index).map(|(_, it)| &mut **it)
    }

    /// Instead of what is there of the conversation.
    pub(super) fn insert(&mut self, id: ConversationId, listening: Listening) {
        match self.place(id) {
            Ok(index) => *self.0[index].1 = listening,
            Err(index) => {
                if self.0.len() == self.0.capacity() {
                    // No room to spare for few, and some for many.
                    self.0.reserve_exact(1 + self.0.len() / 8);
                }
                self.0.insert(index, (id, Box::new(listening)));
            }
        }
    }

    pub(super) fn remove(&mut self, id: ConversationId) {
        if let Ok(index) = self.place(id) {
            self.0.remove(index);
            self.0.shrink_to(self.0.len() * 2);
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ConversationId> {
        self.0.iter().map(|(id, _)| *id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConversationId, &Listening)> {
        self.0.iter().map(|(id, it)| (*id, &**it))
    }

    fn place(&self, id: ConversationId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(
            steps in prop::collection::vec((any::<bool>(), 0u128..20, 0u32..100), 1..200),
        ) {
            let mut listened = Listened::default();
            let mut naive = BTreeMap::new();
            for (is_there, id, seat) in steps {
                let id = ConversationId(Uuid::from_u128(id));
                if is_there {
                    listened.insert(id, Listening::new(seat));
                    naive.insert(id, seat);
                } else {
                    listened.remove(id);
                    naive.remove(&id);
                }
                let seats = listened.iter().map(|(id, it)| (id, it.seat));
                prop_assert_eq!(seats.collect::<BTreeMap<_, _>>(), naive.clone());
                prop_assert_eq!(listened.get(id).map(|it| it.seat), naive.get(&id).copied());
                let seat = listened.get_mut(id).map(|it| &mut it.seat);
                prop_assert_eq!(seat, naive.get_mut(&id));
            }
            prop_assert!(listened.ids().eq(naive.into_keys()));
        }
    }
}
