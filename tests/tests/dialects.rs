//! Scenarios are written once, in the JSON dialect. Here they run again, in the other one: the
//! clients of the kit translate, see `testkit::socket::stomp`.

use std::process::Command;

/// Those about commands, devices and choices.
const SCENARIOS: [&str; 7] = [
    "live::",
    "resume::",
    "states::",
    "preferences::",
    "recipients::",
    "broadcasts::",
    "filter::",
];

/// About what only the JSON dialect has: `after`, `resumed`, and `ack` as a request.
const JSON_ONLY: [&str; 5] = [
    "after_overrides_the_cursor",
    "after_reaches_back_into_postgres",
    "what_was_sent_while_away_comes_at_the_next_connect_on_any_node",
    "with_client_acks_only_an_ack_delivers",
    "a_completed_command_is_not_replayed",
];

#[tokio::test]
async fn scenarios_of_commands_run_over_stomp_too() {
    let this = std::env::current_exe().expect("a test knows its program");
    let mut command = Command::new(this);
    command.env("TESTKIT_DIALECT", "stomp");
    command.args(SCENARIOS).arg("--test-threads=2");
    for scenario in JSON_ONLY {
        command.args(["--skip", scenario]);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let ran = text.matches("... ok").count();
    assert!(ran > 30, "{ran} scenarios ran: {text}");
}
