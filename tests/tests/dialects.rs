//! Scenarios are written once, in the JSON dialect. Here they run again, in the other one: the
//! clients of the kit translate, see `testkit::socket::stomp`.

use std::process::Command;

/// Those about commands, devices, choices and conversations.
const SCENARIOS: [&str; 8] = [
    "live::",
    "resume::",
    "states::",
    "preferences::",
    "recipients::",
    "broadcasts::",
    "filter::",
    "conversations::",
];

/// About what only the JSON dialect has: `after`, `resumed`, `ack` as a request, `typing` as a topic,
/// filters in `unsubscribed`, and subscriptions to all conversations, or to one that leave out what the
/// inbox brings.
const JSON_ONLY: [&str; 11] = [
    "after_overrides_the_cursor",
    "after_reaches_back_into_postgres",
    "what_was_sent_while_away_comes_at_the_next_connect_on_any_node",
    "with_client_acks_only_an_ack_delivers",
    "a_completed_command_is_not_replayed",
    "nobody_writes_reads_or_follows_where_they_do_not_take_part",
    "receipts_reach_who_asked_for_the_conversation",
    "who_was_removed_gets_nothing_that_comes_after",
    "a_group_that_grows_and_shrinks_over_the_limit_tells_everything_once",
    "a_group_that_was_large_for_a_while_leaves_nothing_out",
    "who_listens_to_all_conversations_gets_what_was_missed_in_each",
];

#[tokio::test]
async fn scenarios_run_over_stomp_too() {
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
    assert!(ran > 50, "{ran} scenarios ran: {text}");
}
