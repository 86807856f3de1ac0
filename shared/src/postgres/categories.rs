//! The server's categories.

use sqlx::{Row, postgres::PgRow};

use super::{
    Audit, PgError, Postgres, RequestKey, audit,
    idempotency::{self, Seen},
    rows,
};
use crate::domain::{Category, Timestamp};

/// A category as administrators keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CategoryRecord {
    /// The tag that commands carry.
    pub name: Category,
    /// What people read.
    pub title: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when new commands may not carry it.
    pub retired_at: Option<Timestamp>,
}

/// What became of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created<T> {
    /// It is there now, or by an earlier try of the same request.
    Done(T),
    /// The name is taken.
    Taken,
    /// The request's key was used for another one.
    OtherRequest,
}

/// A change of a category; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct CategoryChange {
    /// What people read from now on.
    pub title: Option<String>,
    /// Whether new commands may not carry it.
    pub retired: Option<bool>,
}

macro_rules! columns {
    () => {
        "name, title, created_at, retired_at"
    };
}

impl Postgres {
    /// Fills an empty table. Several nodes may do so at once.
    pub async fn seed_categories(&self, categories: &[(Category, String)]) -> Result<u64, PgError> {
        let (names, titles): (Vec<_>, Vec<_>) = categories
            .iter()
            .map(|(name, title)| (name.as_str(), title.as_str()))
            .unzip();
        let done = sqlx::query(
            "INSERT INTO categories (name, title) SELECT * FROM UNNEST($1::text[], $2::text[]) \
             WHERE NOT EXISTS (SELECT FROM categories) ON CONFLICT DO NOTHING",
        )
        .bind(names)
        .bind(titles)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// All of them, by name.
    pub async fn categories(&self) -> Result<Vec<CategoryRecord>, PgError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM categories ORDER BY name"
        ))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(category).collect()
    }

    /// A new one.
    pub async fn create_category(
        &self,
        name: &Category,
        title: &str,
        request: Option<&RequestKey>,
        what: &Audit,
    ) -> Result<Created<CategoryRecord>, PgError> {
        let mut transaction = self.pool.begin().await?;
        let seen = match request {
            Some(request) => idempotency::remember(&mut transaction, request).await?,
            None => Seen::New,
        };
        match seen {
            Seen::Other => return Ok(Created::OtherRequest),
            Seen::Before => {
                let row = sqlx::query(concat!(
                    "SELECT ",
                    columns!(),
                    " FROM categories WHERE name = $1"
                ))
                .bind(name.as_str())
                .fetch_one(&mut *transaction)
                .await?;
                return Ok(Created::Done(category(&row)?));
            }
            Seen::New => {}
        }
        let row = sqlx::query(concat!(
            "INSERT INTO categories (name, title) VALUES ($1, $2) \
             ON CONFLICT DO NOTHING RETURNING ",
            columns!(),
            ""
        ))
        .bind(name.as_str())
        .bind(title)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else {
            return Ok(Created::Taken);
        };
        audit::done(&mut transaction, what).await?;
        transaction.commit().await?;
        Ok(Created::Done(category(&row)?))
    }

    /// Renames or retires one, or takes it back into use. `None`: there is none of that name.
    pub async fn change_category(
        &self,
        name: &Category,
        change: &CategoryChange,
        what: &Audit,
    ) -> Result<Option<CategoryRecord>, PgError> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query(concat!(
            "UPDATE categories SET title = coalesce($2, title), \
                 retired_at = CASE WHEN $3 THEN coalesce(retired_at, now()) \
                                   WHEN NOT $3 THEN NULL ELSE retired_at END \
             WHERE name = $1 RETURNING ",
            columns!(),
            ""
        ))
        .bind(name.as_str())
        .bind(&change.title)
        .bind(change.retired)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        audit::done(&mut transaction, what).await?;
        transaction.commit().await?;
        category(&row).map(Some)
    }
}

fn category(row: &PgRow) -> Result<CategoryRecord, PgError> {
    let name: &str = row.try_get("name")?;
    Ok(CategoryRecord {
        name: name
            .parse()
            .map_err(|_| rows::unreadable("category", name))?,
        title: row.try_get("title")?,
        created_at: Timestamp::from_datetime(row.try_get("created_at")?),
        retired_at: rows::time(row, "retired_at")?,
    })
}
