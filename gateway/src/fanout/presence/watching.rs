//! Sockets begin to watch users, and end it.

use std::{collections::HashSet, sync::Arc};

use shared::domain::{Code, Refusal, UserId};
use tokio::time::{Instant, timeout_at};

use super::watches::Shown;
use crate::{
    dialect::{Interest, Wish},
    fanout::{Fanout, Outbox, subscriptions::unavailable, topic::Effects},
};

impl Fanout {
    /// Lets a socket watch the users it wishes to, as far as its user may: one answer per wish, in
    /// their order. Whom one may not see is `forbidden`, and so is who does not exist. What is
    /// there is told by [`Fanout::show_presences`].
    pub(in crate::fanout) async fn watch(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        wishes: &[Wish],
        deadline: Instant,
    ) -> Vec<Result<(), Refusal>> {
        let mut answers: Vec<Result<(), Refusal>> = wishes
            .iter()
            .map(|wish| outbox.wish(wish.interest, wish.address.clone()))
            .collect();
        let begun = timeout_at(deadline, self.begin_watches(outbox, wishes, &mut answers)).await;
        if let Ok(users) = begun {
            // Of whom nothing is heard by then, a socket that watches all contacts is told later.
            let _ = timeout_at(deadline, self.linked(users)).await;
            let granted = wishes.iter().zip(&mut answers).filter(|(_, it)| it.is_ok());
            for (wish, answer) in granted {
                if let Interest::Presence(Some(user)) = wish.interest {
                    *answer = self.begun_watching(outbox, user);
                }
            }
        } else {
            for answer in answers.iter_mut().filter(|it| it.is_ok()) {
                *answer = Err(unavailable("nobody could be watched in time"));
            }
        }
        for (wish, answer) in wishes.iter().zip(&answers) {
            if answer.is_err() {
                self.unwatch(outbox, wish);
            }
        }
        answers
    }

    /// Finds out who may be watched. Answers whom to hear of.
    async fn begin_watches(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        wishes: &[Wish],
        answers: &mut [Result<(), Refusal>],
    ) -> Vec<UserId> {
        let (Some(member), Some(sight)) = (outbox.member(), self.presences.sight.get()) else {
            answers.fill(Err(unavailable("the node is starting")));
            return Vec::new();
        };
        let mut named: Vec<(UserId, &mut Result<(), Refusal>)> = Vec::new();
        let mut for_all: Vec<&mut Result<(), Refusal>> = Vec::new();
        for (wish, answer) in wishes.iter().zip(answers).filter(|(_, it)| it.is_ok()) {
            match wish.interest {
                Interest::Presence(Some(other)) => named.push((other, answer)),
                _ => for_all.push(answer),
            }
        }
        // Before anybody is asked, so that whoever learns of a right that is lost meanwhile finds the
        // socket. Nothing is shown to it yet.
        let mut users: Vec<UserId> = named.iter().map(|(other, _)| *other).collect();
        users.retain(|user| self.presences.watches.join(*user, outbox));
        let looked = self.presences.looks.count();
        let pairs: Vec<_> = users.iter().map(|other| (member.user, *other)).collect();
        let permitted = if pairs.is_empty() {
            Ok(HashSet::new())
        } else {
            sight.permitted(&pairs).await
        };
        for (other, answer) in &mut named {
            match &permitted {
                Ok(may) if may.contains(&(member.user, *other)) => {}
                Ok(_) => {
                    self.stop_watching(outbox, *other);
                    **answer = Err(unseen());
                }
                Err(refusal) => **answer = Err(refusal.clone()),
            }
        }
        if !for_all.is_empty() {
            match sight.contacts(member.user).await {
                Ok(contacts) => users.extend(contacts.into_iter().filter(|user| {
                    // These could not be joined before.
                    self.presences.watches.join(*user, outbox)
                })),
                Err(refusal) => for_all
                    .into_iter()
                    .for_each(|it| *it = Err(refusal.clone())),
            }
            if self.presences.looks.count() != looked {
                self.look_at_sight_of(member.user);
            }
        }
        users
    }

    fn begun_watching(&self, outbox: &Outbox, user: UserId) -> Result<(), Refusal> {
        if !outbox.is_watching(user) {
            // The right was lost meanwhile.
            return Err(unseen());
        }
        let heard_of = self.presences.watches.heard_of(user);
        let is_heard = heard_of.map(drop);
        is_heard.ok_or_else(|| unavailable("this user could not be heard of in time"))
    }

    /// Tells a socket how those appear whom it wishes to watch by these wishes, as far as it does.
    pub fn show_presences(self: &Arc<Self>, outbox: &Arc<Outbox>, interests: &[Interest]) {
        let named: HashSet<UserId> = interests
            .iter()
            .filter_map(|interest| match interest {
                Interest::Presence(user) => *user,
                _ => None,
            })
            .collect();
        let is_for_all = interests.contains(&Interest::Presence(None));
        let mut users = outbox.watched();
        users.retain(|user| is_for_all || named.contains(user));
        self.show(outbox, &users, Shown::All);
    }

    fn show(self: &Arc<Self>, outbox: &Arc<Outbox>, users: &[UserId], shown: Shown) {
        let Some(member) = outbox.member() else {
            return;
        };
        let mut effects = Effects::default();
        self.presences
            .watches
            .show(member.session, users, shown, &mut effects);
        self.apply(effects);
    }

    /// Lets a socket that watches all contacts watch these, too. It is told of each once that can be.
    pub(super) fn watch_more(self: &Arc<Self>, outbox: &Arc<Outbox>, contacts: &[UserId]) {
        let watched: HashSet<UserId> = outbox.watched().into_iter().collect();
        let mut users = contacts.to_vec();
        users.retain(|user| !watched.contains(user));
        users.retain(|user| self.presences.watches.join(*user, outbox));
        self.show(outbox, &users, Shown::New);
        self.link_all(&mut users);
    }

    /// Lets a socket watch somebody no more, or nobody of all contacts.
    pub fn unwatch(&self, outbox: &Arc<Outbox>, wish: &Wish) {
        outbox.forget(wish.interest, wish.address.as_ref());
        let mut users = outbox.watched();
        if let Interest::Presence(Some(user)) = wish.interest {
            users.retain(|it| *it == user);
        }
        let wants_contacts = outbox.wants_contacts();
        for user in users {
            if wants_contacts || outbox.wants_presence_of(user) {
                // By another subscription: frames go there alone from now on.
                outbox.address_presence(user);
            } else {
                self.stop_watching(outbox, user);
            }
        }
    }

    /// The user may not see that one any more.
    pub(super) fn lose_sight(&self, outbox: &Arc<Outbox>, user: UserId) {
        if self.stop_watching(outbox, user) {
            outbox.lose_sight(user);
        }
    }

    /// How many users are watched.
    pub(in crate::fanout) fn watched_users(&self) -> usize {
        self.presences.watches.len()
    }

    /// A socket ended.
    pub(in crate::fanout) fn leave_watches(&self, outbox: &Arc<Outbox>) {
        for user in outbox.watched() {
            self.stop_watching(outbox, user);
        }
    }

    fn stop_watching(&self, outbox: &Outbox, user: UserId) -> bool {
        self.presences.watches.leave(user, outbox)
    }
}

pub(in crate::fanout) fn unseen() -> Refusal {
    Refusal::new(Code::Forbidden, "you may not see this user")
}
