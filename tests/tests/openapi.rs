//! The `OpenAPI` document against a real deployment, by a tool that makes requests from it.

use std::process::Command;

use testkit::{Deployment, node::run_with_input};

use super::support::unlimited;

#[tokio::test]
async fn a_gateway_answers_as_its_document_says() {
    let tidegate = Deployment::start_with(unlimited()).await;
    let arguments = ["create-admin", "root1"];
    let settings = tidegate.settings();
    let (code, text) = run_with_input("gateway", &arguments, settings, "root-password\n").await;
    assert_eq!(code, Some(0), "{text}");
    let root = tidegate.login("root1", "root-password").await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/schemathesis");
    let mut command = Command::new(script);
    command
        .arg(format!("http://{}", tidegate.address(0)))
        .env("TOKEN", &root.token);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().expect("the script is there");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    for gateway in &tidegate.gateways {
        assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    }
}
