//! What a client listens to, by its own names.

use bytes::Bytes;
use shared::domain::{Code, Queue};

use super::{
    Broken, Trouble,
    destination::{self, Own, Source},
    escape::escape,
    frame::Received,
    version::Version,
};
use crate::dialect::{AckMode, Interest, Messages, Wish};

/// Most subscriptions of a connection, and the longest name of one in bytes.
const MOST: usize = 200;
const LONGEST_ID: usize = 128;

/// How messages of a subscription are confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acks {
    Auto,
    /// By the client; each confirms those before it, too.
    Client,
    /// By the client, one by one.
    Individual,
}

#[derive(Debug, Clone)]
pub(super) struct Subscription {
    /// `None` in version 1.0, where it may be told by its destination.
    pub(super) id: Option<Box<str>>,
    destination: Box<str>,
    pub(super) source: Source,
    pub(super) acks: Acks,
}

#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

impl Subscription {
    /// What a SUBSCRIBE frame asks for.
    pub(super) fn read(frame: &Received<'_>, version: Version) -> Result<Self, Trouble> {
        let destination = frame.required("destination")?;
        let id = match version {
            Version::V10 => frame.header("id"),
            Version::V11 | Version::V12 => Some(frame.required("id")?),
        };
        if id.is_some_and(|id| id.len() > LONGEST_ID) {
            let message = format!("id: more than {LONGEST_ID} bytes");
            return Err(Broken::malformed(message).into());
        }
        let acks = match frame.header("ack") {
            None | Some("auto") => Acks::Auto,
            Some("client") => Acks::Client,
            Some("client-individual") if version > Version::V10 => Acks::Individual,
            Some(_) => return Err(Broken::malformed("ack: no such mode").into()),
        };
        let source = destination::source(destination).ok_or_else(|| {
            Trouble::refused(Code::NotFound, "nothing can be heard at this destination")
        })?;
        Ok(Self {
            id: id.map(Into::into),
            destination: destination.into(),
            source,
            acks,
        })
    }

    /// What the rest of the gateway has to bring for it, if anything.
    pub(super) fn wish(&self, version: Version) -> Option<Wish> {
        Some(Wish {
            interest: self.interest()?,
            address: Some(self.address(version)),
            acks: match (self.source, self.acks) {
                (Source::Queue(_), Acks::Client | Acks::Individual) => AckMode::Client,
                _ => AckMode::Auto,
            },
        })
    }

    pub(super) fn interest(&self) -> Option<Interest> {
        match self.source {
            Source::Queue(queue) => Some(Interest::Queue(queue)),
            Source::Conversation(id) => Some(Interest::Conversation {
                id: Some(id),
                messages: Messages::All,
            }),
            Source::Presence(user) => Some(Interest::Presence(Some(user))),
            Source::Calls => Some(Interest::Calls),
            Source::Own(_) => None,
        }
    }

    /// What every frame for it begins with.
    pub(super) fn address(&self, version: Version) -> Bytes {
        let mut address = b"MESSAGE\n".to_vec();
        if let Some(id) = &self.id {
            address.extend_from_slice(b"subscription:");
            escape(id, version, &mut address);
            address.push(b'\n');
        }
        address.into()
    }

    pub(super) fn destination(&self) -> &str {
        &self.destination
    }
}

impl Subscriptions {
    /// Whether one more may be added.
    pub(super) fn check(&self, new: &Subscription) -> Result<(), Trouble> {
        let same_name = |it: &&Subscription| match (&it.id, &new.id) {
            (None, None) => it.destination == new.destination,
            (one, other) => one == other,
        };
        if self.0.iter().find(same_name).is_some() {
            let message = "a subscription of this connection has this id already";
            return Err(Broken::malformed(message).into());
        }
        if matches!(new.source, Source::Queue(_)) && self.0.iter().any(|it| it.source == new.source)
        {
            // Two modes of confirming could not both be kept.
            let message = "this connection listens to this queue already";
            return Err(Trouble::refused(Code::Conflict, message));
        }
        if self.0.len() >= MOST {
            let message = format!("a connection has at most {MOST} subscriptions");
            return Err(Trouble::refused(Code::BadRequest, message));
        }
        Ok(())
    }

    pub(super) fn add(&mut self, new: Subscription) {
        self.0.push(new);
    }

    /// The one that an UNSUBSCRIBE frame names.
    pub(super) fn named(
        &self,
        frame: &Received<'_>,
        version: Version,
    ) -> Result<&Subscription, Broken> {
        let by_destination = version == Version::V10 && frame.header("id").is_none();
        let name = frame.required(if by_destination { "destination" } else { "id" })?;
        let found = self.0.iter().find(|it| match &it.id {
            Some(id) => !by_destination && **id == *name,
            None => by_destination && *it.destination == *name,
        });
        found.ok_or_else(|| Broken::malformed("no subscription of this connection has this id"))
    }

    pub(super) fn remove(&mut self, gone: &Subscription) {
        self.0
            .retain(|it| (&it.id, &it.destination) != (&gone.id, &gone.destination));
    }

    /// Takes out what is heard no more.
    pub(super) fn take_lost(&mut self, interests: &[Interest]) -> Vec<Subscription> {
        let is_lost =
            |it: &mut Subscription| it.interest().is_some_and(|it| interests.contains(&it));
        self.0.extract_if(.., is_lost).collect()
    }

    pub(super) fn of_queue(&self, queue: Queue) -> Option<&Subscription> {
        self.0.iter().find(|it| it.source == Source::Queue(queue))
    }

    pub(super) fn of_own(&self, own: Own) -> impl Iterator<Item = &Subscription> {
        self.0
            .iter()
            .filter(move |it| it.source == Source::Own(own))
    }
}
