//! In whatever order the partitions are written, the rows are the same.

use shared::{domain::*, postgres::PartitionBatch};

use crate::support::*;

const OTHER: Partition = Partition(4);

/// One round: a broadcast, what two users' partition tells of it, and how it ends.
struct Round {
    id: MessageId,
    bob: UserId,
    eve: UserId,
    start: Timestamp,
}

impl Round {
    fn new(start: Timestamp) -> Self {
        Self {
            id: id_at(start),
            bob: user(),
            eve: user(),
            start,
        }
    }

    fn after(&self, ms: i64) -> Timestamp {
        Timestamp(self.start.0 + ms)
    }

    /// The log of broadcasts: its own order is kept.
    fn broadcasts(&self) -> Vec<PersistRecord> {
        vec![
            command(self.id, 1, &broadcast(user())),
            over(2, self.id, CommandState::Cancelled, self.after(900)),
        ]
    }

    /// What users tell: two devices of bob, each on a node of its own, his word that it is done,
    /// and eve's device.
    fn users(&self) -> Vec<PersistRecord> {
        vec![
            received(&[(self.bob, &[self.id])], self.after(100)),
            received(
                &[(self.eve, &[self.id]), (self.bob, &[self.id])],
                self.after(300),
            ),
            done(self.bob, 1, self.id, self.after(200)),
            done(self.bob, 2, self.id, self.after(400)),
        ]
    }

    /// Everything about it, with times as distances from the start.
    async fn rows(&self, record: &Record) -> String {
        let (id, bob, start) = (self.id, self.bob, self.start.0);
        let since = |column| {
            format!("coalesce(round(extract(epoch FROM {column}) * 1000 - {start})::text, '-')")
        };
        let sql = format!(
            "SELECT recipient_id = '{bob}', state, {}, {}, num_nonnulls(sender_id, epoch, \"offset\", expires_at) \
             FROM command_assignments WHERE command_id = '{id}' ORDER BY 1; \
             SELECT broadcast, \"offset\", ended, {} FROM commands WHERE id = '{id}'",
            since("delivered_at"),
            since("completed_at"),
            since("ended_at"),
        );
        let rows = record.database.query(&sql).await;
        rows.iter()
            .map(|row| row.join(" "))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// All orders of these.
pub fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    let Some((first, rest)) = things.split_first() else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for order in orders(rest) {
        for place in 0..=order.len() {
            let mut longer = order.clone();
            longer.insert(place, first.clone());
            all.push(longer);
        }
    }
    all
}

#[tokio::test]
async fn receipts_completions_and_the_broadcast_may_come_in_any_order() {
    let record = Record::new().await;
    let claimed = record.postgres.claim_partitions(&[(OTHER, 1)]).await;
    let (token, _) = claimed.unwrap().remove(0);
    let (mut home, mut other) = ("0-0".to_owned(), "0-0".to_owned());
    let mut write = async |from_home: bool, records: Vec<PersistRecord>| {
        let (partition, token, after) = if from_home {
            (HOME, record.token, &mut home)
        } else {
            (OTHER, token, &mut other)
        };
        let batch = PartitionBatch {
            partition,
            token,
            after: after.clone(),
            records,
        };
        let batch = std::slice::from_ref(&batch);
        let pending = record.postgres.begin_batch(batch).await.unwrap();
        assert_eq!(
            pending.changes,
            [],
            "no sender hears of a broadcast's users"
        );
        assert_eq!(pending.buried, []);
        pending.commit().await.unwrap();
        *after = batch[0].upto().to_owned();
    };
    let expected = "f delivered 300 - 0; t completed 100 200 0; category 1 cancelled 900";
    let start = now();
    for order in orders(&[0, 1, 2, 3]) {
        // Before which of the users' records the broadcast comes, and before which its end.
        for (new, end) in [(0, 0), (0, 4), (1, 2), (2, 2), (3, 4), (4, 4)] {
            let round = Round::new(start);
            let (mut broadcasts, users) = (round.broadcasts().into_iter(), round.users());
            for place in 0..=4 {
                for _ in [new, end].iter().filter(|at| **at == place) {
                    write(true, vec![broadcasts.next().unwrap()]).await;
                }
                if let Some(which) = order.get(place) {
                    write(false, vec![users[*which].clone()]).await;
                }
            }
            let found = round.rows(&record).await;
            assert_eq!(found, expected, "{order:?} {new} {end}");
        }
        // All that the users tell in one transaction, twice.
        let round = Round::new(start);
        let users: Vec<_> = order.iter().map(|it| round.users()[*it].clone()).collect();
        write(false, users.clone()).await;
        write(true, round.broadcasts()).await;
        write(false, users).await;
        write(true, round.broadcasts()).await;
        assert_eq!(round.rows(&record).await, expected, "{order:?} at once");
    }
}
