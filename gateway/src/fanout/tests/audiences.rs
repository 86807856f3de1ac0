//! Audiences against a walk over all sockets.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use shared::domain::{Category, Preferences, SessionId, UserId};
use uuid::Uuid;

use crate::{
    dialect::DialectId,
    fanout::{Outbox, OutboxLimits, audiences::Audiences, testing::member_of},
};

const TAGS: [&str; 5] = ["general", "mild", "adult", "feet", "extreme"];

fn tags(bits: u8) -> BTreeSet<Category> {
    let chosen = (0..TAGS.len()).filter(|bit| bits & (1 << bit) != 0);
    chosen.map(|bit| TAGS[bit].parse().unwrap()).collect()
}

fn socket(number: u128) -> Arc<Outbox> {
    let outbox = Outbox::new(OutboxLimits::default(), DialectId::Json);
    let member = member_of(
        UserId(Uuid::from_u128(number)),
        SessionId(Uuid::from_u128(number)),
    );
    outbox.set_member(member).unwrap();
    outbox
}

fn number(outbox: &Outbox) -> u128 {
    outbox.member().unwrap().session.0.as_u128()
}

#[derive(Debug, Clone)]
enum Step {
    /// A socket comes, or its user chooses anew.
    Seat(usize, u8, u8),
    Leave(usize),
    Publish(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..12_usize, 0..32_u8, 0..32_u8).prop_map(|(who, blocked, allowed)| {
            // Most users choose little.
            Step::Seat(who, blocked & 5, if allowed > 20 { allowed } else { 0 })
        }),
        1 => (0..12_usize).prop_map(Step::Leave),
        3 => (0..32_u8).prop_map(Step::Publish),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn an_entry_reaches_whom_a_walk_over_all_sockets_finds(steps in steps()) {
        let sockets: Vec<_> = (0..12).map(socket).collect();
        let mut audiences = Audiences::default();
        let mut naive: Vec<Option<Preferences>> = vec![None; sockets.len()];
        for step in steps {
            match step {
                Step::Seat(who, blocked, allowed) => {
                    let preferences = Preferences {
                        blocked_categories: tags(blocked),
                        allowed_categories: tags(allowed),
                    };
                    audiences.seat(&sockets[who], &Arc::new(preferences.clone()));
                    naive[who] = Some(preferences);
                }
                Step::Leave(who) => {
                    prop_assert_eq!(audiences.leave(&sockets[who]), naive[who].is_some());
                    naive[who] = None;
                }
                Step::Publish(bits) => {
                    let tags: Vec<Category> = tags(bits).into_iter().collect();
                    let mut reached: Vec<u128> = audiences.reached(&tags).map(|it| number(it)).collect();
                    reached.sort_unstable();
                    let wanted = |preferences: &Preferences| {
                        let blocked = tags.iter().any(|tag| preferences.blocked_categories.contains(tag));
                        let allowed = &preferences.allowed_categories;
                        !blocked && (allowed.is_empty() || tags.iter().all(|tag| allowed.contains(tag)))
                    };
                    let expected: Vec<u128> = (0..)
                        .zip(&naive)
                        .filter(|(_, it)| it.as_ref().is_some_and(wanted))
                        .map(|(who, _)| who)
                        .collect();
                    prop_assert_eq!(&reached, &expected);
                    for (who, socket) in sockets.iter().enumerate() {
                        let may = audiences.admit(socket, &tags);
                        prop_assert_eq!(may, expected.contains(&(who as u128)));
                    }
                }
            }
        }
    }
}
