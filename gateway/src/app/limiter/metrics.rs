//! What limits count.

use shared::metrics::{Counter, Label as _};

shared::label! {
    /// What is limited.
    #[derive(Hash)]
    pub enum Limited: "bucket" {
        Requests = "requests",
        Commands = "commands",
        Broadcasts = "broadcasts",
        Account = "account",
        Address = "address",
    }
}

impl Limited {
    /// The name in metrics and in Redis.
    pub fn name(self) -> &'static str {
        Self::VALUES[self as usize]
    }
}

shared::metrics! {
    pub static TABLE;
    /// Refused, because a user, an account or an address was too quick.
    pub static REFUSED: Counter<Limited> = "tidegate_limit_refused_total";
    /// Counted by this node alone, because Redis did not answer in time.
    pub static ALONE: Counter<Limited> = "tidegate_limit_alone_total";
    /// Questions for tokens that Redis answered; many go in one call.
    pub static LEASES: Counter<Limited> = "tidegate_limit_leases_total";
    /// Unused tokens that were put back.
    pub static RETURNED: Counter<Limited> = "tidegate_limit_returned_total";
    /// Calls to Redis for tokens of users, many questions in each.
    pub static CALLS: Counter = "tidegate_limit_calls_total";
}
