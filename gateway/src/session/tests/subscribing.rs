//! What clients ask to hear.

use super::{host::FOREIGN, *};

#[tokio::test]
async fn a_subscription_is_answered_with_what_was_granted_and_refused() {
    let scene = Scene::new();
    let mut client = scene.open().await;
    let subscribe = |filters: &str| {
        format!(
            r#"{{"type":"subscribe","id":"s","payload":{{"topics":["user","conversation"],"filters":{filters}}}}}"#
        )
    };
    client.send(&subscribe("{}")).await;
    let subscribed = client.text().await;
    assert_eq!(subscribed["type"], "subscribed");
    assert_eq!(subscribed["replyTo"], "s");
    assert_eq!(
        subscribed["payload"],
        serde_json::json!({"topics": ["user", "conversation"], "filters": {}, "refused": []})
    );
    let foreign = format!(r#"{{"conversation_id":"{FOREIGN}"}}"#);
    client.send(&subscribe(&foreign)).await;
    let subscribed = client.text().await;
    let refused = &subscribed["payload"]["refused"][0];
    assert_eq!(refused["topic"], "conversation");
    assert_eq!(refused["code"], "forbidden");
    let unsubscribe = subscribe("{}").replace("subscribe", "unsubscribe");
    client.send(&unsubscribe).await;
    let unsubscribed = client.text().await;
    assert_eq!(unsubscribed["type"], "unsubscribed");
    assert_eq!(
        unsubscribed["payload"]["topics"],
        serde_json::json!(["conversation"]),
        "what is always on stays on"
    );
}
