//! Who is banned, as far as this node has heard. What is read takes a while, and things change
//! meanwhile: what a read found counts only if nothing was heard since it began.

use std::collections::HashSet;

use parking_lot::RwLock;
use shared::domain::UserId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bans {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    users: HashSet<UserId>,
    /// Counts what was heard of users one by one.
    heard: u64,
}

/// When a read began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun(u64);

impl Bans {
    pub(super) fn has(&self, user: UserId) -> bool {
        self.known.read().users.contains(&user)
    }

    /// To be called before reading.
    pub(super) fn begin(&self) -> Begun {
        Begun(self.known.read().heard)
    }

    pub(super) fn ban(&self, user: UserId) {
        let mut known = self.known.write();
        known.users.insert(user);
        known.heard += 1;
    }

    /// The user was read as active. False if they are banned and it may be later than that.
    #[must_use]
    pub(super) fn lift(&self, user: UserId, begun: Begun) -> bool {
        if !self.has(user) {
            return true;
        }
        let mut known = self.known.write();
        if known.heard != begun.0 {
            return false;
        }
        if known.users.remove(&user) {
            known.heard += 1;
        }
        true
    }

    /// All who are banned were read. False if that may have changed since.
    #[must_use]
    pub(super) fn replace(&self, users: HashSet<UserId>, begun: Begun) -> bool {
        let mut known = self.known.write();
        let is_new = known.heard == begun.0;
        if is_new {
            known.users = users;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_was_read_before_a_ban_does_not_lift_it() {
        let (bans, user) = (Bans::default(), UserId(Uuid::from_u128(1)));
        let before = bans.begin();
        bans.ban(user);
        assert!(!bans.lift(user, before));
        assert!(!bans.replace(HashSet::new(), before));
        assert!(bans.has(user));
        assert!(bans.lift(user, bans.begin()));
        assert!(!bans.has(user));
    }

    #[test]
    fn a_list_from_before_a_ban_was_lifted_does_not_bring_it_back() {
        let (bans, user) = (Bans::default(), UserId(Uuid::from_u128(1)));
        let all = HashSet::from([user]);
        assert!(bans.replace(all.clone(), bans.begin()));
        let before = bans.begin();
        assert!(bans.lift(user, bans.begin()));
        assert!(!bans.replace(all, before));
        assert!(!bans.has(user));
    }
}
