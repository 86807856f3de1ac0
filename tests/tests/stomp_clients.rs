//! STOMP clients as people use them: `@stomp/stompjs` and `stomp.py` play `tests/stomp/scenario.json`.

use std::process::Command;

use serde_json::json;
use testkit::{Deployment, User};

use crate::conversations::group;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stomp");

/// Runs a program to its end and answers what it printed.
async fn run(mut command: Command) -> (bool, String) {
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().expect("the program starts");
    let [out, err] =
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    (output.status.success(), out + &err)
}

/// The clients that are installed: what to run, and with which file.
async fn clients() -> Vec<(String, &'static str)> {
    let script = format!("{SCRIPTS}/stomp-clients");
    let output = tokio::task::spawn_blocking(move || Command::new(script).output());
    let output = output.await.unwrap().expect("the script is there");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    let program = |line: &str| match line {
        "node" => (line.to_owned(), "client.mjs"),
        python => (python.to_owned(), "client.py"),
    };
    found.lines().map(program).collect()
}

#[tokio::test]
async fn real_stomp_clients_play_every_scenario() {
    let tidegate = Deployment::start().await;
    for (n, (program, file)) in clients().await.into_iter().enumerate() {
        // Users of its own: queues begin empty.
        let ann = tidegate.user(&format!("ann{n}")).await;
        let bob = tidegate.user(&format!("bob{n}")).await;
        let eve = tidegate.user(&format!("eve{n}")).await;
        let conversation = group(&tidegate, &[&ann, &bob]).await;
        let foreign = group(&tidegate, &[&eve]).await;
        let node = |n: usize| format!("ws://{}/ws", tidegate.address(n));
        let token = |user: &User| user.token.clone();
        let world = json!({
            "nodes": [node(0), node(1)],
            "tokens": {"ann": token(&ann), "bob": token(&bob)},
            "words": {"ann": ann.id, "bob": bob.id, "conversation": conversation, "foreign": foreign},
        });
        let mut command = Command::new(&program);
        command
            .arg(format!("{CLIENTS}/{file}"))
            .arg(world.to_string());
        let (is_ok, text) = run(command).await;
        println!("{file}:\n{text}");
        assert!(is_ok, "{file}: {text}");
        assert_eq!(text.matches("ok: ").count(), 5, "{file}: {text}");
    }
}
