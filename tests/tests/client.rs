//! The TypeScript client: that it compiles against the contracts, that what the gateway serves of
//! it is fresh, and how it does on real gateways.

use std::process::Command;

use serde_json::json;
use testkit::Deployment;

use super::support::unlimited;

#[tokio::test]
async fn the_typescript_client_compiles_and_outlives_a_node() {
    let tidegate = Deployment::start_with(unlimited()).await;
    let (ann, bob) = (tidegate.user("ann").await, tidegate.user("bob").await);
    let users = [&ann, &bob].map(|user| json!({"id": user.id, "token": user.token}));
    let nodes = [0, 1].map(|n| format!("http://{}", tidegate.address(n)));
    let pids = [0, 1].map(|n| tidegate.gateways[n].process().pid());
    let world = json!({"nodes": nodes, "pids": pids, "users": users});
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/client"));
    command.env("TIDEGATE_WORLD", world.to_string());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().expect("the script is there");
    let [out, err] =
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    println!("{out}");
    assert!(output.status.success(), "{out}{err}");
    assert!(
        out.contains("NOT TRIED") || out.contains("# skipped 0"),
        "{out}{err}"
    );
}
