//! Packs what was read from many partitions into transactions.

use shared::{
    domain::{Persist, PersistRecord},
    postgres::PartitionBatch,
};

/// How large a transaction gets.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most records.
    pub records: usize,
    /// Most bytes of bodies, unless a single record is larger.
    pub bytes: usize,
}

/// Splits into transactions. A partition too large for one continues in the next, in order.
pub fn pack(read: Vec<PartitionBatch>, limits: Limits) -> Vec<Vec<PartitionBatch>> {
    let mut packed = Vec::new();
    let mut current: Vec<PartitionBatch> = Vec::new();
    let (mut records, mut bytes) = (0, 0);
    for batch in read {
        let PartitionBatch {
            partition,
            token,
            mut after,
            records: rows,
        } = batch;
        let mut part = Vec::new();
        for record in rows {
            let size = size_of(&record);
            if records == limits.records || (records > 0 && bytes + size > limits.bytes) {
                if let Some(PersistRecord { id, .. }) = part.last() {
                    let upto = id.clone();
                    current.push(PartitionBatch {
                        partition,
                        token,
                        after,
                        records: std::mem::take(&mut part),
                    });
                    after = upto;
                }
                packed.push(std::mem::take(&mut current));
                (records, bytes) = (0, 0);
            }
            records += 1;
            bytes += size;
            part.push(record);
        }
        if !part.is_empty() {
            current.push(PartitionBatch {
                partition,
                token,
                after,
                records: part,
            });
        }
    }
    if !current.is_empty() {
        packed.push(current);
    }
    packed
}

fn size_of(record: &PersistRecord) -> usize {
    match &record.what {
        Persist::Entry(entry) => entry.body.len(),
        Persist::Delivered { skipped, .. } => skipped.len() * 16,
        Persist::Received { receipts, .. } => {
            receipts.iter().map(|it| 16 + it.commands.len() * 16).sum()
        }
        Persist::Seen { users, .. } => users.len() * 24,
        Persist::Unreadable { fields, .. } => fields.iter().map(|(_, value)| value.len()).sum(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::domain::Partition;

    use super::*;

    fn batch(partition: u16, sizes: &[usize]) -> PartitionBatch {
        let record = |(n, size): (usize, &usize)| PersistRecord {
            id: format!("{}-0", n + 1),
            what: Persist::Unreadable {
                fields: vec![("x".into(), Bytes::from(vec![0; *size]))],
                reason: String::new(),
            },
        };
        PartitionBatch {
            partition: Partition(partition),
            token: 1,
            after: "0-0".into(),
            records: sizes.iter().enumerate().map(record).collect(),
        }
    }

    fn shape(packed: &[Vec<PartitionBatch>]) -> Vec<Vec<(u16, &str, usize)>> {
        let part = |batch: &PartitionBatch| (batch.partition.0, batch.records.len());
        packed
            .iter()
            .map(|batches| {
                batches
                    .iter()
                    .map(|it| (part(it).0, it.after.as_str(), part(it).1))
                    .collect()
            })
            .collect()
    }

    #[test]
    fn many_small_partitions_share_a_transaction() {
        let limits = Limits {
            records: 5,
            bytes: 1000,
        };
        let packed = pack(
            vec![batch(1, &[1, 1]), batch(2, &[1]), batch(3, &[1, 1, 1])],
            limits,
        );
        assert_eq!(
            shape(&packed),
            [
                vec![(1, "0-0", 2), (2, "0-0", 1), (3, "0-0", 2)],
                vec![(3, "2-0", 1)]
            ]
        );
    }

    #[test]
    fn a_transaction_is_not_larger_than_the_limit_of_bytes() {
        let limits = Limits {
            records: 100,
            bytes: 10,
        };
        let packed = pack(vec![batch(1, &[4, 4, 4]), batch(2, &[50, 1])], limits);
        let expected = [
            vec![(1, "0-0", 2)],
            vec![(1, "2-0", 1)],
            vec![(2, "0-0", 1)],
            vec![(2, "1-0", 1)],
        ];
        assert_eq!(shape(&packed), expected);
        assert!(pack(vec![], limits).is_empty());
    }
}
