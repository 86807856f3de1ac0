//! Every question is answered by an index, whatever the tables hold when it is planned.

use shared::postgres::*;

use crate::support::*;

/// Question, types, arguments, indexes that have to be in its plan.
fn questions() -> Vec<(&'static str, &'static str, String, Vec<&'static str>)> {
    let (one, other) = (user(), user());
    vec![
        (
            DUE_COMMANDS,
            "timestamptz, timestamptz, uuid, bigint",
            format!("now(), now(), '{one}', 10"),
            vec!["expires_at_command_id_idx"],
        ),
        (
            DUE_BROADCASTS,
            "timestamptz, timestamptz, uuid, bigint",
            format!("now(), now(), '{one}', 10"),
            vec!["expires_at_id_idx"],
        ),
        (
            ARCHIVE_EXPIRED,
            "bigint",
            "10".into(),
            vec!["expires_at_command_id_idx"],
        ),
        (
            ARCHIVE_EXPIRED_BROADCASTS,
            "bigint, uuid",
            format!("10, '{one}'"),
            vec!["expires_at_id_idx"],
        ),
        (
            SWEEPABLE,
            "timestamptz, timestamptz",
            "now(), now()".into(),
            // Planned anew each time, so which index of expired commands is cheaper is known.
            vec![
                "expires_at_id_idx",
                "commands_archive_age",
                "revocations_expiry",
            ],
        ),
        (
            BROADCASTS_BETWEEN,
            "bigint, bigint, bigint, bigint, bigint, uuid",
            "1, 1, 2, 2, 10, '00000000-0000-0000-0000-000000000000'".into(),
            vec!["epoch_offset_idx", "user_events_20"],
        ),
        (
            LAST_BROADCAST_BEFORE,
            "uuid, timestamptz, uuid",
            format!("'{one}', now(), '00000000-0000-0000-0000-000000000000'"),
            vec!["epoch_offset_idx", "user_events_20"],
        ),
        (
            STATES_OF,
            "uuid, uuid[]",
            format!("'{one}', ARRAY['{other}'::uuid]"),
            vec!["command_assignments_20"],
        ),
        (
            RECIPIENTS_OF,
            "uuid, uuid, text, bigint",
            format!("'{one}', '{other}', 'completed', 10"),
            vec!["_pkey"],
        ),
        (RECIPIENT_COUNTS, "uuid", format!("'{one}'"), vec!["_pkey"]),
        (
            ENDED_OF_USER,
            "uuid, text, uuid, uuid, bigint",
            format!("'{one}', 'completed', '{one}', '{other}', 10"),
            vec!["recipient_id_state_command_id_idx", "commands_20"],
        ),
        (
            EXPIRED_AFTER_RECEIPT,
            "uuid, text, uuid, uuid, bigint",
            format!("'{one}', 'delivered', '{one}', '{other}', 10"),
            vec!["recipient_id_state_epoch_offse", "commands_20"],
        ),
        (
            SENT,
            "uuid, uuid, uuid, bigint",
            format!("'{one}', '{one}', '{other}', 10"),
            vec!["sender_id_id_idx", "command_assignments_20"],
        ),
    ]
}

/// The same about conversations.
fn questions_about_conversations() -> Vec<(&'static str, &'static str, String, Vec<&'static str>)> {
    let (one, other) = (user(), user());
    vec![
        (
            CONVERSATIONS_OF,
            "uuid, bigint, timestamptz, uuid, bigint",
            format!("'{one}', 1000, now(), '{other}', 10"),
            vec!["conversation_participants_user", "conversations_pkey"],
        ),
        (
            CONVERSATION,
            "uuid, bigint, uuid, uuid",
            format!("'{one}', 1000, '{one}', '{other}'"),
            vec!["conversation_participants_pkey", "conversations_pkey"],
        ),
        (
            PARTICIPANTS,
            "uuid[], bigint",
            format!("ARRAY['{one}'::uuid], 10"),
            vec!["conversation_participants_pkey", "users_pkey"],
        ),
        (
            IDLE_CONVERSATIONS,
            "timestamptz, timestamptz, uuid, bigint",
            format!("now(), now(), '{one}', 10"),
            vec!["conversations_idle"],
        ),
    ]
}

#[tokio::test]
async fn every_question_uses_its_index() {
    let record = Record::new().await;
    let all = questions()
        .into_iter()
        .chain(questions_about_conversations());
    for (question, types, arguments, indexes) in all {
        let plan = record.plan(question, types, &arguments).await;
        for index in indexes {
            assert!(plan.contains(index), "{index} in {plan}");
        }
        // Only what was found is ever put in order; each day is read in its own and cut short.
        if question == EXPIRED_AFTER_RECEIPT || question == CONVERSATIONS_OF {
            // Without a position there is no order but that of ids, in another index; when something
            // was said last in somebody's conversations is in no index.
            continue;
        }
        let sorts = plan.lines().filter(|it| it.contains("->  Sort  "));
        let many = sorts.filter(|it| !it.contains("rows=2 ") && !it.contains("rows=1 "));
        assert_eq!(many.count(), 0, "{plan}");
    }
}

#[tokio::test]
async fn a_users_history_is_not_looked_for_among_everybodys() {
    let record = Record::new().await;
    let (one, other) = (user(), user());
    let arguments = format!("'{one}', 'completed', '{one}', '{other}', 10");
    let plan = record
        .plan(ENDED_OF_USER, "uuid, text, uuid, uuid, bigint", &arguments)
        .await;
    let of_user = plan.split("commands_20").next().unwrap();
    assert!(!of_user.contains("_pkey"), "{plan}");
    let bounds: Vec<_> = of_user
        .lines()
        .filter(|it| it.contains("Index Cond"))
        .collect();
    assert!(!bounds.is_empty(), "{plan}");
    for bound in bounds {
        assert!(
            bound.contains("(recipient_id = $1) AND (state = $2)"),
            "{plan}"
        );
    }
}
