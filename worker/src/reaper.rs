//! Which of the nodes that do not answer are dead.
//!
//! A wrong guess throws out live sessions, a late one only shows people online a little longer.
//! So a node has to be missing in two looks at least one lifetime apart. And when many are missing
//! at once it is not they who are ill but Redis or the network: nothing is done while more than
//! 30 % of the nodes, and at least three, are missing. Of two nodes one may die. Who has been
//! missing for twenty lifetimes while Redis answered is believed in any case: a fleet that was
//! replaced under new names must not stand in the way for ever.
//!
//! A node with a fixed name may die and be back before anybody misses it. So of a node that has
//! lived for one lifetime the earlier incarnations are dead, whatever was seen of them.

use std::{collections::HashMap, time::Duration};

use shared::{domain::NodeId, redis::NODE_LIFETIME};
use tokio::time::Instant;

const MOST_DEAD_PERCENT: usize = 30;
const FEW: usize = 3;
/// Lifetimes after which a missing node is dead however many others are missing.
const LONG: u32 = 20;

/// A node as Redis knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Its name.
    pub node: NodeId,
    /// Which process of that name.
    pub number: u64,
}

/// What to do after a look at the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// These are dead.
    Reap(Vec<Incarnation>),
    /// Too many are missing to believe it.
    HoldOff {
        /// How many are missing.
        missing: usize,
        /// How many there are.
        known: usize,
    },
}

/// Remembers since when nodes are missing, and since when they are there.
#[derive(Debug)]
pub struct Reaper {
    lifetime: Duration,
    missing_since: HashMap<Incarnation, Instant>,
    living: HashMap<Incarnation, Living>,
}

/// A node that is there.
#[derive(Debug, Clone, Copy)]
enum Living {
    /// Since then; what it left in earlier lives may still be around.
    Since(Instant),
    /// Nothing is left of its earlier lives.
    Alone,
}

impl Default for Reaper {
    fn default() -> Self {
        Self::new(NODE_LIFETIME)
    }
}

impl Reaper {
    /// For nodes that announce themselves for this long.
    pub fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            missing_since: HashMap::new(),
            living: HashMap::new(),
        }
    }

    /// The earlier lives of nodes that are alive, each by the number of the last of them, until
    /// [`Self::is_reaped`].
    pub fn outlived(&mut self, seen: &[(Incarnation, bool)], now: Instant) -> Vec<Incarnation> {
        let alive: Vec<&Incarnation> = seen
            .iter()
            .filter(|(_, alive)| *alive)
            .map(|(node, _)| node)
            .collect();
        self.living.retain(|node, _| alive.contains(&node));
        alive
            .into_iter()
            .filter_map(|node| {
                let living = *self
                    .living
                    .entry(node.clone())
                    .or_insert(Living::Since(now));
                let known = matches!(living, Living::Since(since) if now.duration_since(since) >= self.lifetime);
                let number = node.number.checked_sub(1)?;
                known.then(|| Incarnation {
                    number,
                    ..node.clone()
                })
            })
            .collect()
    }

    /// Nothing is left of an incarnation, nor of earlier ones.
    pub fn is_reaped(&mut self, dead: &Incarnation) {
        let next = Incarnation {
            number: dead.number + 1,
            ..dead.clone()
        };
        if let Some(living) = self.living.get_mut(&next) {
            *living = Living::Alone;
        }
    }

    /// Judges what was seen at `now`: each node and whether it is alive.
    pub fn judge(&mut self, seen: &[(Incarnation, bool)], now: Instant) -> Verdict {
        let missing: Vec<&Incarnation> = seen
            .iter()
            .filter(|(_, alive)| !alive)
            .map(|(node, _)| node)
            .collect();
        self.missing_since.retain(|node, _| missing.contains(&node));
        for node in &missing {
            self.missing_since.entry((*node).clone()).or_insert(now);
        }
        let missing_for = |node: &Incarnation| now.duration_since(self.missing_since[node]);
        let long_gone = missing
            .iter()
            .filter(|node| missing_for(node) >= self.lifetime * LONG)
            .count();
        let (recent, known) = (missing.len() - long_gone, seen.len() - long_gone);
        let doubtful = recent >= FEW && recent * 100 > known * MOST_DEAD_PERCENT;
        if doubtful && long_gone == 0 {
            return Verdict::HoldOff {
                missing: recent,
                known,
            };
        }
        let believed = self.lifetime * if doubtful { LONG } else { 1 };
        let mut dead: Vec<Incarnation> = missing
            .into_iter()
            .filter(|node| missing_for(node) >= believed)
            .cloned()
            .collect();
        dead.sort_by(|a, b| (a.node.as_str(), a.number).cmp(&(b.node.as_str(), b.number)));
        Verdict::Reap(dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(alive: &[bool]) -> Vec<(Incarnation, bool)> {
        let node = |n: usize| Incarnation {
            node: format!("node-{n}").parse().unwrap(),
            number: 1,
        };
        alive
            .iter()
            .enumerate()
            .map(|(n, alive)| (node(n), *alive))
            .collect()
    }

    fn reaped(verdict: &Verdict) -> Vec<&str> {
        match verdict {
            Verdict::Reap(dead) => dead.iter().map(|it| it.node.as_str()).collect(),
            Verdict::HoldOff { .. } => panic!("held off"),
        }
    }

    #[test]
    fn a_node_is_dead_after_two_looks_a_lifetime_apart() {
        let mut reaper = Reaper::default();
        let start = Instant::now();
        let seen = nodes(&[true, false]);
        assert!(reaped(&reaper.judge(&seen, start)).is_empty());
        let almost = start + NODE_LIFETIME - Duration::from_millis(1);
        assert!(reaped(&reaper.judge(&seen, almost)).is_empty());
        assert_eq!(
            reaped(&reaper.judge(&seen, start + NODE_LIFETIME)),
            ["node-1"]
        );
    }

    #[test]
    fn a_sign_of_life_in_between_begins_anew() {
        let mut reaper = Reaper::default();
        let start = Instant::now();
        reaper.judge(&nodes(&[true, false]), start);
        reaper.judge(&nodes(&[true, true]), start + NODE_LIFETIME / 2);
        let verdict = reaper.judge(&nodes(&[true, false]), start + NODE_LIFETIME);
        assert!(reaped(&verdict).is_empty());
    }

    #[test]
    fn another_incarnation_is_another_node() {
        let mut reaper = Reaper::default();
        let start = Instant::now();
        let mut seen = nodes(&[true, false]);
        reaper.judge(&seen, start);
        seen[1].0.number = 2;
        assert!(reaped(&reaper.judge(&seen, start + NODE_LIFETIME)).is_empty());
    }

    #[test]
    fn earlier_lives_of_a_node_that_stays_are_over() {
        let mut reaper = Reaper::default();
        let start = Instant::now();
        let mut seen = nodes(&[true]);
        assert_eq!(reaper.outlived(&seen, start), []);
        // Back under its name before it was missed.
        seen[0].0.number = 5;
        assert_eq!(reaper.outlived(&seen, start + NODE_LIFETIME), []);
        let late = start + NODE_LIFETIME * 2;
        let before = Incarnation {
            number: 4,
            ..seen[0].0.clone()
        };
        for _ in 0..2 {
            assert_eq!(reaper.outlived(&seen, late), std::slice::from_ref(&before));
        }
        reaper.is_reaped(&before);
        assert_eq!(reaper.outlived(&seen, late), []);
    }

    #[test]
    fn many_missing_at_once_are_not_believed() {
        let mut reaper = Reaper::default();
        let start = Instant::now();
        let seen = nodes(&[false, false, false, true, true, true, true, true, true]);
        for look in [start, start + NODE_LIFETIME * 10] {
            assert_eq!(
                reaper.judge(&seen, look),
                Verdict::HoldOff {
                    missing: 3,
                    known: 9
                }
            );
        }
        // Three of ten are 30 %, not more.
        let seen = nodes(&[
            false, false, false, true, true, true, true, true, true, true,
        ]);
        assert_eq!(
            reaped(&reaper.judge(&seen, start + NODE_LIFETIME * 10)).len(),
            3
        );
    }

    #[test]
    fn a_fleet_replaced_under_new_names_is_reaped_in_the_end() {
        let mut reaper = Reaper::default();
        let start = Instant::now();
        let seen = nodes(&[false, false, false, false, true, true, true, true]);
        assert_eq!(
            reaper.judge(&seen, start),
            Verdict::HoldOff {
                missing: 4,
                known: 8
            }
        );
        let late = start + NODE_LIFETIME * LONG;
        assert_eq!(reaped(&reaper.judge(&seen, late)).len(), 4);
        // Those who go missing then, many at once, are doubted all the same.
        let seen = nodes(&[false, false, false, false, false, false, false, true]);
        assert_eq!(reaped(&reaper.judge(&seen, late)).len(), 4);
        assert_eq!(reaped(&reaper.judge(&seen, late + NODE_LIFETIME)).len(), 4);
    }

    #[test]
    fn of_few_nodes_one_or_two_may_die() {
        for alive in [&[true, false][..], &[true, false, false], &[false, false]] {
            let mut reaper = Reaper::default();
            let start = Instant::now();
            reaper.judge(&nodes(alive), start);
            let verdict = reaper.judge(&nodes(alive), start + NODE_LIFETIME);
            assert_eq!(
                reaped(&verdict).len(),
                alive.iter().filter(|alive| !**alive).count()
            );
        }
    }
}
