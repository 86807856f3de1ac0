//! One command, for somebody who may see it: its sender, and whoever it is or was for.

use std::sync::Arc;

use shared::{
    domain::{CommandState, MessageId, Refusal, UserId},
    postgres::StoredCommand,
};

use super::{broadcast::Sent, find};
use crate::{app::App, fanout::postgres_refusal};

/// A command as a user may see it.
#[derive(Debug)]
pub struct Seen {
    /// The command. Its state is the user's own, unless they sent it.
    pub command: StoredCommand,
    /// Whether they sent it.
    pub is_sender: bool,
}

/// The command, or `not_found`, also where it is somebody else's.
pub async fn look(app: &Arc<App>, user: UserId, id: MessageId) -> Result<Seen, Refusal> {
    let mut command = find::stored(app, id).await?;
    let is_sender = command.body.sender_id == user;
    match command.body.recipient_id {
        _ if is_sender => {}
        Some(recipient) if recipient == user => {}
        Some(_) => return Err(find::not_found()),
        None => {
            let states = app.postgres.states_of(user, &[id]).await;
            let state = states
                .map_err(|error| postgres_refusal(&error))?
                .remove(&id);
            if state.is_none() && !Sent::stored(command.clone()).reaches(app, user).await? {
                return Err(find::not_found());
            }
            command.state = own_state(state, command.state);
        }
    }
    Ok(Seen { command, is_sender })
}

/// What a broadcast is for somebody: done if they say so, else as it ended for everybody.
fn own_state(own: Option<CommandState>, all: CommandState) -> CommandState {
    match own {
        Some(own) if own.is_final() || !all.is_final() => own,
        None if !all.is_final() => CommandState::Pending,
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CommandState::{Cancelled, Completed, Delivered, Expired, Pending};

    #[test]
    fn what_somebody_completed_stays_completed() {
        for (own, all, seen) in [
            (None, Pending, Pending),
            (Some(Delivered), Pending, Delivered),
            (Some(Completed), Pending, Completed),
            (Some(Completed), Expired, Completed),
            (Some(Delivered), Expired, Expired),
            (None, Cancelled, Cancelled),
        ] {
            assert_eq!(own_state(own, all), seen, "{own:?} {all}");
        }
    }
}
