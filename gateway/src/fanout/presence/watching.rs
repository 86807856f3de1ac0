//! Sockets begin to watch users, and end it.

use std::{collections::HashSet, sync::Arc};

use shared::domain::{Code, Refusal, UserId};
use tokio::time::timeout;

use crate::{
    dialect::{Interest, Wish},
    fanout::{
        Fanout, Outbox,
        subscriptions::{DEADLINE, unavailable},
        topic::Effects,
    },
};

impl Fanout {
    /// Lets a socket watch the users it wishes to, as far as its user may: one answer per wish, in
    /// their order. Whom one may not see is `forbidden`, and so is who does not exist. What is
    /// there is told by [`Fanout::show_presences`].
    pub async fn watch(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        wishes: &[Wish],
    ) -> Vec<Result<(), Refusal>> {
        let mut answers: Vec<Result<(), Refusal>> = wishes
            .iter()
            .map(|wish| outbox.wish(wish.interest, wish.address.clone().unwrap_or_default()))
            .collect();
        let begun = timeout(DEADLINE, self.begin_watches(outbox, wishes, &mut answers)).await;
        if begun.is_err() {
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

    async fn begin_watches(
        self: &Arc<Self>,
        outbox: &Arc<Outbox>,
        wishes: &[Wish],
        answers: &mut [Result<(), Refusal>],
    ) {
        let (Some(member), Some(sight)) = (outbox.member(), self.presences.sight.get()) else {
            return answers.fill(Err(unavailable("the node is starting")));
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
        self.linked(&users).await;
        for (other, answer) in named {
            if answer.is_ok() && !outbox.is_watching(other) {
                *answer = Err(unseen());
            }
        }
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
        self.show(outbox, &users);
    }

    fn show(self: &Arc<Self>, outbox: &Arc<Outbox>, users: &[UserId]) {
        let Some(member) = outbox.member() else {
            return;
        };
        let mut effects = Effects::default();
        self.presences
            .watches
            .show(member.session, users, &mut effects);
        self.apply(effects);
    }

    /// Lets a socket that watches all contacts watch these, too.
    pub(super) async fn watch_more(self: &Arc<Self>, outbox: &Arc<Outbox>, contacts: &[UserId]) {
        let watched: HashSet<UserId> = outbox.watched().into_iter().collect();
        let new = contacts
            .iter()
            .filter(|user| !watched.contains(*user))
            .copied();
        let new: Vec<UserId> = new
            .filter(|user| self.presences.watches.join(*user, outbox))
            .collect();
        if !new.is_empty() {
            // Who is not heard of in time is when they are looked at again.
            let _ = timeout(DEADLINE, self.linked(&new)).await;
            self.show(outbox, &new);
        }
    }

    /// Lets a socket watch somebody no more, or nobody of all contacts.
    pub fn unwatch(&self, outbox: &Arc<Outbox>, wish: &Wish) {
        outbox.forget(wish.interest, &wish.address.clone().unwrap_or_default());
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

fn unseen() -> Refusal {
    Refusal::new(Code::Forbidden, "you may not see this user")
}
