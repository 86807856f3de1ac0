//! How workers share the partitions. Pure: who holds what is the business of leases.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use shared::domain::{NodeId, Partition, PartitionCount};

/// Most partitions a worker should hold while `alive` workers are alive. Rounded up, so that
/// together they hold all.
pub fn fair(partitions: PartitionCount, alive: usize) -> usize {
    usize::from(partitions.0).div_ceil(alive.max(1))
}

/// In which order a worker looks for partitions: each from a place of its own, so that those who
/// start together do not fight for the same ones.
pub fn order(partitions: PartitionCount, worker: &NodeId) -> impl Iterator<Item = Partition> {
    let mut hasher = DefaultHasher::new();
    worker.hash(&mut hasher);
    let (count, first) = (
        partitions.0,
        (hasher.finish() % u64::from(partitions.0)) as u16,
    );
    (0..count)
        .map(move |n| Partition(((u32::from(first) + u32::from(n)) % u32::from(count)) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_the_workers_hold_everything() {
        for partitions in [1, 7, 256, 16384].map(PartitionCount) {
            for alive in 1..20 {
                assert!(fair(partitions, alive) * alive >= usize::from(partitions.0));
            }
        }
        assert_eq!(fair(PartitionCount(256), 0), 256);
        assert_eq!(fair(PartitionCount(256), 3), 86);
    }

    #[test]
    fn every_partition_is_looked_at_once() {
        let mut seen: Vec<_> = order(PartitionCount(16384), &"worker.a".parse().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..16384).map(Partition).collect::<Vec<_>>());
    }
}
