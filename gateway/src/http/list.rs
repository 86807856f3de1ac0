//! Lists in pages.

use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use shared::domain::Refusal;
use utoipa::{IntoParams, ToSchema};

use super::parameters::bad;

const DEFAULT_LIMIT: u32 = 50;
pub(super) const MAX_LIMIT: u32 = 200;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    /// Where the list goes on; null at its end.
    pub(super) next_cursor: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn limit(&self) -> Result<u32, Refusal> {
        limit(self.limit)
    }

    /// Behind what the page begins.
    pub(super) fn after<T: FromStr>(&self) -> Result<Option<T>, Refusal> {
        self.cursor.as_deref().map(decode).transpose()
    }
}

pub(super) fn limit(asked: Option<u32>) -> Result<u32, Refusal> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        Ok(limit)
    } else {
        Err(bad("limit: expected 1 to 200"))
    }
}

/// A cursor says nothing to clients, so that it may change.
pub(super) fn encode(place: &impl ToString) -> String {
    URL_SAFE_NO_PAD.encode(place.to_string())
}

pub(super) fn decode<T: FromStr>(cursor: &str) -> Result<T, Refusal> {
    let text = URL_SAFE_NO_PAD.decode(cursor).ok();
    text.and_then(|bytes| String::from_utf8(bytes).ok())
        // No name and no id holds one, and Postgres takes none.
        .filter(|text| !text.contains('\0'))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad("cursor: not one that this list gave"))
}

impl<T> List<T> {
    /// From rows of which one more was asked for than the page holds.
    pub(super) fn of<R, P: ToString>(
        mut rows: Vec<R>,
        limit: u32,
        place: impl Fn(&R) -> P,
        view: impl Fn(R) -> T,
    ) -> Self {
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = rows
            .last()
            .filter(|_| has_more)
            .map(|last| encode(&place(last)));
        Self {
            items: rows.into_iter().map(view).collect(),
            next_cursor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_there_is_another() {
        let page = List::of(vec![1, 2, 3], 2, |row| *row, |row| row * 10);
        assert_eq!(page.items, [10, 20]);
        assert_eq!(decode::<i32>(&page.next_cursor.unwrap()).unwrap(), 2);
        let last = List::of(vec![3], 2, |row| *row, |row| row);
        assert_eq!((last.items.len(), last.next_cursor), (1, None));
    }

    #[test]
    fn what_no_list_gave_is_no_cursor() {
        for wrong in [
            "",
            "é",
            "AAA",
            &URL_SAFE_NO_PAD.encode("x\0"),
            &encode(&"x"),
        ] {
            assert!(decode::<i64>(wrong).is_err(), "{wrong}");
        }
    }
}
