//! The state of calls: every state and everything that can happen in it.

use std::time::Duration;

use shared::{
    calls,
    domain::{
        Audience, Call, CallEnd, CallEvent, CallEventKind, CallId, CallState, Digest, Durability,
        PresenceStatus::{Away, Online},
        SessionId, Topic, UserId,
    },
    redis::{
        BellEvent, CallStep, CallVerdict, Claimed, Offer, OpenHere, OpenSession, Party, Store,
    },
};
use testkit::{Redis, cluster::Cluster, resp::Reply};
use uuid::Uuid;

use super::support::{Heard, all_after, connect, idle, session, user};

const LONG: Duration = Duration::from_secs(60);
/// Too late at once.
const NONE: Duration = Duration::ZERO;

/// Everybody around a call.
struct Scene {
    store: Store,
    call: CallId,
    /// The caller's socket in the call, a later one of the same device, and another device.
    laptop: Party,
    laptop_again: Party,
    desktop: Party,
    /// Devices of the callee; the phone is the one that answers.
    phone: Party,
    phone_again: Party,
    tablet: Party,
    stranger: Party,
}

fn party(user: UserId, device: &str) -> Party {
    Party {
        user,
        session: SessionId(Uuid::now_v7()),
        device: device.parse().unwrap(),
    }
}

impl Scene {
    fn new(store: &Store) -> Self {
        let (caller, callee) = (user(), user());
        Self {
            store: store.clone(),
            call: store.new_call_id(),
            laptop: party(caller, "laptop"),
            laptop_again: party(caller, "laptop"),
            desktop: party(caller, "desktop"),
            phone: party(callee, "phone"),
            phone_again: party(callee, "phone"),
            tablet: party(callee, "tablet"),
            stranger: party(user(), "phone"),
        }
    }

    /// In a state of its own.
    async fn at(store: &Store, state: State) -> Self {
        let scene = Self::new(store);
        let lease = if matches!(state, State::CallerSilent | State::CallerReplaced) {
            NONE
        } else {
            LONG
        };
        let ring = if state == State::TooLate { NONE } else { LONG };
        if state == State::Missing {
            return scene;
        }
        scene.offer(ring, lease).await;
        let (call, phone) = (scene.call, &scene.phone);
        match state {
            State::Missing | State::Ringing | State::TooLate | State::CallerSilent => {}
            State::CallerReplaced => {
                // Announced while it was not known that the first is gone.
                let again = scene.resume_later(&scene.laptop, &scene.laptop_again).await;
                assert_eq!(again.verdict, CallVerdict::Wait);
                expect(
                    store
                        .call_keep(call, scene.laptop.user, scene.laptop.session, NONE)
                        .await,
                );
            }
            State::Active => expect(store.call_answer(call, phone, LONG, "v=0 answer").await),
            State::CalleeSilent => expect(store.call_answer(call, phone, NONE, "v=0 answer").await),
            State::CalleeReplaced => {
                expect(store.call_answer(call, phone, LONG, "v=0 answer").await);
                let again = store.call_resume(call, &scene.phone_again, LONG).await;
                assert_eq!(again.unwrap().verdict, CallVerdict::Wait);
            }
            State::CallerAway => {
                let lost =
                    store.call_lost(call, scene.laptop.user, scene.laptop.session, LONG, LONG);
                expect(lost.await);
            }
            State::CalleeAway => {
                expect(store.call_answer(call, phone, LONG, "v=0 answer").await);
                expect(
                    store
                        .call_lost(call, phone.user, phone.session, LONG, LONG)
                        .await,
                );
            }
            State::Ended => expect(store.call_close(call, CallEnd::Timeout, None).await),
        }
        scene
    }

    async fn resume_later(&self, first: &Party, later: &Party) -> CallStep {
        expect(
            self.store
                .call_keep(self.call, first.user, first.session, LONG)
                .await,
        );
        self.store
            .call_resume(self.call, later, LONG)
            .await
            .unwrap()
    }

    async fn offer(&self, ring: Duration, lease: Duration) -> CallStep {
        self.offer_by(&self.laptop, ring, lease).await
    }

    async fn offer_by(&self, caller: &Party, ring: Duration, lease: Duration) -> CallStep {
        self.offer_as(caller, b"offer", ring, lease).await
    }

    async fn offer_as(
        &self,
        caller: &Party,
        what: &[u8],
        ring: Duration,
        lease: Duration,
    ) -> CallStep {
        let offer = Offer {
            id: self.call,
            caller: caller.user,
            callee: self.phone.user,
            session: caller.session,
            device: &caller.device,
            ring,
            lease,
            digest: Digest::of(what),
            sdp: "v=0",
            media: Some("{}"),
        };
        self.store.call_offer(&offer).await.unwrap()
    }

    fn party(&self, who: Who) -> &Party {
        match who {
            Who::Laptop => &self.laptop,
            Who::LaptopAgain => &self.laptop_again,
            Who::Desktop => &self.desktop,
            Who::Phone => &self.phone,
            Who::PhoneAgain => &self.phone_again,
            Who::Tablet => &self.tablet,
            Who::Stranger => &self.stranger,
        }
    }

    async fn happens(&self, event: Event) -> CallStep {
        let (store, call) = (&self.store, self.call);
        match event {
            Event::Answers(who) => {
                store
                    .call_answer(call, self.party(who), LONG, "v=0 answer")
                    .await
            }
            Event::Candidate(who) => {
                let Party { user, session, .. } = self.party(who);
                store.call_ice(call, *user, *session, "{}", LONG).await
            }
            Event::HangsUp(who) => {
                let refusal = CallEnd::Declined;
                store.call_hangup(call, self.party(who), refusal).await
            }
            Event::Closed(reason, state) => store.call_close(call, reason, state).await,
            Event::LookedAt => store.call_lapse(call, LONG).await,
            Event::IsThere(who) => {
                let Party { user, session, .. } = self.party(who);
                store.call_keep(call, *user, *session, LONG).await
            }
            Event::IsGone(who) => {
                let Party { user, session, .. } = self.party(who);
                store.call_lost(call, *user, *session, LONG, LONG).await
            }
            Event::Comes(who) => store.call_resume(call, self.party(who), LONG).await,
        }
        .unwrap()
    }

    /// Who is told of the end, in words.
    fn told(&self, call: &Call) -> Vec<String> {
        let name = |session: SessionId| {
            let all = [
                (&self.laptop, "laptop"),
                (&self.laptop_again, "laptop again"),
                (&self.desktop, "desktop"),
                (&self.phone, "phone"),
                (&self.phone_again, "phone again"),
                (&self.tablet, "tablet"),
            ];
            let found = all.iter().find(|(party, _)| party.session == session);
            found.map_or("?", |(_, name)| name)
        };
        let told = call.told_of_end().into_iter();
        told.map(|(user, audience)| {
            let whose = if user == call.caller {
                "caller"
            } else {
                "callee"
            };
            match audience {
                Audience::All => format!("{whose}: all"),
                Audience::Only(session) => format!("{whose}: {}", name(session)),
                Audience::Except(session) => format!("{whose}: not {}", name(session)),
            }
        })
        .collect()
    }
}

fn expect(step: Result<CallStep, shared::redis::StoreError>) {
    let step = step.unwrap();
    assert!(step.call.is_some(), "{step:?}");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    Ringing,
    /// Nobody has answered in time.
    TooLate,
    /// Nothing was heard of the caller's node for too long.
    CallerSilent,
    /// The same, but the device has another socket by now.
    CallerReplaced,
    CallerAway,
    Active,
    CalleeSilent,
    /// The device has another socket, and it is not known that the first is gone.
    CalleeReplaced,
    CalleeAway,
    Ended,
}

#[derive(Debug, Clone, Copy)]
enum Who {
    Laptop,
    LaptopAgain,
    Desktop,
    Phone,
    PhoneAgain,
    Tablet,
    Stranger,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Answers(Who),
    Candidate(Who),
    HangsUp(Who),
    Closed(CallEnd, Option<CallState>),
    LookedAt,
    IsThere(Who),
    IsGone(Who),
    Comes(Who),
}

/// The state afterwards; with what it ended, and who is told.
type After = Option<(CallState, Option<(CallEnd, &'static [&'static str])>)>;

const RINGING: After = Some((CallState::Ringing, None));
const ACTIVE: After = Some((CallState::Active, None));
const NOTHING: After = None;

#[expect(
    clippy::unnecessary_wraps,
    reason = "a row reads as what follows from it"
)]
const fn ended(reason: CallEnd, told: &'static [&'static str]) -> After {
    Some((CallState::Ended, Some((reason, told))))
}

/// As it was when the state began.
const OVER: After = ended(CallEnd::Timeout, &["caller: laptop", "callee: all"]);

#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "a table, a line for each case")]
fn table() -> Vec<(State, Event, CallVerdict, After)> {
    use CallVerdict as V;
    use Event as E;
    use State as S;
    use Who::{Desktop, Laptop, LaptopAgain, Phone, PhoneAgain, Stranger, Tablet};
    let disconnected = |told| ended(CallEnd::Disconnected, told);
    vec![
        (S::Missing, E::Answers(Phone), V::Unknown, NOTHING),
        (S::Missing, E::Candidate(Laptop), V::Unknown, NOTHING),
        (S::Missing, E::HangsUp(Laptop), V::Unknown, NOTHING),
        (S::Missing, E::Closed(CallEnd::Busy, None), V::Unknown, NOTHING),
        (S::Missing, E::LookedAt, V::Unknown, NOTHING),
        (S::Missing, E::IsThere(Laptop), V::Unknown, NOTHING),
        (S::Missing, E::IsGone(Laptop), V::Unknown, NOTHING),
        (S::Missing, E::Comes(Phone), V::Unknown, NOTHING),

        (S::Ringing, E::Answers(Phone), V::Done, ACTIVE),
        (S::Ringing, E::Answers(Laptop), V::Own, RINGING),
        (S::Ringing, E::Answers(Stranger), V::Unknown, NOTHING),
        (S::Ringing, E::Candidate(Laptop), V::Done, RINGING),
        (S::Ringing, E::Candidate(Desktop), V::Elsewhere, RINGING),
        (S::Ringing, E::Candidate(Phone), V::Kept, RINGING),
        (S::Ringing, E::Candidate(Stranger), V::Unknown, NOTHING),
        (S::Ringing, E::HangsUp(Laptop), V::Done, ended(CallEnd::Hangup, &["callee: not laptop"])),
        (S::Ringing, E::HangsUp(LaptopAgain), V::Done, ended(CallEnd::Hangup, &["caller: laptop", "callee: not laptop again"])),
        (S::Ringing, E::HangsUp(Desktop), V::Elsewhere, RINGING),
        (S::Ringing, E::HangsUp(Phone), V::Done, ended(CallEnd::Declined, &["caller: laptop", "callee: not phone"])),
        (S::Ringing, E::HangsUp(Stranger), V::Unknown, NOTHING),
        (S::Ringing, E::Closed(CallEnd::Busy, None), V::Done, ended(CallEnd::Busy, &["caller: laptop"])),
        (S::Ringing, E::Closed(CallEnd::Offline, None), V::Done, ended(CallEnd::Offline, &["caller: laptop"])),
        (S::Ringing, E::Closed(CallEnd::Glare, None), V::Done, ended(CallEnd::Glare, &["caller: laptop"])),
        (S::Ringing, E::Closed(CallEnd::Disconnected, Some(CallState::Ringing)), V::Done, disconnected(&["caller: laptop", "callee: all"])),
        (S::Ringing, E::LookedAt, V::Wait, RINGING),
        (S::Ringing, E::IsThere(Laptop), V::Done, RINGING),
        (S::Ringing, E::IsThere(Desktop), V::Other, RINGING),
        (S::Ringing, E::IsThere(Phone), V::Other, RINGING),
        (S::Ringing, E::IsThere(Stranger), V::Unknown, NOTHING),
        (S::Ringing, E::IsGone(Laptop), V::Wait, RINGING),
        (S::Ringing, E::IsGone(Desktop), V::Other, RINGING),
        (S::Ringing, E::IsGone(Phone), V::Other, RINGING),
        (S::Ringing, E::Comes(Phone), V::Ring, RINGING),
        (S::Ringing, E::Comes(Laptop), V::Other, RINGING),
        (S::Ringing, E::Comes(LaptopAgain), V::Wait, RINGING),
        (S::Ringing, E::Comes(Desktop), V::Other, RINGING),
        (S::Ringing, E::Comes(Stranger), V::Unknown, NOTHING),

        (S::TooLate, E::LookedAt, V::Done, ended(CallEnd::Timeout, &["caller: laptop", "callee: all"])),
        // Nobody has looked yet: who answers is first.
        (S::TooLate, E::Answers(Phone), V::Done, ACTIVE),

        (S::CallerSilent, E::LookedAt, V::Done, disconnected(&["caller: laptop", "callee: all"])),
        (S::CallerSilent, E::IsThere(Laptop), V::Done, RINGING),
        (S::CallerSilent, E::Comes(LaptopAgain), V::Done, RINGING),
        (S::CallerSilent, E::Comes(Desktop), V::Other, RINGING),
        (S::CallerReplaced, E::LookedAt, V::Wait, RINGING),
        (S::CallerReplaced, E::IsThere(LaptopAgain), V::Wait, RINGING),
        (S::CallerReplaced, E::IsGone(LaptopAgain), V::Other, RINGING),
        (S::CallerReplaced, E::IsGone(Laptop), V::Done, RINGING),
        (S::CallerReplaced, E::Candidate(LaptopAgain), V::Done, RINGING),
        (S::CallerReplaced, E::HangsUp(LaptopAgain), V::Done, ended(CallEnd::Hangup, &["caller: laptop", "callee: not laptop again"])),
        (S::CallerReplaced, E::HangsUp(Phone), V::Done, ended(CallEnd::Declined, &["caller: laptop", "caller: laptop again", "callee: not phone"])),

        (S::CallerAway, E::Comes(LaptopAgain), V::Done, RINGING),
        (S::CallerAway, E::Comes(Desktop), V::Other, RINGING),
        (S::CallerAway, E::Answers(Phone), V::Done, ACTIVE),
        (S::CallerAway, E::LookedAt, V::Wait, RINGING),

        (S::Active, E::Answers(Phone), V::Again, ACTIVE),
        (S::Active, E::Answers(Tablet), V::Elsewhere, ACTIVE),
        (S::Active, E::Answers(Laptop), V::Own, ACTIVE),
        (S::Active, E::Answers(Stranger), V::Unknown, NOTHING),
        (S::Active, E::Candidate(Laptop), V::Done, ACTIVE),
        (S::Active, E::Candidate(Phone), V::Done, ACTIVE),
        (S::Active, E::Candidate(Desktop), V::Elsewhere, ACTIVE),
        (S::Active, E::Candidate(Tablet), V::Elsewhere, ACTIVE),
        (S::Active, E::Candidate(Stranger), V::Unknown, NOTHING),
        (S::Active, E::HangsUp(Laptop), V::Done, ended(CallEnd::Hangup, &["callee: phone"])),
        (S::Active, E::HangsUp(Phone), V::Done, ended(CallEnd::Hangup, &["caller: laptop"])),
        (S::Active, E::HangsUp(Desktop), V::Elsewhere, ACTIVE),
        // Who declines in the moment in which another device answers ends nothing.
        (S::Active, E::HangsUp(Tablet), V::Elsewhere, ACTIVE),
        (S::Active, E::HangsUp(PhoneAgain), V::Done, ended(CallEnd::Hangup, &["caller: laptop", "callee: phone"])),
        (S::Active, E::HangsUp(Stranger), V::Unknown, NOTHING),
        (S::Active, E::Closed(CallEnd::Disconnected, Some(CallState::Ringing)), V::Other, ACTIVE),
        (S::Active, E::Closed(CallEnd::Disconnected, None), V::Done, disconnected(&["caller: laptop", "callee: phone"])),
        (S::Active, E::LookedAt, V::Wait, ACTIVE),
        (S::Active, E::IsThere(Laptop), V::Done, ACTIVE),
        (S::Active, E::IsThere(Phone), V::Done, ACTIVE),
        (S::Active, E::IsThere(Tablet), V::Other, ACTIVE),
        (S::Active, E::IsGone(Laptop), V::Wait, ACTIVE),
        (S::Active, E::IsGone(Phone), V::Wait, ACTIVE),
        (S::Active, E::IsGone(Tablet), V::Other, ACTIVE),
        (S::Active, E::Comes(PhoneAgain), V::Wait, ACTIVE),
        (S::Active, E::Comes(Tablet), V::Other, ACTIVE),
        (S::Active, E::Comes(Stranger), V::Unknown, NOTHING),

        (S::CalleeSilent, E::LookedAt, V::Done, disconnected(&["caller: laptop", "callee: phone"])),
        (S::CalleeSilent, E::Comes(PhoneAgain), V::Done, ACTIVE),
        (S::CalleeSilent, E::Comes(Tablet), V::Other, ACTIVE),
        (S::CalleeReplaced, E::Answers(PhoneAgain), V::Again, ACTIVE),
        (S::CalleeReplaced, E::Answers(Tablet), V::Elsewhere, ACTIVE),
        (S::CalleeReplaced, E::Candidate(Phone), V::Done, ACTIVE),
        (S::CalleeReplaced, E::Candidate(PhoneAgain), V::Done, ACTIVE),
        (S::CalleeReplaced, E::HangsUp(PhoneAgain), V::Done, ended(CallEnd::Hangup, &["caller: laptop", "callee: phone"])),
        (S::CalleeReplaced, E::HangsUp(Laptop), V::Done, ended(CallEnd::Hangup, &["callee: phone", "callee: phone again"])),
        (S::CalleeAway, E::Comes(PhoneAgain), V::Done, ACTIVE),
        (S::CalleeAway, E::Candidate(Laptop), V::Done, ACTIVE),
        (S::CalleeAway, E::HangsUp(Laptop), V::Done, ended(CallEnd::Hangup, &["callee: phone"])),

        (S::Ended, E::Answers(Phone), V::Ended, OVER),
        (S::Ended, E::Answers(Stranger), V::Unknown, NOTHING),
        (S::Ended, E::Candidate(Laptop), V::Ended, OVER),
        (S::Ended, E::Candidate(Phone), V::Ended, OVER),
        (S::Ended, E::HangsUp(Laptop), V::Ended, OVER),
        (S::Ended, E::HangsUp(Stranger), V::Unknown, NOTHING),
        (S::Ended, E::Closed(CallEnd::Busy, None), V::Ended, OVER),
        (S::Ended, E::LookedAt, V::Ended, OVER),
        (S::Ended, E::IsThere(Laptop), V::Ended, OVER),
        (S::Ended, E::IsGone(Laptop), V::Ended, OVER),
        (S::Ended, E::Comes(Phone), V::Ended, OVER),
    ]
}

#[tokio::test]
async fn every_event_in_every_state_does_what_the_table_says() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    for (state, event, verdict, after) in table() {
        let case = format!("{state:?}, {event:?}");
        let scene = Scene::at(&store, state).await;
        let step = scene.happens(event).await;
        assert_eq!(step.verdict, verdict, "{case}");
        let shown = step.call.as_ref().map(|call| {
            let end = call.end.map(|end| (end.reason, scene.told(call)));
            (call.state, end)
        });
        let expected = after.map(|(state, end)| {
            let words = |told: &[&str]| told.iter().map(|it| (*it).to_owned()).collect();
            (state, end.map(|(reason, told)| (reason, words(told))))
        });
        assert_eq!(shown, expected, "{case}");
        // And that is what whoever comes next finds.
        let found = store.call_look(scene.call).await.unwrap();
        if let (Some(found), Some(said)) = (&found, &step.call) {
            assert_eq!((found.state, found.end), (said.state, said.end), "{case}");
        }
        assert_eq!(found.is_some(), state != State::Missing, "{case}");
    }
}

#[tokio::test]
async fn a_call_is_made_once_by_the_same_request() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let scene = Scene::new(&store);
    assert_eq!(scene.offer(LONG, LONG).await.verdict, CallVerdict::Done);
    let again = scene.offer(LONG, LONG).await;
    assert_eq!(again.verdict, CallVerdict::Again);
    assert!(again.more[0].is_empty(), "nobody was told");
    store.call_placed(scene.call).await.unwrap();
    assert_eq!(&scene.offer(LONG, LONG).await.more[0][..], b"1");
    let laptop = || scene.laptop.clone();
    let stolen = Scene {
        call: scene.call,
        ..Scene::new(&store)
    };
    let of_another = Scene {
        call: scene.call,
        laptop: laptop(),
        ..Scene::new(&store)
    };
    for other in [stolen, of_another] {
        let step = other.offer(LONG, LONG).await;
        assert_eq!(step.verdict, CallVerdict::Other);
        assert!(step.call.is_none(), "nothing is said of what is not theirs");
    }
    let other = scene.offer_as(&scene.laptop, b"another", LONG, LONG).await;
    assert_eq!(other.verdict, CallVerdict::Other);
    // One that was never begun can be begun.
    let vain = Scene::at(&store, State::Ringing).await;
    store.call_forget(vain.call).await.unwrap();
    assert_eq!(vain.offer(LONG, LONG).await.verdict, CallVerdict::Done);

    let (ann, request) = (user(), "r1");
    let (one, other) = (store.new_call_id(), store.new_call_id());
    let offered = async |digest: &[u8], call| {
        let digest = Digest::of(digest);
        store.offered(ann, request, digest, call).await.unwrap()
    };
    assert_eq!(offered(b"a", one).await, Some(one));
    assert_eq!(offered(b"a", other).await, Some(one));
    assert_eq!(offered(b"b", other).await, None);
}

#[tokio::test]
async fn candidates_are_kept_in_order_for_whom_they_concern() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let scene = Scene::at(&store, State::Ringing).await;
    let send = async |party: &Party, candidate: &str| {
        let sent = store.call_ice(scene.call, party.user, party.session, candidate, LONG);
        sent.await.unwrap().verdict
    };
    for n in 0..64 {
        assert_eq!(
            send(&scene.laptop, &format!("{{\"a\":{n}}}")).await,
            CallVerdict::Done
        );
    }
    for n in 0..32 {
        for party in [&scene.phone, &scene.tablet] {
            assert_eq!(send(party, &format!("{n}")).await, CallVerdict::Kept);
        }
    }
    let texts = |step: &CallStep| -> Vec<String> {
        let text = |it: &bytes::Bytes| String::from_utf8(it.to_vec()).unwrap();
        step.more.iter().map(text).collect()
    };
    let resumed = store.call_resume(scene.call, &scene.tablet, LONG);
    let resumed = texts(&resumed.await.unwrap());
    assert_eq!(resumed[..2], ["v=0", "{}"]);
    let expected: Vec<String> = (0..64).map(|n| format!("{{\"a\":{n}}}")).collect();
    assert_eq!(resumed[2..], expected);
    let answered = async || {
        let answered = store.call_answer(scene.call, &scene.phone, LONG, "v=0 answer");
        texts(&answered.await.unwrap())
    };
    let kept: Vec<String> = (0..32).map(|n| n.to_string()).collect();
    assert_eq!(answered().await, kept);
    assert_eq!(answered().await, kept, "the caller was not told");
    store.call_answer_placed(scene.call).await.unwrap();
    assert_eq!(
        answered().await,
        Vec::<String>::new(),
        "the caller has them"
    );
}

#[tokio::test]
async fn so_many_candidates_of_a_socket_and_of_a_side_are_taken() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let scene = Scene::at(&store, State::Ringing).await;
    // How many are taken until one is too much.
    let send = async |party: &Party| {
        for count in 0..4096 {
            let Party { user, session, .. } = *party;
            let sent = store.call_ice(scene.call, user, session, "{}", LONG).await;
            let verdict = sent.unwrap().verdict;
            if !matches!(verdict, CallVerdict::Done | CallVerdict::Kept) {
                return (count, verdict);
            }
        }
        panic!("there is no end to it")
    };
    let other = party(scene.phone.user, "watch");
    let rest = party(scene.phone.user, "car");
    let full = |count| (count, CallVerdict::Full);
    assert_eq!(send(&scene.laptop).await, full(64));
    assert_eq!(send(&scene.tablet).await, full(64));
    assert_eq!(send(&scene.phone).await, full(64), "of each device so many");
    assert_eq!(send(&other).await, full(64));
    assert_eq!(send(&rest).await, full(0), "and of all together");
    scene.happens(Event::Answers(Who::Phone)).await;
    assert_eq!(send(&scene.phone).await, full(512 - 64));
    assert_eq!(send(&scene.laptop).await, full(512 - 64), "of each side");
    for (number, taken) in [512, 512, 384].into_iter().enumerate() {
        let again = party(scene.phone.user, "phone");
        scene.resume_later(&scene.phone, &again).await;
        let sent = send(&again).await;
        assert_eq!(sent, full(taken), "socket {number} that took over");
        let elsewhere = (0, CallVerdict::Elsewhere);
        assert_eq!(send(&scene.phone).await, elsewhere);
    }
}

#[tokio::test]
async fn the_candidates_of_a_caller_are_numbered_until_the_answer() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let scene = Scene::at(&store, State::Ringing).await;
    for number in ["1", "2", "3"] {
        let sent = scene.happens(Event::Candidate(Who::Laptop)).await;
        assert_eq!(sent.more, [number]);
        let kept = scene.happens(Event::Candidate(Who::Phone)).await;
        assert!(kept.more.is_empty());
    }
    scene.happens(Event::Answers(Who::Phone)).await;
    for who in [Who::Laptop, Who::Phone] {
        assert!(scene.happens(Event::Candidate(who)).await.more.is_empty());
    }
}

#[tokio::test]
async fn a_callee_who_comes_back_is_told_the_latest_candidates() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    for (state, verdict) in [
        (State::CalleeAway, CallVerdict::Done),
        (State::Active, CallVerdict::Wait),
    ] {
        let scene = Scene::at(&store, state).await;
        let Party { user, session, .. } = scene.laptop;
        for number in 0..100 {
            let candidate = number.to_string();
            let sent = store.call_ice(scene.call, user, session, &candidate, LONG);
            assert_eq!(sent.await.unwrap().verdict, CallVerdict::Done);
        }
        let other = scene.happens(Event::Comes(Who::Tablet)).await;
        assert!(other.more.is_empty(), "{state:?}: no business of theirs");
        let back = scene.happens(Event::Comes(Who::PhoneAgain)).await;
        assert_eq!(back.verdict, verdict, "{state:?}");
        let latest: Vec<_> = (36..100).map(|it| it.to_string()).collect();
        assert_eq!(back.more, latest, "{state:?}");
    }
}

#[tokio::test]
async fn whoever_rings_is_told_of_the_end_whatever_its_reason() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let told = |scene: &Scene, call: Option<Call>| scene.told(&call.unwrap());
    // It was over before anybody was told of it, and they are told only now.
    let scene = Scene::at(&store, State::Ringing).await;
    let closed = store.call_close(scene.call, CallEnd::Offline, None).await;
    assert_eq!(told(&scene, closed.unwrap().call), ["caller: laptop"]);
    let placed = store.call_placed(scene.call).await.unwrap();
    assert_eq!(told(&scene, placed), ["caller: laptop", "callee: all"]);

    // A socket that came while it was looked for one rings.
    let scene = Scene::at(&store, State::Ringing).await;
    scene.happens(Event::Comes(Who::Tablet)).await;
    let again = scene.offer(LONG, LONG).await;
    assert!(again.more[0].is_empty(), "not everybody was told");
    assert!(!store.call_forget(scene.call).await.unwrap());
    let closed = store.call_close(scene.call, CallEnd::Offline, None).await;
    let everybody = ["caller: laptop", "callee: all"];
    assert_eq!(told(&scene, closed.unwrap().call), everybody);
}

#[tokio::test]
async fn a_caller_who_comes_back_is_told_what_was_answered() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    for (state, verdict) in [
        (State::CallerAway, CallVerdict::Done),
        (State::Ringing, CallVerdict::Wait),
    ] {
        let scene = Scene::at(&store, state).await;
        for who in [Who::Tablet, Who::Phone] {
            scene.happens(Event::Candidate(who)).await;
        }
        scene.happens(Event::Answers(Who::Phone)).await;
        store.call_answer_placed(scene.call).await.unwrap();
        // Said after the answer, and to nobody either.
        scene.happens(Event::Candidate(Who::Phone)).await;
        let other = scene.happens(Event::Comes(Who::Desktop)).await;
        assert!(other.more.is_empty(), "{state:?}: no business of theirs");
        let back = scene.happens(Event::Comes(Who::LaptopAgain)).await;
        assert_eq!(back.verdict, verdict, "{state:?}");
        assert_eq!(back.more, ["v=0 answer", "{}", "{}"], "{state:?}");
    }
}

#[tokio::test]
async fn the_latest_socket_of_a_device_takes_over_when_it_says_something() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let acts: [fn(Who) -> Event; 2] = [Event::Answers, Event::Candidate];
    for act in acts {
        let scene = Scene::at(&store, State::CalleeReplaced).await;
        let case = format!("{:?}", act(Who::PhoneAgain));
        let call = scene.happens(act(Who::PhoneAgain)).await.call.unwrap();
        assert_eq!(
            call.callee_session,
            Some(scene.phone_again.session),
            "{case}"
        );
        assert_eq!(call.callee_next, None, "{case}");
        // Whatever the first one says or its node says of it comes too late.
        for (event, verdict) in [
            (act(Who::Phone), CallVerdict::Elsewhere),
            (Event::IsThere(Who::Phone), CallVerdict::Other),
            (Event::IsGone(Who::Phone), CallVerdict::Other),
            (Event::IsThere(Who::PhoneAgain), CallVerdict::Done),
        ] {
            assert_eq!(scene.happens(event).await.verdict, verdict, "{case}");
        }
    }
}

#[tokio::test]
async fn who_offers_again_what_nobody_was_told_is_the_one_who_calls() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let scene = Scene::at(&store, State::CallerSilent).await;
    for is_placed in [false, true] {
        if is_placed {
            store.call_placed(scene.call).await.unwrap();
        }
        let asks = if is_placed {
            &scene.laptop
        } else {
            &scene.desktop
        };
        let again = scene.offer_by(asks, LONG, LONG).await;
        assert_eq!(again.verdict, CallVerdict::Again);
        let call = again.call.unwrap();
        assert_eq!(call.caller_session, scene.desktop.session, "{is_placed}");
        let looked = scene.happens(Event::LookedAt).await;
        assert_eq!(looked.verdict, CallVerdict::Wait, "the socket is there");
    }
}

#[tokio::test]
async fn a_socket_that_takes_over_counts_as_there_for_a_lease() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let scene = Scene::at(&store, State::Active).await;
    let Party { user, session, .. } = scene.phone;
    let again = scene.resume_later(&scene.phone, &scene.phone_again).await;
    assert_eq!(again.verdict, CallVerdict::Wait);
    let lost = store.call_lost(scene.call, user, session, NONE, LONG);
    let lost = lost.await.unwrap();
    assert_eq!(lost.verdict, CallVerdict::Done);
    let looked = scene.happens(Event::LookedAt).await;
    assert_eq!(
        looked.verdict,
        CallVerdict::Wait,
        "the time to come back is not its"
    );
}

#[tokio::test]
async fn a_user_is_in_one_call_at_a_time() {
    let cluster = Cluster::start().await;
    let store = connect(&cluster.url()).await;
    let (ann, bob, eve) = (user(), user(), user());
    let [first, second] = [store.new_call_id(), store.new_call_id()];
    let claim = async |user, call, other, instead_of| {
        let claim = store.claim(user, call, other, LONG, instead_of).await;
        claim.unwrap().outcome
    };
    assert_eq!(store.claimed(ann).await.unwrap(), (None, 0));
    assert_eq!(claim(ann, first, bob, None).await, Claimed::Done);
    assert_eq!(claim(ann, first, bob, None).await, Claimed::Done);
    assert_eq!(claim(ann, second, bob, None).await, Claimed::Glare(first));
    assert_eq!(claim(ann, second, eve, None).await, Claimed::Busy(first));
    assert_eq!(claim(bob, first, ann, None).await, Claimed::Done);
    assert_eq!(claim(ann, second, eve, Some(first)).await, Claimed::Done);
    assert_eq!(store.claimed(ann).await.unwrap().0, Some(second));
    assert!(!store.hold(ann, first, NONE).await.unwrap(), "not theirs");
    assert!(store.hold(ann, second, LONG).await.unwrap());
    assert!(store.hold(ann, second, NONE).await.unwrap());
    assert_eq!(store.claimed(ann).await.unwrap().0, None);
    store.session_open(session(bob)).await.unwrap();
    assert_eq!(store.claimed(bob).await.unwrap(), (Some(first), 1));
    let claimed = store.claim(bob, first, ann, LONG, None).await.unwrap();
    assert_eq!(claimed.sessions, 1);
}

#[tokio::test]
async fn only_sessions_that_hear_calls_count_for_a_call() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let (ann, bob) = (user(), user());
    let (deaf, other) = (
        OpenSession {
            dialect: "deaf",
            hears_calls: false,
            ..session(bob)
        },
        OpenSession {
            device: "deaf".parse().unwrap(),
            ..session(bob)
        },
    );
    let call = store.new_call_id();
    let hearing = async || {
        let claimed = store.claim(bob, call, ann, LONG, None).await.unwrap();
        let looked = store.claimed(bob).await.unwrap().1;
        assert_eq!(claimed.sessions, looked);
        looked
    };
    let hear = async |session: &OpenSession, hears| {
        let heard = store.session_hears(bob, session.session, hears);
        heard.await.unwrap()
    };
    assert!(!hear(&deaf, true).await, "it is not open");
    store.session_open(deaf.clone()).await.unwrap();
    assert_eq!(hearing().await, 0);
    for is_idle in [true, false, true] {
        idle(&store, &deaf, is_idle).await;
        assert_eq!(hearing().await, 0, "what its client does is another matter");
        let status = if is_idle { Away } else { Online };
        assert_eq!(
            store.presences(&[bob]).await[0].as_ref().unwrap().status,
            status
        );
    }
    assert!(hear(&deaf, true).await);
    assert_eq!(hearing().await, 1);
    assert_eq!(
        store.presences(&[bob]).await[0].as_ref().unwrap().status,
        Away
    );
    assert!(hear(&deaf, false).await);
    assert_eq!(hearing().await, 0);
    store.session_open(other.clone()).await.unwrap();
    assert_eq!(hearing().await, 1, "a name is no sign");

    // A node that was taken for dead says it anew.
    let partition = Topic::User(bob).partition(store.partitions());
    store.reap(partition, &deaf.node, 1, 10).await.unwrap();
    assert_eq!(hearing().await, 0);
    let here = [&deaf, &other].map(|it| OpenHere {
        user: bob,
        session: it.session,
        device: it.device.clone(),
        dialect: it.dialect,
        is_idle: false,
        hears_calls: it.hears_calls,
    });
    store.session_keep(&deaf.node, 1, 5, &here).await.unwrap();
    assert_eq!(hearing().await, 1);

    // And so where it has become otherwise, which a failover may have lost.
    for (hears_calls, count) in [(true, 2), (true, 2), (false, 0)] {
        let here = here.clone().map(|it| OpenHere { hears_calls, ..it });
        store.session_keep(&deaf.node, 1, 5, &here).await.unwrap();
        assert_eq!(hearing().await, count);
    }
}

#[tokio::test]
async fn an_end_that_was_not_told_is_found_and_told_once_more() {
    let redis = Redis::start().await;
    let store = connect(&redis.url()).await;
    let scene = Scene::at(&store, State::TooLate).await;
    let (caller, callee) = (scene.laptop.user, scene.phone.user);
    for (user, other) in [(caller, callee), (callee, caller)] {
        store
            .claim(user, scene.call, other, LONG, None)
            .await
            .unwrap();
    }
    let (bells, events) = store.subscriber().await.unwrap();
    let mut heard = Heard::new(events);
    for user in [caller, callee] {
        bells.subscribe(Topic::User(user)).await.unwrap();
    }
    let partition = scene.call.partition(store.partitions());
    assert_eq!(store.calls_due(partition, 10).await.unwrap(), [scene.call]);
    let ended = store.call_lapse(scene.call, LONG).await.unwrap();
    assert_eq!(ended.verdict, CallVerdict::Done);
    // Whoever ended it stopped; the next one does all of it, and a third time harms nobody.
    for _ in 0..2 {
        let left = store.call_lapse(scene.call, LONG).await.unwrap();
        assert_eq!(left.verdict, CallVerdict::Ended);
        let call = left.call.unwrap();
        calls::settle(&store, &call, Durability::Durable)
            .await
            .unwrap();
        for _ in 0..2 {
            let event = heard
                .next_that(|event| match event {
                    BellEvent::Call { event, .. } => Some(event),
                    _ => None,
                })
                .await;
            let CallEvent {
                call, kind, body, ..
            } = event;
            assert_eq!((call, kind), (scene.call, CallEventKind::Ended));
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(body.contains("\"reason\":\"timeout\""), "{body}");
        }
    }
    for user in [caller, callee] {
        assert_eq!(store.claimed(user).await.unwrap().0, None);
    }
    let due = format!("{{{partition}}}:calls");
    let listed = redis.call(&["EXISTS", &due]).await;
    assert_eq!(listed, Reply::Int(0), "nobody has to look at it again");
    let log = all_after(&store, callee, shared::domain::Position::START).await;
    let [(_, body)] = &log[..] else {
        panic!("one notification: {log:?}")
    };
    assert!(body.contains("\"kind\":\"call.missed\""), "{body}");
    assert!(body.contains(&scene.call.to_string()), "{body}");
    let log = all_after(&store, caller, shared::domain::Position::START).await;
    assert_eq!(log, [], "who called knows");
}
