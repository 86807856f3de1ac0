use shared::{domain::*, postgres::KeptContent};

use crate::support::*;

#[tokio::test]
async fn contents_of_other_keys_are_found_day_by_day_and_replaced_unless_they_changed() {
    let record = Record::new().await;
    let ann = record.registered("ann").await;
    let group = record.group(&[ann]).await;
    let ids: Vec<_> = (0..5).map(|_| id_at(now())).collect();
    let sealed = |content: &str, key: Option<&str>| MessageBody {
        sealed: key.map(str::to_owned),
        ..words(group, ann, content)
    };
    let bodies = [
        sealed("plain", None),
        sealed("old", Some("a")),
        sealed("new", Some("b")),
        sealed("", None),
        sealed("older", Some("a")),
    ];
    let records = ids.iter().zip(&bodies).zip(1..);
    record
        .write(
            records
                .map(|((id, body), n)| message(*id, n, body))
                .collect(),
        )
        .await;
    let day = now().to_datetime().date();
    assert!(record.postgres.message_days().await.unwrap().contains(&day));
    let find = async |key, after, limit| {
        let found = record
            .postgres
            .contents_not_of_key(day, key, after, limit)
            .await
            .unwrap();
        (
            found.other.into_iter().map(|it| it.id).collect::<Vec<_>>(),
            found.last,
        )
    };
    let nil = MessageId(uuid::Uuid::nil());
    assert_eq!(
        find(Some("b"), nil, 10).await,
        (vec![ids[0], ids[1], ids[4]], Some(ids[4]))
    );
    assert_eq!(
        find(Some("b"), nil, 3).await,
        (vec![ids[0], ids[1]], Some(ids[2]))
    );
    assert_eq!(find(Some("b"), ids[1], 2).await, (vec![], Some(ids[3])));
    assert_eq!(find(Some("b"), ids[4], 2).await, (vec![], None));
    assert_eq!(find(None, nil, 10).await.0, [ids[1], ids[2], ids[4]]);

    let page = record
        .postgres
        .contents_not_of_key(day, Some("b"), nil, 10)
        .await
        .unwrap();
    let replace: Vec<_> = page
        .other
        .into_iter()
        .map(|old| {
            let new = KeptContent {
                content: format!("sealed {}", old.content),
                sealed: Some("b".into()),
                ..old.clone()
            };
            (old, new)
        })
        .collect();
    // Meanwhile somebody changes one and deletes another.
    record
        .write(vec![
            edited(ids[1], id_at(now()), 6, &sealed("edited", Some("b"))),
            gone(group, ids[4], ann, id_at(now()), 7),
        ])
        .await;
    assert_eq!(
        record
            .postgres
            .replace_contents(day, &replace)
            .await
            .unwrap(),
        1
    );
    assert_eq!(find(Some("b"), nil, 10).await.0, []);
    let contents = async |id| {
        record
            .postgres
            .message(id)
            .await
            .unwrap()
            .unwrap()
            .body
            .content
    };
    assert_eq!(contents(ids[0]).await, "sealed plain");
    assert_eq!(contents(ids[1]).await, "edited");
    assert_eq!(contents(ids[4]).await, "");
}
