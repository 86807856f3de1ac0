//! Buckets of tokens that all nodes share.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use futures_util::future::join_all;

use super::{
    error::StoreError,
    functions, keys, reply,
    store::{Store, texts},
};
use crate::domain::{Digest, Partition, Topic, UserId};

/// Most steps in one call: a call of this size takes Redis about half a millisecond.
const STEPS_PER_CALL: usize = 128;

/// Whose bucket it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitOwner {
    /// A user; the bucket lives in the user's partition.
    User(UserId),
    /// Something else that has a name, for example an address.
    Named(String),
}

/// A bucket: one token comes back each `spacing`, until there are `burst`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What is limited, for example `requests`.
    pub what: &'static str,
    /// For whom.
    pub owner: LimitOwner,
    /// Time in which a token comes back; whole microseconds, at least one.
    pub spacing: Duration,
    /// Most tokens.
    pub burst: u32,
}

/// What to do with a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitStep {
    /// Takes up to so many tokens.
    Take(u32),
    /// Puts tokens back that were not used. Nothing happens if anybody has taken some since.
    Give {
        /// How many.
        count: u32,
        /// [`Tokens::full_at`] of the answer they came with.
        full_at: u64,
    },
}

/// How a bucket is after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// How many were taken, or put back.
    pub count: u32,
    /// When the bucket would have been full without this step, in µs by the clock of Redis; 0 if
    /// it was.
    pub full_before: u64,
    /// When it is full now.
    pub full_at: u64,
    /// How far away that is.
    pub full_in: Duration,
    /// How far away the next token is; zero if there is one.
    pub next_in: Duration,
}

impl LimitOwner {
    fn partition(&self, store: &Store) -> Partition {
        match self {
            Self::User(user) => store.partition_of(Topic::User(*user)),
            Self::Named(name) => {
                let digest = Digest::of(name.as_bytes()).0;
                let number = u16::from_be_bytes([digest[0], digest[1]]);
                Partition(number % store.partitions().0)
            }
        }
    }

    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::User(user) => user.to_string().into(),
            Self::Named(name) => name.into(),
        }
    }
}

impl Store {
    /// Takes tokens, or puts them back: many steps in few calls. Each has an answer of its own, in
    /// their order; with one that is lost, so are perhaps its tokens, never more. Works while
    /// memory is full.
    pub async fn limit(&self, steps: &[(Limit, LimitStep)]) -> Vec<Result<Tokens, StoreError>> {
        let is_cluster = match self.topology() {
            Ok(topology) => topology.is_cluster(),
            Err(failure) => {
                let error = StoreError::from(failure);
                return steps.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let mut groups: BTreeMap<Option<Partition>, Vec<(Partition, usize)>> = BTreeMap::new();
        for (index, (limit, _)) in steps.iter().enumerate() {
            let partition = limit.owner.partition(self);
            let group = groups.entry(is_cluster.then_some(partition)).or_default();
            group.push((partition, index));
        }
        let calls = groups
            .values()
            .flat_map(|group| group.chunks(STEPS_PER_CALL))
            .map(async |group| (group, self.limit_group(steps, group).await));
        let mut answers: Vec<_> = steps
            .iter()
            .map(|_| Err(StoreError::unexpected("a step without an answer")))
            .collect();
        for (group, answered) in join_all(calls).await {
            match answered {
                Ok(tokens) => {
                    for ((_, index), tokens) in group.iter().zip(tokens) {
                        answers[*index] = Ok(tokens);
                    }
                }
                Err(error) => {
                    for (_, index) in group {
                        answers[*index] = Err(error.clone());
                    }
                }
            }
        }
        answers
    }

    async fn limit_group(
        &self,
        steps: &[(Limit, LimitStep)],
        group: &[(Partition, usize)],
    ) -> Result<Vec<Tokens>, StoreError> {
        let args = group.iter().flat_map(|(partition, index)| {
            let (limit, step) = &steps[*index];
            let (count, full_at) = match *step {
                LimitStep::Take(count) => (i64::from(count), 0),
                LimitStep::Give { count, full_at } => (-i64::from(count), full_at),
            };
            texts([
                &keys::tag(*partition),
                &format!("{}:{}", limit.what, limit.owner.name()),
                &limit.spacing.as_micros().max(1).to_string(),
                &limit.burst.to_string(),
                &count.to_string(),
                &full_at.to_string(),
            ])
        });
        let answer = self
            .call(group[0].0, functions::LIMIT, args.collect())
            .await?;
        let answers = reply::list(answer)?;
        answers
            .iter()
            .map(|answer| parse(reply::text(answer)?))
            .collect()
    }
}

/// Reads what `limit.lua` answers for a step.
fn parse(answer: &str) -> Result<Tokens, StoreError> {
    let mut numbers = answer.split(' ');
    let mut next = || reply::parse_text::<i64>(numbers.next().unwrap_or_default());
    let (count, full_before, full_at) = (next()?, next()?, next()?);
    let (full_in, next_in) = (next()?, next()?);
    Ok(Tokens {
        count: count.unsigned_abs() as u32,
        full_before: full_before.unsigned_abs(),
        full_at: full_at.unsigned_abs(),
        full_in: Duration::from_micros(full_in.unsigned_abs()),
        next_in: Duration::from_micros(next_in.unsigned_abs()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let tokens = parse("3 0 1763730000000000 150000 0").unwrap();
        let expected = Tokens {
            count: 3,
            full_before: 0,
            full_at: 1_763_730_000_000_000,
            full_in: Duration::from_millis(150),
            next_in: Duration::ZERO,
        };
        assert_eq!(tokens, expected);
        assert_eq!(parse("-2 7 5 5 0").unwrap().count, 2);
        for bad in ["", "1", "1 2 3 4", "1 2 3 4 x", "one 2 3 4 5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
