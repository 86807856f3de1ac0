//! Who is watched, where rights change while somebody asks for them, and where nobody can tell.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use gateway::{
    dialect::{AckMode, Interest, Wish},
    fanout::{Fanout, FanoutSettings, Notice, PresenceSettings, Sight},
};
use parking_lot::Mutex;
use shared::{
    domain::{Code, Kind, PresenceStatus, Refusal, Topic, UserId},
    lifecycle::Lifecycle,
    postgres::Postgres,
    redis::{Store, StoreSettings},
};
use testkit::{Database, cluster::Cluster, eventually};

use crate::support::{Ask, Client, Held, PATIENCE, World, hear, publish_to, user};

type Pair = (UserId, UserId);

/// Who may see whom, as Postgres would know.
#[derive(Default)]
struct Sights {
    may: Mutex<HashSet<Pair>>,
    /// Who is asked for, and can only be told of once there is a permit; by what was true when it was asked.
    held: Held<UserId>,
    /// So many times more nobody can tell.
    away: Mutex<u32>,
    asked: Mutex<Vec<Vec<Pair>>>,
}

impl Sights {
    fn times_asked_for(&self, user: UserId) -> usize {
        let asked = self.asked.lock();
        let of_user = |pairs: &&Vec<Pair>| pairs.iter().any(|(who, _)| *who == user);
        asked.iter().filter(of_user).count()
    }

    async fn answer<T>(&self, pairs: &[Pair], answer: T) -> Result<T, Refusal> {
        self.asked.lock().push(pairs.to_vec());
        self.held.pass(pairs.iter().map(|(user, _)| user)).await;
        let mut away = self.away.lock();
        if *away > 0 {
            *away -= 1;
            return Err(Refusal::new(Code::Unavailable, "away"));
        }
        Ok(answer)
    }
}

impl Sight for Sights {
    fn permitted<'a>(&'a self, pairs: &'a [Pair]) -> BoxFuture<'a, Result<HashSet<Pair>, Refusal>> {
        let may = self.may.lock();
        let found = pairs
            .iter()
            .copied()
            .filter(|it| may.contains(it))
            .collect();
        Box::pin(self.answer(pairs, found))
    }

    fn contacts(&self, user: UserId) -> BoxFuture<'_, Result<Vec<UserId>, Refusal>> {
        let may = self.may.lock();
        let theirs = may.iter().filter(|(who, _)| *who == user);
        let found = theirs.map(|(_, other)| *other).collect();
        Box::pin(async move { self.answer(&[(user, user)], found).await })
    }
}

struct Scene {
    world: World,
    node: Arc<Fanout>,
    sights: Arc<Sights>,
}

impl Scene {
    async fn start(presence: PresenceSettings) -> Self {
        let world = World::start().await;
        let node = world.node_with(|settings| FanoutSettings {
            presence,
            ..settings
        });
        let (node, sights) = (node.await, Arc::new(Sights::default()));
        node.ask_for_sight(sights.clone());
        Self {
            world,
            node,
            sights,
        }
    }

    /// Waits until it was asked so often what a user may see.
    async fn asked_for(&self, user: UserId, times: usize) {
        eventually("what a user may see is asked for", PATIENCE, async || {
            (self.sights.times_asked_for(user) >= times).then_some(())
        })
        .await;
    }

    /// A socket that watches these, whom its user may see.
    async fn watching(&self, user: UserId, others: &[UserId]) -> Client {
        for other in others {
            self.sights.may.lock().insert((user, *other));
        }
        let client = Ask::of(user).client(&self.node).await;
        let wishes: Vec<Wish> = others.iter().copied().map(wish_for).collect();
        let answers = hear(&self.node, &client.outbox, &wishes).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        self.show(&client, &wishes);
        client
    }

    fn show(&self, client: &Client, wishes: &[Wish]) {
        let interests: Vec<Interest> = wishes.iter().map(|it| it.interest).collect();
        self.node.show_presences(&client.outbox, &interests);
    }

    /// The user is told that something changed in a conversation of theirs.
    async fn something_changes_for(&self, user: UserId) {
        let change = format!(r#"{{"what":"left","userId":"{}"}}"#, crate::support::user());
        let body = format!(r#"{{"content":"change","change":{change}}}"#);
        publish_to(&self.world.store, Topic::User(user), Kind::MessageNew, body).await;
    }

    /// The sight of somebody is lost.
    async fn lost(&self, client: &Client, user: UserId) {
        eventually("the sight is lost", PATIENCE, async || {
            let notices = client.seen.notices.lock();
            (*notices == [Notice::Unseen(user)]).then_some(())
        })
        .await;
    }
}

fn rarely() -> PresenceSettings {
    PresenceSettings {
        sight_interval: Duration::from_hours(10),
        ..PresenceSettings::default()
    }
}

fn wish_for(user: UserId) -> Wish {
    wish(Interest::Presence(Some(user)))
}

fn wish(interest: Interest) -> Wish {
    Wish {
        interest,
        address: None,
        acks: AckMode::Auto,
    }
}

#[tokio::test]
async fn a_right_that_is_lost_while_it_is_asked_for_counts() {
    let scene = Scene::start(rarely()).await;
    let (anna, ben) = (user(), user());
    let client = Ask::of(anna).client(&scene.node).await;
    scene.sights.may.lock().insert((anna, ben));
    let permits = scene.sights.held.hold(anna);
    let watch = tokio::spawn({
        let (node, outbox) = (scene.node.clone(), client.outbox.clone());
        async move { hear(&node, &outbox, &[wish_for(ben)]).await }
    });
    scene.asked_for(anna, 1).await;
    assert_eq!(scene.sights.times_asked_for(anna), 1);
    // The answer that she may is on its way.
    scene.sights.may.lock().clear();
    scene.something_changes_for(anna).await;
    // It is looked what she has lost.
    scene.asked_for(anna, 2).await;
    scene.lost(&client, ben).await;
    permits.add_permits(1);
    let answers = watch.await.unwrap();
    let refused = answers[0].as_ref().unwrap_err();
    assert_eq!(refused.code, Code::Forbidden, "{refused}");
    scene.show(&client, &[wish_for(ben)]);
    assert_eq!(*client.seen.signals.lock(), [""; 0], "nothing was shown");
}

#[tokio::test]
async fn a_contact_who_is_lost_while_contacts_are_asked_for_is_lost() {
    let scene = Scene::start(rarely()).await;
    let (anna, ben) = (user(), user());
    let client = Ask::of(anna).client(&scene.node).await;
    scene.sights.may.lock().insert((anna, ben));
    let permits = scene.sights.held.hold(anna);
    let all = wish(Interest::Presence(None));
    let watch = tokio::spawn({
        let (node, outbox, all) = (scene.node.clone(), client.outbox.clone(), all.clone());
        async move { hear(&node, &outbox, &[all]).await }
    });
    scene.asked_for(anna, 1).await;
    assert_eq!(scene.sights.times_asked_for(anna), 1);
    scene.sights.may.lock().clear();
    scene.something_changes_for(anna).await;
    // It is looked what she has lost.
    scene.asked_for(anna, 2).await;
    permits.add_permits(1);
    assert_eq!(watch.await.unwrap(), [Ok(())]);
    scene.lost(&client, ben).await;
}

#[tokio::test]
async fn what_could_not_be_looked_at_is_looked_at_again() {
    let scene = Scene::start(rarely()).await;
    let (anna, ben) = (user(), user());
    let client = scene.watching(anna, &[ben]).await;
    scene.sights.may.lock().clear();
    *scene.sights.away.lock() = 3;
    scene.something_changes_for(anna).await;
    scene.lost(&client, ben).await;
    assert_eq!(*scene.sights.away.lock(), 0);
}

#[tokio::test]
async fn who_is_looked_at_slowly_holds_up_nobody() {
    let often = PresenceSettings {
        sight_interval: Duration::from_millis(100),
        ..PresenceSettings::default()
    };
    let scene = Scene::start(often).await;
    let (anna, ben, cid) = (user(), user(), user());
    let slow = scene.watching(cid, &[ben]).await;
    // Nobody answers any more who is asked for cid, as the sweep does.
    let permits = scene.sights.held.hold(cid);
    let before = scene.sights.times_asked_for(cid);
    scene.asked_for(cid, before + 1).await;
    let client = scene.watching(anna, &[ben]).await;
    scene.sights.may.lock().remove(&(anna, ben));
    scene.something_changes_for(anna).await;
    scene.lost(&client, ben).await;
    // What nobody told of is found by the sweep.
    scene.sights.may.lock().remove(&(cid, ben));
    permits.add_permits(1);
    scene.lost(&slow, ben).await;
}

/// What was told last of a user is this.
async fn is_told(client: &Client, user: UserId, status: &str) {
    let wanted = format!("{user} {status}");
    eventually(&wanted, PATIENCE, async || {
        let told = client.seen.presences.lock();
        let of_user = |it: &&String| it.starts_with(&user.to_string());
        let last = told.iter().rfind(of_user);
        last.is_some_and(|it| *it == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_shard_that_is_away_concerns_its_own_users_only() {
    let (cluster, database) = tokio::join!(Cluster::start(), Database::create("node"));
    for master in cluster.nodes() {
        let setting = ["config", "set", "cluster-require-full-coverage", "no"];
        master.call(&setting).await;
    }
    let store = Store::connect(StoreSettings::new(cluster.url())).await;
    let store = store.unwrap();
    let postgres = Postgres::new(&database.url(), 4, Duration::from_secs(5)).unwrap();
    postgres.migrate().await.unwrap();
    let settings = FanoutSettings {
        presence: PresenceSettings {
            grace: Duration::from_millis(100),
            ..rarely()
        },
        ..FanoutSettings::new("n1".parse().unwrap(), 1)
    };
    let life = Lifecycle::new();
    let node = Fanout::start(store.clone(), postgres, settings, life).await;
    let (node, sights) = (node.unwrap(), Arc::new(Sights::default()));
    node.ask_for_sight(sights.clone());

    // The user of the shard that goes comes first wherever partitions are gone through.
    let partition = |user: UserId| Topic::User(user).partition(store.partitions());
    let shard = |user: UserId| store.shard_of(Topic::User(user));
    let somebody = |is_it: &dyn Fn(UserId) -> bool| loop {
        let user = user();
        if is_it(user) {
            return user;
        }
    };
    let ben = somebody(&|it| partition(it).0 > 200);
    let away = somebody(&|it| shard(it) != shard(ben) && partition(it).0 < 50);
    let hidden = somebody(&|it| shard(it) == shard(away));
    let [anna, dan] = [(); 2].map(|()| somebody(&|it| shard(it) != shard(away)));
    for other in [ben, away, hidden, dan] {
        sights.may.lock().insert((anna, other));
    }
    let watcher = Ask::of(anna).client(&node).await;
    let wishes = [ben, away].map(wish_for);
    assert_eq!(
        hear(&node, &watcher.outbox, &wishes).await,
        [Ok(()), Ok(())]
    );
    node.show_presences(&watcher.outbox, &wishes.clone().map(|it| it.interest));
    let mut attached = Vec::new();
    for user in [away, ben] {
        let ask = Ask::of(user);
        attached.push(ask.attach(&node).await.unwrap().0.start());
        is_told(&watcher, user, "online").await;
    }
    let tag = format!("{{{}}}", partition(away));
    let owner = cluster.owner_of(cluster.slot_of(&tag).await).await;
    cluster.nodes()[owner].pause();

    // Together, and again and again.
    for it in &attached {
        it.note_activity(true);
    }
    is_told(&watcher, ben, "away").await;
    for it in &attached {
        it.note_activity(false);
    }
    is_told(&watcher, ben, "online").await;
    attached[0].note_activity(true);
    let answers = node.presences_of(&[ben, away, hidden]).await;
    let answers = answers.into_iter().map(|it| it.ok().map(|it| it.status));
    let answers: Vec<_> = answers.collect();
    let online = Some(PresenceStatus::Online);
    assert_eq!(answers, [online, online, None], "as it was known last");

    // Whom nobody watched yet cannot be watched now; all contacts can, as far as they are heard of.
    let second = Ask::of(anna).client(&node).await;
    let wishes = [dan, hidden].map(wish_for);
    let answers = hear(&node, &second.outbox, &wishes).await;
    assert_eq!(answers[0], Ok(()));
    let refused = answers[1].as_ref().unwrap_err();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    let all = wish(Interest::Presence(None));
    let answers = hear(&node, &second.outbox, std::slice::from_ref(&all)).await;
    assert_eq!(answers, [Ok(())]);
    node.show_presences(&second.outbox, &[all.interest]);
    is_told(&second, ben, "online").await;
    drop(attached.pop());
    is_told(&watcher, ben, "offline").await;

    cluster.nodes()[owner].resume();
    is_told(&watcher, away, "away").await;
    is_told(&second, hidden, "offline").await;
}
