//! How far each partition's persist stream has been written, and by whom.

use sqlx::Row;

use super::{PgError, Postgres};
use crate::domain::Partition;

impl Postgres {
    /// Takes partitions over: from here on only the tokens returned here write them. For each,
    /// in the order asked: the token to write with and the id of the last record written
    /// (`0-0` if none).
    ///
    /// `leases` carries the fencing tokens of the leases in Redis. Should Redis have lost its
    /// data and count from the start again, the token here still rises.
    pub async fn claim_partitions(
        &self,
        leases: &[(Partition, u64)],
    ) -> Result<Vec<(u64, String)>, PgError> {
        let mut sorted = leases.to_vec();
        sorted.sort_unstable();
        let partitions: Vec<i32> = sorted
            .iter()
            .map(|(partition, _)| i32::from(partition.0))
            .collect();
        let tokens: Vec<i64> = sorted.iter().map(|(_, token)| *token as i64).collect();
        let rows = sqlx::query(
            "INSERT INTO persist_positions AS held (partition, position, token) \
             SELECT partition, '0-0', token FROM unnest($1::int[], $2::bigint[]) AS lease(partition, token) \
             ON CONFLICT (partition) DO UPDATE SET token = greatest(held.token + 1, excluded.token) \
             RETURNING partition, token, position",
        )
        .bind(partitions)
        .bind(tokens)
        .fetch_all(&self.pool)
        .await?;
        let mut claimed = std::collections::HashMap::new();
        for row in rows {
            let token: i64 = row.try_get("token")?;
            let partition: i32 = row.try_get("partition")?;
            claimed.insert(
                partition,
                (token as u64, row.try_get::<String, _>("position")?),
            );
        }
        leases
            .iter()
            .map(|(partition, _)| {
                claimed
                    .remove(&i32::from(partition.0))
                    .ok_or_else(|| PgError::Unexpected(sqlx::Error::RowNotFound))
            })
            .collect()
    }

    /// The id of the last record written of a partition, `0-0` if none.
    pub async fn persist_position(&self, partition: Partition) -> Result<String, PgError> {
        let found: Option<String> =
            sqlx::query_scalar("SELECT position FROM persist_positions WHERE partition = $1")
                .bind(i32::from(partition.0))
                .fetch_optional(&self.pool)
                .await?;
        Ok(found.unwrap_or_else(|| "0-0".to_owned()))
    }
}
